"""The energy of a vector momentum, the regulariser of vSVF."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def momentum_energy(momentum: Tensor, velocity: Tensor, extents: Sequence[float] | None = None) -> Tensor:
    """``<m, K m>``: ``sum max(m . v, 0)`` times the voxel's volume, mean over the batch (Shen 2019; Niethammer 2019).

    Args:
        momentum: (B, d, *shape).
        velocity: the same momentum smoothed, ``v = K m``.
        extents: lengths of the axes in the unit of ``velocity``, 1 each for the unit cube.
    """
    lengths = extents or (1.0,) * (momentum.ndim - 2)
    volume = math.prod(length / max(n - 1, 1) for length, n in zip(lengths, momentum.shape[2:], strict=True))
    return (momentum * velocity).sum(dim=1).clamp(min=0.0).sum() * (volume / momentum.shape[0])
