"""What became of each segment: its size, how much of it the target shows, and how well it fits a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import metrics
from .image import Grid, apply_matrix
from .segmentation import Segment, Segmentation
from .transform import Affine, Transform

MOST_POINTS = 20_000
"""Of larger segments a regular choice of so many voxels tells the share."""
ITERATIONS = 60
NEAR_MM = 0.01
LISTED = 6
WHOLE = 0.995
"""A share that is told as all of it."""


def segment_points(segmentation: Segmentation, segment: Segment, most: int = MOST_POINTS) -> np.ndarray:
    """World positions (N, 3) of a segment's voxels, or of a regular choice of them."""
    where = segmentation.mask(segment).numpy().ravel().nonzero()[0]
    where = where[:: max(1, math.ceil(where.size / most))]
    index = np.stack(np.unravel_index(where, segmentation.labels.grid.shape), axis=1)[:, ::-1]
    return apply_matrix(segmentation.labels.index_to_world, index.astype(np.float64))


def inside(points: np.ndarray, grid: Grid) -> np.ndarray:
    """(N,), true where a point lies in one of the grid's voxels."""
    index = apply_matrix(grid.world_to_index, points)[:, : grid.ndim]
    return ((index >= -0.5 - 1e-6) & (index <= np.array(grid.size[: grid.ndim]) - 0.5 + 1e-6)).all(axis=1)


def pulled_back(transform: Transform, points: np.ndarray) -> np.ndarray:
    """Where ``transform`` takes ``points`` (N, 3) from: its inverse at a few points, by fixed-point iteration.

    Each round the miss goes back through the linear part alone; displacements that do not fold make it shrink.
    """
    linear = np.eye(4)
    for part in transform.parts:
        if isinstance(part, Affine):
            linear = part.matrix @ linear
    back = np.linalg.inv(linear)
    found = apply_matrix(back, points)
    active = np.arange(len(points))
    for _ in range(ITERATIONS):
        miss = points[active] - transform(found[active])
        far = np.linalg.norm(miss, axis=1) > NEAR_MM
        active, miss = active[far], miss[far]
        if not active.size:
            break
        found[active] += miss @ back[:3, :3].T
    return found


def shares_in_view(segmentation: Segmentation, grid: Grid, transform: Transform) -> list[float]:
    """How much of each segment, in [0, 1], ``grid`` shows through ``transform``; NaN for a segment without voxels."""
    points = [segment_points(segmentation, segment) for segment in segmentation.segments]
    seen = inside(pulled_back(transform, np.concatenate(points)), grid) if points else np.empty(0)
    ends = np.cumsum([len(part) for part in points])
    parts = np.split(seen, ends[:-1]) if points else []
    return [float(part.mean()) if part.size else float("nan") for part in parts]


def table(carried: Segmentation, source: Segmentation, transform: Transform) -> list[dict[str, Any]]:
    """One entry per segment: what it is, its voxels and volume before and after, the share that is in view."""
    volumes = [float(np.prod(s.labels.spacing[: s.labels.ndim])) / 1000 for s in (source, carried)]
    shares = shares_in_view(source, carried.labels.grid, transform)
    rows = []
    for segment, before, after, share in zip(source.segments, source.counts(), carried.counts(), shares, strict=True):
        rows.append(
            {
                "name": segment.title,
                "value": segment.value,
                "layer": segment.layer,
                "source_voxels": before,
                "source_volume_ml": before * volumes[0],
                "voxels": after,
                "volume_ml": after * volumes[1],
                "share_in_view": share,
            }
        )
    return rows


def warnings_of(rows: Sequence[dict[str, Any]], target: str) -> list[str]:
    """Sentences about the segments that did not arrive as they were, one per kind."""
    empty = [row["name"] for row in rows if not row["source_voxels"]]
    out = [row["name"] for row in rows if row["share_in_view"] == 0]
    partly = [f"{row['name']} ({_percent(row)})" for row in rows if 0 < row["share_in_view"] < WHOLE]
    lost = [row["name"] for row in rows if row["share_in_view"] > 0 and not row["voxels"]]
    told = []
    if empty:
        told.append(f"{_segments(empty)} without a voxel in the segmentation: {_listed(empty)}.")
    if out:
        told.append(f"{_segments(out)} outside the field of view of {target}: {_listed(out)}.")
    if partly:
        told.append(f"{_segments(partly)} only partly in the field of view of {target}: {_listed(partly)}.")
    if lost:
        told.append(f"{_segments(lost)} too small for the voxels of {target}, so nothing is left: {_listed(lost)}.")
    return told


def _percent(row: dict[str, Any]) -> str:
    return f"{100 * row['share_in_view']:.0f} %" if row["share_in_view"] >= 0.01 else "less than 1 %"


def _segments(names: Sequence[str]) -> str:
    return "1 segment is" if len(names) == 1 else f"{len(names)} segments are"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def scores(carried: Segmentation, reference: Segmentation) -> list[dict[str, float | None]]:
    """Dice and HD95 in mm of each segment against the one of ``reference`` with its name, or else its value.

    ``reference`` lies on the same grid. Segments that it lacks have None.
    """
    partners = [_partner(segment, reference) for segment in carried.segments]
    grid = carried.labels.grid
    spacing = grid.spacing[: grid.ndim][::-1]
    cut = (slice(None),) * 3 if grid.ndim == 3 else (0,)
    result: list[dict[str, float | None]] = [{"dice": None, "hd95_mm": None} for _ in partners]
    pairs = {(s.layer, p.layer) for s, p in zip(carried.segments, partners, strict=True) if p is not None}
    for layers in sorted(pairs):
        chosen = [
            n
            for n, (segment, partner) in enumerate(zip(carried.segments, partners, strict=True))
            if partner is not None and (segment.layer, partner.layer) == layers
        ]
        values = {n: (carried.segments[n].value, partners[n].value) for n in chosen}
        first = _numbered(carried, layers[0], {a: n + 1 for n, (a, _) in values.items()})[cut]
        second = _numbered(reference, layers[1], {b: n + 1 for n, (_, b) in values.items()})[cut]
        ids = [n + 1 for n in chosen]
        overlap, distance = metrics.dice(first, second, ids), metrics.hd95(first, second, spacing, ids)
        for n in chosen:
            result[n] = {"dice": overlap[n + 1], "hd95_mm": distance[n + 1]}
    return result


def mean_scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the segments that the reference has; one that was lost counts with Dice 0, not in the distance."""
    overlap = [row["dice"] for row in rows if row.get("dice") is not None and not math.isnan(row["dice"])]
    distance = [row["hd95_mm"] for row in rows if row.get("hd95_mm") is not None and math.isfinite(row["hd95_mm"])]
    return {
        "dice": sum(overlap) / len(overlap) if overlap else None,
        "hd95_mm": sum(distance) / len(distance) if distance else None,
        "segments": len(overlap),
    }


def _partner(segment: Segment, reference: Segmentation) -> Segment | None:
    by_name = [other for other in reference.segments if segment.name and other.name == segment.name]
    if by_name or (segment.name and reference.is_named):
        return by_name[0] if by_name else None
    return next((other for other in reference.segments if other.value == segment.value), None)


def _numbered(segmentation: Segmentation, layer: int, numbers: dict[int, int]) -> np.ndarray:
    """One layer with its values replaced by ``numbers``, everything else 0."""
    array = segmentation.labels.data[layer].numpy()
    values, places = np.unique(array, return_inverse=True)
    table = np.array([numbers.get(int(value), 0) for value in values], dtype=np.int32)
    return table[places].reshape(array.shape)
