"""Terms of training losses that do not depend on the model: overlap of warped labels, end-point error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.maps import warp_by_map
from ..spatial import reduce, resize


def label_channels(first: Tensor, second: Tensor, count: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Up to ``count`` labels that both maps (B, 1, *shape) hold, drawn at random per sample, as 0/1 channels.

    Returns:
        The channels of both maps, (B, count, *shape) float32, and which channels are in use, (B, count) bool.
    """
    most = int(torch.maximum(first.max(), second.max())) + 1
    tables = torch.zeros(len(first), most, dtype=torch.int64)
    used = torch.zeros(len(first), count, dtype=torch.bool)
    for entry, seed in enumerate(seeds):
        held = [torch.bincount(labels[entry].flatten(), minlength=most) > 0 for labels in (first, second)]
        shared = torch.nonzero((held[0] & held[1])[1:]).flatten().cpu() + 1
        order = torch.randperm(len(shared), generator=torch.Generator().manual_seed(int(seed)))
        chosen = shared[order[:count]]
        tables[entry, chosen] = torch.arange(1, len(chosen) + 1)
        used[entry, : len(chosen)] = True
    tables = tables.to(first.device)
    return _one_hot(first, tables, count), _one_hot(second, tables, count), used.to(first.device)


def _one_hot(labels: Tensor, tables: Tensor, count: int) -> Tensor:
    flat = labels.flatten(1)
    channel = torch.gather(tables, 1, flat)[:, None]
    hot = torch.zeros(len(labels), count + 1, flat.shape[1], device=labels.device)
    return hot.scatter_(1, channel, 1.0)[:, 1:].reshape(len(labels), count, *labels.shape[2:])


def soft_dice(first: Tensor, second: Tensor, used: Tensor) -> Tensor:
    """One less the Dice overlap ``2 sum ab / (sum a^2 + sum b^2)``, mean over the used channels; 0 if there are none.

    Squares: an edge that interpolation has blurred the same way on both sides then still counts as a full overlap.
    """
    both = (first * second).flatten(2).sum(2)
    either = (first.square() + second.square()).flatten(2).sum(2)
    score = (2 * both + 1e-3) / (either + 1e-3)
    missing = ((1.0 - score) * used).sum(1) / used.sum(1).clamp(min=1)
    return missing.mean()


def warped_dice(fixed_channels: Tensor, moving_channels: Tensor, used: Tensor, where: Tensor) -> Tensor:
    """:func:`soft_dice` of the fixed channels and the moving ones read at the map ``where``, on the map's grid."""
    shape = where.shape[2:]
    return soft_dice(reduce(fixed_channels, shape), warp_by_map(reduce(moving_channels, shape), where), used)


def end_point_error(where: Tensor, truth: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean distance of two maps of the unit cube, in voxels of a grid of ``sizes``, over ``weight`` (B, 1, *shape)."""
    scale = where.new_tensor([n - 1 for n in sizes]).view(1, -1, *(1,) * len(sizes))
    distance = ((where - truth) * scale).square().sum(1, keepdim=True).add(1e-8).sqrt()
    weight = weight / weight.flatten(1).sum(1).clamp(min=1e-6).view(-1, 1, *(1,) * len(sizes))
    return (distance * weight).flatten(1).sum(1).mean()


def foreground(pair: dict[str, Tensor], shape: Sequence[int]) -> Tensor:
    """Where the fixed image shows something, (B, 1, *shape) in [0, 1]: its labels if known, else its intensities."""
    labels = pair.get("fixed_labels")
    inside = labels > 0 if labels is not None else pair["fixed"] > 0.02
    return resize(inside.float(), shape)


@dataclass(frozen=True)
class OfSameContrast:
    """A similarity over those samples only whose images have one contrast; the others count 0.

    ``chosen`` (B,) bool; a batch of 2 B, both directions of each pair, is taken as two halves.
    """

    similarity: Callable[[Tensor, Tensor], Tensor]
    chosen: Tensor | None
    weight: float = 1.0

    def __call__(self, fixed: Tensor, moving: Tensor) -> Tensor:
        if self.weight == 0:
            return moving.sum() * 0.0
        if self.chosen is None or bool(self.chosen.all()):
            return self.weight * self.similarity(fixed, moving)
        chosen = self.chosen.repeat(len(fixed) // len(self.chosen)).to(fixed.device)
        if not bool(chosen.any()):
            return moving.sum() * 0.0
        share = float(chosen.float().mean())
        return self.weight * share * self.similarity(fixed[chosen], moving[chosen])
