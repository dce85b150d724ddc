"""AVSM without trained weights: its affine map and its momentum optimised on the pair, coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .. import spatial
from ..affine_ascent import ascend, at_rim, rim_to_world
from ..events import Events
from ..losses.local_correlation import LocalCorrelation
from ..networks.maps import identity_map, map_to_displacement
from ..networks.smoothing import MultiGaussian, relative_extents
from ..networks.transport import advect, stable_steps
from ..pair import Pair
from ..refine import central_differences
from .avsm import Parameters

AFFINE_FACTOR, AFFINE_ITERATIONS = 4.0, 40
MOMENTUM_FACTORS = (8.0, 4.0)
RADIUS = 3
ENERGY_WEIGHT = 1e-3
"""Weight of the momentum's energy relative to the force, at stiffness 1."""
STEP_VOXELS = 0.5
GAIN = 2e-3
"""A stage ends when five iterations together gain less than this part of the similarity."""

Force = Callable[[Tensor], tuple[float, Tensor]]


def improve_affine(pair: Pair, events: Events, start: Tensor | None = None) -> np.ndarray:
    """The world matrix that, applied before the present alignment, raises the local correlation most, 4x4.

    ``start`` is a transform ``[A | b]`` (d, d + 1) in coordinates [-1, 1] to begin with, where it is better than none.

    The gradient is that of the composed map ``T o (id + B)``: moments of the force over the grid.
    """
    level = pair.level(AFFINE_FACTOR)
    similarity = LocalCorrelation(level.fixed, RADIUS, level.fixed_weight)
    d = len(level.shape)
    lattice = spatial.identity(level.shape, level.fixed)
    middle = torch.tensor([(n - 1) / 2 for n in level.shape]).view(1, d, *(1,) * d).to(lattice)
    reach = float(middle.max())
    rim = torch.cat([(lattice - middle) / reach, torch.ones_like(lattice[:, :1])], dim=1).flatten(2)[0]

    def warped_by(matrix: Tensor) -> Tensor:
        position = (matrix.to(lattice) @ rim)[:d].view_as(lattice) * reach + middle
        return spatial.sample(level.moving, position, padding="border")

    starts = [torch.eye(d + 1, dtype=torch.float64)]
    if start is not None:
        starts.append(at_rim(start, middle.flatten() / reach))
    first = max(starts, key=lambda candidate: similarity.value(warped_by(candidate)))

    def evaluate(matrix: Tensor) -> tuple[float, Tensor]:
        warped = warped_by(matrix)
        value, force = similarity.value_and_gradient(warped)
        return value, (central_differences(warped) * force).flatten(2)[0] @ rim.t()

    best = ascend(first, evaluate, 0.5 / reach, AFFINE_ITERATIONS, events)
    return rim_to_world(best.numpy(), level.grid, reach, d)


def optimise(pair: Pair, parameters: Parameters, events: Events) -> Tensor:
    """Momentum fields one after the other, each through ``v = K m`` and the map equation; displacement in voxels."""
    steps = parameters.momentum_steps or len(MOMENTUM_FACTORS)
    stages = [MOMENTUM_FACTORS[min(n, len(MOMENTUM_FACTORS) - 1)] for n in range(steps)]
    level = pair.level(stages[0])
    start = identity_map(level.shape, level.fixed)
    for number, factor in enumerate(stages):
        if number and parameters.iterations and events.stops():
            break
        level = pair.level(factor)
        start = spatial.resize(start, level.shape)
        shares = number / len(stages), (number + 1) / len(stages)
        with events.stage(f"momentum {number + 1}", *shares, can_stop=True):
            start = _one_momentum(level, start, parameters, events)
    return map_to_displacement(start)


def _one_momentum(level: Pair, start: Tensor, parameters: Parameters, events: Events) -> Tensor:
    """The map after the best momentum found from zero; ``start`` is a map in the unit cube's coordinates."""
    smoother = MultiGaussian(extents=relative_extents(level.shape, level.spacing), pad=True)
    extents = start.new_tensor(relative_extents(level.shape, level.spacing)).view(1, -1, *(1,) * len(level.shape))
    sizes = start.new_tensor([n - 1 for n in level.shape]).view(1, -1, *(1,) * len(level.shape))
    force_of = _force(level, parameters)
    momentum = torch.zeros_like(start)
    best, best_value, history = start, -1.0, []
    for number in range(parameters.iterations + 1):
        # The smoother works where the longest axis is 1, the map equation in the unit cube.
        velocity = (smoother(momentum) / extents).requires_grad_(True)
        steps = stable_steps(velocity, _enough_steps(velocity, sizes, parameters.time_steps))
        mapped = advect(start, velocity, steps)
        warped = spatial.sample(level.moving, mapped * sizes, padding="border")
        value, force = force_of(warped.detach())
        history.append(value)
        if value > best_value:
            best, best_value = mapped.detach(), value
        if number == parameters.iterations or (number > 5 and value - history[-6] < GAIN * value) or events.stops():
            break
        # As a scalar: a backward pass that is handed a gradient imports torch's symbolic shapes, half a second.
        (warped * force).sum().backward()
        # The gradient in the smoother's own metric: the force by the velocity, less the momentum itself.
        direction = velocity.grad / extents
        direction /= direction.abs().max().clamp(min=1e-12)
        size = float(momentum.abs().max())
        direction -= ENERGY_WEIGHT * parameters.regularization * momentum / max(size, 1e-12) if size else 0.0
        change = smoother(direction) / extents * sizes
        longest = float(change.square().sum(dim=1).max().sqrt())
        momentum = momentum + direction * (STEP_VOXELS / max(longest, 1e-12))
        events.progress((number + 1) / (parameters.iterations + 1), f"similarity {value:.4f}")
        if events.wants_preview():
            events.preview(map_to_displacement(mapped.detach()), level)
    return best


def _enough_steps(velocity: Tensor, sizes: Tensor, most: int) -> int:
    """Time steps that move no point by more than a voxel each, at most ``most``: more would change next to nothing."""
    longest = float((velocity.detach() * sizes).abs().max())
    return min(most, max(2, math.ceil(longest)))


def _force(level: Pair, parameters: Parameters) -> Force:
    if parameters.similarity == "lncc":
        return LocalCorrelation(level.fixed, RADIUS, level.fixed_weight).value_and_gradient
    from ..losses.mklncc import MultiKernelLNCC

    loss = MultiKernelLNCC()

    def value_and_gradient(warped: Tensor) -> tuple[float, Tensor]:
        warped = warped.requires_grad_(True)
        distance = loss(warped, level.fixed)
        (gradient,) = torch.autograd.grad(-distance, warped)
        return 1.0 - float(distance.detach()), gradient

    return value_and_gradient
