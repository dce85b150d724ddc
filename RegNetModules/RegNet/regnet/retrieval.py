"""How well a descriptor finds a voxel of one image again in another image of the same anatomy."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def best_matches(queries: Tensor, volume: Tensor, allowed: Tensor | None = None) -> Tensor:
    """The voxel of ``volume`` that is most like each query.

    Args:
        queries: (N, C); ``volume``: (1, C, *shape). Likeness is less the squared distance of the vectors: for unit
            vectors the same as their scalar product.
        allowed: (1, 1, *shape) bool, the voxels to choose from; all by default.

    Returns:
        Voxel coordinates, (N, d) int64.
    """
    candidates = volume[0].flatten(1)
    index = torch.arange(candidates.shape[1], device=volume.device)
    if allowed is not None:
        index = torch.nonzero(allowed.flatten()).flatten()
        candidates = candidates[:, index]
    half_squares = 0.5 * candidates.square().sum(0)
    best = torch.cat([(part @ candidates - half_squares).argmax(dim=1) for part in queries.split(64)])
    return torch.stack(torch.unravel_index(index[best], volume.shape[2:]), dim=1)


def at_voxels(volume: Tensor, places: Tensor) -> Tensor:
    """The vectors (N, C) of ``volume`` (1, C, *shape) at voxels (N, d) int64."""
    index = places.new_zeros(len(places))
    for axis, n in enumerate(volume.shape[2:]):
        index = index * n + places[:, axis]
    return volume[0].flatten(1)[:, index].T


def hit_rate(
    fixed: Tensor, moving: Tensor, places: Tensor, allowed: Tensor | None = None, radius: float = 2.0
) -> float:
    """Share of the voxels ``places`` (N, d) of ``fixed`` whose best match in ``moving``, which is in place, is at most
    ``radius`` voxels away."""
    found = best_matches(at_voxels(fixed, places), moving, allowed)
    return float(((found - places).float().norm(dim=1) <= radius).float().mean())


def random_places(inside: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Up to ``count`` different voxels of ``inside`` (1, 1, *shape) bool, (n, d) int64, in random order."""
    places = torch.nonzero(inside[0, 0])
    chosen = torch.randperm(len(places), generator=generator)[:count]
    return places[chosen.to(places.device)]
