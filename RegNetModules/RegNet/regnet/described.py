"""A pair of images and its descriptors, on one grid, with what of it there is to compare."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import spatial
from .descriptors import Descriptor
from .matching import reduced
from .pair import FOREGROUND, Pair

MOST_VOXELS = 2_500_000
"""Of the grid that images are described on. Beyond, time and memory grow and the result hardly changes."""
NEAR = 3
"""Voxels around what either image shows that count, too."""


class Described:
    """Descriptors of both images of a pair, and where there is something to compare.

    Attributes:
        fixed, moving: unit vectors (1, C, *shape).
        seen: (1, 1, *shape) bool; where both images are empty, descriptors show noise at most.
    """

    def __init__(self, pair: Pair, descriptor: Descriptor) -> None:
        self.pair = pair
        with torch.inference_mode():
            self.fixed, self.moving = (descriptor(image) for image in (pair.fixed, pair.moving))
            content = ((pair.fixed > FOREGROUND) | (pair.moving > FOREGROUND)).float()
            self.seen = spatial.box(content, NEAR) > 0
            if pair.fixed_weight is not None:
                self.seen &= pair.fixed_weight > 0.5

    def level(self, factor: float) -> tuple[Tensor, Tensor, Tensor, Pair]:
        """Descriptors, flat indices of the voxels that count, and the pair, with voxels ``factor`` times as wide."""
        pair = self.pair.level(factor)
        fixed, moving = reduced(self.fixed, pair.shape), reduced(self.moving, pair.shape)
        seen = spatial.resize(self.seen.float(), pair.shape) > 0.5
        return fixed, moving, torch.nonzero(seen.flatten()).flatten(), pair


def described_level(pair: Pair, spacing: float = 0.0, most: int = MOST_VOXELS) -> Pair:
    """The pair at ``spacing`` mm, or the finest there is, but with at most ``most`` voxels."""
    factor = max(1.0, spacing / pair.spacing_of_finest)
    while math.prod(pair.level(factor).shape) > most:
        factor *= 1.05
    return pair.level(factor)
