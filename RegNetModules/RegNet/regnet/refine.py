"""Instance optimisation: any dense model's displacement improved on this very pair, coarse to fine.

The map grows by composing small smooth steps, ``phi <- phi o (id + delta)``, each a fraction of a voxel, so it stays
a diffeomorphism up to the discretisation (Christensen 1996; the greedy scheme of Yushkevich 2016). The force is the
exact gradient of the squared local correlation; the gradient of the *warped* image is the right one for this order
of composition, so the map's own Jacobian is never needed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .events import Events
from .losses.local_correlation import LocalCorrelation
from .pair import Pair

CHECK_EVERY = 5
FLOOR = 0.02
"""Determinants below this are counted as folds."""
LEAST_GAIN = 1e-3
"""A level that gains less similarity than this has nothing to add, and adds nothing."""


@dataclass(frozen=True)
class Schedule:
    """``factors`` of the finest spacing, coarse to fine, and the most ``iterations`` at each.

    ``step`` is the longest move of an iteration in voxels of its level; ``update_sigma`` smooths the step (a fluid
    regulariser) and ``field_sigma`` the map (an elastic one), both in voxels. With a ``tolerance`` above 0 a level ends
    early when the similarity gains less than this part of itself over :data:`CHECK_EVERY` iterations.
    """

    factors: tuple[float, ...] = (4.0, 2.0, 1.4, 1.0)
    iterations: tuple[int, ...] = (20, 12, 8, 5)
    radius: int = 2
    stride: int = 2
    step: float = 0.5
    update_sigma: float = 1.4
    field_sigma: float = 0.4
    momentum: float = 0.5
    tolerance: float = 0.0
    shortest: float = 0.2
    finest_field: float = 1.0


AFTER_NETWORK = Schedule(iterations=(8, 10, 8, 5))
"""For predictions of trained networks, which leave little to do at the coarse levels, on a grid with voxels twice as
wide as the finest; see :func:`after_network`."""
MOST_STRETCHED = 2.0


def is_auto(refine: str | int) -> bool:
    return str(refine).strip().lower() == "auto"


def schedule_for(refine: str | int, schedule: Schedule | None = None) -> Schedule | None:
    """The schedule that ``--refine`` asks for: ``auto``, ``off`` (None), or the iterations of the finest level.

    Raises:
        InputError: anything else.
    """
    schedule = schedule or Schedule()
    text = str(refine).strip().lower()
    if is_auto(refine):
        return schedule
    if text in ("off", "0"):
        return None
    if not text.isdigit() or int(text) > 10_000:
        raise InputError(f"refine is {refine!r}; give auto, off, or a number of iterations up to 10000.")
    iterations = (*schedule.iterations[:-1], int(text))
    return dataclasses.replace(schedule, iterations=iterations, tolerance=0.0)


def after_network(pair: Pair, predicted: Sequence[int]) -> Schedule:
    """:data:`AFTER_NETWORK` for a prediction on a grid of ``predicted`` sizes: the coarser its voxels are beside the
    pair's, the more the iterations, whose steps are a fraction of a voxel, have to bridge."""
    ratio = (math.prod(pair.shape) / math.prod(predicted)) ** (1 / len(pair.shape))
    stretch = min(max(ratio / 2.0, 1.0), MOST_STRETCHED)
    iterations = tuple(math.ceil(stretch * count) for count in AFTER_NETWORK.iterations)
    return dataclasses.replace(AFTER_NETWORK, iterations=iterations)


@torch.inference_mode()
def refine(
    pair: Pair,
    displacement: Tensor,
    schedule: Schedule,
    events: Events,
    strength: float = 1.0,
) -> Tensor:
    """Improve ``displacement``, (1, d, *any) in voxels of a grid over the pair's corners; result on the finest level.

    ``strength`` multiplies both variances of smoothing: more than 1 gives a stiffer map. After a stop it is the result
    on the level that was reached.
    """
    work = _shares(pair, schedule)
    done = 0.0
    for factor, iterations, share in zip(schedule.factors, schedule.iterations, work, strict=True):
        if iterations and events.stops():
            break
        level = pair.level(factor)
        field_shape = pair.level(max(factor, schedule.finest_field)).shape
        displacement = spatial.resize_displacement(displacement, field_shape)
        with events.stage(f"refine {factor:g}x", done, done + share, can_stop=True):
            displacement = _optimise(level, displacement, iterations, schedule, strength, events)
        done += share
    return displacement


