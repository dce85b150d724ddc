"""The fusion benchmark: its cases and their split, its deformations and their truth, and the rules it compares with."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from affine_bench import load
from scipy import ndimage

cases, warps, rules = load("fusion_cases"), load("fusion_warps"), load("fusion_rules")
SHAPE = (60, 74)


def checks(shape: tuple[int, int]) -> np.ndarray:
    """+1 and -1 in turn: nothing but the finest detail."""
    return 1.0 - 2.0 * (np.indices(shape).sum(axis=0) % 2)


def write(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8), isVector=array.ndim == 3), str(file))


def test_a_deformation_is_of_the_size_that_its_kind_says():
    published, larger = (warps.drawn("ct-00001", kind, SHAPE) for kind in ("published", "larger"))
    for warp, rms in ((published, 2.6), (larger, 6.5)):
        inner = warp.smooth[:, warps.MARGIN : -warps.MARGIN, warps.MARGIN : -warps.MARGIN]
        assert inner.shape == (2, *SHAPE)
        # The shift is a part of it; the two meet at a right angle only on average.
        assert np.sqrt(np.square(inner).sum(axis=0).mean()) == pytest.approx(rms, rel=0.35)
        assert warps.determinants(inner).min() > 0
    np.testing.assert_array_equal(published.matrix, np.eye(2))
    turn, scale, _ = np.linalg.svd(larger.matrix)
    assert 0.92 <= scale.min() < scale.max() <= 1.08
    assert 0.5 < abs(np.rad2deg(np.arctan2(larger.matrix[1, 0], larger.matrix[0, 0]))) <= 10


def test_deformations_are_the_same_for_good_and_differ_by_case():
    first, again, other = (warps.drawn(name, "larger", SHAPE).displacement() for name in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 2
    np.testing.assert_allclose(first[:, 30, 37], [-2.37086, 6.35518], atol=1e-3)


@pytest.mark.parametrize("kind", ["published", "larger"])
def test_the_truth_takes_a_pixel_to_where_its_spot_went(kind):
    warp = warps.drawn("spot", kind, SHAPE)
    truth = warp.truth()
    for row, column in ((22, 30), (36, 45)):
        rows, columns = np.indices(SHAPE)
        spot = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8.0)
        deformed = warps.resampled(spot, warp.displacement())
        np.testing.assert_allclose(ndimage.center_of_mass(deformed), truth[:, row, column] + [row, column], atol=0.45)
        back = warps.resampled(deformed, truth)
        assert np.unravel_index(back.argmax(), SHAPE) == (row, column)
        assert np.abs(back - spot).max() < 0.15 < np.abs(warps.resampled(deformed, -truth) - spot).max()


def test_determinants_are_those_of_the_mapping():
    rows, columns = warps.lattice((7, 9))
    displacement = np.stack([0.5 * rows + 0.1 * columns, 0.2 * rows - 0.25 * columns])
    np.testing.assert_allclose(warps.determinants(displacement), 1.5 * 0.75 - 0.1 * 0.2)


def test_errors_count_where_they_should():
    truth, found = np.zeros((2, 4, 10)), np.zeros((2, 4, 10))
    truth[0], truth[1] = 3.0, 4.0
    found[0], found[1] = 3.0, 2.0  # off by 2
    found[:, :, 9] = 99.0
    inside = np.ones((4, 10), bool)
    inside[:, 8:] = False
    both = inside.copy()
    both[2:] = False
    truth[1, 0, 0] = 2.0  # found exactly, at one of the 16 pixels of both, 32 of inside
    score = warps.score(found, truth, inside, both)
    assert score["mean_px"] == pytest.approx(2 * 31 / 32)
    assert score["both_px"] == pytest.approx(2 * 15 / 16)
    assert score["p95_px"] == pytest.approx(2)
    assert score["before_px"] == pytest.approx((31 * 5 + np.sqrt(13)) / 32)
    assert score["folding_percent"] == 0
    still = warps.score(np.zeros((2, 4, 10)), truth.astype(np.float32) / 7, inside, both)
    assert still["mean_px"] == still["before_px"]
    found[1] = -1.5 * np.arange(10)  # mirrored
    assert warps.score(found, truth, inside, both)["folding_percent"] == 100


def test_slices_are_dealt_by_case_and_never_across_the_split():
    slices = [
        cases.Case(f"ct-{number}-{place}", "ct", number, "", "")
        for number, length in ((28, 5), (2, 9), (32, 3))
        for place in range(length)
    ]
    names = [case.name for case in cases.chosen(slices, "test", 3)]
    assert names == ["ct-28-1", "ct-28-3", "ct-32-1"]
    assert [case.name for case in cases.chosen(slices, "tuning", 1)] == ["ct-2-4"]
    assert len(cases.chosen(slices, "test", 99)) == 8
    assert {case.split for case in slices if case.number == 2} == {"tuning"}


def test_slices_are_found_with_their_partners(tmp_path):
    for modality in ("CT", "PET", "SPECT"):
        for number in ("10007", "2015"):
            write(tmp_path / f"fusion2d/{modality}-MRI/MRI/{number}.png", np.full((4, 5), 9))
            write(tmp_path / f"fusion2d/{modality}-MRI/{modality}/{number}.png", np.full((4, 5), 9))
    found = cases.found(tmp_path)
    assert [case.name for case in found[:2]] == ["ct-02015", "ct-10007"]
    assert [(case.number, case.split) for case in found[:2]] == [(2, "tuning"), (10, "test")]
    assert found[-1].fixed == "fusion2d/SPECT-MRI/MRI/10007.png"
    (tmp_path / "fusion2d/PET-MRI/MRI/2015.png").unlink()
    with pytest.raises(SystemExit, match=r"2015\.png has no partner"):
        cases.found(tmp_path)
    with pytest.raises(SystemExit, match=r"no slices in .*CT; is .* the right folder\?"):
        cases.found(tmp_path / "nowhere")


def test_images_are_luminance_within_their_percentiles(tmp_path):
    colour = np.zeros((40, 50, 3))
    colour[:20] = [200, 100, 50]
    colour[20:39] = [0, 0, 100]
    write(tmp_path / "mri.png", np.arange(2000).reshape(40, 50) % 251)
    write(tmp_path / "pet.png", colour)
    images = cases.load(cases.Case("x", "pet", 1, "mri.png", "pet.png"), tmp_path)
    bright, dark = 0.299 * 200 + 0.587 * 100 + 0.114 * 50, 0.114 * 100
    assert images.moving[0, 0] == 1
    assert images.moving[25, 0] == pytest.approx(dark / bright)
    assert images.moving[39, 0] == 0
    np.testing.assert_allclose(images.colour[0, 0], np.array([200, 100, 50]) / 255)
    # One pixel in 1000 is far brighter: the range is that of the others.
    spike = np.tile(np.linspace(0, 1, 100), (100, 1))
    spike[0, :9] = 50.0
    unit = cases.unit(spike)
    assert unit[50, 99] == pytest.approx(1, abs=1e-6)
    assert unit.max() == 1
    np.testing.assert_array_equal(cases.unit(np.full((3, 3), 7.0)), 0)
    lonely = np.zeros((100, 100))
    lonely[3, 3] = 5.0  # too little for the percentiles
    assert cases.unit(lonely)[3, 3] == 1


def test_the_head_is_its_largest_part_without_holes():
    image = np.zeros((80, 90))
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - 40, columns - 40)
    image[(distance < 25) & (distance > 15)] = 0.8
    image[5:9, 80:84] = 1.0
    found = cases.foreground(image)
    assert found[40, 40]
    assert not found[5:9, 80:84].any()
    assert found.sum() == pytest.approx(np.pi * 25**2, rel=0.12)
    with pytest.raises(ValueError, match="nothing but background"):
        cases.foreground(np.zeros((20, 30)))


def test_only_images_with_a_licence_for_it_are_shown():
    assert {case.modality for case in cases.SHOWABLE} == {"mr", "trunk"}
    for case in cases.SHOWABLE:
        assert "licence" in case.credit or "CC BY" in case.credit
        for file in (case.fixed, case.moving):
            assert file.startswith(("brain_multimodal/cstar_stroke_", "abdomen/CCTH-A01_"))


def test_simple_rules_by_hand():
    a, b = np.array([[0.0, 0.5], [1.0, 0.2]]), np.array([[0.4, 0.1], [1.0, 0.6]])
    np.testing.assert_allclose(rules.average(a, b), [[0.2, 0.3], [1.0, 0.4]])
    np.testing.assert_allclose(rules.maximum(a, b), [[0.4, 0.5], [1.0, 0.6]])
    np.testing.assert_array_equal(rules.stronger(np.array([-3.0, 1.0, 2.0]), np.array([2.0, -2.0, -2.0])), [-3, -2, 2])


class Haar:
    """Stands in for PyWavelets: the simplest wavelet there is, and a result that is a row and a column too large."""

    def wavedec2(self, image, wavelet, mode, level):
        assert (wavelet, mode) == (rules.WAVELET, "symmetric")
        bands = []
        for _ in range(level):
            a, b, c, d = (image[i::2, j::2] for i in range(2) for j in range(2))
            image, details = (a + b + c + d) / 2, ((a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2)
            bands.insert(0, details)
        return [image, *bands]

    def waverec2(self, coefficients, wavelet, mode):
        whole, *bands = coefficients
        for h, v, d in bands:
            made = np.empty((2 * whole.shape[0], 2 * whole.shape[1]))
            for i in range(2):
                for j in range(2):
                    made[i::2, j::2] = (whole + (-1) ** i * h + (-1) ** j * v + (-1) ** (i + j) * d) / 2
            whole = made
        return np.pad(whole, (0, 1))


@pytest.mark.parametrize("name", ["laplacian", "wavelet"])
def test_rules_by_scale_keep_the_stronger_detail_and_the_mean_of_the_rest(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pywt", SimpleNamespace(wavedec2=Haar().wavedec2, waverec2=Haar().waverec2))
    rule, shape = rules.RULES[name], (48, 80)
    flat, strong, weak = np.full(shape, 0.5), 0.5 + 0.2 * checks(shape), 0.3 - 0.1 * checks(shape)
    for pair, expected in (
        ((flat, strong), strong),
        ((strong, flat), strong),
        ((strong, weak), strong - 0.1),  # all of its detail, on the mean of 0.5 and 0.3
        ((flat, np.full(shape, 0.1)), np.full(shape, 0.3)),
    ):
        np.testing.assert_allclose(rule(*pair), expected, atol=1e-9)
    image = np.random.RandomState(1).uniform(size=shape)
    np.testing.assert_allclose(rule(image, image), image, atol=1e-9)
    ends = rule(np.round(image), 0.9 * np.round(image.T.reshape(shape)))
    assert (ends.min(), ends.max()) == (0, 1)


def test_a_pyramid_of_an_odd_size_is_put_together_again():
    image = np.random.RandomState(2).uniform(size=(37, 53))
    np.testing.assert_allclose(rules.laplacian(image, image), image, atol=1e-9)


def test_metrics_go_by_their_names():
    random = np.random.RandomState(3)
    a, b = (ndimage.gaussian_filter(random.uniform(size=(64, 72)), 2.0) for _ in range(2))
    a, b = ((image - image.min()) / (image.max() - image.min()) for image in (a, b))
    same, flat = rules.measured(a, a, a), rules.measured(a, b, np.full(a.shape, 0.5))
    assert same["qabf"] == pytest.approx(0.9748, abs=1e-4)
    assert (same["qcv"], flat["mi"]) == pytest.approx((0, 0), abs=1e-9)
    assert same["vif"] == pytest.approx(2, abs=1e-6)
    assert same["qs"] == pytest.approx(1)
    assert same["mi"] > rules.measured(a, b, rules.average(a, b))["mi"] > 0.1
    assert same["ssim"] > flat["ssim"]
    assert flat["qcv"] > 1
