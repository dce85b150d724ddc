"""The fusion rules that a learned fusion is compared with, and what a fused image is measured by.

A rule takes two registered images (H, W) in [0, 1] to one. Details are taken from whichever image has the stronger one
there, what is left after the coarsest level is averaged; the result is cut to [0, 1].
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np
from regnet import fusion_metrics
from scipy import ndimage

LEVELS = 4
WAVELET = "sym4"
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def average(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a + b) / 2


def maximum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum(a, b)


def laplacian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Burt, Adelson, *The Laplacian pyramid as a compact image code*, 1983, with their kernel at a = 3/8."""
    details, shapes = [], []
    for _ in range(LEVELS):
        shapes.append(a.shape)
        smaller = [_reduced(image) for image in (a, b)]
        details.append(stronger(*(image - _expanded(s, image.shape) for image, s in zip((a, b), smaller, strict=True))))
        a, b = smaller
    fused = average(a, b)
    for detail, shape in zip(reversed(details), reversed(shapes), strict=True):
        fused = _expanded(fused, shape) + detail
    return np.clip(fused, 0, 1)


def wavelet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Discrete wavelet transform with the wavelet sym4, decimated, images mirrored at their borders."""
    import pywt

    first, second = (pywt.wavedec2(image, WAVELET, mode="symmetric", level=LEVELS) for image in (a, b))
    fused = [average(first[0], second[0])]
    fused += [tuple(map(stronger, *bands)) for bands in zip(first[1:], second[1:], strict=True)]
    whole = pywt.waverec2(fused, WAVELET, mode="symmetric")
    return np.clip(whole[: a.shape[0], : a.shape[1]], 0, 1)


RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "average": average,
    "maximum": maximum,
    "laplacian": laplacian,
    "wavelet": wavelet,
}
PACKAGES = {"wavelet": "pywt"}
DESCRIPTIONS = {
    "average": "mean of both images",
    "maximum": "the brighter of both at every pixel",
    "laplacian": f"Laplacian pyramid of {LEVELS} levels: the stronger detail, the mean of the rest",
    "wavelet": f"wavelet transform ({WAVELET}) of {LEVELS} levels: the stronger detail, the mean of the rest",
}


def available(name: str) -> bool:
    """Whether the package that a rule needs is installed."""
    return name not in PACKAGES or importlib.util.find_spec(PACKAGES[name]) is not None


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "qabf": fusion_metrics.qabf,
    "qcv": fusion_metrics.qcv,
    "vif": fusion_metrics.vif,
    "mi": fusion_metrics.mutual_information,
    "qs": fusion_metrics.qs,
    "ssim": fusion_metrics.ssim,
}


def measured(a: np.ndarray, b: np.ndarray, fused: np.ndarray) -> dict[str, float]:
    """All metrics of ``fused`` by name; all three images (H, W) in [0, 1]."""
    return {name: float(metric(a, b, fused)) for name, metric in METRICS.items()}


def stronger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The coefficient of larger magnitude."""
    return np.where(np.abs(a) >= np.abs(b), a, b)


def _blurred(image: np.ndarray) -> np.ndarray:
    for axis in range(2):
        image = ndimage.correlate1d(image, BINOMIAL, axis=axis, mode="mirror")
    return image


def _reduced(image: np.ndarray) -> np.ndarray:
    return _blurred(image)[::2, ::2]


def _expanded(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """To twice the size: zeros between, blurred, and divided by the same of ones, so that a constant stays one."""
    spread, weight = np.zeros(shape), np.zeros(shape)
    spread[::2, ::2], weight[::2, ::2] = image, 1.0
    return _blurred(spread) / _blurred(weight)
