"""How close an image comes to a reference: peak signal to noise, structural similarity, visual information fidelity.

Everything here is NumPy and SciPy in double precision; arrays are (H, W) or (D, H, W). Local statistics are those of
windows that lie wholly inside the image, so no value is invented beyond its border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import InputError

STABILISERS = (0.01, 0.03)
"""K1 and K2 of SSIM: with the range of the data, what is too dark or too flat to be compared (Wang 2004)."""
_REACH = 3.5
"""Standard deviations to which a Gaussian window reaches; sigma 1.5 then gives the published side of 11."""

_VIF_SIDES = (17, 9, 5, 3)
_VIF_NOISE = 2.0
_VIF_LEAST = 41
"""Pixels that four scales of windows inside the image take."""

_CONSTANT = 64.0
"""A window whose variance is below this many rounding errors of its mean square is constant."""


def psnr(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / mean squared difference)`` in dB; higher is better.

    Args:
        image, reference: (H, W) or (D, H, W), of one shape.
        data_range: largest possible value less the smallest: 1 for images in [0, 1], 255 for 8-bit ones.
        mask: of the same shape; only its voxels count.

    Returns:
        Infinity for equal images; symmetric in both.
    """
    image, reference = as_images(image, reference)
    _check_range(data_range)
    difference = image - reference
    if mask is not None:
        difference = difference[as_mask(mask, image.shape)]
    error = float(np.mean(np.square(difference)))
    return 10.0 * math.log10(data_range**2 / error) if error > 0 else math.inf


