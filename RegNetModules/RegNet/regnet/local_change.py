"""A transform changed in one place: a step in front of it, kept apart or worked into its displacement field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from . import metrics
from .image import SLAB_VOXELS, Grid, apply_matrix, sample_inside
from .transform import Affine, Composite, DisplacementField, Transform

NEWTON_STEPS, HALVINGS = 30, 6
CLOSE = 1e-4
"""Of a voxel: nearer than this to its value a point has been found."""


def local_grid(like: Grid, points: np.ndarray, reach: float, spacing: float) -> Grid:
    """A lattice along the axes of ``like`` that holds all within ``reach`` of ``points`` (N, 3), and one point more."""
    axes = like.index_to_world.copy()
    axes[:3, :3] /= like.spacing
    place = apply_matrix(np.linalg.inv(axes), points)
    margin = reach * np.linalg.norm(np.linalg.inv(axes[:3, :3]), axis=1) + 1.01 * spacing
    low, high = place.min(axis=0) - margin, place.max(axis=0) + margin
    steps = np.full(3, float(spacing))
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    if like.ndim == 2:
        low[2], steps[2], counts[2] = 0.0, like.spacing[2], 1
    matrix = axes @ np.diag([*steps, 1.0])
    matrix[:3, 3] = apply_matrix(axes, low[None])[0]
    return Grid(tuple(counts[::-1]), matrix, like.ndim)


def part_around(lattice: Grid, around: Grid) -> tuple[np.ndarray, np.ndarray]:
    """First array index, and the one behind the last, of the points of ``lattice`` around all of ``around``; they may
    lie outside of it."""
    corners = apply_matrix(lattice.world_to_index, around.corners())[:, ::-1]
    first, end = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int) + 1
    if lattice.ndim == 2:
        first[0], end[0] = 0, 1
    return first, end


def preceded(transform: Transform, step: DisplacementField, coarsest: float) -> Transform:
    """``transform`` after ``step``: x goes to transform(step(x)). Where the step is zero nothing changes, to the bit.

    A field with which the transform begins takes the step in, its lattice grown where need be, unless its spacing is
    more than ``coarsest`` mm; else the step stays a part of its own.
    """
    first = transform.parts[0]
    if not isinstance(first, DisplacementField) or _longest_step(first.grid) > coarsest:
        return Composite((step, *transform.parts))
    start, end = part_around(first.grid, step.grid)
    low, high = np.minimum(start, 0), np.maximum(end, first.grid.shape)
    values = np.zeros((*(high - low), 3), dtype=np.float32)
    values[_window(-low, first.grid.shape - low)] = first.displacement
    box = first.grid.cropped(tuple(start), tuple(end - start))
    moves = step.to_field(box).displacement
    moved = moves.any(axis=-1)
    values[_window(start - low, end - low)][moved] = _read_behind(first, moves[moved], np.argwhere(moved) + start)
    whole = DisplacementField(values, first.grid.cropped(tuple(low), tuple(high - low)))
    return in_a_row([whole, *transform.parts[1:]])


def in_a_row(parts: Sequence[Transform]) -> Transform:
    """One transform after the other, each as it is."""
    return Composite(tuple(parts)) if len(parts) > 1 else parts[0]


def _read_behind(field: DisplacementField, moves: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Displacement (N, 3) at lattice points ``index`` (N, 3), array order, of ``moves`` (N, 3) and then ``field``."""
    to_index = field.grid.world_to_index[:3, :3].astype(np.float32)
    result = np.empty_like(moves)
    for start in range(0, len(moves), SLAB_VOXELS):
        mine = slice(start, start + SLAB_VOXELS)
        place = index[mine].astype(np.float32) + (moves[mine] @ to_index.T)[:, ::-1]
        lattice = torch.from_numpy(np.ascontiguousarray(place.T)).view(1, 3, 1, 1, -1)
        result[mine] = moves[mine] + sample_inside(field.channels, lattice, "bilinear", 0.0)[0, :, 0, 0].T.numpy()
    return result


def determinant_of_change(transform: Transform, around: Grid) -> np.ndarray:
    """Determinants of the derivative of ``transform`` on the lattice it is known on, as far as that is in ``around``;
    where only a linear transform follows its field, those of the field."""
    first, *rest = transform.parts
    grid = lattice_of_change(transform, around)
    if not isinstance(first, DisplacementField) or not all(isinstance(part, Affine) for part in rest):
        return transform.jacobian_determinant(grid)
    start = np.array(first.grid.place_of(grid))
    part = first.displacement[_window(start, start + grid.shape)]
    return metrics.jacobian_determinant(part, grid.index_to_world)


def blur(transform: Transform, step: Grid, coarsest: float) -> float:
    """How far in mm beyond where a step on the lattice ``step`` is told to end it can be felt once it precedes
    ``transform``, see :func:`preceded`: fields are linear between their points."""
    first = transform.parts[0]
    takes_in = isinstance(first, DisplacementField) and _longest_step(first.grid) <= coarsest
    return sum(float(np.linalg.norm(grid.spacing[: grid.ndim])) for grid in (step, first.grid if takes_in else step))


def lattice_of_change(transform: Transform, around: Grid) -> Grid:
    """The part of the lattice of the field with which ``transform`` begins that lies in ``around``, or ``around``."""
    first = transform.parts[0]
    if not isinstance(first, DisplacementField):
        return around
    start, end = part_around(first.grid, around)
    start, end = np.maximum(start, 0), np.minimum(end, first.grid.shape)
    return first.grid.cropped(tuple(start), tuple(end - start))


def preimages(transform: Transform, values: np.ndarray, start: np.ndarray, voxel: float) -> np.ndarray:
    """Points (N, 3) that ``transform`` takes to ``values`` (N, 3), by Newton's method from ``start``.

    Derivatives are taken over half of ``voxel`` mm. Where the transform folds or ends, the nearest point that was found
    is given.
    """
    points = np.array(start, dtype=np.float64)
    left = transform(points) - values
    for _ in range(NEWTON_STEPS):
        far = np.flatnonzero(np.linalg.norm(left, axis=1) > CLOSE * voxel)
        if not len(far):
            break
        moves = _newton_moves(transform, points[far], left[far], 0.5 * voxel)
        for _ in range(HALVINGS):
            there = points[far] - moves
            remains = transform(there) - values[far]
            nearer = np.linalg.norm(remains, axis=1) < np.linalg.norm(left[far], axis=1)
            points[far[nearer]], left[far[nearer]] = there[nearer], remains[nearer]
            far, moves = far[~nearer], 0.5 * moves[~nearer]
            if not len(far):
                break
    return points


def _newton_moves(transform: Transform, points: np.ndarray, left: np.ndarray, length: float) -> np.ndarray:
    ends = [transform(points + sign * length * axis) for axis in np.eye(3) for sign in (1, -1)]
    columns = [(ahead - behind) / (2.0 * length) for ahead, behind in zip(ends[::2], ends[1::2], strict=True)]
    return np.einsum("nij,nj->ni", np.linalg.pinv(np.stack(columns, axis=-1)), left)


def _longest_step(grid: Grid) -> float:
    return float(grid.spacing[: grid.ndim].max())


def _window(start: np.ndarray, end: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(start, end, strict=True))
