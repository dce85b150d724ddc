"""A region of interest: where a registration is wanted, and how its deformation fades around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .events import Events
from .image import Grid, Image, apply_matrix
from .local_change import part_around
from .refine import FLOOR, unfold
from .transform import DisplacementField, line_weights

LEAST_SIZE = 8
"""Voxels of the fixed image that a region spans along each axis: with fewer there is no structure to compare."""
CONTEXT = 6.0
"""Voxels around the region in which the images are compared, too: both sides of its border tell where that is."""
SHORTEST = 3.0
"""The least taper, in voxels of the fixed image."""
STEPS_TO_FADE = 10.0
"""Lattice points from the region to where the deformation has faded."""
MOST_POINTS = 1_000_000
"""Of the lattice that a deformation fades on, where its own lattice has not more."""
SLOWEST, FASTEST, ROUNDS = 1.15, 2.0, 12
"""By how much, and how often, a taper grows over which the deformation would fold."""
FEW, UNFOLDING = 5e-4, 4
"""Share of the points where it fades that may be folded and are smoothed instead, and in how many rounds."""


@dataclass(frozen=True, eq=False)
class Region:
    """``mask``, non-zero inside, is the part of the ``fixed`` lattice that holds the region and nothing more; from its
    border on the deformation fades over ``taper`` mm."""

    mask: Image
    fixed: Grid
    taper: float

    @staticmethod
    def of(mask: Image, fixed: Grid, taper: float) -> Region:
        """The part of ``mask``, an image that is not empty anywhere in the world, that lies in ``fixed``.

        Raises:
            InputError: outside of the fixed image or too small, or a taper that is none.
        """
        if not math.isfinite(taper) or taper < 0.0:
            raise InputError(f"The taper is {taper:g} mm; give a number of mm from 0 on.")
        found = _trimmed(mask)
        start, end = _clipped_part(fixed, found.grid, 0.5 * float(found.grid.spacing.max()))
        outside = InputError("The region lies outside of the fixed image; put it where the image is.")
        if (end <= start).any():
            raise outside
        grid = fixed.cropped(tuple(start), tuple(end - start))
        inside = marked_on(found, grid)
        if not inside.any():
            raise outside
        trimmed = _trimmed(Image(torch.from_numpy(inside.astype(np.uint8))[None], grid.index_to_world, grid.ndim))
        size = trimmed.grid.size[: grid.ndim]
        if min(size) < LEAST_SIZE:
            raise InputError(
                f"The region spans {' x '.join(map(str, size))} voxels of the fixed image; at least {LEAST_SIZE} are "
                "needed along each axis, so make it larger."
            )
        return Region(trimmed, fixed, float(taper))

    @property
    def context(self) -> float:
        """How far around the region the images are compared, in mm."""
        return CONTEXT * self._voxel

    @property
    def _voxel(self) -> float:
        spacing = self.fixed.spacing[: self.fixed.ndim]
        return float(np.prod(spacing) ** (1.0 / len(spacing)))

    def size(self) -> dict[str, float]:
        """How large it is, for a report: ``volume_ml``, or of a plane ``area_mm2``."""
        count, spacing = int(self.mask.data.sum()), self.fixed.spacing
        if self.fixed.ndim == 2:
            return {"area_mm2": round(count * float(np.prod(spacing[:2])), 3)}
        return {"volume_ml": round(count * float(np.prod(spacing)) / 1000.0, 3)}

    def window(self, least: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First array index and shape of the part of the fixed lattice to work on: the region, the taper and the
        context around it, and a little more to move in; at least ``least`` voxels along each axis."""
        start, end = _clipped_part(self.fixed, self.mask.grid, max(self.taper, self.context) + self.context)
        whole = np.array(self.fixed.shape)
        start = np.maximum(np.minimum(start, end - least), 0)
        end = np.minimum(np.maximum(end, start + least), whole)
        return tuple(start.tolist()), tuple((end - start).tolist())

    def compared(self, grid: Grid) -> Image:
        """1 where the images are compared, the region and its context, as an image on ``grid``."""
        near = distance_from(self.mask, grid) <= self.context
        return Image(torch.from_numpy(near.astype(np.uint8))[None], grid.index_to_world, grid.ndim)

    def weight(self, grid: Grid) -> np.ndarray:
        """(D, H, W) in [0, 1] on ``grid``: one in the region, zero from the taper on."""
        return fade(distance_from(self.mask, grid), 0.0, max(self.taper, SHORTEST * self._voxel))

    def confine(self, displacement: Tensor, grid: Grid, events: Events) -> tuple[DisplacementField, float]:
        """A deformation as it is in the region, fading to exactly nothing around it, and the distance in mm from where
        on it is nothing.

        That distance is the taper, or as much more as the fading needs in order not to fold where the deformation does
        not: a product ``w u`` has the derivative ``w Du + u grad(w)``, and the second term falls with the distance.
        Beyond its lattice the deformation goes on as at the border.

        Args:
            displacement: (1, d, *shape) in voxels of ``grid``, which runs along the fixed image's axes.
        """
        asked = taper = max(self.taper, SHORTEST * self._voxel)
        for left in reversed(range(ROUNDS)):
            events.check()
            lattice, taper, cell = self._lattice(grid, taper)
            whole = _read_on(lattice, displacement, grid)
            # What is linear between points is felt a cell from them: it begins to fade a cell late, and ends as early.
            weight = fade(distance_from(self.mask, lattice), cell, taper - cell)
            weight = torch.from_numpy(weight).float().reshape(1, 1, *whole.shape[2:])
            faded, fading = whole * weight, (weight > 0) & (weight < 1)
            worst, share = _folds(faded, whole, fading)
            if worst < FLOOR and (share < FEW or not left):
                faded = unfold(faded, within=fading, rounds=UNFOLDING if left else 10 * UNFOLDING)
                worst, _share = _folds(faded, whole, fading)
            if worst > FLOOR or not left:
                break
            # What folds is the second term, which is inverse to the distance.
            taper *= min(max(1.0 - worst, SLOWEST), FASTEST)
        if taper > 1.001 * asked:
            events.warn(
                f"The deformation cannot fade over {asked:.1f} mm without folding; it fades over {taper:.1f} mm."
            )
        return DisplacementField.from_voxels(faded, lattice), taper

    def _lattice(self, grid: Grid, taper: float) -> tuple[Grid, float, float]:
        """The lattice to fade on, see :func:`_finer`; the taper, longer if that is too coarse for it; and how far, in
        mm, a value of the lattice is felt beyond the region's voxels that it belongs to."""
        while True:
            lattice = _finer(grid, self.mask.grid, taper)
            cell = float(np.linalg.norm(lattice.spacing[: lattice.ndim])) + _misfit(self.mask.grid, lattice)
            if taper >= 3.0 * cell:
                return lattice, taper, cell
            taper = 3.0 * cell


