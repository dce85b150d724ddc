"""More misalignments of a pair that is there already: images cost far more to make than to turn."""

from __future__ import annotations

import torch

from ..spatial import identity, sample
from ..synth.deform import AffineRange, random_affine, transform_points, voxel_affine
from .recipe import Pair


@torch.no_grad()
def turned(pair: Pair, ranges: AffineRange, count: int) -> Pair:
    """Each pair ``count`` times, one after the other, its moving image and labels read through drawn affine maps.

    With ``M`` such a map, what lay at ``y`` lies at ``M^-1 y``; a known displacement follows. The draws depend on the
    pairs' seeds alone.
    """
    moving = pair["moving"]
    shape, d = tuple(moving.shape[2:]), moving.ndim - 2
    generators = [torch.Generator().manual_seed(int(seed) + turn + 1) for seed in pair["seed"] for turn in range(count)]
    matrix = voxel_affine(random_affine(d, ranges, generators, len(generators)), shape).to(moving.device)
    points = identity(shape, moving)
    where = transform_points(matrix, points)
    result = {name: tensor.repeat_interleave(count, dim=0) for name, tensor in pair.items()}
    result["moving"] = sample(result["moving"], where)
    if "moving_labels" in pair:
        labels = sample(result["moving_labels"].float(), where, "nearest")
        result["moving_labels"] = labels.to(pair["moving_labels"].dtype)
    if "displacement" in pair:
        back = torch.linalg.inv_ex(matrix).inverse
        result["displacement"] = transform_points(back, points + result["displacement"]) - points
    return result
