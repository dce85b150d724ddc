"""Deep neighbourhood self-similarity: how alike the neighbours of a voxel are to each other, feature by feature.

Mok et al., CVPR 2024, arXiv 2402.18933, section 3.1; the layout is that of the self-similarity context of Heinrich et
al., MICCAI 2013. Around a voxel x lie two neighbours per axis at distance r. Of each pair (i, j) of neighbours that are
not opposite,

    d(x, i, j) = exp(-(F(x + i) - F(x + j))^2 / s(x)),    s(x) = mean over the pairs of (F(x + i) - F(x + j))^2,

so that an affine change of a feature's values changes nothing. The centre itself takes no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST_VARIANCE = 1e-6
SLAB_VOXELS = 1 << 14
"""Voxels worked on at a time on a CPU, so that a dozen relations of them stay in its cache."""


def neighbours(dims: int, radius: int) -> list[tuple[int, ...]]:
    """Offsets of the neighbours, two per axis: backward, then forward."""
    return [
        tuple(sign * radius if axis == other else 0 for other in range(dims))
        for axis in range(dims)
        for sign in (-1, 1)
    ]


def pairs(dims: int) -> list[tuple[int, int]]:
    """Indices into :func:`neighbours` of those that are not opposite: 12 pairs in 3D, 4 in 2D, all sqrt(2) r apart."""
    count = 2 * dims
    return [(i, j) for i in range(count) for j in range(i + 1, count) if i // 2 != j // 2]


def padded(features: Tensor, margin: int) -> Tensor:
    """``margin`` voxels more on every side, border values repeated."""
    return functional.pad(features, (margin,) * (2 * (features.ndim - 2)), mode="replicate")


def shifted(tensor: Tensor, margin: int, offset: Sequence[int]) -> Tensor:
    """The view of a :func:`padded` tensor at x + ``offset``."""
    for axis, step in enumerate(offset):
        tensor = tensor.narrow(axis + 2, margin + step, tensor.shape[axis + 2] - 2 * margin)
    return tensor


def relations(wide: Tensor, margin: int, radius: int) -> Tensor:
    """The relations of every feature: (B, C, P, *shape) of ``wide`` (B, C, *shape + 2 margin), ``margin >= radius``.

    The order of the pairs is that of :func:`pairs`.
    """
    dims = wide.ndim - 2
    views = [shifted(wide, margin, offset) for offset in neighbours(dims, radius)]
    squares = torch.stack([views[i] - views[j] for i, j in pairs(dims)], dim=2).square()
    scale = squares.mean(dim=2, keepdim=True).clamp(min=LEAST_VARIANCE)
    return torch.exp(-squares / scale)


def mixed_relations(wide: Tensor, margin: int, radius: int, weights: Tensor) -> Tensor:
    """``sum_c weights[c, p] * relations[:, c, p]``, (B, P, *shape), without ever holding them all.

    The gradient is computed from the features again, a feature and a slab at a time: it takes a third of the time and a
    tenth of the memory of what autograd would record.
    """
    return _MixedRelations.apply(wide, weights, margin, radius)


class _MixedRelations(torch.autograd.Function):
    @staticmethod
    def forward(ctx, wide: Tensor, weights: Tensor, margin: int, radius: int) -> Tensor:
        ctx.save_for_backward(wide, weights)
        ctx.margin, ctx.radius = margin, radius
        dims = wide.ndim - 2
        shape = [n - 2 * margin for n in wide.shape[2:]]
        out = wide.new_zeros(wide.shape[0], weights.shape[1], *shape)
        column = (1, -1, *(1,) * dims)
        for part, rows in _slabs(wide, margin, shape):
            for channel, weight in enumerate(weights):
                differences = _differences(part[:, channel : channel + 1], margin, radius)
                squares = differences.square_()
                scale = squares.mean(dim=1, keepdim=True).clamp_(min=LEAST_VARIANCE).reciprocal_().neg_()
                out[:, :, rows].addcmul_(squares.mul_(scale).exp_(), weight.view(column))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (wide, weights), margin, radius = ctx.saved_tensors, ctx.margin, ctx.radius
        dims = wide.ndim - 2
        by_features, by_weights = torch.zeros_like(wide), torch.zeros_like(weights)
        column, others = (1, -1, *(1,) * dims), [0, *range(2, dims + 2)]
        for part, rows in _slabs(wide, margin, upstream.shape[2:]):
            incoming = upstream[:, :, rows].contiguous()
            target = by_features.narrow(2, rows.start, part.shape[2])
            for channel, weight in enumerate(weights):
                differences = _differences(part[:, channel : channel + 1], margin, radius)
                squares = differences.square()
                mean = squares.mean(dim=1, keepdim=True)
                inverse = mean.clamp(min=LEAST_VARIANCE).reciprocal_()
                # exp(-D / s) times what comes in; from here on D / s and its share through the mean.
                squares.mul_(inverse)
                share = torch.exp(-squares).mul_(incoming)
                by_weights[channel] += share.sum(dim=others)
                share.mul_(weight.view(column))
                through_mean = (share * squares).sum(dim=1, keepdim=True).div_(len(weight))
                through_mean.mul_(mean > LEAST_VARIANCE)
                change = through_mean.sub(share).mul_(inverse).mul_(differences).mul_(2.0)
                _gather(change, target[:, channel], margin, radius)
        return by_features, by_weights, None, None


def _slabs(wide: Tensor, margin: int, shape: Sequence[int]) -> Iterator[tuple[Tensor, slice]]:
    """Parts of a padded tensor along its first axis, small enough for a cache on a CPU, and their rows inside."""
    n = shape[0]
    depth = n if wide.device.type != "cpu" else max(1, SLAB_VOXELS // (wide.shape[0] * math.prod(shape[1:])))
    for start in range(0, n, depth):
        stop = min(start + depth, n)
        yield wide.narrow(2, start, stop - start + 2 * margin), slice(start, stop)


def _differences(wide: Tensor, margin: int, radius: int) -> Tensor:
    """F(x + i) - F(x + j) of one padded feature (B, 1, *) for every pair: (B, P, *shape)."""
    dims = wide.ndim - 2
    views = [shifted(wide, margin, offset)[:, 0] for offset in neighbours(dims, radius)]
    chosen = pairs(dims)
    out = wide.new_empty(wide.shape[0], len(chosen), *views[0].shape[1:])
    for place, (i, j) in enumerate(chosen):
        torch.sub(views[i], views[j], out=out[:, place])
    return out


def _gather(change: Tensor, target: Tensor, margin: int, radius: int) -> None:
    """The transpose of :func:`_differences`: add to the padded feature's gradient (B, *)."""
    dims = target.ndim - 1
    sums: list[Tensor | None] = [None] * (2 * dims)
    for place, (i, j) in enumerate(pairs(dims)):
        line = change[:, place]
        sums[i] = line.clone() if sums[i] is None else sums[i].add_(line)
        sums[j] = -line if sums[j] is None else sums[j].sub_(line)
    for offset, line in zip(neighbours(dims, radius), sums, strict=True):
        shifted(target[:, None], margin, offset)[:, 0].add_(line)
