"""Click to correct: a registration set right where a user shows that it is wrong, and nowhere else.

Pairs of points say what belongs together, a region says where the images have to fit. A step in front of the present
transform, ``T o C``, brings that about: the points by a flow that cannot fold (:mod:`regnet.point_flow`), the images by
an optimisation whose velocity fades to zero (:mod:`regnet.correct_images`). Beyond the reach C is the identity.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import metrics
from .checks import check_image, check_mask
from .correct_images import Place, change_by_images
from .devices import resolve_device
from .errors import InputError
from .events import Events
from .image import Grid, Image, apply_matrix
from .local_change import blur, determinant_of_change, in_a_row, lattice_of_change, local_grid, preceded, preimages
from .point_flow import flow_field, flow_to, nudged, softened
from .refine import FLOOR
from .transform import Affine, Transform

MODES = ("soft", "exact")
SOFT = 0.15
"""Stiffness of soft points: a lone one keeps an eighth of its error, and neighbours smooth each other."""
STIFFER = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Tried one after the other where meeting the points would fold the result: some contradict each other."""
SHARE_OF_IMAGE = 6.0
"""The automatic reach is this part of the fixed image's mean size, and :data:`WIDE` times the largest error."""
WIDE, NARROWEST = 4.0, 3.0
"""Reaches, in largest errors and beyond half of the least one, that are chosen and that are allowed: a shorter one
would crush the tissue."""
LATTICE_STEPS, COARSEST, LEAST_VOXELS = 20.0, 8.0, 8.0
"""Lattice points to a reach where a lattice is made for it; as few as this are enough in one that is there; and voxels
of the fixed image that a reach has at least."""
REGION_REACH = 20.0
"""The automatic reach around a region alone is this part of the fixed image's mean size."""
NUDGES, MET = 3, 0.001
"""How often what a lattice could not hold is made up for, and how near, in voxels, a point is met."""
MOST_POINTS = 500


@dataclass(frozen=True)
class Correction:
    """``transform`` takes the place of the present one. ``report`` holds ``points`` (``before_mm`` and ``after_mm`` of
    each pair), ``mode``, ``reach_mm``, ``folding_percent`` where something changed, ``largest_change_mm``, where the
    images were asked ``similarity_before`` and ``similarity_after`` (mutual information in nats), and ``warnings``."""

    transform: Transform
    report: dict[str, Any]


def correct(
    fixed: Image,
    moving: Image,
    transform: Transform,
    fixed_points: np.ndarray | None = None,
    moving_points: np.ndarray | None = None,
    *,
    region: Image | None = None,
    mode: str = "soft",
    reach: float | None = None,
    images: bool | None = None,
    similarity: str = "mind",
    device: str = "auto",
    events: Events | None = None,
) -> Correction:
    """Correct ``transform`` (fixed to moving points) around pairs of points and in a region.

    Args:
        fixed, moving: of one channel.
        fixed_points, moving_points: (N, 3) LPS mm; each fixed point belongs to the moving one in the same row.
        region: labels in fixed space; where they are not 0 the images are made to agree.
        mode: ``exact`` meets every point; ``soft`` allows each a little error, so that clicks need not be perfect.
        reach: in mm; beyond it from every point and from the region the result stays what it was, to the bit. By
            default a sixth of the fixed image's mean size around points, or a little over four times the largest error
            if that is more, and a twentieth of it around a region alone.
        images: whether the images are made to agree around the points, too; by default only with a region.
        similarity: one of :data:`regnet.correct_images.SIMILARITIES`.

    Raises:
        InputError: something given cannot be used; the message says what and why.
        Cancelled: ``events`` asked to stop.
    """
    started = time.perf_counter()
    job = _Job(fixed, moving, region, mode, device, events or Events())
    pairs = job.checked(transform, fixed_points, moving_points)
    images = region is not None if images is None else images
    if region is not None and not images:
        raise InputError("A region says where the images have to agree; leave it out, or let them.")
    result = job.run(transform, *pairs, reach, similarity if images else "")
    result.report["time_s"] = {"total": round(time.perf_counter() - started, 3)}
    return result


