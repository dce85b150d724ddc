"""A discrete start for a deformation: every shift of a window tried at every control point, then made to agree.

The coupled convex optimisation of Heinrich et al., MICCAI 2014, as in ConvexAdam (Siebert et al. 2021): the shifts of
least cost, smoothed, and again those of least cost plus the distance from the smoothed ones, with growing weight. Done
in both directions, and the two made consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from . import spatial
from .matching import moved, reduced

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of the squared distance, in steps of the search, from the smoothed shifts."""
CONSISTENT = 8
Tick = Callable[[], None]


def search(fixed: Tensor, moving: Tensor, radius: int, tick: Tick = lambda: None) -> Tensor:
    """Displacement (1, d, *shape) in voxels that brings unit vectors ``moving`` (1, C, *shape) to ``fixed``.

    Every whole-voxel shift up to ``radius`` voxels per axis is tried; coarsen the descriptors for a longer reach.
    ``tick`` is called several times a second; it may raise to stop the search.
    """
    there = coupled(costs_of_shifts(fixed, moving, radius, tick), radius, tick=tick)
    back = coupled(costs_of_shifts(moving, fixed, radius, tick), radius, tick=tick)
    return consistent(there, back)


def costs_of_shifts(fixed: Tensor, moving: Tensor, radius: int, tick: Tick = lambda: None) -> Tensor:
    """(K, *shape): one less the scalar product with the vector at each of the K = (2 radius + 1)^d shifts, in the order
    of :func:`shifts`. Beyond the border its last vectors are repeated."""
    costs = fixed.new_empty((2 * radius + 1) ** (fixed.ndim - 2), *fixed.shape[2:])
    for place, window in enumerate(windows(moving, radius)):
        tick()
        torch.sum(fixed[0] * window[0], dim=0, out=costs[place])
    return costs.neg_().add_(1.0)


def windows(moving: Tensor, radius: int) -> Iterator[Tensor]:
    """Views (B, C, *shape) of ``moving`` at each shift, in the order of :func:`shifts`; beyond the border its last
    vectors are repeated."""
    dims, shape = moving.ndim - 2, moving.shape[2:]
    wide = torch.nn.functional.pad(moving, (radius,) * (2 * dims), mode="replicate")
    for shift in shifts(dims, radius, moving).T.long().tolist():
        window = [slice(radius + step, radius + step + n) for step, n in zip(shift, shape, strict=True)]
        yield wide[(slice(None), slice(None), *window)]


def shifts(dims: int, radius: int, like: Tensor) -> Tensor:
    """(d, K) all whole shifts up to ``radius`` per axis."""
    line = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(*([line] * dims), indexing="ij")).flatten(1)


def coupled(costs: Tensor, radius: int, strength: float = 1.0, tick: Tick = lambda: None) -> Tensor:
    """The smooth displacement (1, d, *shape) of least cost, from :func:`costs_of_shifts`.

    ``strength`` scales the couplings: above 1 the field is smoother.
    """
    shape, dims = costs.shape[1:], costs.ndim - 1
    every = shifts(dims, radius, costs)
    flat = costs.flatten(1)
    squares = every.square().sum(0)[:, None]

    def smoothed(chosen: Tensor) -> Tensor:
        return spatial.gaussian(every[:, chosen].view(1, dims, *shape), strength**0.5)

    field = smoothed(flat.argmin(dim=0))
    for coupling in COUPLINGS:
        tick()
        flatfield = field.flatten(2)[0]
        # |s - u|^2 without the term that is the same for all shifts.
        distance = squares - 2.0 * (every.T @ flatfield)
        field = smoothed(torch.add(flat, distance, alpha=coupling * strength).argmin(dim=0))
    return field


def consistent(there: Tensor, back: Tensor) -> Tensor:
    """``there`` moved half-way towards the inverse of ``back``, and the other way round, a few times."""
    for _ in range(CONSISTENT):
        middle = 0.5 * (there - spatial.warp(back, there, padding="border"))
        back = 0.5 * (back - spatial.warp(there, back, padding="border"))
        there = middle
    return there


def pyramid_search(
    fixed: Tensor,
    moving: Tensor,
    shapes: Sequence[Sequence[int]],
    radii: Sequence[int],
    tick: Tick = lambda: None,
) -> Tensor:
    """:func:`search` on grids of ``shapes``, coarse to fine, as far as ``radii`` say, each on what the one before has
    left; displacement on the last of them.

    A finer search looks at the moving descriptors warped so far: their vectors are read along, which holds as long as
    the deformation hardly turns.
    """
    displacement = None
    for shape, radius in zip(shapes, radii, strict=True):
        target, source = reduced(fixed, shape), reduced(moving, shape)
        if displacement is None:
            displacement = search(target, source, radius, tick)
            continue
        displacement = spatial.resize_displacement(displacement, shape)
        displacement = spatial.compose(displacement, search(target, moved(source, displacement), radius, tick))
    return displacement
