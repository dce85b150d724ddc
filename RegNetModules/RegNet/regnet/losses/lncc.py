"""Local normalised cross-correlation over cubic windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .windowed import add_gradient, correlate, differentiable, products

_PIECE = 1 << 18
"""Voxels of an image worked on at a time on a CPU, so that the window sums stay in its cache."""


@dataclass(frozen=True)
class LNCC:
    """One less the mean squared correlation of the two images over all windows inside the grid (Avants 2008).

    Squared: contrast may be inverted. In [0, 1]; 0 where every window is an affine function of the other, and 1 for
    constant images. Intensities are expected in about [0, 1].

    Args:
        window: side in voxels, one for all axes or one per axis; cut to the grid where that is thinner.
        stride: distance of neighbouring windows in voxels. 2 costs about a third of 1, and each voxel still lies in
            some ninety windows of side 9.

    >>> import torch
    >>> image = torch.rand(1, 1, 16, 18, 20)
    >>> bool(LNCC()(image, 2 * image + 1) < 1e-3)
    True
    """

    window: int | Sequence[int] = 9
    stride: int = 1

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, C, *shape); voxels where ``mask`` (B or 1, 1, *shape) is 0 have no influence."""
        if fixed.shape != moving.shape:
            raise ModelError(f"Images to compare must have one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}.")
        shape = (1,) * (5 - fixed.ndim) + tuple(fixed.shape[2:])
        sides = self._sides(shape, fixed.ndim - 2)
        strides = tuple(self.stride if n > 1 else 1 for n in shape)
        lines = None if mask is None else mask.expand_as(fixed).reshape(-1, *shape).to(fixed.dtype)

        def evaluate(x: Tensor, y: Tensor, for_fixed: bool, for_moving: bool) -> tuple[Tensor, ...]:
            loss, *gradients = _evaluate(
                x.reshape(-1, *shape), y.reshape(-1, *shape), lines, sides, strides, (for_fixed, for_moving)
            )
            return loss, *(None if part is None else part.view(x.shape) for part in gradients)

        return differentiable(fixed, moving, evaluate)

    def _sides(self, shape: Sequence[int], dims: int) -> tuple[int, ...]:
        window = (self.window,) * dims if isinstance(self.window, int) else tuple(self.window)
        if len(window) != dims or min(*window, self.stride) < 1:
            raise ModelError(f"LNCC cannot use window {self.window} with stride {self.stride} on a {dims}D image.")
        return tuple(min(side, n) for side, n in zip((1,) * (3 - dims) + window, shape, strict=True))


