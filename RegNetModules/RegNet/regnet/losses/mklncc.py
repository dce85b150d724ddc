"""Multi-kernel local cross-correlation, the similarity of AVSM."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ModelError
from ..spatial import along_axis
from .windowed import add_gradient, correlate, differentiable, products

_PIECE = 1 << 18
"""Voxels of an image worked on at a time on a CPU."""


class Scale(NamedTuple):
    """Windows of ``side`` samples, ``dilation`` voxels apart, one window every ``stride`` voxels."""

    side: int
    dilation: int
    stride: int
    weight: float


def paper_scales(shape: Sequence[int]) -> tuple[Scale, ...]:
    """The windows that AVSM takes for images of this shape, by their smallest side."""
    smallest = _thinnest(shape)
    if smallest >= 128:
        parts, weights, dilation = (16, 8, 4), (0.1, 0.3, 0.6), 2
    elif smallest >= 64:
        parts, weights, dilation = (4, 2), (0.3, 0.7), 2
    else:
        parts, weights, dilation = (2,), (1.0,), 1
    sides = [max(smallest // part, 1) for part in parts]
    return tuple(
        Scale(side, dilation, max((side + 1) // 4, 1), weight) for side, weight in zip(sides, weights, strict=True)
    )


def _thinnest(shape: Sequence[int]) -> int:
    """Smallest side; an axis of one voxel is none."""
    return min([n for n in shape if n > 1], default=1)


@dataclass(frozen=True)
class MultiKernelLNCC:
    """``sum_i w_i (1 - kappa_i)``, kappa the mean squared correlation over windows of size i (Shen 2019, section 3.3).

    Sparse, dilated, unpadded windows of a quarter or half of the image: it sees far. Squared: contrast may be
    inverted. Windows in which an image is constant count 1. Intensities are expected in about [0, 1].

    Args:
        scales: the windows, or None for those of the paper for the shape at hand (:func:`paper_scales`).
    """

    scales: tuple[Scale, ...] | None = None

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, C, *shape); voxels where ``mask`` (B or 1, 1, *shape) is 0 have no influence."""
        if fixed.shape != moving.shape:
            raise ModelError(f"Images to compare must have one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}.")
        shape = tuple(fixed.shape[2:])
        scales = tuple(Scale(*scale) for scale in self.scales or paper_scales(shape))
        for scale in scales:
            if (scale.side - 1) * scale.dilation >= _thinnest(shape) or min(scale[:3]) < 1:
                raise ModelError(
                    f"Windows of {scale.side} samples {scale.dilation} voxels apart do not fit in an image of {shape}."
                )
        volume = (1,) * (3 - len(shape)) + shape
        lines = None if mask is None else mask.expand_as(fixed).reshape(-1, *volume).to(fixed.dtype)

        def evaluate(x: Tensor, y: Tensor, for_fixed: bool, for_moving: bool) -> tuple[Tensor, ...]:
            pair = (x.reshape(-1, *volume), y.reshape(-1, *volume))
            loss, *gradients = _evaluate_sampled(*pair, lines, scales, (for_fixed, for_moving))
            return loss, *(None if part is None else part.view(x.shape) for part in gradients)

        return differentiable(fixed, moving, evaluate)


