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
    # Differences of means of squares: half precision would leave nothing of them.
    with torch.autocast(warped.device.type, enabled=False):
        pairs = zip(warped.float().split(1), fixed.float().split(1), strict=True)
        return torch.cat([_force(one, other) for one, other in pairs])


def _force(warped: Tensor, fixed: Tensor) -> Tensor:
    _, by_intensity = LocalCorrelation(fixed, RADIUS).value_and_gradient(warped)
    force = gradient(warped) * by_intensity
    return force / force.square().mean().sqrt().clamp(min=1e-12)
