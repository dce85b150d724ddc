"""Image quality against the papers' formulas written out window by window, and against values worked out by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from regnet import image_quality as quality
from regnet.errors import InputError
from scipy import ndimage

SHAPES = [(14, 17), (13, 11, 12)]


def texture(shape, seed=0, sigma=1.2):
    """Smooth noise that fills [0, 1]."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), sigma, mode="wrap")
    return (values - values.min()) / (values.max() - values.min())


def noisy(image, amount, seed=7):
    return image + amount * np.random.default_rng(seed).standard_normal(image.shape)


def weights_of(sides, sigma):
    """The window's weights as one array, from distances to its middle."""
    squares = sum(np.square(x - (n - 1) / 2) for x, n in zip(np.indices(sides), sides, strict=True))
    weights = np.exp(-squares / (2 * sigma**2))
    return weights / weights.sum()


def ssim_by_windows(x, y, data_range=1.0, sigma=1.5, sides=None):
    """Equation 13 of Wang 2004, one window after another; the product of luminance, contrast and structure."""
    sides = sides or (11,) * x.ndim
    weights = weights_of(sides, sigma)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    result = np.empty([n - side + 1 for n, side in zip(x.shape, sides, strict=True)])
    for corner in itertools.product(*map(range, result.shape)):
        part = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
        p, q = x[part], y[part]
        mx, my = (weights * p).sum(), (weights * q).sum()
        sx, sy = (math.sqrt((weights * (v - m) ** 2).sum()) for v, m in ((p, mx), (q, my)))
        sxy = (weights * (p - mx) * (q - my)).sum()
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        contrast = (2 * sx * sy + c2) / (sx**2 + sy**2 + c2)
        structure = (sxy + c2 / 2) / (sx * sy + c2 / 2)
        result[corner] = luminance * contrast * structure
    return result


def vif_by_matrices(image, reference):
    """The four scales with the filters as matrices, each pixel's variances as central moments."""
    x, y = 255.0 * reference, 255.0 * image
    kept = total = 0.0
    for scale, side in enumerate((17, 9, 5, 3)):
        line = weights_of((side,), side / 5)
        if scale:
            x, y = (filtered(v, line)[::2, ::2] for v in (x, y))
        weights = weights_of((side, side), side / 5)
        p, q = (np.lib.stride_tricks.sliding_window_view(v, (side, side)) for v in (x, y))
        mx, my = (np.einsum("ijkl,kl->ij", v, weights)[..., None, None] for v in (p, q))
        vx, vy, cov = (
            np.einsum("ijkl,ijkl,kl->ij", u, v, weights)
            for u, v in ((p - mx, p - mx), (q - my, q - my), (p - mx, q - my))
        )
        correlated = (vx > 1e-9) & (cov > 0)
        gain = np.where(correlated, cov / np.where(correlated, vx, 1), 0)
        noise = np.where(correlated, vy - gain * cov, vy)
        kept += np.log10(1 + gain**2 * vx / (noise + 2)).sum()
        total += np.log10(1 + vx / 2).sum()
    return kept / total


def filtered(image, line):
    columns, rows = (np.array([np.convolve(np.eye(n)[i], line, "valid") for i in range(n)]) for n in image.shape)
    return columns.T @ image @ rows


# PSNR


def test_psnr_by_hand():
    reference = np.full((4, 5), 0.5)
    assert quality.psnr(reference + 0.1, reference) == pytest.approx(20.0)
    assert quality.psnr(255 * reference + 25.5, 255 * reference, data_range=255) == pytest.approx(20.0)
    two = reference.copy()
    two[0, 0], two[3, 4] = 0.9, 0.3
    assert quality.psnr(two, reference) == pytest.approx(10 * math.log10(20 / (0.16 + 0.04)))
    assert quality.psnr(reference, reference) == math.inf


def test_psnr_counts_only_the_mask():
    image, reference = texture((6, 7, 5), 1), texture((6, 7, 5), 2)
    mask = np.zeros((6, 7, 5))
    mask[2, 3, 1] = mask[0, 1, 4] = 1
    errors = (image - reference)[mask > 0] ** 2
    assert quality.psnr(image, reference, mask=mask) == pytest.approx(-10 * math.log10(errors.mean()))


# SSIM


@pytest.mark.parametrize(("sigma", "side", "data_range"), [(1.5, 11, 1.0), (1.0, 9, 0.5)])
@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_map_is_the_formula_in_every_window(shape, sigma, side, data_range):
    x, y = texture(shape, 0), noisy(texture(shape, 0), 0.2)
    expected = ssim_by_windows(x, y, data_range, sigma, (side,) * len(shape))
    found = quality.ssim_map(x, y, data_range, sigma)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert quality.ssim(x, y, data_range, sigma) == pytest.approx(expected.mean(), abs=1e-10)


def test_ssim_of_constants_by_hand():
    low, high = np.full((12, 15), 0.2), np.full((12, 15), 0.6)
    assert quality.ssim(low, high) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))


