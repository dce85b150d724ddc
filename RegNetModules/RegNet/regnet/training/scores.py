"""Figures of a predicted displacement: overlap of labels, distance to the known truth, folding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import spatial
from .losses import foreground

FIGURES = ("dice", "dice_before", "error", "error_before", "folding")


def warped_labels(labels: Tensor, displacement: Tensor) -> Tensor:
    return spatial.warp(labels.float(), displacement, "nearest").to(labels.dtype)


def measure(pair: dict[str, Tensor], displacement: Tensor) -> dict[str, float]:
    """Figures of one pair (batch 1) under a predicted displacement (1, d, *shape) in voxels.

    Dice: mean over the labels that both maps hold, labels warped by their nearest voxel. Error: mean distance to the
    known displacement over the fixed foreground, in voxels. Each also before registration. Folding in percent.
    """
    found = {"folding": 100.0 * float((~(spatial.jacobian_determinant(displacement) > 0)).float().mean())}
    if "displacement" in pair:
        weight = foreground(pair, displacement.shape[2:])
        for name, left in (("error", displacement - pair["displacement"]), ("error_before", pair["displacement"])):
            distance = left.square().sum(1, keepdim=True).sqrt()
            found[name] = float((distance * weight).sum() / weight.sum().clamp(min=1e-6))
    elif "fixed_labels" in pair:
        fine = spatial.resize_displacement(displacement, pair["fixed_labels"].shape[2:])
        moved = warped_labels(pair["moving_labels"], fine)
        found["dice"] = mean_dice(pair["fixed_labels"], moved, pair["moving_labels"])
        found["dice_before"] = mean_dice(pair["fixed_labels"], pair["moving_labels"], pair["moving_labels"])
    return found


def mean_dice(fixed: Tensor, warped: Tensor, moving: Tensor) -> float:
    """Over the labels above 0 in both ``fixed`` and the unwarped ``moving``; not-a-number if there are none."""
    most = int(torch.stack([fixed.max(), warped.max(), moving.max()]).max()) + 1
    a, b, c = (torch.bincount(labels.flatten(), minlength=most) for labels in (fixed, warped, moving))
    both = torch.bincount(fixed[fixed == warped], minlength=most)
    shared = (a > 0) & (c > 0)
    shared[0] = False
    scores = 2.0 * both[shared] / (a + b)[shared]
    return float(scores.mean()) if len(scores) else float(np.nan)
