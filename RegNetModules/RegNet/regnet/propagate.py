"""Segmentations from scan to scan: to one, to several, or along a sequence of frames in time.

To carry what was drawn on a scan onto a target, the target is the fixed image and the scan the moving one: the
transform takes points of the target to points of the scan, and every voxel of the target reads what lies there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from . import propagation_numbers as numbers
from .checks import check_image
from .errors import InputError
from .events import Events
from .image import Grid, Image
from .label_maps import INTERPOLATIONS, carry_labels
from .segmentation import Segmentation
from .transform import Affine, DisplacementField, Transform

ALONG = ("reference", "chain")
MOST_FIELD_BYTES = 512e6
"""Composed fields that take more than this are made one."""
FIELD_MARGIN = 4


@dataclass(frozen=True, eq=False)
class Propagated:
    """``segmentation`` on the target's grid; ``transform`` from points of the target to points of the scan."""

    segmentation: Segmentation
    transform: Transform
    report: dict[str, Any]


def propagate(
    scan: Image,
    segmentation: Segmentation,
    target: Image,
    *,
    transform: Transform | None = None,
    reference: Segmentation | None = None,
    interpolation: str = "smooth",
    name: str = "the target",
    events: Events | None = None,
    **registration: Any,
) -> Propagated:
    """Carry a segmentation of ``scan`` onto the grid of ``target``.

    Args:
        segmentation: lies anywhere in the world of ``scan``, on a grid of its own if need be.
        transform: from points of the target to points of the scan; without it, the images are registered.
        reference: of the target, to score the result by.
        interpolation: see :func:`regnet.label_maps.carry_labels`.
        name: of the target, for warnings.
        registration: options of :func:`regnet.register`.

    Raises:
        InputError, ModelError: something given cannot be used. Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    check_interpolation(interpolation)
    check_lies_on(segmentation, scan)
    report = None
    with events.stage("propagate", 0.0, 1.0):
        if transform is None:
            transform, report = _registered(target, scan, registration, events.share(0.0, 0.85))
        share = events.share(0.85 if report else 0.0, 1.0)
        result = carry(segmentation, target.grid, transform, reference, interpolation, name, share)
    result.report["registration"] = report
    return result


def carry(
    segmentation: Segmentation,
    grid: Grid,
    transform: Transform,
    reference: Segmentation | None = None,
    interpolation: str = "smooth",
    name: str = "the target",
    events: Events | None = None,
) -> Propagated:
    """A segmentation on ``grid`` through a transform that is known, from points of ``grid`` to points of its scan.

    The other arguments are those of :func:`propagate`; the report tells of each segment.

    Raises:
        InputError: dimensions differ, or there is nothing to carry. Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    check_interpolation(interpolation)
    for what, ndim in (("transform", transform.ndim), ("target", grid.ndim)):
        if ndim != segmentation.labels.ndim:
            raise InputError(
                f"The {what} is {ndim}D and the segmentation {segmentation.labels.ndim}D; both must agree."
            )
    if not any(segmentation.counts()):
        raise InputError("The segmentation is empty: none of its segments has a voxel.")
    with events.stage("labels", 0.0, 0.7):
        carried = resampled(segmentation, grid, transform, interpolation, events)
    with events.stage("numbers", 0.7, 1.0):
        report = _numbers(carried, segmentation, transform, reference, name, events)
    for sentence in report["warnings"]:
        events.warn(sentence)
    return Propagated(carried, transform, report)


def propagate_to(
    scan: Image,
    segmentation: Segmentation,
    targets: Sequence[Image],
    *,
    transforms: Sequence[Transform] | None = None,
    references: Sequence[Segmentation] | None = None,
    names: Sequence[str] | None = None,
    events: Events | None = None,
    **options: Any,
) -> Iterator[Propagated]:
    """Carry a segmentation to each of several scans; one result at a time, so that only one has to be held.

    ``targets``, ``transforms`` and ``references`` are asked for their entries when these are due. The options are
    those of :func:`propagate`.
    """
    events = events or Events()
    for n in range(len(targets)):
        name = names[n] if names else f"target {n + 1}"
        title = f"{n + 1} of {len(targets)}, {name}" if len(targets) > 1 else ""
        yield propagate(
            scan,
            segmentation,
            targets[n],
            transform=transforms[n] if transforms else None,
            reference=references[n] if references else None,
            name=name,
            events=events.share(n / len(targets), (n + 1) / len(targets), title),
            **options,
        )


