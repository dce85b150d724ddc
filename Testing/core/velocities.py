"""Smooth velocities, maps that are not linear, and how far maps are apart: what the tests of vSVF share."""

from __future__ import annotations

import math

import torch
from regnet.networks.maps import identity_map, map_to_displacement
from regnet.networks.smoothing import MultiGaussian
from regnet.spatial import jacobian_determinant

PLANE, VOLUME = (64, 70), (40, 48, 56)


def sizes(shape, dtype=torch.float64):
    return torch.tensor([n - 1 for n in shape], dtype=dtype).view(1, -1, *(1,) * len(shape))


def smooth_velocity(shape, voxels, seed=0, dtype=torch.float64, batch=1):
    """Random momentum smoothed by the paper's kernel; the largest component is ``voxels`` of the grid."""
    generator = torch.Generator().manual_seed(seed)
    velocity = MultiGaussian()(torch.randn(batch, len(shape), *shape, generator=generator, dtype=dtype))
    return velocity * (voxels / (velocity * sizes(shape, dtype)).abs().max())


def rippling_map(shape, voxels, dtype=torch.float64):
    """A map that is not linear: waves of ``voxels`` on top of the identity."""
    where = identity_map(shape, torch.zeros((), dtype=dtype))
    waves = torch.sin(2 * math.pi * (1.3 * where.roll(1, dims=1) + 0.2))
    return where + voxels * waves / sizes(shape, dtype)


def inside(tensor, margin):
    for axis in range(2, tensor.ndim):
        tensor = tensor.narrow(axis, margin, tensor.shape[axis] - 2 * margin)
    return tensor


def distance(first, second, margin=0):
    """Largest distance of two maps, in voxels."""
    return float(inside((first - second) * sizes(first.shape[2:], first.dtype), margin).norm(dim=1).max())


def determinant(where):
    return jacobian_determinant(map_to_displacement(where))


def start_function(where, shape, voxels):
    """:func:`rippling_map` evaluated at the points of a map instead of at the grid's."""
    waves = torch.sin(2 * math.pi * (1.3 * where.roll(1, dims=1) + 0.2))
    return where + voxels * waves / sizes(shape)
