"""Label maps from nothing: random smooth shapes, after SynthMorph (Hoffmann et al. 2022, arXiv 2004.10282)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .draws import Draws, Randomness, spline


def random_shapes(
    shape: Sequence[int],
    generator: Randomness | Draws,
    count: int = 16,
    spacing: tuple[float, float] = (0.1, 0.3),
    rim: float = 0.12,
    device: torch.device | str = "cpu",
    batch: int = 1,
) -> Tensor:
    """Label maps (B, 1, *shape) int64 with ids 0, ..., count: at each voxel the largest of ``count`` smooth fields.

    Args:
        count: labels besides the background.
        spacing: sizes of the shapes as fractions of the grid's longest axis: noise of both is mixed at random.
        rim: the background lies outside a random blob that stays this fraction of each axis away from the border,
            about; 0 fills the grid with shapes.
    """
    if count < 1:
        raise InputError(f"Random shapes need at least one label, not {count}.")
    draws = generator if isinstance(generator, Draws) else Draws(generator, batch, device)
    dims, extent = len(shape), max(shape)
    mix = draws.put(draws.uniform(0.0, 1.0), dims)
    lattice = [max(1, round((n - 1) / (spacing[0] * extent))) + 3 for n in shape]
    fine = draws.white_noise(lattice, count) * mix
    coarse = draws.smooth_noise(lattice, spacing[1] / spacing[0], count) * (0.6 * (1 - mix))
    labels = spline(fine + coarse, shape).argmax(dim=1, keepdim=True) + 1
    if rim <= 0:
        return labels
    # A rounded box: 0 in the middle of the grid, 1 at ``rim`` from its faces, raised and lowered by smooth noise.
    distance = torch.zeros((), device=draws.device)
    for axis, n in enumerate(shape):
        place = torch.linspace(-1, 1, n, device=draws.device) / (1 - 2 * rim)
        distance = distance + place.pow(4).view(-1, *(1,) * (dims - 1 - axis))
    surface = distance + 0.15 * draws.smooth_noise(shape, 0.3 * extent)
    return labels * (surface < 1.0)
