"""The force that would make two images more alike here and now, as an input for networks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..losses.local_correlation import LocalCorrelation
from ..spatial import gradient

RADIUS = 2
GAIN, LIMIT = 2.0, 4.0
"""A pair to be registered has a force of root mean square 0.5, whatever its contrast, and single voxels of hundreds."""


@torch.no_grad()
def matching_force(warped: Tensor, fixed: Tensor) -> Tensor:
    """(B, d, *shape): by which way to pull each voxel of ``warped`` (B, 1, *shape) for more squared local correlation.

    The exact gradient of :class:`~regnet.losses.local_correlation.LocalCorrelation`, blind to the sign of contrast; of
    size 1 or so in a pair to be registered, near 0 in one that is, and never beyond :data:`LIMIT`.
    """
    # Differences of means of squares: half precision would leave nothing of them.
    with torch.autocast(warped.device.type, enabled=False):
        pairs = zip(warped.float().split(1), fixed.float().split(1), strict=True)
        return torch.cat([_force(one, other) for one, other in pairs])


def _force(warped: Tensor, fixed: Tensor) -> Tensor:
    _, by_intensity = LocalCorrelation(fixed, RADIUS).value_and_gradient(warped)
    return (GAIN * gradient(warped) * by_intensity).clamp(-LIMIT, LIMIT)
