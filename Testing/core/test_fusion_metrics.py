"""Fusion metrics against the papers' formulas in plain loops, values worked out by hand, and what each must do."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from regnet import fusion_metrics as fusion
from regnet import image_quality, metrics
from regnet.errors import InputError
from scipy import ndimage

METRICS = {
    "qabf": fusion.qabf,
    "qcv": fusion.qcv,
    "vif": fusion.vif,
    "mutual_information": fusion.mutual_information,
    "qs": fusion.qs,
    "q0": lambda a, b, fused: fusion.qs(a, b, fused, index="q0"),
    "ssim": fusion.ssim,
}
PLANAR = ("qcv", "vif")
IDEAL_EDGE = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))


def texture(shape, seed=0, sigma=1.5):
    """Smooth noise that fills [0, 1]."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma, mode="wrap")
    return (values - values.min()) / (values.max() - values.min())


def three(shape, seed=0, sigma=1.5):
    """Two sources, each with structures of its own in one half, and a fused image that is neither's copy."""
    a, b = texture(shape, seed, sigma), texture(shape, seed + 1, sigma)
    a[..., shape[-1] // 2 :] *= 0.3
    b[..., : shape[-1] // 2] *= 0.2
    noise = 0.05 * np.random.default_rng(seed + 2).random(shape)
    return a, b, np.clip(0.9 * np.maximum(a, b) + noise, 0, 1)


def qabf_by_loops(a, b, fused):
    """Pixel by pixel with the 3 x 3 Sobel masks and, for orientations, angles in degrees."""
    mask = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
    kept = total = 0.0
    for source in (a, b):
        p, q = (np.pad(image, 1, mode="edge") for image in (source, fused))
        for i, j in np.ndindex(source.shape):
            edges = []
            for image in (p, q):
                part = image[i : i + 3, j : j + 3]
                x, y = (part * mask).sum(), (part * mask.T).sum()
                edges.append((math.hypot(x, y), math.degrees(math.atan2(y, x))))
            (strong, first), (weak, second) = edges
            ratio = weak / strong if strong > weak else strong / weak
            angle = abs(first - second) % 180
            agreement = 1 - min(angle, 180 - angle) / 90
            strength = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
            orientation = 0.9879 / (1 + math.exp(-22 * (agreement - 0.8)))
            kept += strong * strength * orientation
            total += strong
    return kept / total


def sensitivity(r):
    return 2.6 * (0.0192 + 0.114 * r) * math.exp(-((0.114 * r) ** 1.1))


def qcv_by_loops(a, b, fused, block, power, degrees):
    """The filter as an explicit Fourier series, the blocks one by one."""
    height, width = fused.shape
    per_degree = max(height, width) / degrees
    error = total = 0.0
    for source in (a, b):
        difference = 255 * (source - fused)
        waves = [np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (height, width)]
        spectrum = waves[0] @ difference @ waves[1]
        for k, m in np.ndindex(height, width):
            u, v = min(k, height - k) / height, min(m, width - m) / width
            spectrum[k, m] *= sensitivity(math.hypot(u, v) * per_degree)
        seen = (waves[0].conj() @ spectrum @ waves[1].conj()).real / (height * width)
        edges = np.hypot(*(ndimage.sobel(255 * source, axis, mode="nearest") for axis in (0, 1)))
        for top, left in itertools.product(range(0, height, block), range(0, width, block)):
            part = (slice(top, top + block), slice(left, left + block))
            salience = (edges[part] ** power).sum()
            error += salience * np.mean(seen[part] ** 2)
            total += salience
    return error / total


def q0(x, y):
    """Universal quality index of one window (Wang 2002)."""
    both = np.cov(x.ravel(), y.ravel(), bias=True)
    return 4 * both[0, 1] * x.mean() * y.mean() / ((both[0, 0] + both[1, 1]) * (x.mean() ** 2 + y.mean() ** 2))


@pytest.mark.parametrize("seed", [0, 10])
def test_qabf_is_the_definition(seed):
    a, b, fused = three((13, 18), seed)
    assert fusion.qabf(a, b, fused) == pytest.approx(qabf_by_loops(a, b, fused), abs=1e-9)


def test_qabf_of_a_volume_made_of_one_slice_is_that_of_the_slice():
    flat = three((15, 12))
    expected = fusion.qabf(*flat)
    for axis in range(3):
        volumes = [np.repeat(np.expand_dims(image, axis), 5, axis) for image in flat]
        assert fusion.qabf(*volumes) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(21, 26), (9, 11, 10)])
def test_qabf_does_not_depend_on_contrast_sign_scale_or_the_way_the_images_lie(shape):
    a, b, fused = three(shape)
    expected = fusion.qabf(a, b, fused)
    assert 0.2 < expected < 0.9
    assert fusion.qabf(*(0.5 * image + 0.2 for image in (a, b, fused))) == pytest.approx(expected, abs=1e-9)
    assert fusion.qabf(a, b, 1 - fused) == pytest.approx(expected, abs=1e-9)
    assert fusion.qabf(*(np.rot90(image) for image in (a, b, fused))) == pytest.approx(expected, abs=1e-9)