def ssim(
    image: np.ndarray,
    reference: np.ndarray,
    data_range: float = 1.0,
    sigma: float = 1.5,
    mask: np.ndarray | None = None,
) -> float:
    """Mean structural similarity, in [-1, 1], 1 for equal images; higher is better, symmetric in both.

    Wang, Bovik, Sheikh, Simoncelli, *Image quality assessment: from error visibility to structural similarity*, 2004,
    equations 13 to 17: Gaussian windows (11 wide for ``sigma`` 1.5), K1 = 0.01, K2 = 0.03.

    Border: as in the authors' program the mean is over windows that lie wholly inside the image, so the outermost 5
    voxels are no window's centre. Along an axis thinner than the window, the window is cut to it.

    Args:
        image, reference: (H, W) or (D, H, W), of one shape; a volume's windows are three-dimensional.
        data_range: largest possible value less the smallest: 1 for images in [0, 1], 255 for 8-bit ones.
        sigma: standard deviation of the window in voxels.
        mask: of the same shape; only windows count whose centre is in it.
    """
    values = ssim_map(image, reference, data_range, sigma)
    if mask is None:
        return float(values.mean())
    shape = np.shape(reference)
    margins = [(whole - part) // 2 for whole, part in zip(shape, values.shape, strict=True)]
    inner = as_mask(mask, shape)[tuple(slice(r, n - r) for r, n in zip(margins, shape, strict=True))]
    if not inner.any():
        raise InputError("The mask holds no voxel that is the centre of a window inside the image; make it larger.")
    return float(values[inner].mean())


def ssim_map(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0, sigma: float = 1.5) -> np.ndarray:
    """SSIM of every window inside the image; arguments as for :func:`ssim`.

    Returns:
        Smaller than the images by the side of the window less one: by 10 for ``sigma`` 1.5, so that value (i, j) is
        that of voxel (i + 5, j + 5).
    """
    image, reference = as_images(image, reference)
    _check_range(data_range)
    first, second = (k * data_range for k in STABILISERS)
    return similarity(window_statistics(image, reference, gaussian_window(sigma)), first**2, second**2)


def vif(image: np.ndarray, reference: np.ndarray, data_range: float = 1.0) -> float:
    """Visual information fidelity in the pixel domain: the share of the reference's information that the image keeps.

    Sheikh, Bovik, *Image information and visual quality*, 2006, in the authors' multi-scale pixel domain version: four
    scales with Gaussian windows of 17, 9, 5 and 3 pixels (sigma a fifth of that), noise variance 2 on the scale 0 to
    255, to which the images are brought here. Windows and filters are applied inside the image only.

    Not symmetric: 1 for the reference itself, 0 for a constant image, above 1 where contrast was raised without noise;
    higher is better. NaN for a constant reference, which has no information.

    Args:
        image, reference: (H, W) of one shape, at least 41 pixels on each axis. Windows and noise were chosen for
            planar pictures, so volumes are refused.
        data_range: largest possible value less the smallest.
    """
    image, reference = as_images(image, reference, dimensions=(2,))
    _check_range(data_range)
    if min(image.shape) < _VIF_LEAST:
        raise InputError(f"VIF needs images of at least {_VIF_LEAST} pixels on each axis, not of shape {image.shape}.")
    image, reference = (x * (255.0 / data_range) for x in (image, reference))
    kept = total = 0.0
    for side in _VIF_SIDES:
        window = gaussian_window(side / 5, side // 2)
        if side < _VIF_SIDES[0]:
            image, reference = (window_average(x, window)[::2, ::2] for x in (image, reference))
        found = window_statistics(reference, image, window)
        # The distortion model image = gain * reference + noise; a gain below zero counts as all noise.
        gain = np.maximum(_ratio(found.covariance, found.first_variance, otherwise=0.0), 0.0)
        noise = np.maximum(found.second_variance - gain * found.covariance, 0.0)
        kept += float(np.log1p(gain**2 * found.first_variance / (noise + _VIF_NOISE)).sum())
        total += float(np.log1p(found.first_variance / _VIF_NOISE).sum())
    return kept / total if total > 0 else math.nan


class WindowStatistics(NamedTuple):
    """Weighted means, variances and covariance of two images in every window inside them."""

    first_mean: np.ndarray
    second_mean: np.ndarray
    first_variance: np.ndarray
    second_variance: np.ndarray
    covariance: np.ndarray


def window_statistics(first: np.ndarray, second: np.ndarray, window: np.ndarray) -> WindowStatistics:
    """Statistics under the separable ``window``, whose weights along one axis sum to one.

    Variances that are rounding errors become exactly 0, and so do their covariances.
    """
    means = [window_average(x, window) for x in (first, second)]
    variances = []
    for x, mean in zip((first, second), means, strict=True):
        squares = window_average(x * x, window)
        variance = squares - mean * mean
        variances.append(np.where(variance > _CONSTANT * np.finfo(np.float64).eps * squares, variance, 0.0))
    covariance = window_average(first * second, window) - means[0] * means[1]
    covariance[(variances[0] == 0) | (variances[1] == 0)] = 0.0
    return WindowStatistics(*means, *variances, covariance)


def similarity(found: WindowStatistics, first: float, second: float) -> np.ndarray:
    """SSIM of windows with the stabilisers C1 = ``first`` and C2 = ``second`` (Wang 2004, equation 13).

    With both 0 it is the universal quality index Q0 (Wang 2002); 0 / 0, where both images are black or both constant,
    then counts as alike.
    """
    x, y = found.first_mean, found.second_mean
    brightness = _ratio(2 * x * y + first, x * x + y * y + first, otherwise=1.0)
    variances = found.first_variance + found.second_variance
    return brightness * _ratio(2 * found.covariance + second, variances + second, otherwise=1.0)


def window_average(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Weighted mean over every window inside the image, the window cut to what the axis has: smaller by side - 1."""
    # Imported here: it takes long, and most runs never ask for it.
    from scipy import ndimage

    for axis, n in enumerate(image.shape):
        weights = cut_window(window, n)
        start = len(weights) // 2
        image = ndimage.correlate1d(image, weights, axis=axis, mode="nearest")
        image = image[(slice(None),) * axis + (slice(start, start + n - len(weights) + 1),)]
    return image


def gaussian_window(sigma: float, radius: int | None = None) -> np.ndarray:
    """``2 radius + 1`` Gaussian weights that sum to one; without ``radius`` they reach 3.5 ``sigma``."""
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"A Gaussian window needs a standard deviation above 0, not {sigma}.")
    radius = int(_REACH * sigma + 0.5) if radius is None else radius
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def cut_window(window: np.ndarray, n: int) -> np.ndarray:
    """``window`` as it is, or its middle where it is longer than ``n``: an odd window stays odd, so has a centre."""
    excess = len(window) - n
    if excess <= 0:
        return window
    side = max(n - excess % 2, 1)
    start = (len(window) - side) // 2
    part = window[start : start + side]
    return part / part.sum()


def as_images(*images: np.ndarray, dimensions: Sequence[int] = (2, 3)) -> list[np.ndarray]:
    """The images in double precision.

    Raises:
        InputError: they differ in shape, are empty or of a dimension that is not asked for, or hold NaN or infinity.
    """
    arrays = [np.asarray(image, dtype=np.float64) for image in images]
    shape = arrays[0].shape
    for other in arrays[1:]:
        if other.shape != shape:
            raise InputError(
                f"The images have different shapes, {shape} and {other.shape}; resample one onto the other."
            )
    if len(shape) not in dimensions or 0 in shape:
        allowed = " or ".join(f"{n}D" for n in dimensions)
        raise InputError(f"The images must be {allowed} arrays that are not empty, not of shape {shape}.")
    bad = sum(int(np.count_nonzero(~np.isfinite(array))) for array in arrays)
    if bad:
        raise InputError(f"The images contain {bad} NaN or infinite values; replace them first.")
    return arrays


def as_mask(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The mask as booleans; an :class:`InputError` if it is not of the images' ``shape`` or empty."""
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != tuple(shape):
        raise InputError(f"The mask has the shape {mask.shape} and the images {tuple(shape)}; resample one of them.")
    if not mask.any():
        raise InputError("The mask excludes everything: it has no voxel above 0.")
    return mask


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise InputError(f"The range of the data must be a number above 0, not {data_range}.")


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    """``above / below``, and ``otherwise`` where ``below`` is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), otherwise), where=below != 0)
