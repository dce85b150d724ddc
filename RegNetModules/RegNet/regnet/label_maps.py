"""Resampling label maps without stairs: every label's signed distance is interpolated, and the largest one wins where
the distance of all labels together is positive.

Interpolating a label's indicator linearly and cutting at one half is the nearest neighbour again wherever one axis is
much coarser than the others, and smoothing it until that is gone takes volume away. The signed distance to the label's
surface changes steadily between two slices instead, so their outlines flow into each other (S. Raya, J. Udupa,
"Shape-based interpolation of multidimensional objects", IEEE Transactions on Medical Imaging 9, 1990). Where voxels get
larger, a Gaussian as wide as the larger voxel comes first, so that the label wins that has most of the voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .events import Events
from .image import Grid, Image
from .transform import Affine, GridMapper, Transform

INTERPOLATIONS = ("smooth", "nearest")
EDGE = 24
"""Voxels along the edge of the blocks in which the work is done, on the finer of both lattices."""
BOX_SIGMA = 1 / math.sqrt(12)
"""Standard deviation of a voxel's own width."""
ACROSS = 0.7
"""A step along a coarser axis counts as this much of its length: 1 wears small things down, less brings stairs back."""
TIE = 1e-3
"""Scores closer than this share of the finest voxel are equal: rounding must not decide."""


def carry_labels(
    labels: Image,
    grid: Grid,
    transform: Transform | None = None,
    order: Sequence[int] = (),
    *,
    interpolation: str = "smooth",
    events: Events | None = None,
) -> Image:
    """``labels`` read at ``transform(x)`` for every point ``x`` of ``grid``: what lies there, label values kept.

    Args:
        labels: (1, D, H, W) whole numbers; 0, and everything outside, is background.
        transform: from points of ``grid`` to points of ``labels``; None for none.
        order: label values; where two are equally good the first one wins, and any label against the background.
            Values that are not listed follow in their own order.
        interpolation: ``smooth`` or ``nearest``.

    Works block by block with the labels that occur there, so memory does not grow with their number, and the result
    does not depend on the blocks.

    Raises:
        InputError: an unknown interpolation. Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"There is no interpolation {interpolation!r}; choose from {', '.join(INTERPOLATIONS)}.")
    if interpolation == "nearest":
        return labels.resample(grid, transform, labels=True)
    source = _Source(labels, order, _ratios(labels.grid, grid, transform))
    result = torch.zeros(grid.shape, dtype=torch.int32)
    mapper = GridMapper(grid, labels.grid, transform)
    edges = _edges(labels.grid, grid, transform)
    for start in range(0, grid.shape[0], edges[0]):
        stop = min(start + edges[0], grid.shape[0])
        where = mapper.slab(start, stop)
        for rows, columns in _tiles(grid.shape[1:], edges[1:]):
            events.progress((start + (stop - start) * rows.start / grid.shape[1]) / grid.shape[0])
            result[start:stop, rows, columns] = source.at(where[:, :, :, rows, columns])
    events.progress(1.0)
    return Image(result[None], grid.index_to_world, grid.ndim)


class _Source:
    """A label map that tells the winning label at voxel indices."""

    def __init__(self, labels: Image, order: Sequence[int], ratios: np.ndarray) -> None:
        self.array = labels.data[0].int().numpy()
        self.flat = labels.ndim == 2
        steps = labels.spacing[::-1]
        self.spacing = np.maximum(ACROSS * steps, steps[1:].min() if self.flat else steps.min())
        self.rank = {value: place for place, value in reversed(list(enumerate(order)))}
        sigma = BOX_SIGMA * np.sqrt(np.maximum(ratios**2 - 1, 0))
        if self.flat:
            sigma[0] = 0.0
        self.sigma = sigma.tolist()
        used = self.spacing[1:] if self.flat else self.spacing
        # Within a voxel a distance changes by its diagonal at most: no surface is further from where it is looked for.
        self.reach = float(np.linalg.norm(used) + 2 * (sigma * self.spacing).max())
        self.margin = np.ceil(self.reach / self.spacing).astype(int) + 1
        if self.flat:
            self.margin[0] = 0
        self.tie = TIE * float(used.min())

    def at(self, where: Tensor) -> Tensor:
        """Labels at voxel indices (1, 3, d, h, w) in array order: (d, h, w)."""
        crop, low = self._crop(where)
        values, places = np.unique(crop, return_inverse=True)
        if values.size == 1:
            return torch.full(where.shape[2:], int(values[0]), dtype=torch.int32)
        last = len(self.rank)
        listed = sorted((int(v) for v in values if v), key=lambda v: (self.rank.get(v, last), v))
        bounds = dict(zip(values.tolist(), _find_objects(places.reshape(crop.shape) + 1), strict=True))
        distances = [self._distance(crop == value, bounds[value]) for value in listed]
        # All labels together, so that their outer surface does not depend on how they divide what is inside.
        distances.append(self._distance(crop != 0, _find_objects((crop != 0).view(np.uint8))[0]))
        scores = torch.stack(distances)[None]
        if any(self.sigma):
            scores = spatial.gaussian(scores, self.sigma)
        corner = torch.from_numpy(low.astype(np.float32)).view(1, 3, 1, 1, 1)
        found = spatial.sample(scores, where - corner, padding="border")[0]
        best, solid = found[:-1], found[-1]
        # The first of those that are as good as the best.
        winner = (best >= best.amax(dim=0) - self.tie).to(torch.uint8).argmax(dim=0)
        return torch.where(solid >= -self.tie, torch.tensor(listed, dtype=torch.int32)[winner], 0)

    def _crop(self, where: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The part of the map that decides about ``where``, with background around it, and its first index."""
        shape = np.array(self.array.shape)
        # More than a voxel outside there is nothing but background.
        first = np.floor(where.amin(dim=(0, 2, 3, 4)).numpy()).clip(-2, shape).astype(int)
        last = np.ceil(where.amax(dim=(0, 2, 3, 4)).numpy()).clip(-1, shape + 1).astype(int)
        low, high = first - self.margin, last + self.margin + 1
        if self.flat:
            low[0], high[0] = 0, 1
        inside = tuple(slice(max(a, 0), max(min(b, n), 0)) for a, b, n in zip(low, high, shape, strict=True))
        padding = [(int(max(-a, 0)), 0) for a in low]
        crop = np.pad(self.array[inside], padding)
        missing = [(0, int(max(b - a - n, 0))) for a, b, n in zip(low, high, crop.shape, strict=True)]
        return np.pad(crop, missing), low

    def _distance(self, inside: np.ndarray, bounds: tuple[slice, ...]) -> Tensor:
        """Signed distance in mm to the surface of what is ``inside``, positive there, cut off at the reach."""
        from scipy import ndimage

        result = np.full(inside.shape, -self.reach, dtype=np.float32)
        box = tuple(slice(max(b.start - m, 0), b.stop + m) for b, m in zip(bounds, self.margin, strict=True))
        part = inside[box]
        if part.all():
            result[box] = self.reach
        else:
            signed = ndimage.distance_transform_edt(part, self.spacing)
            signed -= ndimage.distance_transform_edt(~part, self.spacing)
            result[box] = np.clip(signed, -self.reach, self.reach)
        return torch.from_numpy(result)