def test_qabf_by_hand():
    """A ramp kept at half its strength, at right angles, and not at all."""
    rows = np.repeat(np.linspace(0, 1, 12)[:, None], 15, axis=1)
    columns = np.repeat(np.linspace(0, 1, 15)[None], 12, axis=0)
    flat = np.full((12, 15), 0.4)
    assert fusion.qabf(rows, flat, rows) == pytest.approx(IDEAL_EDGE, abs=1e-9)
    half = 0.9994 / 2 * 0.9879 / (1 + math.exp(-4.4))
    assert fusion.qabf(rows, rows, 0.5 * rows) == pytest.approx(half, abs=1e-9)
    assert fusion.qabf(rows, flat, columns) < 1e-7
    assert fusion.qabf(rows, columns, flat) < 1e-9
    assert math.isnan(fusion.qabf(flat, flat, rows))


@pytest.mark.parametrize("block", [4, 5])
def test_qcv_is_the_definition(block):
    a, b, fused = three((16, 21))
    found = fusion.qcv(a, b, fused, block=block, power=3.0, degrees=1.5)
    assert found == pytest.approx(qcv_by_loops(a, b, fused, block, 3.0, 1.5), rel=1e-9)


def test_qcv_of_a_constant_and_a_wave_by_hand():
    """Both sources differ from the fused image by a wave of 8 pixels, of which every block holds two by two."""
    column = np.arange(64)
    fused = 0.4 + 0.2 * texture((48, 64), 3)
    for cycles in (0, 8, 16):
        wave = 0.1 * np.cos(2 * np.pi * cycles * column / 64)
        found = fusion.qcv(fused + wave, fused + wave, fused, degrees=4.0)
        share = 1.0 if cycles == 0 else 0.5
        assert found == pytest.approx(share * (25.5 * sensitivity(cycles / 4)) ** 2, rel=1e-9)


def test_qcv_has_the_viewing_distance_of_the_programs_in_circulation():
    """They have 0.144 for 0.114, and 4 degrees for the side of a square image."""
    fused = 0.4 + 0.2 * texture((64, 64), 3)
    wave = 0.1 * np.cos(2 * np.pi * 8 * np.arange(64) / 64)[:, None]
    r = 0.144 * 8 / 4
    expected = 0.5 * (25.5 * 2.6 * (0.0192 + r) * math.exp(-(r**1.1))) ** 2
    assert fusion.qcv(fused + wave, fused + wave, fused) == pytest.approx(expected, rel=1e-9)


def test_qcv_follows_the_more_salient_source():
    a = texture((48, 64), 1)
    b = 0.2 * texture((48, 64), 2) + 0.4
    assert fusion.qcv(a, b, a) < 0.01 * fusion.qcv(a, b, b)
    flat = np.full_like(a, 0.5)
    assert fusion.qcv(a, flat, a) == pytest.approx(0.0, abs=1e-20)
    assert fusion.qcv(a, flat, flat) > 100
    assert math.isnan(fusion.qcv(flat, flat, a))


def test_qs_with_q0_is_the_definition():
    a, b, fused = (0.1 + 0.8 * image for image in three((11, 14), sigma=1.0))
    values = []
    for i, j in np.ndindex(11 - 7, 14 - 7):
        x, y, z = (image[i : i + 8, j : j + 8] for image in (a, b, fused))
        share = np.var(x) / (np.var(x) + np.var(y))
        values.append(share * q0(x, z) + (1 - share) * q0(y, z))
    assert fusion.qs(a, b, fused, index="q0") == pytest.approx(np.mean(values), abs=1e-10)


@pytest.mark.parametrize("shape", [(16, 19), (12, 13, 14)])
def test_qs_with_ssim_is_the_definition(shape):
    a, b, fused = three(shape, sigma=1.0)
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    weights = line / line.sum()
    for _ in shape[1:]:
        weights = np.multiply.outer(weights, line / line.sum())

    def variance(image):
        windows = np.lib.stride_tricks.sliding_window_view(image, weights.shape)
        axes = tuple(range(-len(shape), 0))
        mean = (windows * weights).sum(axes, keepdims=True)
        return (weights * (windows - mean) ** 2).sum(axes)

    share = variance(a) / (variance(a) + variance(b))
    expected = share * image_quality.ssim_map(a, fused) + (1 - share) * image_quality.ssim_map(b, fused)
    assert fusion.qs(a, b, fused) == pytest.approx(expected.mean(), abs=1e-10)


