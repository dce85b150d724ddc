"""Global normalised cross-correlation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError

_CONSTANT = 32.0
"""An image that varies by less than this many rounding errors of its values is constant."""


@dataclass(frozen=True)
class NCC:
    """One less the correlation coefficient of two images, mean over the batch: in [0, 2], and not blind to inversion.

    The first similarity of AVSM's affine stage (Shen 2019). A constant image is uncorrelated with everything.

    >>> import torch
    >>> image = torch.rand(1, 1, 16, 18, 20)
    >>> round(float(NCC()(image, 1 - image)), 3)
    2.0
    """

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, C, *shape); ``mask`` (B or 1, 1, *shape) weighs the voxels."""
        if fixed.shape != moving.shape:
            raise ModelError(f"Images to compare must have one shape, not {tuple(fixed.shape)}, {tuple(moving.shape)}.")
        weight = None
        if mask is not None:
            weight = mask.to(fixed.dtype).expand_as(fixed).flatten(1)
            weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
        (x, var_x), (y, var_y) = (_centred(image.flatten(1), weight) for image in (fixed, moving))
        varies = (var_x > 0) & (var_y > 0)
        # The inner choice keeps the unused branch's derivative finite.
        scale = torch.where(varies, var_x * var_y, 1.0).rsqrt()
        return (1.0 - torch.where(varies, _mean(x * y, weight) * scale, 0.0)).mean()


def _centred(values: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows of ``values`` (B, N) less their means, and their variances, zero for what is constant up to rounding."""
    floor = (_CONSTANT * torch.finfo(values.dtype).eps) ** 2 * _mean(values.detach().square(), weight)
    values = values - _mean(values, weight)[:, None]
    variance = _mean(values.square(), weight)
    return values, torch.where(variance > floor, variance, 0.0)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    return values.mean(1) if weight is None else (weight * values).sum(1)
