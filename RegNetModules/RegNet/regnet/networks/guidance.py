"""The force that would make two images more alike here and now, as an input for networks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.local_correlation import LocalCorrelation
from ..spatial import gradient

RADIUS = 2


@torch.no_grad()
def matching_force(warped: Tensor, fixed: Tensor) -> Tensor:
    """(B, d, *shape): by which way to pull each voxel of ``warped`` (B, 1, *shape) for more squared local correlation.

    The exact gradient of :class:`~regnet.losses.local_correlation.LocalCorrelation`, blind to the sign of contrast;
    of root mean square 1 in every pair.
    """
    parts = []
    for one, other in zip(warped.split(1), fixed.split(1), strict=True):
        _, by_intensity = LocalCorrelation(other, RADIUS).value_and_gradient(one)
        force = gradient(one) * by_intensity
        parts.append(force / force.square().mean().sqrt().clamp(min=1e-12))
    return torch.cat(parts)
