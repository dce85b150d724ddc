"""Non-linear intensity transform of real scans: a smooth curve, and inversion.

The curve is the one of Zhou et al., *Models Genesis*, MICCAI 2019, as Mok et al., CVPR 2024, use it: a cubic Bezier
curve from (0, 0) to (1, 1) through two random control points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import Draws

ENTRIES = 1024


def bezier_table(points: Tensor, entries: int = ENTRIES) -> Tensor:
    """The curve y(x) as values at equal steps of x in [0, 1], (B, entries).

    Args:
        points: the two inner control points, (B, 2, 2) as (x, y) in [0, 1]. The x are sorted, so that the curve is a
            function of x; it never falls, and is straight with both points on the diagonal.
    """
    x = points[..., 0].sort(dim=1).values
    t = torch.linspace(0.0, 1.0, 4 * entries, dtype=points.dtype, device=points.device)
    early, late, end = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    along = x[:, :1] * early + x[:, 1:] * late + end
    value = points[:, :1, 1] * early + points[:, 1:, 1] * late + end
    wanted = torch.linspace(0.0, 1.0, entries, dtype=points.dtype, device=points.device).expand(len(points), -1)
    upper = torch.searchsorted(along.contiguous(), wanted.contiguous()).clamp(1, along.shape[1] - 1)
    low, high = along.gather(1, upper - 1), along.gather(1, upper)
    share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return torch.lerp(value.gather(1, upper - 1), value.gather(1, upper), share).clamp(0, 1)


@dataclass(frozen=True)
class IntensityTransform:
    """Tables (B, entries) of the intensities in [0, 1]; call it with images (B, 1, *shape) in [0, 1]."""

    table: Tensor

    @staticmethod
    def draw(draws: Draws, inverted: float = 0.5) -> IntensityTransform:
        """Random curves; a share ``inverted`` of them reads 1 - I."""
        table = bezier_table(draws.uniform(0.0, 1.0, 2, 2))
        return IntensityTransform(torch.where(draws.chance(inverted)[:, None], table.flip(1), table))

    def __call__(self, image: Tensor) -> Tensor:
        table = self.table.to(image.device)
        place = image.flatten(1).clamp(0.0, 1.0) * (table.shape[1] - 1)
        low = place.long().clamp_(max=table.shape[1] - 2)
        return torch.lerp(table.gather(1, low), table.gather(1, low + 1), place - low).view(image.shape)