def test_ssim_in_a_mask_is_the_mean_over_windows_with_their_centre_in_it():
    x, y = texture((19, 22), 1), texture((19, 22), 2)
    mask = np.zeros((19, 22), bool)
    mask[:8, 9:20] = True
    expected = ssim_by_windows(x, y)[: 8 - 5, 9 - 5 : 20 - 5]
    found = quality.ssim(x, y, mask=mask)
    assert found == pytest.approx(expected[:, : 22 - 10 - 4].mean(), abs=1e-10)
    assert abs(found - quality.ssim(x, y)) > 1e-2
    mask[:] = False
    mask[2, 2] = True
    with pytest.raises(InputError, match="centre of a window"):
        quality.ssim(x, y, mask=mask)


@pytest.mark.parametrize(
    ("shape", "sides"), [((4, 15, 13), (3, 11, 11)), ((1, 14, 16), (1, 11, 11)), ((5, 12), (5, 11))]
)
def test_ssim_cuts_windows_to_thin_axes(shape, sides):
    x, y = texture(shape, 3, 0.7), texture(shape, 4, 0.7)
    np.testing.assert_allclose(quality.ssim_map(x, y), ssim_by_windows(x, y, sides=sides), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(40, 33), (18, 20, 17)])
def test_ssim_falls_with_noise_and_blur_and_is_symmetric(shape):
    image = texture(shape)
    assert quality.ssim(image, image) == pytest.approx(1.0, abs=1e-12)
    for worse in (
        [noisy(image, amount) for amount in (0.02, 0.05, 0.1, 0.3)],
        [ndimage.gaussian_filter(image, sigma) for sigma in (0.5, 1.0, 2.0, 4.0)],
    ):
        scores = [1.0, *(quality.ssim(w, image) for w in worse)]
        assert all(p > q + 1e-3 for p, q in itertools.pairwise(scores)), scores
        assert quality.ssim(image, worse[1]) == pytest.approx(scores[2], abs=1e-12)
    assert quality.ssim(1 - image, image) < 0
    assert quality.ssim(255 * worse[0], 255 * image, data_range=255) == pytest.approx(scores[1], abs=1e-12)


# VIF


@pytest.mark.parametrize("shape", [(41, 50), (60, 47)])
def test_vif_is_the_definition(shape):
    reference = texture(shape, 0, 1.5)
    for image in (noisy(reference, 0.05), 0.4 * reference + 0.3, texture(shape, 5), 1 - reference):
        assert quality.vif(image, reference) == pytest.approx(vif_by_matrices(image, reference), rel=1e-6, abs=1e-9)


def test_vif_of_known_cases():
    reference = texture((64, 52), 1, 2.0)
    assert quality.vif(reference, reference) == pytest.approx(1.0, abs=1e-9)
    assert quality.vif(np.full((64, 52), 0.3), reference) == 0.0
    assert quality.vif(1 - reference, reference) == 0.0
    assert quality.vif(0.25 + 1.5 * (reference - 0.5), reference) > 1.0
    assert math.isnan(quality.vif(reference, np.full((64, 52), 0.3)))
    blurred = ndimage.gaussian_filter(reference, 1.0)
    score = quality.vif(blurred, reference)
    assert abs(score - quality.vif(reference, blurred)) > 0.02
    assert quality.vif(255 * blurred, 255 * reference, data_range=255) == pytest.approx(score, abs=1e-12)


def test_vif_falls_with_noise_and_blur():
    image = texture((70, 61), 2, 2.0)
    for worse in (
        [noisy(image, amount) for amount in (0.01, 0.03, 0.1, 0.3)],
        [ndimage.gaussian_filter(image, sigma) for sigma in (0.5, 1.0, 2.0, 4.0)],
    ):
        scores = [1.0, *(quality.vif(w, image) for w in worse)]
        assert all(p > q + 1e-3 for p, q in itertools.pairwise(scores)), scores


# What is refused


@pytest.mark.parametrize("metric", [quality.psnr, quality.ssim, quality.vif])
def test_what_cannot_be_compared_is_refused(metric):
    image = texture((48, 45))
    for other, words in (
        (image.T, "different shapes"),
        (np.where(image > 0.9, np.nan, image), "NaN or infinite"),
        (np.where(image > 0.9, np.inf, image), "NaN or infinite"),
    ):
        with pytest.raises(InputError, match=words):
            metric(image, other)
    for bad in (image[0], np.zeros((0, 45)), np.zeros((2, 2, 48, 45))):
        with pytest.raises(InputError, match="not of shape"):
            metric(bad, bad)
    for data_range in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="range of the data"):
            metric(image, image, data_range=data_range)


def test_masks_sigmas_and_sizes_that_cannot_be_used_are_refused():
    image = texture((48, 45))
    for metric in (quality.psnr, quality.ssim):
        with pytest.raises(InputError, match="shape"):
            metric(image, image, mask=np.ones((45, 48)))
        with pytest.raises(InputError, match="excludes everything"):
            metric(image, image, mask=np.zeros((48, 45)))
    with pytest.raises(InputError, match="standard deviation"):
        quality.ssim(image, image, sigma=0.0)
    with pytest.raises(InputError, match="at least 41"):
        quality.vif(image[:40], image[:40])
    with pytest.raises(InputError, match="2D"):
        quality.vif(np.stack([image] * 42), np.stack([image] * 42))


def test_neither_torch_nor_scipy_is_loaded_before_it_is_needed():
    code = "import sys, regnet.fusion_metrics; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
