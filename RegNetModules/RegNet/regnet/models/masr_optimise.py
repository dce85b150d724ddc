"""MASR-Net's registration of one pair: descriptors once, a discrete search, then a velocity field by Adam.

Instance optimisation of Mok et al. (CVPR 2024) on a stationary velocity field (Arsigny 2006), which cannot fold, with
the discrete start of ConvexAdam (Siebert et al. 2021), without which it does not leave the nearest optimum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import spatial
from ..adam import Adam
from ..described import Described
from ..events import Events
from ..losses.roughness import roughness
from ..matching import Match

SQUARINGS = 6
LEAST_KNOTS, LEAST_VOXELS = 4, 1.5
"""Knots on an axis, and voxels from one to the next."""
BLUR = 0.5
"""Width, in knots' distances, of the Gaussian that changes of the velocity pass through."""


@dataclass(frozen=True)
class Level:
    """One resolution.

    Attributes:
        factor: of the descriptors' spacing.
        knots: distance between the velocity's knots in mm.
        iterations: of Adam.
        rate: the length of Adam's first steps, in knots' distances.
        points: voxels that one iteration looks at; the next looks at others.
        smoothness: weight of the velocity's mean squared strain beside the likeness, which is at most 1.
    """

    factor: float
    knots: float
    iterations: int
    rate: float
    points: int
    smoothness: float


LEVELS = (Level(2.0, 9.0, 40, 0.2, 60_000, 0.1), Level(1.0, 6.0, 40, 0.15, 60_000, 0.15))
"""Relative to the finest grid that is optimised on, see :func:`levels_for`."""
FINEST_VOXELS = 700_000
"""At most about so many: descriptors of a finer grid, averaged, say more than those of a coarse one, but following them
on the finer grid itself gains nothing."""

STRAIN, MOST_STIFFER = 0.1, 2.2
"""Mean squared strain of a start above which smoothness counts as it stands, and how much more it counts at most."""


def levels_for(described: Described, iterations: int, finest: int, stiffness: float) -> tuple[Level, ...]:
    """:data:`LEVELS` for these images, with so many iterations, at the ``finest`` level too, and so stiff."""
    base = 1.0
    while math.prod(described.pair.level_shape(base)) > FINEST_VOXELS:
        base *= 1.1
    return tuple(
        dataclasses.replace(
            level,
            factor=level.factor * base,
            iterations=finest if level is LEVELS[-1] else iterations,
            smoothness=level.smoothness * stiffness,
        )
        for level in LEVELS
    )


def optimise(
    described: Described, start: Tensor, levels: Sequence[Level], events: Events, diffeomorphic: bool = True
) -> Tensor:
    """``start`` improved: displacements (1, d, *any) in voxels of a grid over the pair's corners, coarse to fine.

    Without ``diffeomorphic`` displacements take the place of velocities, and nothing keeps them from folding. Where the
    start strains the tissue little, little strain is expected, and smoothness counts more.
    """
    stiffer = expected_stiffness(start)
    levels = [dataclasses.replace(level, smoothness=level.smoothness * stiffer) for level in levels]
    # The finest first: the coarser ones are then made from it.
    described.reduced(described.pair.level_shape(min(level.factor for level in levels)))
    work = [level.points * level.iterations for level in levels]
    velocity, done = None, 0.0
    for number, (level, cost) in enumerate(zip(levels, work, strict=True)):
        if velocity is not None and level.iterations and events.stops():
            break
        share = cost / max(sum(work), 1e-9)
        with events.stage(f"optimise {number + 1}", done, min(done + share, 1.0), can_stop=True):
            velocity = _Ascent(described, level, diffeomorphic, velocity, start).run(events)
        done += share
    with torch.no_grad():
        return spatial.exponential(velocity, SQUARINGS) if diffeomorphic else velocity


def expected_stiffness(start: Tensor) -> float:
    """By how much more than usual smoothness should count for a deformation that looks like ``start``, in voxels: the
    weight of a prior is the inverse of the variance it expects. 1 where nothing is known, because nothing moves."""
    strain = float(roughness(start))
    return min(max(STRAIN / strain, 1.0), MOST_STIFFER) if strain > 0 else 1.0


class _Ascent:
    """One level: Adam on the velocity's values at its knots."""

    def __init__(
        self, described: Described, level: Level, diffeomorphic: bool, velocity: Tensor | None, start: Tensor
    ) -> None:
        self.level, self.diffeomorphic = level, diffeomorphic
        with torch.inference_mode():
            fixed, moving, index, self.pair = described.level(level.factor)
            self.match = Match(fixed, moving, index, None, self.pair.moving_weight)
        self.knots = tuple(
            max(min(n, LEAST_KNOTS), round((n - 1) / max(level.knots / step, LEAST_VOXELS)) + 1)
            for n, step in zip(self.pair.shape, self.pair.spacing, strict=True)
        )
        with torch.no_grad():
            if velocity is None:
                field = spatial.resize_displacement(start.clone(), self.knots)
                velocity = spatial.logarithm(field, SQUARINGS) if diffeomorphic else field
            self.start = spatial.resize_displacement(velocity.clone(), self.knots)
        index = self.match.index.clone()
        # From voxels of the knots' grid to voxels of the images.
        self.scale = self.start.new_tensor(
            [(n - 1) / max(k - 1, 1) for n, k in zip(self.pair.shape, self.knots, strict=True)]
        )[:, None]
        self.order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0)).to(index.device)
        self.points = torch.stack(torch.unravel_index(index[self.order], self.pair.shape)).to(self.start.dtype)

    def run(self, events: Events) -> Tensor:
        """The velocity at the end, or the one at the start if that was no worse."""
        level = self.level
        free = torch.zeros_like(self.start)
        adam = Adam(free, (0.9, 0.99), 1e-8)
        most = len(self.order)
        count = min(most, level.points)
        with torch.no_grad():
            before = float(self._objective(free, slice(0, count))[0])
        for number in range(level.iterations):
            if events.stops():
                break
            free.requires_grad_(True)
            begin = number * count % max(most - count + 1, 1)
            objective, displacement = self._objective(free, slice(begin, begin + count))
            (gradient,) = torch.autograd.grad(-objective, free)
            rate = level.rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * number / level.iterations)))
            with torch.no_grad():
                free = free.detach() - rate * adam.step(gradient)
            events.progress((number + 1) / level.iterations, f"likeness {float(objective.detach()):.4f}")
            events.preview(displacement, self.pair)
        with torch.no_grad():
            after = float(self._objective(free, slice(0, count))[0])
            return self._velocity(free) if after > before else self.start

    def _objective(self, free: Tensor, mine: slice) -> tuple[Tensor, Tensor]:
        """Likeness at the points ``mine`` less the weighted roughness, and the displacement."""
        velocity = self._velocity(free)
        displacement = self._displacement(velocity)
        moved = self._at_points(displacement, self.points[:, mine])
        score = self.match.score(self.points[:, mine] + moved, self.order[mine])
        return score - self.level.smoothness * roughness(velocity), displacement

    def _at_points(self, displacement: Tensor, points: Tensor) -> Tensor:
        """The displacement at image voxels ``points`` (d, n), in voxels of the image."""
        where = (points / self.scale).view(1, len(points), *(1,) * (len(points) - 1), -1)
        return spatial.sample(displacement, where, padding="border").view(len(points), -1) * self.scale

    def _velocity(self, free: Tensor) -> Tensor:
        return self.start + spatial.gaussian(free, BLUR)

    def _displacement(self, velocity: Tensor) -> Tensor:
        return spatial.exponential(velocity, SQUARINGS) if self.diffeomorphic else velocity