def _shares(pair: Pair, schedule: Schedule) -> list[float]:
    """How much of the time each level takes: voxels times iterations."""
    voxels = [pair.level(factor).fixed.numel() for factor in schedule.factors]
    costs = [n * (iterations + 1) for n, iterations in zip(voxels, schedule.iterations, strict=True)]
    return [cost / sum(costs) for cost in costs]


def _optimise(
    level: Pair, displacement: Tensor, iterations: int, schedule: Schedule, strength: float, events: Events
) -> Tensor:
    similarity = LocalCorrelation(level.fixed, schedule.radius, level.fixed_weight, schedule.stride)
    lattice = spatial.identity(level.shape, level.fixed)
    own_lattice = spatial.identity(displacement.shape[2:], displacement)
    scale = strength**0.5
    history: list[float] = []
    average: Tensor | None = None
    length, changed = schedule.step, 0
    start = best = displacement
    for number in range(iterations):
        if events.stops():
            break
        position = lattice + spatial.resize_displacement(displacement, level.shape)
        warped = spatial.sample(level.moving, position, padding="border")
        weight = None if level.moving_weight is None else spatial.sample(level.moving_weight, position)
        value, force = similarity.value_and_gradient(warped, weight)
        history.append(value)
        if value >= max(history):
            best = displacement
        force = spatial.reduce(central_differences(warped).mul_(force), displacement.shape[2:])
        average = force if average is None else average.mul_(schedule.momentum).add_(force)
        step = spatial.gaussian(average, schedule.update_sigma * scale)
        longest = float(step.square().sum(dim=1).max().sqrt())
        if number - changed >= CHECK_EVERY and value - history[-1 - CHECK_EVERY] < schedule.tolerance * value:
            # A step of constant length ends up jumping over the optimum: shorten it, then give up.
            length, changed = length / 2, number
        if longest < 1e-12 or length < schedule.step * schedule.shortest:
            break
        step *= length / longest
        displacement = spatial.sample(displacement, own_lattice + step, padding="border").add_(step)
        displacement = spatial.gaussian(displacement, schedule.field_sigma * scale)
        events.progress((number + 1) / iterations, f"similarity {value:.4f}")
        events.preview(displacement, level)
    if not history or max(history) - history[0] < LEAST_GAIN:
        return start
    # The last step was not judged; it is kept if the one before it was the best yet.
    return displacement if history[-1] >= max(history) else best


def central_differences(image: Tensor) -> Tensor:
    """(1, 1, *shape) to (1, d, *shape), zero at the border, where a step would leave the grid."""
    d = image.ndim - 2
    result = torch.zeros((1, d, *image.shape[2:]), dtype=image.dtype, device=image.device)
    for axis in range(d):
        n = image.shape[axis + 2]
        inner = result[:, axis].narrow(axis + 1, 1, n - 2)
        line = image[:, 0]
        torch.sub(line.narrow(axis + 1, 2, n - 2), line.narrow(axis + 1, 0, n - 2), out=inner).mul_(0.5)
    return result


def unfold(displacement: Tensor, floor: float = FLOOR, rounds: int = 20, within: Tensor | None = None) -> Tensor:
    """Remove what folds are left: blend a smoothed field in around every voxel whose determinant is below ``floor``.

    A safety net: the maps that get here have a handful of such voxels at most. ``within``, (1, 1, *shape), says where
    anything may change; by default everywhere.
    """
    for _ in range(rounds):
        bad = (spatial.jacobian_determinant(displacement) <= floor)[:, None].to(displacement.dtype)
        if not bool(bad.any()):
            break
        near = (spatial.box(bad, 2) > 0).to(displacement.dtype)
        blend = spatial.gaussian(near, 1.0) if within is None else spatial.gaussian(near, 1.0) * within
        displacement = displacement + blend * (spatial.gaussian(displacement, 1.0) - displacement)
    return displacement
