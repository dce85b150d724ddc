"""The axes of anatomy: networks see every head the way round they were trained on, however its file stores it.

Canonical array axes (z, y, x) run to superior, anterior and right, as in the atlas of the demonstration; only whole
axes are exchanged and mirrored, nothing is resampled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .image import Grid


def anatomical_axes(grid: Grid) -> list[tuple[int, int]]:
    """For world x, y, z (LPS): the array axis that runs most nearly along it, and the sign."""
    cosines = (grid.index_to_world[:3, :3] / grid.spacing)[:, ::-1]
    best = max(itertools.permutations(range(3)), key=lambda p: sum(abs(cosines[w, a]) for w, a in enumerate(p)))
    return [(axis, 1 if cosines[world, axis] >= 0 else -1) for world, axis in enumerate(best)]


@dataclass(frozen=True)
class Orientation:
    """``axes`` say for each canonical array axis which of the grid's array axes it is; ``mirrored`` whether it runs the
    other way. Two-dimensional grids stay as they are: nothing tells which plane of the body they show."""

    axes: tuple[int, ...]
    mirrored: tuple[bool, ...]

    @classmethod
    def of(cls, grid: Grid) -> Orientation:
        if grid.ndim == 2:
            return cls((0, 1), (False, False))
        left, back, top = anatomical_axes(grid)
        return cls((top[0], back[0], left[0]), (top[1] < 0, back[1] > 0, left[1] > 0))

    def directions(self, columns: np.ndarray) -> np.ndarray:
        """The grid's directions, columns (3, 3) by index axis x, y, z, in canonical order."""
        if len(self.axes) == 2:
            return columns
        source = [2 - axis for axis in self.axes[::-1]]
        return columns[:, source] * np.where(self.mirrored[::-1], -1.0, 1.0)

    def apply(self, volume: Tensor) -> Tensor:
        """``volume`` (B, C, *shape) of the grid in canonical order."""
        volume = volume.permute(0, 1, *(axis + 2 for axis in self.axes))
        return volume.flip([axis + 2 for axis, turn in enumerate(self.mirrored) if turn])

    def back(self, volume: Tensor) -> Tensor:
        """What :meth:`apply` turned, as it was."""
        volume = volume.flip([axis + 2 for axis, turn in enumerate(self.mirrored) if turn])
        order = [self.axes.index(axis) for axis in range(len(self.axes))]
        return volume.permute(0, 1, *(axis + 2 for axis in order)).contiguous()

    def displacement_back(self, displacement: Tensor) -> Tensor:
        """A canonical displacement (B, d, *shape) in voxels as one along the grid's axes."""
        signs = displacement.new_tensor([-1.0 if turn else 1.0 for turn in self.mirrored])
        order = [self.axes.index(axis) for axis in range(len(self.axes))]
        turned = displacement * signs.view(1, -1, *(1,) * len(self.axes))
        return self.back(turned[:, order])

    def map_back(self, where: Tensor) -> Tensor:
        """A canonical map of the unit cube (B, d, *shape) as one of the grid's axes."""
        turned = torch.tensor(self.mirrored, device=where.device).view(1, -1, *(1,) * len(self.axes))
        where = torch.where(turned, 1.0 - where, where)
        order = [self.axes.index(axis) for axis in range(len(self.axes))]
        return self.back(where[:, order])

    def affine_back(self, affine: Tensor) -> Tensor:
        """A canonical ``[A | b]`` (d, d + 1) in [-1, 1] as one of the grid's axes."""
        d = len(self.axes)
        to_canonical = affine.new_zeros(d, d)
        for axis, (source, turn) in enumerate(zip(self.axes, self.mirrored, strict=True)):
            to_canonical[axis, source] = -1.0 if turn else 1.0
        return to_canonical.T @ torch.cat([affine[:, :d] @ to_canonical, affine[:, d:]], dim=1)
