"""Global normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError


@dataclass(frozen=True)
class NCC:
    """One less the correlation coefficient of two images, mean over the batch: in [0, 2], and not blind to inversion.

    The first similarity of AVSM's affine stage (Shen 2019). A constant image is uncorrelated with everything.
    """

    epsilon: float = 1e-8

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, C, *shape); ``mask`` (B or 1, 1, *shape) weighs the voxels."""
        if fixed.shape != moving.shape:
            raise ModelError(f"Images to compare must have one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}.")
        x, y = fixed.flatten(1), moving.flatten(1)
        if mask is None:
            x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
            cross, var_x, var_y = (x * y).mean(1), (x * x).mean(1), (y * y).mean(1)
        else:
            weight = mask.to(x.dtype).expand_as(fixed).flatten(1)
            weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
            x = x - (weight * x).sum(1, keepdim=True)
            y = y - (weight * y).sum(1, keepdim=True)
            cross, var_x, var_y = (weight * x * y).sum(1), (weight * x * x).sum(1), (weight * y * y).sum(1)
        return (1.0 - cross * torch.rsqrt(var_x * var_y + self.epsilon**2)).mean()
