"""A pair of images and its descriptors, on one grid, with what of it there is to compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import spatial
from .descriptors import Descriptor
from .events import Events
from .matching import reduced
from .pair import FOREGROUND, Pair

MOST_VOXELS = 1_600_000
"""Of the grid that images are described on. Beyond, time and memory grow and the result hardly changes."""
MOST_ANISOTROPIC = 2.5
"""Longest voxel side beside the shortest: about what the descriptor was trained on; finer slices gain nothing."""
NEAR = 3
"""Voxels around what either image shows that count, too."""


class Described:
    """Descriptors of both images of a pair, and where there is something to compare.

    Attributes:
        fixed, moving: unit vectors (1, C, *shape).
        seen: (1, 1, *shape) bool; where both images are empty, descriptors show noise at most.
    """

    def __init__(self, pair: Pair, descriptor: Descriptor, events: Events | None = None) -> None:
        self.pair = pair
        self._kept: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        with torch.inference_mode(), (events or Events()).stoppable(descriptor):
            # Together: convolutions of a batch of one take a slower path on a CPU.
            self.fixed, self.moving = descriptor(torch.cat([pair.fixed, pair.moving])).split(1)
            content = ((pair.fixed > FOREGROUND) | (pair.moving > FOREGROUND)).float()
            self.seen = spatial.box(content, NEAR) > 0
            if pair.fixed_weight is not None:
                self.seen &= pair.fixed_weight > 0.5

    def level(self, factor: float) -> tuple[Tensor, Tensor, Tensor, Pair]:
        """Descriptors, flat indices of the voxels that count, and the pair, with voxels ``factor`` times as wide."""
        pair = self.pair.level(factor)
        fixed, moving = self.reduced(pair.shape)
        seen = spatial.resize(self.seen.float(), pair.shape) > 0.5
        return fixed, moving, torch.nonzero(seen.flatten()).flatten(), pair

    def reduced(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Both descriptors on a grid of ``shape``: made from the coarsest there is already that is finer, and kept."""
        if shape not in self._kept:
            finer = [kept for kept in self._kept if all(n >= m for n, m in zip(kept, shape, strict=True))]
            source = self._kept[min(finer, key=math.prod)] if finer else (self.fixed, self.moving)
            with torch.inference_mode():
                self._kept[shape] = (reduced(source[0], shape), reduced(source[1], shape))
        return self._kept[shape]


def described_level(pair: Pair, spacing: float = 0.0, most: int = MOST_VOXELS) -> Pair:
    """The pair at ``spacing`` mm, or the finest there is, but with at most ``most`` voxels, and not much finer within
    slices than from one to the next."""
    spacing = max(spacing, max(pair.spacing) / MOST_ANISOTROPIC)
    factor = max(1.0, spacing / pair.spacing_of_finest)
    while math.prod(pair.level_shape(factor)) > most:
        factor *= 1.05
    return pair.level(factor)
