"""How far to go along a momentum: the length that makes the images most alike."""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.local_correlation import LocalCorrelation
from ..spatial import reduce
from .maps import warp_by_map
from .vsvf import VSVF

RADIUS = 2
LENGTHS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEAST = LENGTHS[1]


@torch.no_grad()
def best_lengths(vsvf: VSVF, momentum: Tensor, start: Tensor, moving: Tensor, fixed: Tensor) -> Tensor:
    """:func:`best_length` of each pair of a batch, (B, 1, *1)."""
    pairs = zip(*(tensor.split(1) for tensor in (momentum.detach(), start, moving, fixed)), strict=True)
    lengths = [best_length(vsvf, *pair) for pair in pairs]
    return momentum.new_tensor(lengths).view(-1, *(1,) * (momentum.ndim - 1))


@torch.no_grad()
def best_length(vsvf: VSVF, momentum: Tensor, start: Tensor, moving: Tensor, fixed: Tensor) -> float:
    """The factor among :data:`LENGTHS` of ``momentum`` (1, d, *half) with the most squared local correlation.

    Walks up from 0 and stops when the correlation has fallen, as it does soon behind its summit. All is looked at on
    the momentum's grid; ``start`` is the map there so far, and the images (1, 1, *shape) are those of the whole grid.
    """
    shape = tuple(momentum.shape[2:])
    moving, fixed = reduce(moving, shape), reduce(fixed, shape)
    similarity = LocalCorrelation(fixed, RADIUS)
    best, best_value = 0.0, -1.0
    for length in LENGTHS:
        where = vsvf(length * momentum, start)[0] if length else start
        value = similarity.value(warp_by_map(moving, where))
        if value < best_value:
            break
        best, best_value = length, value
    return best
