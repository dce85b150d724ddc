"""Descriptors compared at moved positions: the mean scalar product, with its exact gradient, in one pass.

Vectors read between voxels are interpolated and brought back to unit length: without that, positions on voxels would
score higher than those between them, and deformations would lock onto the lattice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import spatial

PART = 1 << 14
"""Points worked on at a time, so that what belongs to them stays in a CPU's cache."""


def unit(descriptor: Tensor) -> Tensor:
    """(B, C, *shape) with vectors of unit length."""
    return functional.normalize(descriptor, dim=1)


def reduced(descriptor: Tensor, shape: Sequence[int]) -> Tensor:
    """Smoothed, resampled to ``shape`` over the same corners, and of unit length again."""
    return unit(spatial.reduce(descriptor, shape)) if tuple(descriptor.shape[2:]) != tuple(shape) else descriptor


def moved(descriptor: Tensor, displacement: Tensor) -> Tensor:
    """Read where ``displacement`` (B, d, *shape) says, border vectors repeated, and of unit length again."""
    return unit(spatial.warp(descriptor, displacement, padding="border"))


class Match:
    """Unit vectors of a fixed image at some voxels, beside a moving image's to be read anywhere.

    Args:
        fixed, moving: (1, C, *shape) and (1, C, *n).
        index: (N,) the flat voxels of ``fixed`` that count.
        weight: (1, 1, *shape) how much each counts; all the same by default.
        moving_weight: (1, 1, *n) in [0, 1], how much a match there counts.
    """

    def __init__(
        self,
        fixed: Tensor,
        moving: Tensor,
        index: Tensor,
        weight: Tensor | None = None,
        moving_weight: Tensor | None = None,
    ) -> None:
        self.index = index
        self.size = tuple(moving.shape[2:])
        self.fixed = fixed[0].flatten(1).T[index].contiguous()
        table = moving[0].flatten(1).T
        self.has_weight = moving_weight is not None
        if self.has_weight:
            table = torch.cat([table, moving_weight[0].flatten(1).T], dim=1)
        self.table = table.contiguous()
        self.weight = None if weight is None else weight.flatten()[index]
        strides = [math.prod(self.size[axis + 1 :]) for axis in range(len(self.size))]
        corners = list(itertools.product((0, 1), repeat=len(self.size)))
        self.offsets = torch.tensor(
            [sum(c * s * (n > 1) for c, s, n in zip(corner, strides, self.size, strict=True)) for corner in corners],
            dtype=torch.int32,
            device=fixed.device,
        )
        self.strides = strides

    def __len__(self) -> int:
        return len(self.index)

    def score(self, positions: Tensor, chosen: Tensor) -> Tensor:
        """Mean likeness, a scalar in [-1, 1], of the points ``chosen`` (n,) of ``index`` with what the moving image
        shows at ``positions`` (d, n), voxels; differentiable by the positions."""
        return _Score.apply(positions, chosen, self)

    def value_and_gradient(self, positions: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), dtype=torch.float64, device=positions.device)
        weights = torch.zeros_like(total)
        gradient = torch.empty_like(positions)
        part = PART if positions.device.type == "cpu" else positions.shape[1]
        for start in range(0, positions.shape[1], max(part, 1)):
            mine = slice(start, start + part)
            points = chosen[mine]
            weight = None if self.weight is None else self.weight[points]
            found = self._part(positions[:, mine], self.fixed[points], weight, gradient[:, mine])
            total += found[0]
            weights += found[1]
        weights = weights.clamp(min=1e-6)
        return (total / weights).to(positions.dtype), gradient.div_(weights.to(positions.dtype))

    def _part(
        self, positions: Tensor, fixed: Tensor, weight: Tensor | None, gradient: Tensor
    ) -> tuple[Tensor, Tensor | int]:
        corner, fractions = self._cells(positions)
        places = corner[:, None] + self.offsets
        read = functional.embedding_bag(places, self.table, per_sample_weights=_corner_weights(fractions), mode="sum")
        if self.has_weight:
            inside = read[:, -1].clamp(0.0, 1.0)
            weight = inside if weight is None else weight * inside
            read = read[:, :-1]
        length = read.norm(dim=1, keepdim=True).clamp_(min=1e-6)
        read = read / length
        likeness = (fixed * read).sum(dim=1, keepdim=True)
        rest = torch.addcmul(fixed, likeness, read, value=-1.0).div_(length)
        for axis in range(len(self.size)):
            slope = functional.embedding_bag(
                places, self.table, per_sample_weights=_corner_weights(fractions, axis), mode="sum"
            )
            torch.sum(slope[:, : rest.shape[1]] * rest, dim=1, out=gradient[axis])
            # Beyond the border its vectors are repeated, so moving there changes nothing.
            gradient[axis].mul_((positions[axis] >= 0) & (positions[axis] <= self.size[axis] - 1))
        likeness = likeness[:, 0]
        if weight is None:
            return likeness.sum(dtype=torch.float64), likeness.numel()
        gradient.mul_(weight)
        return (likeness * weight).sum(dtype=torch.float64), weight.sum(dtype=torch.float64)

    def _cells(self, positions: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The flat index of each cell's first corner and where in the cell the position lies, per axis in [0, 1]."""
        corner, fractions = None, []
        for axis, n in enumerate(self.size):
            place = positions[axis].clamp(0, n - 1)
            low = place.floor().clamp_(max=max(n - 2, 0))
            fractions.append(place.sub_(low))
            flat = low.to(torch.int32) * self.strides[axis]
            corner = flat if corner is None else corner + flat
        return corner, fractions


def _corner_weights(fractions: Sequence[Tensor], slope: int | None = None) -> Tensor:
    """(n, 2^d) weights of linear interpolation, or their derivatives along the axis ``slope``."""
    result = None
    for axis, fraction in enumerate(fractions):
        pair = torch.empty(len(fraction), 2, dtype=fraction.dtype, device=fraction.device)
        if axis == slope:
            pair[:, 0], pair[:, 1] = -1.0, 1.0
        else:
            torch.sub(1.0, fraction, out=pair[:, 0])
            pair[:, 1] = fraction
        result = pair if result is None else (result[:, :, None] * pair[:, None, :]).flatten(1)
    return result


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(ctx, positions: Tensor, chosen: Tensor, match: Match) -> Tensor:
        value, gradient = match.value_and_gradient(positions, chosen)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None