def _find_objects(places: np.ndarray) -> list[tuple[slice, ...]]:
    # Imported here, as in the metrics: it takes long, and most runs never ask for it.
    from scipy import ndimage

    return ndimage.find_objects(places)


def _step(source: Grid, grid: Grid, transform: Transform | None) -> np.ndarray:
    """3x3: by how many voxels of ``source`` (rows) a step on ``grid`` (columns) moves, in array order, on the whole."""
    linear = np.eye(3)
    for part in transform.parts if transform is not None else ():
        if isinstance(part, Affine):
            linear = part.matrix[:3, :3] @ linear
    steps = source.world_to_index[:3, :3] @ linear @ grid.index_to_world[:3, :3]
    return np.abs(steps[::-1, ::-1])


def _ratios(source: Grid, grid: Grid, transform: Transform | None) -> np.ndarray:
    """How wide a voxel of ``grid`` is along the axes of ``source``, in voxels of ``source``."""
    return np.linalg.norm(_step(source, grid, transform), axis=1)


def _edges(source: Grid, grid: Grid, transform: Transform | None) -> tuple[int, ...]:
    """Voxels along the edges of a block, such that neither it nor what it looks at gets large."""
    widest = np.maximum(_step(source, grid, transform).max(axis=0), 1.0)
    return tuple(int(n) for n in np.maximum(EDGE / widest, 4))


def _tiles(shape: Sequence[int], edges: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    for row in range(0, shape[0], edges[0]):
        for column in range(0, shape[1], edges[1]):
            yield slice(row, row + edges[0]), slice(column, column + edges[1])