def test_qs_where_nothing_varies():
    """Half a weight each; for Q0 constant windows compare by brightness, and two black ones are equal."""
    black, low, high = (np.full((12, 13), value) for value in (0.0, 0.2, 0.4))
    assert fusion.qs(low, high, low, index="q0") == pytest.approx(0.5 * (1 + 2 * 0.08 / 0.2))
    assert fusion.qs(black, black, black, index="q0") == 1.0
    assert fusion.qs(black, high, black, index="q0") == 0.5
    bright = (2 * 0.08 + 1e-4) / (0.2 + 1e-4)
    assert fusion.qs(low, high, low) == pytest.approx(0.5 * (1 + bright))
    almost = 1e-3 * texture((12, 13))
    assert fusion.qs(black, black, almost, index="q0") == pytest.approx(0.0, abs=1e-12)
    assert fusion.qs(black, black, almost) > 0.99


def test_vif_mutual_information_and_ssim_join_both_sources():
    a, b, fused = three((44, 47))
    assert fusion.vif(a, b, fused) == pytest.approx(image_quality.vif(fused, a) + image_quality.vif(fused, b))
    assert abs(fusion.vif(a, b, fused) - image_quality.vif(a, fused) - image_quality.vif(b, fused)) > 0.01
    for bins in (8, 32):
        expected = metrics.mutual_information(a, fused, bins) + metrics.mutual_information(b, fused, bins)
        assert fusion.mutual_information(a, b, fused, bins) == pytest.approx(expected)
    assert fusion.ssim(a, b, fused) == pytest.approx((image_quality.ssim(a, fused) + image_quality.ssim(b, fused)) / 2)


@pytest.mark.parametrize("name", METRICS)
def test_equal_images_have_the_ideal_value(name):
    image = 0.05 + 0.9 * texture((45, 52))
    histogram = np.bincount(np.minimum((image - 0.05) / 0.9 * 32, 31).astype(int).ravel()) / image.size
    entropy = -sum(p * math.log(p) for p in histogram if p)
    ideal = {"qabf": IDEAL_EDGE, "qcv": 0.0, "vif": 2.0, "mutual_information": 2 * entropy}.get(name, 1.0)
    assert METRICS[name](image, image, image) == pytest.approx(ideal, abs=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_sources_may_be_swapped(name):
    a, b, fused = three((45, 52))
    found = METRICS[name](a, b, fused)
    assert METRICS[name](b, a, fused) == pytest.approx(found, abs=1e-12)
    assert abs(METRICS[name](a, fused, b) - found) > 1e-3 * abs(found)


@pytest.mark.parametrize("name", METRICS)
def test_noise_and_blur_make_it_worse(name):
    good = 0.1 + 0.8 * texture((64, 58))
    a, b = good, 0.03 + 0.95 * good
    noise = np.random.default_rng(5).standard_normal(good.shape)
    sign = -1 if name == "qcv" else 1
    for worse in (
        [np.clip(good + amount * noise, 0, 1) for amount in (0.0, 0.04, 0.12, 0.4)],
        [ndimage.gaussian_filter(good, sigma) for sigma in (0.0, 1.0, 2.0, 5.0)],
    ):
        scores = [sign * METRICS[name](a, b, fused) for fused in worse]
        assert all(p > q + 1e-3 for p, q in itertools.pairwise(scores)), scores


@pytest.mark.parametrize("name", METRICS)
def test_volumes_are_measured_or_refused(name):
    a, b, fused = three((14, 13, 12), sigma=1.0)
    if name in PLANAR:
        with pytest.raises(InputError, match="2D"):
            METRICS[name](a, b, fused)
        return
    found = METRICS[name](a, b, fused)
    assert METRICS[name](*(image.transpose(2, 0, 1) for image in (a, b, fused))) == pytest.approx(found, abs=1e-10)
    assert found > METRICS[name](a, b, texture((14, 13, 12), 9)) + 0.05


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_measured_is_refused(name):
    a, b, fused = three((45, 52))
    for place in range(3):
        images = [a, b, fused]
        for bad, words in (
            (images[place][:, 1:], "different shapes"),
            (np.where(images[place] > 0.5, np.nan, images[place]), "NaN or infinite"),
            (255 * images[place], r"\[0, 1\]"),
            (images[place] - 0.5, r"\[0, 1\]"),
        ):
            with pytest.raises(InputError, match=words):
                METRICS[name](*images[:place], bad, *images[place + 1 :])
    with pytest.raises(InputError, match="not of shape"):
        METRICS[name](a[0], b[0], fused[0])


def test_options_that_make_no_sense_are_refused():
    images = three((20, 20))
    for option in ({"block": 0}, {"power": 0.0}, {"degrees": -1.0}):
        with pytest.raises(InputError, match="above 0"):
            fusion.qcv(*images, **option)
    with pytest.raises(InputError, match="'ssim' and 'q0'"):
        fusion.qs(*images, index="uqi")
