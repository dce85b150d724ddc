"""The force that would make two images more alike here and now, as an input for networks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.local_correlation import LocalCorrelation
from ..spatial import gradient

RADIUS = 2
LIMIT = 6.0
"""Single voxels at the rim of a stripped brain have forces hundreds of times the usual."""


@torch.no_grad()
def matching_force(warped: Tensor, fixed: Tensor) -> Tensor:
    """(B, d, *shape): by which way to pull each voxel of ``warped`` (B, 1, *shape) for more squared local correlation.

    The exact gradient of :class:`~regnet.losses.local_correlation.LocalCorrelation`, blind to the sign of contrast,
    limited to :data:`LIMIT` times the usual size and of root mean square 1 in every pair: noise and blur change its
    size more than misalignment does.
    """
    # Differences of means of squares: half precision would leave nothing of them.
    with torch.autocast(warped.device.type, enabled=False):
        pairs = zip(warped.float().split(1), fixed.float().split(1), strict=True)
        return torch.cat([_force(one, other) for one, other in pairs])


def _force(warped: Tensor, fixed: Tensor) -> Tensor:
    _, by_intensity = LocalCorrelation(fixed, RADIUS).value_and_gradient(warped)
    force = gradient(warped) * by_intensity
    for limit in (LIMIT, None):
        force = force / force.square().mean().sqrt().clamp(min=1e-12)
        force = force if limit is None else force.clamp(-limit, limit)
    return force
