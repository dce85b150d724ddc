"""A registration improved by the images in one place: around points or in a region, fading to nothing at its border."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from . import metrics, spatial
from .errors import InputError
from .events import Events
from .image import Grid, Image, apply_matrix
from .local_change import blur, part_around
from .models import masr_run
from .models.masr import Parameters
from .pair import LEAST_WINDOW, Pair
from .refine import Schedule, refine
from .region import distance_from, fade
from .tapering import tapered
from .transform import Composite, DisplacementField, Transform
from .zoo import find_weights, load_state

SIMILARITIES = ("mind", "dsir", "lncc")
"""What the images are compared by: MIND-SSC, MASR-Net's learned descriptor, or local correlation (one contrast)."""
MOST_VOXELS = 2_000_000
"""Of the part of the images that is looked at; a larger one is made coarser."""
STEPS_TO_FADE = 10.0
"""Lattice points from the border of the region to where the change has faded."""
SMOOTH_STEPS = 2.0
"""Distance, in voxels, of the lattice points that a velocity is made on."""
CAPTURE = 12.0
"""How far in mm the search in a region looks for what belongs together."""


@dataclass(frozen=True)
class Place:
    """Where a transform may change: up to ``reach`` mm from ``points`` (N, 3) and from the voxels of ``region``."""

    points: np.ndarray
    region: Image | None
    reach: float

    def weight(self, grid: Grid) -> np.ndarray:
        """(D, H, W) in [0, 1] on ``grid``: one at the points and in the region, zero from the reach on."""
        distance = np.full(grid.shape, np.inf, dtype=np.float32)
        where = grid.points() if len(self.points) else None
        for point in self.points:
            np.minimum(distance, np.linalg.norm(where - point, axis=-1), out=distance)
        if self.region is not None:
            np.minimum(distance, distance_from(self.region, grid), out=distance)
        return fade(distance, 0.0, self.reach)

    def core(self) -> np.ndarray:
        """(N, 3): the points and the corners of the region's box."""
        if self.region is None:
            return self.points
        found = np.argwhere(self.region.data[0].numpy() > 0)
        ends = Grid((2, 2, 2), np.diag([*(np.ptp(found, axis=0)[::-1] + 1e-9), 1.0])).points().reshape(-1, 3)
        corners = apply_matrix(self.region.index_to_world, ends + found.min(axis=0)[::-1])
        return np.concatenate([self.points, corners])


def change_by_images(
    fixed: Image,
    moving: Image,
    transform: Transform,
    place: Place,
    around: Grid,
    coarsest: float,
    similarity: str,
    device: str,
    events: Events,
) -> tuple[DisplacementField, dict[str, float]]:
    """The step in front of ``transform`` that makes the images agree where ``place`` allows it, exactly zero elsewhere.

    Args:
        around: a lattice that covers the place.
        coarsest: spacing of a field that takes the step in, see :func:`regnet.local_change.preceded`.

    Returns:
        The step, and the mutual information there before and after it, in nats.

    Raises:
        InputError: an unknown ``similarity``, or the place lies outside of the fixed image.
    """
    if similarity not in SIMILARITIES:
        raise InputError(f"There is no comparison named {similarity!r}; choose from {', '.join(SIMILARITIES)}.")
    pair = _local_pair(fixed, moving, transform, around, device)
    events.progress(0.1)
    with events.stage("images", 0.1, 0.9):
        found = _agreed(pair, similarity, CAPTURE if place.region is not None else 0.0, events)
    with torch.inference_mode():
        grid = _fading_grid(pair, place.reach)
        margin = blur(transform, grid, coarsest) + 0.5 * float(np.linalg.norm(grid.spacing[: grid.ndim]))
        step = _faded(pair, found, replace(place, reach=max(place.reach - margin, 0.25 * place.reach)), grid)
        scores = _scores(pair, moving.normalized().resample(pair.grid, Composite((step, *transform.parts))), place)
    return step, scores