def _evaluate(
    fixed: Tensor,
    moving: Tensor,
    mask: Tensor | None,
    sides: tuple[int, ...],
    strides: tuple[int, ...],
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss and gradients of images (N, D, H, W), a slab of windows at a time."""
    counts = [(n - side) // stride + 1 for n, side, stride in zip(fixed.shape[1:], sides, strides, strict=True)]
    per_plane = fixed.shape[0] * math.prod(fixed.shape[2:])
    slab = max(sides[0], _PIECE // per_plane) // strides[0] + 1 if fixed.device.type == "cpu" else counts[0]
    gradients = [torch.zeros_like(image) if need else None for image, need in zip((fixed, moving), needs, strict=True)]
    value = torch.zeros((), dtype=torch.float64, device=fixed.device)
    total = torch.zeros_like(value)
    for start in range(0, counts[0], slab):
        windows = min(slab, counts[0] - start)
        rows = slice(start * strides[0], (start + windows - 1) * strides[0] + sides[0])
        x, y = fixed[:, rows], moving[:, rows]
        part = None if mask is None else mask[:, rows]
        sums = products(x, y, part)
        for axis in range(3):
            sums = window_sums(sums, axis + 2, sides[axis], strides[axis])
        found = correlate(sums, math.prod(sides), *needs)
        value += found.value
        total += sums[0].numel() if found.total is None else found.total
        for coefficients, own, other, out in (
            (found.fixed, x, y, gradients[0]),
            (found.moving, y, x, gradients[1]),
        ):
            if coefficients is not None:
                for axis in (2, 1, 0):
                    coefficients = spread(coefficients, axis + 2, sides[axis], strides[axis], x.shape[axis + 1])
                add_gradient(coefficients, own, other, part, out[:, rows])
    total = total.clamp(min=1e-6)
    for gradient in gradients:
        if gradient is not None:
            gradient.mul_((-1.0 / total).to(gradient.dtype))
    return (1.0 - value / total).to(fixed.dtype), *gradients


def window_sums(tensor: Tensor, axis: int, side: int, stride: int) -> Tensor:
    """Sums over ``side`` neighbours along ``axis``, one for every ``stride`` voxels, for windows inside the tensor.

    Sums of 2, 4, 8... neighbours are each made from two of the size before, so a window of nine takes four additions
    and keeps the accuracy of pairwise summation.
    """
    if side == 1 and stride == 1:
        return tensor
    count = (tensor.shape[axis] - side) // stride + 1
    blocks, rest = divmod(side, stride)
    sums = None
    if blocks:
        span = (count + blocks - 2) * stride + 1
        joined = tensor
        if stride > 1:
            joined = _every(tensor, axis, 0, span, stride) + _every(tensor, axis, 1, span, stride)
            for offset in range(2, stride):
                joined += _every(tensor, axis, offset, span, stride)
        sums = _running_sums(joined, axis, blocks)
    for offset in range(blocks * stride, blocks * stride + rest):
        piece = _every(tensor, axis, offset, (count - 1) * stride + 1, stride)
        sums = piece.clone() if sums is None else sums.add_(piece)
    return sums


def spread(tensor: Tensor, axis: int, side: int, stride: int, size: int) -> Tensor:
    """Transpose of :func:`window_sums`: each window's number added to its voxels; ``size`` voxels along ``axis``."""
    if side == 1 and stride == 1:
        return tensor
    count = tensor.shape[axis]
    blocks, rest = divmod(side, stride)
    shape = list(tensor.shape)
    sums = None
    if blocks:
        shape[axis] = count + 2 * (blocks - 1)
        wide = tensor.new_zeros(shape) if blocks > 1 else tensor
        if blocks > 1:
            wide.narrow(axis, blocks - 1, count).copy_(tensor)
        sums = _running_sums(wide, axis, blocks)
        if stride == 1:
            return sums
    shape[axis] = size
    out = tensor.new_zeros(shape)
    for offset in range(stride) if blocks else ():
        _every(out, axis, offset, (count + blocks - 2) * stride + 1, stride).copy_(sums)
    for offset in range(blocks * stride, blocks * stride + rest):
        _every(out, axis, offset, (count - 1) * stride + 1, stride).add_(tensor)
    return out


def _every(tensor: Tensor, axis: int, start: int, span: int, stride: int) -> Tensor:
    """The view ``tensor[start : start + span : stride]`` along ``axis``."""
    index = [slice(None)] * tensor.ndim
    index[axis] = slice(start, start + span, stride)
    return tensor[tuple(index)]


def _running_sums(tensor: Tensor, axis: int, side: int) -> Tensor:
    """Sums over ``side`` neighbours by repeated doubling, for windows inside the tensor; may be the tensor itself."""
    count = tensor.shape[axis] - side + 1
    doubled, size, sums, taken = tensor, 1, None, 0
    while True:
        if side & size:
            piece = doubled.narrow(axis, taken, count)
            sums = piece if sums is None else sums + piece if taken == 1 else sums.add_(piece)
            taken += size
        if taken == side:
            return sums
        reach = doubled.shape[axis] - size
        doubled = doubled.narrow(axis, 0, reach) + doubled.narrow(axis, size, reach)
        size *= 2
