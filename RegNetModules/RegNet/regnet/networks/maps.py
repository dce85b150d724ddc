"""Maps as AVSM keeps them: where each point of a grid comes from, in coordinates of the unit cube.

A map is (B, d, *shape), channels in array order (z, y, x), the centres of the corner voxels being 0 and 1. Unlike a
displacement in voxels it does not change when its grid is resized. Affine transforms are ``[A | b]``, (B, d, d + 1), in
coordinates [-1, 1] in the same order. Both pull: ``warped(x) = moving(map(x))``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..spatial import identity, sample


def identity_map(shape: Sequence[int], like: Tensor) -> Tensor:
    """The map that does nothing, (1, d, *shape)."""
    return identity(shape, like) / _last_voxels(shape, like)


def warp_by_map(image: Tensor, where: Tensor, mode: str = "bilinear") -> Tensor:
    """``image`` (B, C, *n) read at the map ``where`` (B, d, *m); zero beyond the image."""
    return sample(image, where * _last_voxels(image.shape[2:], where), mode, "zeros")


def compose_maps(outer: Tensor, inner: Tensor) -> Tensor:
    """``outer o inner`` on the grid of ``inner``; beyond the border, ``outer`` displaces as it does at the border."""
    displacement = outer - identity_map(outer.shape[2:], outer)
    return inner + sample(displacement, inner * _last_voxels(outer.shape[2:], inner), padding="border")


def map_to_displacement(where: Tensor) -> Tensor:
    """Displacement in voxels of the map's own grid."""
    return where * _last_voxels(where.shape[2:], where) - identity(where.shape[2:], where)


def displacement_to_map(displacement: Tensor) -> Tensor:
    """Inverse of :func:`map_to_displacement`."""
    shape = displacement.shape[2:]
    return (displacement + identity(shape, displacement)) / _last_voxels(shape, displacement)


def identity_affine(batch: int, dims: int, like: Tensor) -> Tensor:
    """``[I | 0]``, (batch, dims, dims + 1)."""
    return torch.eye(dims, dims + 1, dtype=like.dtype, device=like.device).expand(batch, dims, dims + 1)


def compose_affine(outer: Tensor, inner: Tensor) -> Tensor:
    """``x -> outer(inner(x))``: the product of the homogeneous matrices."""
    linear = outer[..., :-1]
    return torch.cat([linear @ inner[..., :-1], linear @ inner[..., -1:] + outer[..., -1:]], dim=-1)


def invert_affine(affine: Tensor) -> Tensor:
    linear = torch.linalg.inv(affine[..., :-1])
    return torch.cat([linear, -linear @ affine[..., -1:]], dim=-1)


def affine_map(affine: Tensor, shape: Sequence[int]) -> Tensor:
    """The map of ``[A | b]`` (B, d, d + 1) on a grid: (B, d, *shape)."""
    return transform_map(affine, identity_map(shape, affine))


def transform_map(affine: Tensor, where: Tensor) -> Tensor:
    """The affine transform applied to a map's coordinates: ``affine o where``, exactly."""
    linear, shift = affine[..., :-1], affine[..., -1]
    # In the unit cube [A | b] reads A x + (1 + b - A 1) / 2.
    offset = 0.5 * (1.0 + shift - linear.sum(dim=-1))
    moved = torch.einsum("bij,bj...->bi...", linear, where.expand(affine.shape[0], *where.shape[1:]))
    return moved + offset.view(*offset.shape, *(1,) * (where.ndim - 2))


def _last_voxels(shape: Sequence[int], like: Tensor) -> Tensor:
    """Index of the last voxel of each axis, at least 1, shaped to multiply a map."""
    sizes = torch.tensor([max(n - 1, 1) for n in shape], dtype=like.dtype, device=like.device)
    return sizes.view(1, -1, *(1,) * len(shape))