def _evaluate_sampled(
    fixed: Tensor, moving: Tensor, mask: Tensor | None, scales: tuple[Scale, ...], needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss and gradients of images (N, D, H, W).

    Windows whose stride and dilation have a common factor look only at every second, third... voxel along each axis.
    The others are left out from the start: for large images an eighth of the voxels remains for most of the windows.
    """
    groups: dict[int, list[Scale]] = {}
    for side, dilation, stride, weight in scales:
        factor = math.gcd(dilation, stride)
        groups.setdefault(factor, []).append(Scale(side, dilation // factor, stride // factor, weight))
    loss = torch.zeros((), dtype=torch.float64, device=fixed.device)
    gradients = [torch.zeros_like(image) if need else None for image, need in zip((fixed, moving), needs, strict=True)]
    for factor, members in groups.items():
        every = (slice(None), *(slice(None, None, factor),) * 3)
        seen = [None if image is None else image[every].contiguous() for image in (fixed, moving, mask)]
        part, *found = _evaluate(*seen, tuple(members), needs)
        loss += part
        for total, gradient in zip(gradients, found, strict=True):
            if total is not None:
                total[every].add_(gradient)
    return loss.to(fixed.dtype), *gradients


def _evaluate(
    fixed: Tensor, moving: Tensor, mask: Tensor | None, scales: tuple[Scale, ...], needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Loss in double precision and gradients of images (N, D, H, W), for windows of any kind."""
    depth, height, width = fixed.shape[1:]
    matrices = [[_window_matrix(n, scale, fixed.dtype, fixed.device) for n in fixed.shape[1:]] for scale in scales]
    slab = max(1, _PIECE // (fixed.shape[0] * height * width)) if fixed.device.type == "cpu" else depth
    slabs = [slice(start, min(start + slab, depth)) for start in range(0, depth, slab)]
    columns = _sum_planes(fixed, moving, mask, matrices, slabs)
    loss, coefficients = torch.zeros((), dtype=torch.float64, device=fixed.device), []
    for scale, axes, column in zip(scales, matrices, columns, strict=True):
        sums = along_axis(column, axes[0], 0)
        found = correlate(sums, scale.side ** sum(n > 1 for n in fixed.shape[1:]), *needs)
        total = sums[0].numel() if found.total is None else found.total.clamp(min=1e-6)
        loss += scale.weight * (1.0 - found.value / total)
        coefficients.append(
            [
                None if part is None else along_axis(part * (-scale.weight / total), axes[0].t(), 0).to(fixed.dtype)
                for part in found[2:]
            ]
        )
    gradients: list[Tensor | None] = [None, None]
    for side, own, other in ((0, fixed, moving), (1, moving, fixed)):
        if needs[side]:
            parts = [pair[side] for pair in coefficients]
            gradients[side] = _spread_planes(own, other, mask, matrices, slabs, parts)
    return loss, *gradients


def _sum_planes(
    fixed: Tensor, moving: Tensor, mask: Tensor | None, matrices: list[list[Tensor]], slabs: list[slice]
) -> list[Tensor]:
    """Per scale the fields of :func:`products` summed over the windows' height and width: (fields, N, D, h, w)."""
    across = torch.cat([axes[2] for axes in matrices])
    columns: list[list[Tensor]] = [[] for _ in matrices]
    for rows in slabs:
        fields = products(fixed[:, rows], moving[:, rows], None if mask is None else mask[:, rows])
        narrow = along_axis(fields, across, 2)
        for column, axes, part in zip(
            columns, matrices, narrow.split([axes[2].shape[0] for axes in matrices], dim=-1), strict=True
        ):
            column.append(along_axis(part, axes[1], 1))
    return [torch.cat(column, dim=2) for column in columns]


def _spread_planes(
    own: Tensor,
    other: Tensor,
    mask: Tensor | None,
    matrices: list[list[Tensor]],
    slabs: list[slice],
    coefficients: list[Tensor],
) -> Tensor:
    """Gradient by ``own`` from coefficients (3, N, D, h, w) of each scale."""
    across = torch.cat([axes[2] for axes in matrices]).t().contiguous()
    gradient = torch.zeros_like(own)
    for rows in slabs:
        narrow = torch.cat(
            [along_axis(part[:, :, rows], axes[1].t(), 1) for part, axes in zip(coefficients, matrices, strict=True)],
            dim=-1,
        )
        wide = along_axis(narrow, across, 2)
        add_gradient(wide, own[:, rows], other[:, rows], None if mask is None else mask[:, rows], gradient[:, rows])
    return gradient


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _window_matrix(n: int, scale: Scale, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(windows, n) matrix of ones where a window has a sample; a single line has the one window it can."""
    if n == 1:
        return torch.ones(1, 1, dtype=dtype, device=device)
    reach = (scale.side - 1) * scale.dilation
    starts = torch.arange(0, n - reach, scale.stride)
    matrix = torch.zeros(len(starts), n, dtype=dtype)
    for row, start in enumerate(starts.tolist()):
        matrix[row, start : start + reach + 1 : scale.dilation] = 1.0
    return matrix.to(device)