class _Job:
    """One correction: what it is about, and its steps."""

    def __init__(
        self, fixed: Image, moving: Image, region: Image | None, mode: str, device: str, events: Events
    ) -> None:
        if mode not in MODES:
            raise InputError(f"There is no mode {mode!r}; choose from {', '.join(MODES)}.")
        for role, image in (("fixed", fixed), ("moving", moving)):
            check_image(image, role)
        if fixed.ndim != moving.ndim:
            raise InputError(f"The fixed image is {fixed.ndim}D, the moving one {moving.ndim}D; give two of one kind.")
        if region is not None:
            check_mask(region, fixed, "region")
        self.fixed, self.moving, self.region, self.mode = fixed, moving, region, mode
        self.device, self.events = resolve_device(device), events
        self.voxel = float(fixed.spacing[: fixed.ndim].min())
        self.size = float(np.prod((np.array(fixed.grid.size) * fixed.spacing)[: fixed.ndim]) ** (1 / fixed.ndim))

    def checked(self, transform: Transform, fixed_points: Any, moving_points: Any) -> tuple[np.ndarray, np.ndarray]:
        """The points as (N, 3) each; those of 2D images in one plane with what the transform makes of them.

        Raises:
            InputError: they are no pairs, or lie outside of their image.
        """
        if transform.ndim != self.fixed.ndim:
            raise InputError(f"The transform is {transform.ndim}D and the images are {self.fixed.ndim}D.")
        both = [np.empty((0, 3)) if p is None else np.array(p, float) for p in (fixed_points, moving_points)]
        for role, points, image in zip(("fixed", "moving"), both, (self.fixed, self.moving), strict=True):
            if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
                raise InputError(f"The {role} points must be rows of three finite coordinates, x, y and z in mm.")
            outside = _outside(points, image.grid)
            if outside.any():
                number = int(np.flatnonzero(outside)[0])
                place = ", ".join(f"{value:.1f}" for value in points[number])
                raise InputError(f"Point {number + 1} lies outside of the {role} image, at {place} mm; move it inside.")
        if len(both[0]) != len(both[1]):
            raise InputError(f"There are {len(both[0])} fixed and {len(both[1])} moving points; they must be pairs.")
        if not len(both[0]) and self.region is None:
            raise InputError("There is nothing to correct by; give at least one pair of points, or a region.")
        if len(both[0]) > MOST_POINTS:
            raise InputError(f"There are {len(both[0])} pairs of points; give at most {MOST_POINTS}.")
        if self.fixed.ndim == 2 and len(both[0]):
            normal = self.fixed.index_to_world[:3, 2] / self.fixed.spacing[2]
            both[1] += np.outer((transform(both[0]) - both[1]) @ normal, normal)
        return both[0], both[1]

    def run(
        self, transform: Transform, points: np.ndarray, targets: np.ndarray, reach: float | None, similarity: str
    ) -> Correction:
        before = metrics.tre(transform, points, targets)
        self.reach = self._reach(transform, points, targets, reach)
        self.coarsest, self.spacing = self.reach / COARSEST, max(self.voxel, self.reach / LATTICE_STEPS)
        place = Place(points, self.region, self.reach)
        around = local_grid(self.fixed.grid, place.core(), self.reach, self.spacing)
        report: dict[str, Any] = {"mode": self.mode, "reach_mm": self.reach, "device": self.device}
        result = transform
        with self.events.stage("points", 0.0, 0.25 if similarity else 0.8):
            result = self._meeting(result, points, targets)
        if similarity:
            with self.events.stage("images", 0.25, 0.75):
                how = (self.coarsest, similarity, self.device, self.events)
                step, scores = change_by_images(self.fixed, self.moving, result, place, around, *how)
                result = preceded(result, step, self.coarsest)
            report["similarity_metric"] = "mutual information in nats, within the reach"
            report |= {f"similarity_{when}": score for when, score in scores.items()}
            with self.events.stage("points", 0.75, 0.9):
                result = self._meeting(result, points, targets)
        with self.events.stage("check", 0.9, 1.0):
            report |= self._numbers(transform, result, around)
        after = metrics.tre(result, points, targets)
        rows = [{"before_mm": float(b), "after_mm": float(a)} for b, a in zip(before, after, strict=True)]
        return Correction(result, report | {"points": rows, "warnings": list(self.events.warnings)})

    def _reach(self, transform: Transform, points: np.ndarray, targets: np.ndarray, asked: float | None) -> float:
        """What was asked for, or what suits the errors, in mm."""
        least = LEAST_VOXELS * self.voxel
        if not len(points):
            return max(self.size / REGION_REACH if asked is None else _positive(asked), least)
        ends = preimages(transform, targets, points, self.voxel)
        largest = float(np.linalg.norm(ends - points, axis=1).max())
        if asked is None:
            return max(self.size / SHARE_OF_IMAGE, WIDE * largest + 0.5 * least, least)
        allowed = max(NARROWEST * largest + 0.5 * least, least)
        if _positive(asked) < allowed:
            self.events.warn(
                f"A reach of {asked:.1f} mm is too short for an error of {largest:.1f} mm and voxels of "
                f"{self.voxel:.2g} mm; {allowed:.1f} mm was taken."
            )
        return max(asked, allowed)

    def _meeting(self, transform: Transform, points: np.ndarray, targets: np.ndarray) -> Transform:
        """``transform`` changed around the points so that it meets them, as nearly as it can without folding."""
        if not len(points):
            return transform
        ends = preimages(transform, targets, points, self.voxel)
        lost = np.linalg.norm(transform(ends) - targets, axis=1) > self.voxel
        if lost.any():
            numbers = ", ".join(str(n + 1) for n in np.flatnonzero(lost))
            self.events.warn(f"The present result folds or ends at the targets of points {numbers}.")
        around = local_grid(self.fixed.grid, points, self.reach, self.spacing)
        end = self.reach - blur(transform, around, self.coarsest)
        radius = _radius(points, ends, end)
        first = 0.0 if self.mode == "exact" else SOFT
        for number, stiffness in enumerate([first, *(value for value in STIFFER if value > first)]):
            self.events.check()
            wanted = softened(points, ends, radius, stiffness)
            met = self._met(transform, points, wanted, around, end)
            if met is not None:
                if number:
                    self.events.warn(
                        "Meeting the points would have folded the result; it comes as near as it can without. "
                        "Where points contradict each other, move or delete some."
                    )
                return met
        self.events.warn("The points cannot be followed without folding the result; move or delete some of them.")
        return transform

    def _met(
        self, transform: Transform, points: np.ndarray, ends: np.ndarray, around: Grid, reach: float
    ) -> Transform | None:
        """``transform`` with the values at ``points`` that it has at ``ends`` now; None where that would fold it."""
        flow = flow_to(points, ends, _radius(points, ends, reach))
        if flow is None:
            return None
        self.events.progress(0.1)
        step = flow_field(flow, around, reach, self.events.check)
        self.events.progress(0.4)
        result, targets = preceded(transform, step, self.coarsest), transform(ends)
        self.events.progress(0.7)
        for _ in range(NUDGES):
            # A lattice holds the flow nearly: what is missing at the points is added.
            field, behind = result.parts[0], in_a_row([Affine.identity(result.ndim), *result.parts[1:]])
            now = field(points)
            missing = preimages(behind, targets, now, self.voxel) - now
            if np.linalg.norm(missing, axis=1).max() < MET * self.voxel:
                break
            result = in_a_row([nudged(field, points, missing, reach), *result.parts[1:]])
        self.events.progress(0.8)
        return None if self._folds(transform, result, around) else result

    def _folds(self, before: Transform, after: Transform, around: Grid) -> bool:
        """Whether ``after`` is folded, or nearly so, where ``before`` is not."""
        now = determinant_of_change(after, around)
        if float(now.min()) > FLOOR:
            return False
        return bool(((now <= FLOOR) & (before.jacobian_determinant(lattice_of_change(after, around)) > FLOOR)).any())

    def _numbers(self, before: Transform, after: Transform, around: Grid) -> dict[str, float]:
        change = after.to_field(around).displacement - before.to_field(around).displacement
        return {
            "folding_percent": metrics.folding_percent(determinant_of_change(after, around)),
            "largest_change_mm": float(np.sqrt(np.square(change).sum(axis=-1).max())),
        }


def _outside(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Which of (N, 3) lie more than a voxel outside of ``grid``."""
    index = apply_matrix(grid.world_to_index, points)[:, : grid.ndim]
    return ((index < -1.0) | (index > np.array(grid.size)[: grid.ndim])).any(axis=1)


def _radius(points: np.ndarray, ends: np.ndarray, reach: float) -> float:
    """Of a flow from ``points`` to ``ends`` that moves nothing farther than ``reach`` from the points."""
    return reach - float(np.linalg.norm(ends - points, axis=1).max())


def _positive(reach: float) -> float:
    if not np.isfinite(reach) or reach <= 0.0:
        raise InputError(f"The reach is {reach} mm; give a number above 0, or none.")
    return float(reach)
