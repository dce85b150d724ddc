"""How well a fused image keeps what its two sources show.

All functions take the sources ``a`` and ``b`` and the ``fused`` image: arrays of one shape with values in [0, 1],
(H, W) or, where the function says so, (D, H, W). Where a definition has constants for grey levels, the images are
multiplied by 255 inside; nothing is stretched or rounded. Every metric is computed in double precision and symmetric in
``a`` and ``b``. All raise :class:`regnet.errors.InputError` for images of different shapes or of a wrong dimension, for
values that are not finite, and for values outside [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from . import image_quality, metrics
from .errors import InputError

_TOLERANCE = 1e-3
"""How far outside [0, 1] a value may be: interpolation and rounding."""

STRENGTH_SIGMOID = (0.9994, -15.0, 0.5)
ORIENTATION_SIGMOID = (0.9879, -22.0, 0.8)
"""Gamma, kappa and sigma of Xydeas and Petrovic."""

VIEWING_ANGLE = 4.0 * 0.114 / 0.144
"""Degrees of visual angle that the longer side of an image subtends, 3.17: see :func:`qcv`."""


def qabf(a: np.ndarray, b: np.ndarray, fused: np.ndarray) -> float:
    """Q^AB/F, the share of the sources' edges that the fused image keeps, weighed by their strength; higher is better.

    Xydeas, Petrovic, *Objective image fusion performance measure*, Electronics Letters 2000. At each voxel a source's
    edge is kept by ``sigmoid(strength) sigmoid(orientation)``: the ratio of the weaker to the stronger Sobel gradient,
    and one less the angle between the two in units of 90 degrees. The angle is that between *lines*, as in the
    authors' SPIE paper of 2000 (``| |d| - 90 | / 90``), so inverted contrast costs nothing and turning the images
    changes nothing; programs in circulation have ``1 - |d| / 90`` instead, which takes lines at +89 and -89 degrees
    for opposites.

    From about 0 (a constant fused image) to 0.9748 (all three images equal: the sigmoids do not reach 1); NaN if both
    sources are constant. Border voxels are repeated for the gradients.

    Args:
        a, b, fused: (H, W), or (D, H, W) with isotropic voxels: the Sobel gradient and the angle carry over.
    """
    a, b, fused = _as_sources(a, b, fused)
    target = _gradient(fused)
    kept = total = 0.0
    for source in (a, b):
        gradient = _gradient(source)
        weight = _length(gradient)
        kept += float((_preservation(gradient, target) * weight).sum())
        total += float(weight.sum())
    return kept / total if total > 0 else math.nan


def qcv(
    a: np.ndarray,
    b: np.ndarray,
    fused: np.ndarray,
    *,
    block: int = 16,
    power: float = 5.0,
    degrees: float = VIEWING_ANGLE,
) -> float:
    """Q_CV, the visible difference to the more salient source in squared grey levels; lower is better, 0 is ideal.

    Chen, Varshney, *A human perception inspired quality metric for image fusion based on regional information*, 2007.
    The difference to each source, in grey levels 0 to 255, passes the contrast sensitivity of Mannos and Sakrison,
    ``2.6 (0.0192 + 0.114 r) exp(-(0.114 r)^1.1)`` with ``r`` in cycles per degree, over the whole image (which counts
    as periodic). Its mean square in every block is averaged with the blocks' salience as weight, the sum of the
    Sobel gradient's ``power``. Blocks at the far border are smaller. NaN if both sources are constant.

    ``r`` needs a distance of the eye: ``degrees`` is what the longer side subtends. The default gives the numbers of
    the programs in circulation, which have 4 degrees and, for 0.114, 0.144. They also stretch each image to 0...255
    and round it, which is not done here.

    Args:
        a, b, fused: (H, W). Contrast sensitivity is about looking at a picture, so volumes are refused.
        block: side of the blocks in pixels.
        power: how much strong edges outweigh weak ones.
        degrees: visual angle of the longer side.
    """
    a, b, fused = _as_sources(a, b, fused, dimensions=(2,))
    if block < 1 or power <= 0 or degrees <= 0:
        raise InputError(f"Q_CV cannot use block {block}, power {power} and {degrees} degrees; all must be above 0.")
    sensitivity = _contrast_sensitivity(fused.shape, degrees)
    pixels = _block_sums(np.ones(fused.shape), block)
    error = total = 0.0
    for source in (a, b):
        seen = np.fft.ifft2(np.fft.fft2(255.0 * (source - fused)) * sensitivity).real
        salience = _block_sums(_length(_gradient(source)) ** power, block)
        error += float((salience * _block_sums(seen**2, block) / pixels).sum())
        total += float(salience.sum())
    return error / total if total > 0 else math.nan


def vif(a: np.ndarray, b: np.ndarray, fused: np.ndarray) -> float:
    """VIF(a, fused) + VIF(b, fused), each with the source as the reference; higher is better.

    The sum of Sheikh and Bovik's pixel domain fidelities (see :func:`regnet.image_quality.vif`), as fusion papers
    report it; not the VIFF of Han et al. 2013. 2 where all three images are equal, 0 for a constant fused image, NaN
    if a source is constant.

    Args:
        a, b, fused: (H, W), at least 41 pixels on each axis.
    """
    a, b, fused = _as_sources(a, b, fused, dimensions=(2,))
    return image_quality.vif(fused, a) + image_quality.vif(fused, b)


def mutual_information(a: np.ndarray, b: np.ndarray, fused: np.ndarray, bins: int = 32) -> float:
    """MI(a, fused) + MI(b, fused) in nats; higher is better, 0 for a constant fused image.

    Qu, Zhang, Yan, *Information measure for performance of image fusion*, 2002. Histograms are those of
    :func:`regnet.metrics.mutual_information`. Tables in print are mostly of 256 ``bins`` and in bits (divide by ln 2);
    so many bins find some information even in unrelated images, about half a nat each for 256 x 256 pixels.

    Args:
        a, b, fused: (H, W) or (D, H, W).
        bins: of each image's own range.
    """
    a, b, fused = _as_sources(a, b, fused)
    return metrics.mutual_information(a, fused, bins) + metrics.mutual_information(b, fused, bins)


def qs(a: np.ndarray, b: np.ndarray, fused: np.ndarray, index: Literal["ssim", "q0"] = "ssim") -> float:
    """Q_S, local similarity to whichever source varies more there, in [-1, 1]; 1 is best.

    Piella, Heijmans, *A new quality metric for image fusion*, 2003, equation 4 (neither weighted nor edge-dependent):
    the mean over windows inside the image of ``l S(a, fused) + (1 - l) S(b, fused)`` with
    ``l = var(a) / (var(a) + var(b))``, a half where both are constant.

    ``index`` is ``S`` and its window: ``"q0"``, the paper's universal quality index in windows of 8 voxels, or
    ``"ssim"``, its stabilised successor in Gaussian windows (Wang 2004), which is what tables in print call Q_S. They
    differ much on medical images: where the sources are black, Q0 is 0 as soon as the fused image is not exactly so.

    Args:
        a, b, fused: (H, W) or (D, H, W).
    """
    a, b, fused = _as_sources(a, b, fused)
    if index == "ssim":
        window = image_quality.gaussian_window(1.5)
        first, second = (k**2 for k in image_quality.STABILISERS)
    elif index == "q0":
        window, first, second = np.full(8, 1 / 8), 0.0, 0.0
    else:
        raise InputError(f"Q_S knows the indices 'ssim' and 'q0', not {index!r}.")
    by_a, by_b = (image_quality.window_statistics(source, fused, window) for source in (a, b))
    salience = by_a.first_variance + by_b.first_variance
    share = np.divide(by_a.first_variance, salience, out=np.full(salience.shape, 0.5), where=salience > 0)
    like_a, like_b = (image_quality.similarity(found, first, second) for found in (by_a, by_b))
    return float((share * like_a + (1 - share) * like_b).mean())


def ssim(a: np.ndarray, b: np.ndarray, fused: np.ndarray) -> float:
    """Mean of SSIM(a, fused) and SSIM(b, fused), in [-1, 1]; 1, where all three are equal, is best.

    See :func:`regnet.image_quality.ssim`. Some tables in print have the sum, twice this.

    Args:
        a, b, fused: (H, W) or (D, H, W).
    """
    a, b, fused = _as_sources(a, b, fused)
    return 0.5 * (image_quality.ssim(fused, a) + image_quality.ssim(fused, b))


def _as_sources(
    a: np.ndarray, b: np.ndarray, fused: np.ndarray, dimensions: Sequence[int] = (2, 3)
) -> list[np.ndarray]:
    images = image_quality.as_images(a, b, fused, dimensions=dimensions)
    low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise InputError(f"Fusion metrics expect values in [0, 1], not {low:g} to {high:g}; rescale the images.")
    return images


def _gradient(image: np.ndarray) -> np.ndarray:
    """Sobel gradient (d, *shape)."""
    # Imported here: it takes long, and most runs never ask for it.
    from scipy import ndimage

    return np.stack([ndimage.sobel(image, axis, mode="nearest") for axis in range(image.ndim)])


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(vectors).sum(axis=0))


def _preservation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How well the gradient ``target`` (d, *shape) preserves the edges of ``source``, at every voxel."""
    lengths = [_length(source), _length(target)]
    larger = np.maximum(*lengths)
    strength = np.divide(np.minimum(*lengths), larger, out=np.ones_like(larger), where=larger > 0)
    u, v = (x / np.where(length > 0, length, 1.0) for x, length in zip((source, target), lengths, strict=True))
    # Exact for equal directions, unlike an arc cosine; a missing gradient is at right angles to everything.
    angle = 2.0 * np.arctan2(_length(u - v), _length(u + v))
    orientation = 1.0 - np.minimum(angle, math.pi - angle) / (math.pi / 2)
    return _sigmoid(strength, *STRENGTH_SIGMOID) * _sigmoid(orientation, *ORIENTATION_SIGMOID)


def _sigmoid(x: np.ndarray, gamma: float, kappa: float, sigma: float) -> np.ndarray:
    return gamma / (1.0 + np.exp(kappa * (x - sigma)))


def _contrast_sensitivity(shape: tuple[int, ...], degrees: float) -> np.ndarray:
    """Mannos and Sakrison's, for the frequencies of a discrete Fourier transform of ``shape``."""
    pixels_per_degree = max(shape) / degrees
    r = np.hypot.outer(*(np.fft.fftfreq(n) for n in shape)) * pixels_per_degree
    return 2.6 * (0.0192 + 0.114 * r) * np.exp(-((0.114 * r) ** 1.1))


def _block_sums(image: np.ndarray, block: int) -> np.ndarray:
    for axis, n in enumerate(image.shape):
        image = np.add.reduceat(image, np.arange(0, n, block), axis=axis)
    return image