def propagate_along(
    frames: Sequence[Image],
    segmentation: Segmentation,
    *,
    frame: int = 0,
    how: str = "reference",
    transforms: Sequence[Transform] | None = None,
    references: Sequence[Segmentation] | None = None,
    interpolation: str = "smooth",
    events: Events | None = None,
    **registration: Any,
) -> Iterator[tuple[int, Propagated]]:
    """Carry a segmentation of one ``frame`` of a sequence to all others, forwards and backwards in time.

    Args:
        frames: in the order of time; asked for one or two at a time.
        how: ``reference`` registers every frame to the segmented one; ``chain`` registers every frame to its neighbour
            and composes the transforms, for changes too large to be followed at once.
        transforms: one per frame but the segmented one, in order, instead of registering: from points of the frame to
            points of the segmented one, with ``chain`` to points of its neighbour on the way there.
        references: one per frame, to score the results by.

    Yields:
        Number of the frame, and what :func:`propagate` gives for it with the whole way to the segmented frame. The
        segmented one comes first, then those after it, then those before it, backwards.
    """
    events = events or Events()
    check_sequence(len(frames), frame, how, None if transforms is None else len(transforms))
    count = len(frames)
    anchor = frames[frame]
    way: Transform = Affine.identity(anchor.ndim)
    for done, n in enumerate([frame, *range(frame + 1, count), *range(frame - 1, -1, -1)]):
        share = events.share(done / count, (done + 1) / count, f"frame {n}")
        target = frames[n]
        report = None
        if n != frame:
            before = frame if how == "reference" else n - 1 if n > frame else n + 1
            if transforms is not None:
                step = transforms[n - (n > frame)]
            else:
                source = anchor if before == frame else frames[before]
                step, report = _registered(target, source, registration, share.share(0.0, 0.8))
            way = step if before == frame else bounded(step.then(way), target.grid)
        result = propagate(
            anchor,
            segmentation,
            target,
            transform=way,
            reference=references[n] if references else None,
            interpolation=interpolation,
            name=f"frame {n}",
            events=share.share(0.8 if report else 0.0, 1.0),
        )
        result.report["registration"] = report
        yield n, result


def check_sequence(frames: int, frame: int, how: str, transforms: int | None = None) -> None:
    """Refuse what :func:`propagate_along` cannot do."""
    if how not in ALONG:
        raise InputError(f"There is no way along a sequence named {how!r}; choose from {', '.join(ALONG)}.")
    if frames < 2:
        raise InputError(f"A sequence has at least two frames, this one {frames}; give more, or a single target.")
    if not 0 <= frame < frames:
        raise InputError(f"There is no frame {frame} in the sequence; its frames are 0 to {frames - 1}.")
    if transforms is not None and transforms != frames - 1:
        raise InputError(
            f"A sequence of {frames} frames takes {frames - 1} transforms, one for each frame but the segmented one; "
            f"{transforms} were given."
        )


def check_interpolation(name: str) -> None:
    """Refuse a name that is none of an interpolation."""
    if name not in INTERPOLATIONS:
        raise InputError(f"There is no interpolation {name!r}; choose from {', '.join(INTERPOLATIONS)}.")


def check_lies_on(segmentation: Segmentation, scan: Image) -> None:
    """Refuse a segmentation of another dimension, or one that has nothing in its scan's field of view."""
    labels = segmentation.labels
    if labels.ndim != scan.ndim:
        raise InputError(f"The segmentation is {labels.ndim}D and its scan {scan.ndim}D; give one of the same kind.")
    points = [numbers.segment_points(segmentation, segment, 2000) for segment in segmentation.segments]
    if not sum(len(part) for part in points):
        raise InputError("The segmentation is empty: none of its segments has a voxel.")
    if not numbers.inside(np.concatenate(points), scan.grid).any():
        raise InputError(
            "The segmentation lies wholly outside its scan; check that both are of the same examination, or name the "
            "scan that it was drawn on."
        )


def resampled(
    segmentation: Segmentation,
    grid: Grid,
    transform: Transform | None = None,
    interpolation: str = "smooth",
    events: Events | None = None,
) -> Segmentation:
    """``segmentation`` on ``grid``, read at ``transform(x)``; names, colours and order stay."""
    events = events or Events()
    layers = []
    for layer, part in enumerate(segmentation.labels.data):
        share = events.share(layer / segmentation.layers, (layer + 1) / segmentation.layers)
        labels = Image(part[None], segmentation.labels.index_to_world, segmentation.labels.ndim)
        order = segmentation.of_layer(layer)
        found = carry_labels(labels, grid, transform, order, interpolation=interpolation, events=share)
        layers.append(found.data)
    return replace(segmentation, labels=Image(torch.cat(layers), grid.index_to_world, grid.ndim))


def _registered(
    target: Image, scan: Image, options: dict[str, Any], events: Events
) -> tuple[Transform, dict[str, Any]]:
    from .register import register

    check_image(target, "target")
    check_image(scan, "segmented")
    result = register(target, scan, events=events, **options)
    return result.transform, result.report


def bounded(transform: Transform, grid: Grid) -> Transform:
    """``transform``, as one field on ``grid`` and a little around it if its parts take too much memory."""
    fields = [part for part in transform.parts if isinstance(part, DisplacementField)]
    if len(fields) < 2 or sum(part.displacement.nbytes for part in fields) < MOST_FIELD_BYTES:
        return transform
    return transform.to_field(grid.padded(FIELD_MARGIN))


def _numbers(
    carried: Segmentation,
    source: Segmentation,
    transform: Transform,
    reference: Segmentation | None,
    name: str,
    events: Events,
) -> dict[str, Any]:
    rows = numbers.table(carried, source, transform)
    warnings = numbers.warnings_of(rows, name)
    if reference is None:
        return {"segments": rows, "warnings": warnings}
    events.progress(0.5)
    grid = carried.labels.grid
    if reference.labels.ndim != grid.ndim:
        raise InputError(f"The reference segmentation is {reference.labels.ndim}D, its scan {grid.ndim}D.")
    if not reference.labels.grid.same_as(grid, tolerance=0.01):
        reference = resampled(reference, grid)
    for row, scores in zip(rows, numbers.scores(carried, reference), strict=True):
        row.update(scores)
    lacking = [row["name"] for row in rows if row["dice"] is None]
    if len(lacking) == len(rows):
        raise InputError("The reference segmentation has none of the segments; check that it uses the same names.")
    return {"segments": rows, "mean": numbers.mean_scores(rows), "warnings": warnings}
