"""What a transform does by itself: its Jacobian determinant, how far it moves, whether an inverse leads back.

Everything is measured on the box of the fixed foreground, at the fixed image's own spacing or, where that has more than
:data:`MOST_VOXELS`, coarser. Folds of fields that are finer are looked for at the field's spacing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from . import spatial
from .errors import InputError
from .events import Events
from .image import Grid, Image
from .judge_agreement import content_box
from .metrics import folding_percent, sdlogj
from .propagation_numbers import inside
from .report_views import LinearPart
from .transform import Affine, DisplacementField, Transform

MOST_VOXELS = 4_000_000
FOLD_VOXELS = 12_000_000
"""Of the lattice on which folds are looked for."""
INVERSE_VOXELS = 800_000
"""Of the lattice on which the transform is inverted."""
FOV_POINTS = 200_000
SLAB_VOXELS = 1_000_000
"""Done between two looks at whether to stop."""
FINER = 0.75
"""A field is finer than a grid if its spacing is below this share of it."""
INVERTIBLE = 1e-6


@dataclass
class Regularity:
    """``maps`` are of one channel, float32; positions in ``numbers`` are (x, y, z) in LPS mm."""

    numbers: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, Image] = field(default_factory=dict)


def regularity(fixed: Image, moving: Image, content: Image, transform: Transform, events: Events) -> Regularity:
    """Numbers and maps of ``transform`` over the fixed foreground ``content``.

    Raises:
        InputError: the transform gives values that are not finite. Cancelled: ``events`` asked to stop.
    """
    grid = _at_most(content_box(fixed.grid, content), MOST_VOXELS)
    mask = content.resample(grid, labels=True).data[0].numpy() > 0
    found = Regularity()
    with events.stage("folds", 0.0, 0.4):
        determinant = _determinant(transform, grid, events)
    linear = LinearPart.fit(transform, grid, mask)
    found.numbers.update(_folds(determinant, mask, grid), linear_scale=linear.scale)
    with events.stage("displacement", 0.4, 0.6):
        length = _displacement_length(transform, grid, events)
    found.numbers.update(_extent(length, mask, grid, "displacement"))
    found.numbers["outside_percent"] = _outside(transform, mask, grid, moving.grid)
    found.maps = {"jacobian": _image(determinant, grid), "displacement": _image(length, grid)}
    if not np.isfinite(length).all():
        raise InputError("The transform gives values that are not finite; it cannot be judged.")
    with events.stage("inverse", 0.6, 1.0):
        residual = _inverse_residual(transform, linear, grid, events)
    if residual is not None:
        inner = content.resample(residual.grid, labels=True).data[0].numpy() > 0
        found.numbers.update(_extent(residual.data[0].numpy(), inner, residual.grid, "inverse_error"))
        found.maps["inverse_consistency"] = residual
    return found


def _image(array: np.ndarray, grid: Grid) -> Image:
    return Image(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None], grid.index_to_world, grid.ndim)


def _at_most(grid: Grid, voxels: int, spacing: np.ndarray | None = None) -> Grid:
    """``grid``, or one of ``spacing`` over its corners, with no more than about so many voxels."""
    spacing = grid.spacing if spacing is None else spacing
    extent = (np.array(grid.size) - 1) * grid.spacing
    count = float(np.prod(extent / spacing + 1))
    if count <= voxels:
        return grid if np.allclose(spacing, grid.spacing) else grid.with_spacing(spacing)
    content = float(np.prod(extent[: grid.ndim]))
    even = np.maximum(spacing, (content / voxels) ** (1.0 / grid.ndim))
    return grid.with_spacing(even)


def _determinant(transform: Transform, grid: Grid, events: Events) -> np.ndarray:
    """The Jacobian determinant on ``grid``; where the transform is finer, the least of what a voxel holds."""
    fields = [part.grid for part in transform.parts if isinstance(part, DisplacementField)]
    if not fields:
        matrix = np.eye(4)
        for part in transform.parts:
            matrix = part.matrix @ matrix
        return np.full(grid.shape, np.linalg.det(matrix[:3, :3]), dtype=np.float32)
    finest = min(float(one.spacing[: one.ndim].min()) for one in fields)
    fine = grid
    if finest < FINER * float(grid.spacing[: grid.ndim].max()):
        fine = _at_most(grid, FOLD_VOXELS, np.minimum(grid.spacing, finest))
    values = np.empty(fine.shape, dtype=np.float32)
    for start, stop in _slabs(fine):
        low, high = max(start - 1, 0), min(stop + 1, fine.shape[0])
        part = fine.cropped((low, 0, 0), (high - low, *fine.shape[1:]))
        values[start:stop] = transform.jacobian_determinant(part)[start - low : stop - low]
        events.progress(stop / fine.shape[0])
    if fine is grid:
        return values
    pooled = functional.adaptive_max_pool3d(-torch.from_numpy(values)[None, None], grid.shape)
    return -pooled[0, 0].numpy()


def _displacement_length(transform: Transform, grid: Grid, events: Events) -> np.ndarray:
    length = np.empty(grid.shape, dtype=np.float32)
    for start, stop in _slabs(grid):
        part = grid.cropped((start, 0, 0), (stop - start, *grid.shape[1:]))
        length[start:stop] = np.linalg.norm(transform.to_field(part).displacement, axis=-1)
        events.progress(stop / grid.shape[0])
    return length


def _inverse_residual(transform: Transform, linear: LinearPart, grid: Grid, events: Events) -> Image | None:
    """How far, in mm, each point is from itself after the transform and its numerical inverse; None if it has none.

    The linear part is inverted as a matrix. What is left, x -> x + u(x), is inverted by fixed-point iteration on a
    lattice that holds the image of the box, and the two are composed on it.
    """
    if linear.scale < INVERTIBLE:
        return None
    box = _at_most(grid, INVERSE_VOXELS)
    matrix = np.eye(4)
    matrix[:3, :3] = linear.matrix
    matrix[:3, 3] = linear.middle + linear.shift - linear.matrix @ linear.middle
    rest = transform.then(Affine(np.linalg.inv(matrix), grid.ndim))
    largest = float(np.linalg.norm(rest.to_field(box).displacement, axis=-1).max())
    if largest < 1e-3:
        return _image(np.zeros(box.shape), box)
    reach = np.minimum(np.ceil(largest / box.spacing[::-1]).astype(int) + 2, np.array(box.shape))
    reach[:1] = 0 if grid.ndim == 2 else reach[:1]
    wide = box.padded(tuple(int(n) for n in reach))
    forward = rest.to_field(wide).voxel_displacement()
    if grid.ndim == 2:
        forward = forward[:, 1:, 0]
    inverse = spatial.invert(forward, each=events.progress)
    left = DisplacementField.from_voxels(spatial.compose(inverse, forward), wide).displacement
    crop = tuple(slice(int(n), int(n) + size) for n, size in zip(reach, box.shape, strict=True))
    return _image(np.linalg.norm(left[crop], axis=-1), box)


def _folds(determinant: np.ndarray, mask: np.ndarray, grid: Grid) -> dict[str, Any]:
    inner = np.where(mask, np.nan_to_num(determinant, nan=-np.inf), np.inf)
    return {
        "folded_percent": folding_percent(determinant, mask),
        "smallest_determinant": float(inner.min()),
        "largest_determinant": float(determinant[mask].max()),
        "smallest_determinant_at": _position(inner.argmin(), grid),
        "sdlogj": sdlogj(determinant, mask),
    }


def _extent(length: np.ndarray, mask: np.ndarray, grid: Grid, name: str) -> dict[str, Any]:
    inner = length[mask]
    return {
        f"{name}_mean_mm": float(inner.mean(dtype=np.float64)),
        f"{name}_p95_mm": float(np.percentile(inner, 95)),
        f"{name}_max_mm": float(inner.max()),
        f"{name}_max_at": _position(np.where(mask, length, -1.0).argmax(), grid),
    }


def _position(flat: int, grid: Grid) -> list[float]:
    index = np.array(np.unravel_index(int(flat), grid.shape)[::-1], float)
    return (grid.index_to_world @ [*index, 1.0])[:3].tolist()


def _outside(transform: Transform, mask: np.ndarray, grid: Grid, moving: Grid) -> float:
    """Per cent of the foreground that maps outside the moving image, from evenly chosen points."""
    flat = np.flatnonzero(mask)
    flat = flat[:: max(1, math.ceil(len(flat) / FOV_POINTS))]
    index = np.stack(np.unravel_index(flat, grid.shape)[::-1], axis=1).astype(float)
    points = index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]
    return 100.0 * float(1.0 - inside(transform(points), moving).mean())


def _slabs(grid: Grid) -> list[tuple[int, int]]:
    depth = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    return [(start, min(start + depth, grid.shape[0])) for start in range(0, grid.shape[0], depth)]
