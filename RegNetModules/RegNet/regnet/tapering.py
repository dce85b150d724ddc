"""Displacement fields that fade to zero at their border, so that every program reads them alike beyond it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import spatial
from .image import Grid
from .transform import DisplacementField


def tapered(displacement: Tensor, grid: Grid) -> DisplacementField:
    """The field on a lattice grown so far that it fades smoothly to zero at its border.

    ITK takes zero beyond the border of a field and VTK the border's value: with zero there, both agree. Each side grows
    by as much as the fading there needs in order not to fold: more than twice the largest displacement across it, in
    voxels, and once the largest along it.
    """
    d = displacement.shape[1]
    start = [0, 0, 0]
    padded = displacement
    for axis in range(d):
        margins = [_fading(displacement.select(axis + 2, end), axis) for end in (0, -1)]
        start[3 - d + axis] = -margins[0]
        n = displacement.shape[axis + 2]
        # Border values repeated, and their fading, in one product along the axis.
        weights = torch.zeros(margins[0] + n + margins[1], n)
        weights[margins[0] : margins[0] + n] = torch.eye(n)
        weights[: margins[0], 0] = _ramp(margins[0])
        weights[margins[0] + n :, -1] = _ramp(margins[1]).flip(0)
        padded = spatial.along_axis(padded, weights, axis)
    shape = (*grid.shape[: 3 - d], *padded.shape[2:])
    return DisplacementField.from_voxels(padded, grid.cropped(tuple(start), shape))


def _fading(face: Tensor, axis: int) -> int:
    """How many voxels a side with displacements ``face`` (1, d, *plane) takes to fade."""
    longest = face.abs().flatten(2).amax(dim=2)[0]
    return math.ceil(max(2.5 * float(longest[axis]), float(longest.max()))) + 2


def _ramp(margin: int) -> Tensor:
    return 0.5 - 0.5 * torch.cos(torch.linspace(0.0, torch.pi, margin + 1))[:-1]
