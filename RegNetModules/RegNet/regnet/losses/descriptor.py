"""Structural descriptors as a similarity: what MASR-Net's, or MIND-SSC, says of two images of any modality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..descriptors import Descriptor


@dataclass(frozen=True)
class DescriptorLoss:
    """One less the mean scalar product of the two images' descriptors, in [0, 2] (Mok et al., CVPR 2024).

    Differentiable by the moving image if the descriptor is. A network that is trained with it deforms images; what
    deforms one pair for long had better move its descriptors instead: :mod:`regnet.matching`.

    Args:
        descriptor: images (B, 1, *shape) in [0, 1] to unit vectors (B, C, *shape); see :mod:`regnet.descriptors`.
    """

    descriptor: Descriptor

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, 1, *shape); voxels where ``mask`` (B or 1, 1, *shape) is 0 do not count."""
        with torch.no_grad():
            target = self.descriptor(fixed)
        unlike = 1.0 - (target * self.descriptor(moving)).sum(1, keepdim=True)
        if mask is None:
            return unlike.mean()
        weight = mask.expand_as(unlike).to(unlike.dtype)
        return (unlike * weight).sum() / weight.sum().clamp(min=1e-6)
