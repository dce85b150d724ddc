"""The affine benchmark: that its warps are what it says, that its moving images show the truth, and its errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from affine_bench import BENCHMARKS, affine, blobs, load

MODELS = BENCHMARKS.parents[1] / "Models"
cases, warps, prepare = load("affine_cases"), load("affine_warps"), load("affine_prepare")
scoring, linear = load("affine_score"), load("peers.linear")


def test_warps_stay_within_their_ranges_and_use_them():
    drawn = warps.drawn()
    assert len(drawn) == cases.WARPS == 50
    degrees, scale, shift = (np.array([getattr(one, name) for one in drawn]) for name in ("degrees", "scale", "shift"))
    for values, most in ((degrees, 30.0), (scale - 1, 0.15), (shift, 0.2)):
        assert values.shape == (50, 3)
        assert 0.93 * most < values.max() <= most
        assert -most <= values.min() < -0.93 * most
        assert np.abs(values.mean(axis=0)).max() < 0.3 * most
    gamma = np.array([one.gamma for one in drawn])
    assert 0.8 <= gamma.min() < 0.85
    assert 1.18 < gamma.max() <= 1.25


def test_warps_are_the_same_for_good():
    first, again = warps.drawn()[0], warps.drawn()[0]
    np.testing.assert_array_equal(first.degrees, again.degrees)
    np.testing.assert_allclose(first.degrees, [-0.3239, -16.3150, -14.6716], atol=1e-4)
    np.testing.assert_allclose(first.scale, [0.968899, 0.963195, 1.148972], atol=1e-6)
    np.testing.assert_allclose(first.shift, [-0.036721, 0.108758, 0.104215], atol=1e-6)
    assert first.gamma == pytest.approx(0.918705, abs=1e-6)


def test_a_warp_turns_scales_and_shifts_along_the_images_own_axes():
    fixed, axes = blobs(), np.array(blobs().GetDirection()).reshape(3, 3)
    centre = np.array(fixed.TransformContinuousIndexToPhysicalPoint([17.5, 21.5, 9.5]))

    def moved(offset, degrees=(0, 0, 0), scale=(1, 1, 1), shift=(0, 0, 0)) -> np.ndarray:
        """Where a point goes that lies at ``offset`` from the middle, as an offset, both along the axes."""
        warp = warps.Warp(*(np.array(values, float) for values in (degrees, scale, shift)), 1.0)
        point = warp.matrix(fixed) @ np.append(centre + axes @ offset, 1)
        return axes.T @ (point[:3] - centre)

    np.testing.assert_allclose(moved([10, 0, 0], degrees=(0, 0, 90)), [0, 10, 0], atol=1e-9)
    np.testing.assert_allclose(moved([0, 10, 0], degrees=(90, 0, 0)), [0, 0, 10], atol=1e-9)
    # About k first, then about i.
    np.testing.assert_allclose(moved([10, 0, 0], degrees=(90, 0, 90)), [0, 0, 10], atol=1e-9)
    # Scaled before it is turned.
    np.testing.assert_allclose(moved([10, 0, 0], degrees=(0, 0, 90), scale=(1.1, 1, 1)), [0, 11, 0], atol=1e-9)
    # 36 × 3, 44 × 2 and 20 × 4 mm wide.
    np.testing.assert_allclose(moved([1, 2, 3], shift=(0.1, -0.2, 0.05)), [11.8, -15.6, 7], atol=1e-9)


def alike(fixed: sitk.Image, moving: sitk.Image, transform: np.ndarray) -> float:
    """Correlation over the fixed image's body with the moving image, pulled back."""
    inside = sitk.GetArrayFromImage(fixed) > 0
    back = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, affine(transform), sitk.sitkLinear, -1.0))
    return float(np.corrcoef(sitk.GetArrayFromImage(fixed)[inside], back[inside])[0, 1])


