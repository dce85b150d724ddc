"""Other looks for real images (B, 1, *shape) in [0, 1]: intensity curves, then what scanners do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .artefacts import ArtefactSettings, scan
from .draws import Draws

SEGMENTS = 8
FOREGROUND = 0.02
"""Intensity above which a voxel of a scaled image is content rather than background."""


@dataclass(frozen=True)
class Curves:
    """Piecewise linear intensity curves, (B, SEGMENTS + 1) values on the CPU at equal steps; ``used`` (B,) bool.

    0 stays 0, so that air stays dark.
    """

    values: Tensor
    used: Tensor

    @staticmethod
    def draw(draws: Draws, share: float, inverted_share: float) -> Curves:
        """Random curves for a ``share`` of the samples: inversions for ``inverted_share`` of these, else anything."""
        used, inverted = draws.chance(share), draws.chance(inverted_share)
        straight = torch.linspace(0, 1, SEGMENTS + 1)
        drawn = draws.uniform(0.0, 1.0, SEGMENTS + 1)
        values = torch.where(inverted[:, None], (1 - straight) * (0.7 + 0.3 * drawn), drawn)
        values[:, 0] = 0.0
        return Curves(torch.where(used[:, None], values, straight), used)

    def where(self, same: Tensor, other: Curves) -> Curves:
        """The samples of ``other`` where ``same`` (B,) bool, else one's own."""
        return Curves(torch.where(same[:, None], other.values, self.values), torch.where(same, other.used, self.used))

    def __call__(self, image: Tensor) -> Tensor:
        if not bool(self.used.any()):
            return image
        values = self.values.to(image.device)
        place = image.flatten(1).clamp(0.0, 1.0) * SEGMENTS
        low = place.long().clamp_(max=SEGMENTS - 1)
        result = torch.lerp(values.gather(1, low), values.gather(1, low + 1), place - low)
        return result.view(image.shape)


def augment(image: Tensor, curves: Curves, keep: Tensor | None, settings: ArtefactSettings, draws: Draws) -> Tensor:
    """A real image through ``curves`` and :func:`~regnet.synth.artefacts.scan`; ``keep`` is what stripping leaves."""
    inside = image > FOREGROUND if keep is None else keep
    return scan(curves(image), inside, keep, settings, draws)
