"""Known transforms: random affine maps and smooth diffeomorphic warps with a stated largest displacement.

Affine matrices [A | b], (B, d, d + 1), act on coordinates with their origin in the middle of a grid and one unit for
all axes, the length of the grid's longest axis between its corner voxels' centres: voxel x is y = (x - (n - 1) / 2) / L
with L = max(n) - 1. So rotations are rigid in voxels whatever the grid's shape. Everything pulls: content at fixed x
lies at moving x + u(x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import spatial
from ..errors import InputError
from .draws import Draws, Randomness, spline

LEAST_DETERMINANT = 0.05
"""What the Jacobian determinant of a random diffeomorphism stays above, everywhere."""
SCALES = 3
SQUARINGS = 6
SLAB = 200_000
"""Voxels in a slab."""


@dataclass(frozen=True)
class AffineRange:
    """How far random affine maps go: each value is drawn uniformly (scales log-uniformly) between both signs.

    ``degrees`` per rotation axis, ``scale`` as a fraction per axis, ``shear`` per pair of axes, ``shift`` as a fraction
    of the grid's longest axis.
    """

    degrees: float = 15.0
    scale: float = 0.1
    shear: float = 0.05
    shift: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InputError(f"An affine range's {name} must be a number from 0 up, not {value!r}.")


def random_affine(dims: int, ranges: AffineRange, generator: Randomness | Draws, batch: int = 1) -> Tensor:
    """Rotation times scales times shear, with a shift: (batch, dims, dims + 1) on the CPU, det A > 0."""
    draws = generator if isinstance(generator, Draws) else Draws(generator, batch)
    batch = draws.batch
    linear = torch.eye(dims).repeat(batch, 1, 1)
    planes = [(0, 1), (0, 2), (1, 2)] if dims == 3 else [(0, 1)]
    angles = draws.uniform(-ranges.degrees, ranges.degrees, len(planes)).deg2rad()
    for number, (i, j) in enumerate(planes):
        turn = torch.eye(dims).repeat(batch, 1, 1)
        turn[:, i, i] = turn[:, j, j] = angles[:, number].cos()
        turn[:, i, j] = -angles[:, number].sin()
        turn[:, j, i] = angles[:, number].sin()
        linear = linear @ turn
    scales = draws.log_uniform(1 / (1 + ranges.scale), 1 + ranges.scale, dims)
    shear = torch.triu(draws.uniform(-ranges.shear, ranges.shear, dims, dims), diagonal=1) + torch.eye(dims)
    shift = draws.uniform(-ranges.shift, ranges.shift, dims, 1)
    return torch.cat([linear @ torch.diag_embed(scales) @ shear, shift], dim=2)


def voxel_affine(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """The same maps in voxel coordinates of a grid of ``shape``, homogeneous: (B, d + 1, d + 1)."""
    d = len(shape)
    middle = torch.tensor([[(n - 1) / 2] for n in shape], dtype=matrix.dtype, device=matrix.device)
    linear = matrix[:, :, :d]
    result = torch.eye(d + 1, dtype=matrix.dtype, device=matrix.device).repeat(matrix.shape[0], 1, 1)
    result[:, :d, :d] = linear
    result[:, :d, d:] = middle + matrix[:, :, d:] * (max(shape) - 1) - linear @ middle
    return result


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Homogeneous ``matrix`` (B, d + 1, d + 1) applied to voxel coordinates (B or 1, d, *s): (B, d, *s)."""
    batch, d = matrix.shape[0], points.shape[1]
    flat = points.expand(batch, *points.shape[1:]).reshape(batch, d, -1)
    return torch.baddbmm(matrix[:, :d, d:], matrix[:, :d, :d], flat).view(batch, *points.shape[1:])


