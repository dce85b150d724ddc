"""Local gradients: do the edges of two images of any contrast lie and run alike?

Zhang, Jian, Chen, Yang, *Deform-GAN: An Unsupervised Learning Model for Deformable Registration*, arXiv 2002.11430. The
local gradient of a voxel is the sum of the image's derivatives over a window,

    g(p) = (sum dI/dz, sum dI/dy, sum dI/dx),    n(p) = g(p) / (|g(p)| + epsilon),

and two images are alike where their ``n`` are parallel: the paper maximises ``sum_p |n(A, p) . n(B, p)|``. The sum of
signed derivatives telescopes to a difference of two opposite faces of the window, so structures thinner than the window
cancel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from ..spatial import along_axis

_TINY = 1e-24
"""Squared length below which a vector is none; far below any epsilon that makes sense."""


@dataclass(frozen=True)
class LocalGradient:
    """One less the mean ``|n(A) . n(B)|`` of two images, in [0, 1], to be minimised (Zhang et al. 2020).

    The absolute value makes contrast, inverted or not, irrelevant. About 0 for an image and itself, a half (in 2D
    0.36) for unrelated ones, 1 where one of them is constant.

    Args:
        windows: odd sides in voxels, 7 as published; of several, such as (3, 7), the losses are averaged.
        epsilon: length of ``g`` that counts as none, for intensities in about [0, 1].

    >>> image = torch.rand(1, 1, 16, 18, 20)
    >>> bool(LocalGradient()(image, 1 - 0.5 * image) < 1e-3)
    True
    """

    windows: tuple[int, ...] = (7,)
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "windows", tuple(self.windows))
        if not self.windows or any(side < 1 or side % 2 == 0 for side in self.windows):
            raise ModelError(f"Windows of local gradients must be odd numbers from 1 up, not {list(self.windows)}.")
        if self.epsilon <= 0:
            raise ModelError(f"The epsilon of local gradients must be above 0, not {self.epsilon}.")

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, 1, *shape); voxels where ``mask`` (B or 1, 1, *shape) is 0 have no influence."""
        if fixed.shape != moving.shape:
            raise ModelError(f"Images to compare must have one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}.")
        # Small differences of large sums: half precision would leave little of them.
        with torch.autocast(fixed.device.type, enabled=False):
            first, second = derivatives(fixed, mask), derivatives(moving, mask)
            losses = [1.0 - _mean(self._likeness(first, second, side), mask) for side in self.windows]
        return torch.stack(losses).mean()

    def _likeness(self, first: Tensor, second: Tensor, side: int) -> Tensor:
        """``|n . n|`` at every voxel, (B, 1, *shape)."""
        first, second = window_sum(first, side), window_sum(second, side)
        lengths = (_length(first) + self.epsilon) * (_length(second) + self.epsilon)
        return (first * second).sum(1, keepdim=True).abs() / lengths


def normalized_gradients(image: Tensor, window: int = 7, epsilon: float = 1e-5, mask: Tensor | None = None) -> Tensor:
    """``n`` of an image (B, 1, *shape): (B, d, *shape), no longer than 1, channels in array order; 0 where constant.

    Arguments as for :class:`LocalGradient`.
    """
    LocalGradient((window,), epsilon)
    with torch.autocast(image.device.type, enabled=False):
        gradients = window_sum(derivatives(image, mask), window)
        return gradients / (_length(gradients) + epsilon)


def derivatives(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Central differences of (B, 1, *shape), border voxels repeated: (B, d, *shape); 0 across the edge of ``mask``.

    They come before any sum: where an image is constant they are exactly 0, which a difference of sums is not.
    """
    if image.ndim not in (4, 5) or image.shape[1] != 1:
        raise ModelError(f"Local gradients are of one-channel images (batch, 1, ...), not {tuple(image.shape)}.")
    image = image if image.dtype == torch.float64 else image.float()
    parts = []
    for axis in range(2, image.ndim):
        behind, ahead = _neighbours(image, axis)
        part = (ahead - behind) * 0.5
        if mask is not None:
            behind, ahead = _neighbours(mask.to(image.dtype), axis)
            part = part * (behind * ahead)
        parts.append(part)
    return torch.cat(parts, dim=1)


def window_sum(tensor: Tensor, side: int) -> Tensor:
    """Sum over the cube of ``side`` voxels around each voxel, border values repeated."""
    if side == 1:
        return tensor
    for axis, n in enumerate(tensor.shape[2:]):
        tensor = along_axis(tensor, _sum_matrix(n, side // 2, tensor.dtype, tensor.device), axis)
    return tensor


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sum_matrix(n: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(n, n)``: how often each voxel of a line counts in the window of each."""
    columns = torch.arange(n)[:, None] + torch.arange(-radius, radius + 1)[None]
    ones = torch.ones(columns.shape, dtype=torch.float64)
    matrix = torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, columns.clamp(0, n - 1), ones)
    return matrix.to(device=device, dtype=dtype)


def _neighbours(tensor: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The voxel before and the voxel after each along ``axis``."""
    n = tensor.shape[axis]
    wide = torch.cat([tensor.narrow(axis, 0, 1), tensor, tensor.narrow(axis, n - 1, 1)], dim=axis)
    return wide.narrow(axis, 0, n), wide.narrow(axis, 2, n)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean, (B, 1, *shape), its derivative at 0 being 0, where that of the bare square root is infinite."""
    return vectors.square().sum(1, keepdim=True).clamp(min=_TINY).sqrt()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    weight = mask.expand_as(values).to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