def _local_pair(fixed: Image, moving: Image, transform: Transform, around: Grid, device: str) -> Pair:
    """What both images show around the place, the moving one through ``transform``."""
    whole = fixed.grid
    start, end = part_around(whole, around)
    start, end = np.clip(start, 0, whole.shape), np.clip(end, 0, whole.shape)
    if (end <= start).any():
        raise InputError("The place to correct lies outside of the fixed image; put it inside.")
    start = np.maximum(np.minimum(start, end - LEAST_WINDOW), 0)
    end = np.minimum(np.maximum(end, start + LEAST_WINDOW), whole.shape)
    grid = whole.cropped(tuple(start), tuple(end - start))
    while math.prod(grid.shape) > MOST_VOXELS:
        grid = grid.with_spacing(1.2 * max(float(grid.spacing[: grid.ndim].min()), 1e-6))
    images = (fixed.normalized().resample(grid), moving.normalized().resample(grid, transform))
    tensors = [image.data[:, 0][None] if grid.ndim == 2 else image.data[None] for image in images]
    return Pair(*(tensor.contiguous().to(device) for tensor in tensors), grid)


def _agreed(pair: Pair, similarity: str, capture: float, events: Events) -> Tensor:
    """Displacement (1, d, *any) in voxels over the pair's corners; a search of ``capture`` mm comes first."""
    if similarity == "lncc":
        flat = pair.fixed.new_zeros(1, len(pair.shape), *pair.level_shape(4.0))
        return refine(pair, flat, Schedule(), events)
    parameters = Parameters(
        descriptor=similarity, start="search" if capture else "none", reach=max(capture, 4.0), weights="general"
    )
    record = find_weights("masr") if similarity == "dsir" else None
    if record is not None and record.config.get("dims", 3) != len(pair.shape):
        record = None
    if similarity == "dsir" and record is None:
        events.warn("There is no trained descriptor for these images here; MIND-SSC is used instead.")
    state, config = (load_state(record), record.config) if record is not None else (None, None)
    with events.stage("search", 0.0, 0.4):
        begin = masr_run.start(pair, parameters, state, config, events)
    with events.stage("optimise", 0.4, 1.0):
        return masr_run.improve(pair, begin, parameters, state, config, events, "auto")


def _fading_grid(pair: Pair, reach: float) -> Grid:
    """A lattice over the pair on which a change can fade within the reach."""
    grid = pair.grid.with_spacing(max(pair.spacing_of_finest, reach / STEPS_TO_FADE))
    while math.prod(grid.shape) > MOST_VOXELS:
        grid = grid.with_spacing(1.2 * float(grid.spacing[: grid.ndim].min()))
    return grid


def _faded(pair: Pair, displacement: Tensor, place: Place, grid: Grid) -> DisplacementField:
    """``displacement`` as a flow whose velocity is weighted by the place: it fades without folding."""
    shape = grid.shape[3 - len(pair.shape) :]
    smooth = [min(n, m) for n, m in zip(displacement.shape[2:], pair.level_shape(SMOOTH_STEPS), strict=True)]
    velocity = spatial.logarithm(spatial.resize_displacement(displacement.cpu(), smooth))
    weight = torch.from_numpy(place.weight(grid)).float().reshape(1, 1, *shape)
    faded = spatial.exponential(spatial.resize_displacement(velocity, shape) * weight)
    return tapered(faded * (weight > 0), grid)


def _scores(pair: Pair, after: Image, place: Place) -> dict[str, float]:
    """Mutual information of the images of the pair, and of the fixed one with ``after``, within half the reach."""
    mask = place.weight(pair.grid) > 0.5
    arrays = [tensor.cpu().numpy().reshape(pair.grid.shape) for tensor in (pair.fixed, pair.moving, after.data)]
    before, now = (metrics.mutual_information(arrays[0], image, mask=mask) for image in arrays[1:])
    return {"before": before, "after": now}
