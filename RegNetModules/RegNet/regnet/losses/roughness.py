"""Diffusion regularisation of a field."""

from __future__ import annotations

import torch
from torch import Tensor


def roughness(field: Tensor) -> Tensor:
    """Mean squared difference of neighbouring voxels of (B, d, *shape), summed over axes and components: for a
    displacement in voxels the mean squared strain."""
    axes = [axis for axis in range(2, field.ndim) if field.shape[axis] > 1]
    return torch.stack([field.diff(dim=axis).square().sum(1).mean() for axis in axes]).sum()