def affine_displacement(matrix: Tensor, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Displacement in voxels (B, d, *shape) of affine maps (B, d, d + 1), see the head of this file."""
    matrix = matrix.to(device)
    points = spatial.identity(shape, matrix)
    return transform_points(voxel_affine(matrix, shape), points) - points


def random_diffeomorphism(
    shape: Sequence[int],
    largest: float | Tensor,
    smoothness: tuple[float, float],
    generator: Randomness | Draws,
    device: torch.device | str = "cpu",
    batch: int = 1,
) -> Tensor:
    """Displacement of a smooth random diffeomorphism, (B, d, *shape) in voxels.

    Velocities at several scales, mixed at random, are exponentiated on a coarser lattice, whose displacements are the
    coefficients of a cubic B-spline.

    Args:
        largest: the greatest length of a displacement in voxels, one or (B,). It is met exactly, unless the Jacobian
            determinant would fall below :data:`LEAST_DETERMINANT` somewhere: then the sample shrinks until it does not.
        smoothness: distance in voxels between the knots of the finest and of the coarsest velocity.
    """
    draws = generator if isinstance(generator, Draws) else Draws(generator, batch, device)
    if not 1 <= smoothness[0] <= smoothness[1]:
        raise InputError(f"A warp's smoothness must be two distances in voxels from 1 up, not {smoothness}.")
    d = len(shape)
    step = smoothness[0] / 2
    cells = [max(1, round((n - 1) / step)) for n in shape]
    # In steps of the lattice, per voxel.
    scale = draws.put(torch.tensor([m / max(n - 1, 1) for m, n in zip(cells, shape, strict=True)]))
    scale = scale.view(1, d, *(1,) * d)
    goal = draws.put(torch.as_tensor(largest, dtype=torch.float32).expand(draws.batch), d)
    velocity = _velocity(draws, [m + 3 for m in cells], step, smoothness)
    velocity = velocity * (goal / _largest(velocity))
    # A flow's longest path is shorter than its fastest velocity: a second round comes close, a factor does the rest.
    path = spatial.exponential(velocity * scale, SQUARINGS - 2) / scale
    velocity = velocity * (goal / _largest(path)).clamp(max=2.0)
    path = spatial.exponential(velocity * scale, SQUARINGS) / scale
    displacement = spline(path, shape)
    return _unfolded(displacement * (goal / _largest(displacement)))


def _velocity(draws: Draws, lattice: Sequence[int], step: float, smoothness: tuple[float, float]) -> Tensor:
    """(B, d, *lattice), random directions at :data:`SCALES` scales; coarser ones tend to be stronger."""
    d = len(lattice)
    ratio = smoothness[1] / smoothness[0]
    spacings = [smoothness[0] * ratio ** (k / (SCALES - 1)) for k in range(SCALES if ratio > 1 else 1)]
    weights = draws.uniform(0.05, 1.0, len(spacings))
    velocity: Tensor | None = None
    for number, spacing in enumerate(spacings):
        field = draws.smooth_noise(lattice, spacing / step, d) * draws.put(weights[:, number] * spacing, d)
        velocity = field if velocity is None else velocity + field
    return velocity


def _largest(displacement: Tensor) -> Tensor:
    """Length of the longest vector of each sample, (B, 1, ...), never quite 0."""
    longest = displacement.square().sum(dim=1).flatten(1).amax(dim=1).sqrt().clamp(min=1e-6)
    return longest.view(-1, *(1,) * (displacement.ndim - 1))


def _unfolded(displacement: Tensor) -> Tensor:
    """Shrink the samples whose determinant comes too close to 0 until none does."""
    ones = (1,) * (displacement.ndim - 1)
    while True:
        folded = _least_determinant(displacement) < LEAST_DETERMINANT
        if not bool(folded.any()):
            return displacement
        displacement = displacement * torch.where(folded, 0.85, 1.0).view(-1, *ones)


def _least_determinant(displacement: Tensor) -> Tensor:
    """(B,): the least of :func:`regnet.spatial.jacobian_determinant`, in a fraction of its time.

    A CPU works on slabs of the first axis that stay in its cache.
    """
    n, voxels = displacement.shape[2], math.prod(displacement.shape[2:])
    rows = n if displacement.device.type != "cpu" else max(1, n * SLAB // voxels)
    least = []
    for start in range(0, n, rows):
        first, last = max(start - 1, 0), min(start + rows + 1, n)
        determinant = _determinant(displacement[:, :, first:last])
        least.append(determinant[:, start - first : start - first + rows].flatten(1).amin(dim=1))
    return torch.stack(least).amin(dim=0)


def _determinant(displacement: Tensor) -> Tensor:
    """(B, *s)."""
    d = displacement.shape[1]
    columns = [_twice_derivative(displacement, axis) for axis in range(d)]
    for axis, column in enumerate(columns):
        column[:, axis] += 2.0
    if d == 2:
        (a, b), (c, e) = (column.unbind(1) for column in columns)
        determinant = a * e - b * c
    else:
        (a, b, c), (e, f, g), (h, i, j) = (column.unbind(1) for column in columns)
        determinant = a * (f * j).addcmul_(g, i, value=-1)
        determinant.addcmul_(b, (g * h).addcmul_(e, j, value=-1))
        determinant.addcmul_(c, (e * i).addcmul_(f, h, value=-1))
    return determinant / 2**d


def _twice_derivative(displacement: Tensor, axis: int) -> Tensor:
    """Of every component along one spatial axis: central differences, one-sided at the ends."""
    axis, n = axis + 2, displacement.shape[axis + 2]
    result = torch.empty(displacement.shape, dtype=displacement.dtype, device=displacement.device)
    if n == 1:
        return result.zero_()
    if n > 2:
        after, before = displacement.narrow(axis, 2, n - 2), displacement.narrow(axis, 0, n - 2)
        torch.sub(after, before, out=result.narrow(axis, 1, n - 2))
    for end in (0, n - 1):
        first = min(end, n - 2)
        step = displacement.narrow(axis, first + 1, 1) - displacement.narrow(axis, first, 1)
        result.narrow(axis, end, 1).copy_(step.mul_(2.0))
    return result


def random_warp(
    shape: Sequence[int],
    affine: AffineRange | None,
    largest: float | Tensor,
    smoothness: tuple[float, float],
    generator: Randomness | Draws,
    device: torch.device | str = "cpu",
    batch: int = 1,
) -> Tensor:
    """Displacement of a random affine map after a random diffeomorphism, (B, d, *shape) in voxels, det > 0.

    ``largest`` and ``smoothness`` are :func:`random_diffeomorphism`'s; with ``affine`` None it is all there is.
    """
    draws = generator if isinstance(generator, Draws) else Draws(generator, batch, device)
    displacement = random_diffeomorphism(shape, largest, smoothness, draws)
    if affine is None:
        return displacement
    matrix = voxel_affine(random_affine(len(shape), affine, draws).to(draws.device), shape)
    points = spatial.identity(shape, displacement)
    return transform_points(matrix, points + displacement) - points