def marked_on(mask: Image, grid: Grid) -> np.ndarray:
    """Where ``mask`` is above zero on ``grid``, (D, H, W) bool, also where it is thinner than the grid's steps."""
    inside = mask.resample(grid, labels=True).data[0].numpy() > 0
    voxels = np.argwhere(mask.data[0].numpy() > 0)[:, ::-1]
    index = np.rint(apply_matrix(grid.world_to_index @ mask.index_to_world, voxels)).astype(int)
    index = index[((index >= 0) & (index < grid.size)).all(axis=1)]
    inside[tuple(index.T[::-1])] = True
    return inside


def distance_from(mask: Image, grid: Grid) -> np.ndarray:
    """Distance in mm of the points of ``grid`` from where ``mask`` is above zero, (D, H, W); infinite where there is
    nothing of it."""
    from scipy import ndimage

    inside = marked_on(mask, grid)
    if not inside.any():
        return np.full(grid.shape, np.inf, dtype=np.float32)
    return ndimage.distance_transform_edt(~inside, tuple(grid.spacing[::-1])).astype(np.float32)


def fade(distance: np.ndarray, start: float, end: float) -> np.ndarray:
    """From one, up to ``start``, smoothly to zero from ``end`` on."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - start) / (end - start), 0.0, 1.0))


def _part(lattice: Grid, box: Grid, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """First array index, and the one behind the last, of the points of ``lattice`` around ``box`` and ``margin`` mm
    more; they may lie outside of it."""
    start, end = part_around(lattice, box)
    steps = np.ceil(margin / lattice.spacing[::-1]).astype(int)
    steps[: 3 - lattice.ndim] = 0
    return start - steps, end + steps


def _clipped_part(lattice: Grid, box: Grid, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """:func:`_part`, none of it outside of the lattice."""
    start, end = _part(lattice, box, margin)
    return np.clip(start, 0, lattice.shape), np.clip(end, 0, lattice.shape)


def _trimmed(mask: Image) -> Image:
    """The part of ``mask`` that holds all of it above zero."""
    inside = mask.data[0] > 0
    start, shape = [], []
    for axis in range(3):
        line = torch.nonzero(inside.amax(dim=[other for other in range(3) if other != axis])).ravel()
        start.append(int(line[0]))
        shape.append(int(line[-1]) + 1 - int(line[0]))
    return Image(inside[None].to(torch.uint8), mask.index_to_world, mask.ndim).cropped(start, shape)


def _finer(grid: Grid, box: Grid, taper: float) -> Grid:
    """A lattice that holds ``box``, ``taper`` mm around it and a step more, fine enough for something to fade over the
    taper; every point of ``grid`` there is one of its points."""
    d = grid.ndim
    start, end = _part(grid, box, taper + float(grid.spacing[:d].max()))
    finest = taper / STEPS_TO_FADE
    while True:
        parts = np.maximum(np.ceil(grid.spacing[::-1] / finest - 1e-6), 1).astype(int)
        parts[: 3 - d] = 1
        shape = (end - 1 - start) * parts + 1
        if np.prod(shape.astype(float)) <= MOST_POINTS or (parts == 1).all():
            break
        finest *= 1.1
    matrix = grid.cropped(tuple(start), tuple(shape)).index_to_world @ np.diag([*(1.0 / parts[::-1]), 1.0])
    return Grid(tuple(shape), matrix, d)


def _read_on(lattice: Grid, displacement: Tensor, grid: Grid) -> Tensor:
    """``displacement``, (1, d, *shape) in voxels of ``grid``, on a lattice along its axes and in voxels of that; beyond
    the border it goes on as there."""
    to_grid, d = grid.world_to_index @ lattice.index_to_world, grid.ndim
    for axis, n in enumerate(displacement.shape[2:]):
        i = d - 1 - axis
        places = to_grid[i, i] * np.arange(lattice.size[i]) + to_grid[i, 3]
        # Points of both are to be the same ones, to the bit.
        places = np.clip(np.where(np.abs(places - np.rint(places)) < 1e-6, np.rint(places), places), 0, n - 1)
        displacement = spatial.along_axis(displacement, line_weights(places, n), axis)
    scale = displacement.new_tensor([1.0 / to_grid[i, i] for i in reversed(range(d))])
    return displacement * scale.view(1, d, *(1,) * d)


def _misfit(grid: Grid, lattice: Grid) -> float:
    """How far a point of ``grid`` may be from the nearest one of ``lattice`` along the same axes, at most, in mm."""
    to_lattice = lattice.world_to_index @ grid.index_to_world
    off = []
    for axis, n in enumerate(grid.size[: grid.ndim]):
        place = to_lattice[axis, axis] * np.arange(n) + to_lattice[axis, 3]
        off.append(float(np.abs(place - np.rint(place)).max()) * lattice.spacing[axis])
    missed = float(np.linalg.norm(off))
    return missed if missed > 1e-4 * float(lattice.spacing.min()) else 0.0


def _folds(faded: Tensor, whole: Tensor, fading: Tensor) -> tuple[float, float]:
    """The least determinant where ``faded`` is folded, or nearly so, and ``whole`` is not, 1 where there is no such
    point; and how many there are for each of those where it is ``fading``."""
    determinant = spatial.jacobian_determinant(faded)
    bad = determinant <= FLOOR
    if bool(bad.any()):
        bad &= spatial.jacobian_determinant(whole) > FLOOR
    if not bool(bad.any()):
        return 1.0, 0.0
    return float(determinant[bad].min()), float(bad.sum() / fading.sum().clamp(min=1))