def test_the_moving_image_shows_the_scan_under_the_truth_and_all_of_it():
    fixed = blobs()
    for number in (0, 1):
        warp = warps.drawn()[number]
        truth = warp.matrix(fixed)
        moving = prepare.moved(fixed, truth, warp.gamma, number)
        assert alike(fixed, moving, truth) > 0.85
        assert alike(fixed, moving, np.linalg.inv(truth)) < 0.5
        assert alike(fixed, moving, np.eye(4)) < 0.5
        assert moving.GetSpacing() == pytest.approx(fixed.GetSpacing())
        assert moving.GetDirection() == pytest.approx(fixed.GetDirection())
        # The background is flat and free of noise, and nothing of the body is cut off by the border.
        array = sitk.GetArrayFromImage(moving)
        border = np.ones(array.shape, bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert np.unique(array[border]).size == 1
        volume = (np.abs(array - array[0, 0, 0]) > 40).sum() / (sitk.GetArrayFromImage(fixed) > 40).sum()
        assert volume == pytest.approx(np.linalg.det(truth[:3, :3]), rel=0.12)
        # The grid covers the scan's own box, too: the shift is not just a matter of headers.
        for corner in ([0, 0, 0], [35, 43, 19]):
            index = moving.TransformPhysicalPointToIndex(fixed.TransformIndexToPhysicalPoint(corner))
            assert all(0 <= at < size for at, size in zip(index, moving.GetSize(), strict=True))


def test_values_get_gamma_and_noise_where_something_is_shown():
    array = np.zeros((40, 40, 40), np.float32)
    array[10:30] = 100.0
    array[0] = 200.0
    changed = prepare.altered(array, array > 0, 1.25, seed=4)
    np.testing.assert_array_equal(changed, prepare.altered(array, array > 0, 1.25, seed=4))
    assert (changed[array == 0] == 0).all()
    assert changed[10:30].mean() == pytest.approx(200 * 0.5**1.25, rel=0.01)
    assert changed[10:30].std() == pytest.approx(0.02 * 200, rel=0.05)


def test_error_is_the_mean_distance_over_the_corners():
    random = np.random.RandomState(3)
    found, truth = (np.vstack([random.normal(size=(3, 4)), [0, 0, 0, 1]]) for _ in range(2))
    corners = 50 * random.normal(size=(8, 3))
    expected = np.mean([np.linalg.norm((found @ [*corner, 1])[:3] - (truth @ [*corner, 1])[:3]) for corner in corners])
    assert warps.error(found, truth, corners) == pytest.approx(expected)
    assert warps.error(truth, truth, corners) == 0
    shifted = truth.copy()
    shifted[:3, 3] += [3.0, 0.0, -4.0]
    assert warps.error(shifted, truth, corners) == pytest.approx(5)


def test_the_corners_are_those_of_the_largest_bright_part():
    array = np.zeros((20, 30, 40), np.float32)
    array[5:15, 8:20, 10:30] = 100
    array[1, 1, 1] = 100  # a speck
    array[17:, :, :] = 5  # too dark
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 1.0, 3.0))
    image.SetOrigin((7.0, 0.0, 0.0))
    corners = warps.content_corners(image)
    assert len(corners) == 8
    np.testing.assert_allclose(corners.min(axis=0), [7 + 20, 8, 15])
    np.testing.assert_allclose(corners.max(axis=0), [7 + 58, 19, 42])
    assert len({tuple(corner) for corner in corners.round(6)}) == 8


def test_warps_are_dealt_in_turn_on_scans_that_trained_no_ddim():
    dealt = cases.dealt(50)
    assert [case.warp for case in dealt] == list(range(50))
    assert len(set(cases.NAMES)) == len(cases.NAMES) == 50 + len(cases.PAIRS)
    assert {case.dataset for case in cases.dealt(6)} == set(cases.WARPED)
    with (MODELS / "ddim" / "data.csv").open(newline="") as file:
        trained = {value for row in csv.DictReader(file) if row["split"] == "train" for value in row.values()}
    assert any(value.endswith("_T1.nii.gz") for value in trained)
    for case in (*dealt, *cases.PAIRS):
        assert not trained & set(case.files())


def found(folder: Path, matrix: np.ndarray) -> Path:
    """The folder with what a peer leaves that has found ``matrix``."""
    folder.mkdir(exist_ok=True)
    (folder / "affine.json").write_text(json.dumps({"matrix": matrix.tolist(), "seconds": 1.5, "cpu_seconds": 2.5}))
    return folder


def test_the_truth_has_no_error_and_its_inverse_has(tmp_path):
    sitk.WriteImage(blobs(), str(tmp_path / "scan.nii.gz"))
    scan = str(tmp_path / "scan.nii.gz")
    (tmp_path / "case.json").write_text(json.dumps({"fixed": scan, "moving": scan, "warp": 7}))
    prepare.prepare(tmp_path)
    assert (tmp_path / "ready").is_file()
    truth = warps.drawn()[7].matrix(sitk.ReadImage(scan))
    score = scoring.warped(tmp_path, found(tmp_path / "out", truth))
    assert score["error_mm"] == pytest.approx(0, abs=1e-6)
    assert score["seconds"] == 1.5
    assert score["cpu_seconds"] == 2.5
    corners = warps.content_corners(sitk.ReadImage(scan))
    assert score["before_mm"] == pytest.approx(warps.error(np.eye(4), truth, corners))
    assert scoring.warped(tmp_path, found(tmp_path / "out", np.linalg.inv(truth)))["error_mm"] > 20


def test_labels_are_carried_from_the_moving_to_the_fixed_image(tmp_path):
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[2:6, 3:9, 4:8] = 3
    files = []
    for name, shift in (("fixed", 0), ("moving", 3)):
        image = sitk.GetImageFromArray(np.roll(labels, shift, axis=2))
        image.SetSpacing((2.0, 1.0, 1.5))
        files.append(tmp_path / f"{name}.nii.gz")
        sitk.WriteImage(image, str(files[-1]))
    fixed, moving = files
    for shift, expected in ((6.0, 1.0), (4.0, 0.75), (-6.0, 0.0)):
        matrix = np.eye(4)
        matrix[0, 3] = shift  # along x, where voxels are 2 mm
        out = found(tmp_path / "out", matrix)
        linear.carry(matrix.tolist(), moving, fixed, out / "labels.nii.gz")
        assert scoring.pair(str(moving), str(fixed), out)["dice"] == pytest.approx(expected)


def test_a_matrix_is_read_from_any_linear_transform():
    euler = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    point = [7.0, -8.0, 9.0]
    np.testing.assert_allclose((linear.matrix_of(euler) @ [*point, 1])[:3], euler.TransformPoint(point))
