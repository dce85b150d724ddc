"""Squared local correlation of a fixed image with many moving ones: value and exact gradient, without autograd.

The measure is that of Avants et al. (2008, Medical Image Analysis 12): the squared correlation coefficient in a box,
averaged over boxes. Windows that are flat in the fixed image count little, whatever the moving one does: only the
fixed variance gets a constant of weight added. On the moving side, or on the product, it would reward stretching the
moving image's edges into flat regions, away from a perfect match. The gradient by the moving intensities is written
out, which costs six box means a step and no stored graph. Windows on every second voxel still overlap by more than
half, and cost a third of all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..spatial import box, box_transpose

TINY = 1e-8
"""Moving variance below which rounding rules."""


class LocalCorrelation:
    """The similarity to one fixed image.

    Args:
        fixed: (1, 1, *shape), intensities in [0, 1].
        radius: a window has ``2 * radius + 1`` voxels per axis.
        weight: (1, 1, *shape), how much each voxel counts, or None for all alike.
        stride: distance of neighbouring windows in voxels.
        noise: standard deviation below which a window counts as flat.
    """

    def __init__(
        self, fixed: Tensor, radius: int = 2, weight: Tensor | None = None, stride: int = 1, noise: float = 5e-3
    ) -> None:
        self.fixed, self.radius, self.stride = fixed, radius, stride
        self.floor, self.weight = noise**2, weight
        self.cover, self.mean, self.variance, self.content = self._of_fixed(weight)

    def value(self, moving: Tensor, weight: Tensor | None = None) -> float:
        """Mean squared correlation over the windows in which the fixed image has content, in [0, 1].

        ``weight`` is a further (1, 1, *shape) factor for this call, a warped mask for instance.
        """
        windows = self._windows(moving, weight)
        local = windows.covariance.square().div_(windows.variance * windows.fixed_variance)
        return windows.average(local)

    def value_and_gradient(self, moving: Tensor, weight: Tensor | None = None) -> tuple[float, Tensor]:
        """The value, and the derivative of the *sum* over windows by each voxel of ``moving``, times window size."""
        windows = self._windows(moving, weight)
        first = windows.covariance / (windows.variance * windows.fixed_variance)
        local = first * windows.covariance
        second = local / windows.variance
        value = windows.average(local)
        back = torch.cat([first, second, second * windows.mean - first * windows.fixed_mean], dim=1)
        back = box_transpose(back, moving.shape[2:], self.radius, self.stride)
        gradient = back[:, 0:1].mul_(self.fixed)
        gradient = gradient.addcmul_(back[:, 1:2], moving, value=-1.0).add_(back[:, 2:3]).mul_(2.0)
        # A window counts as much as it is covered, so its cover cancels against the one in its means.
        return value, gradient if windows.weight is None else gradient.mul_(windows.weight)

    def _windows(self, moving: Tensor, weight: Tensor | None) -> _Windows:
        cover, fixed_mean, fixed_variance, content = self.cover, self.mean, self.variance, self.content
        if weight is None:
            weight = self.weight
        else:
            weight = weight if self.weight is None else weight * self.weight
            cover, fixed_mean, fixed_variance, content = self._of_fixed(weight)
        means = self._means(torch.cat([moving, moving * moving, self.fixed * moving], dim=1), weight, cover)
        mean = means[:, 0:1]
        variance = means[:, 1:2].addcmul_(mean, mean, value=-1.0).clamp_(min=0.0).add_(TINY)
        covariance = means[:, 2:3].addcmul_(fixed_mean, mean, value=-1.0)
        return _Windows(weight, cover, fixed_mean, fixed_variance, content, mean, variance, covariance)

    def _of_fixed(self, weight: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        cover = None if weight is None else box(weight, self.radius, self.stride)
        means = self._means(torch.cat([self.fixed, self.fixed * self.fixed], dim=1), weight, cover)
        mean = means[:, 0:1]
        variance = means[:, 1:2].addcmul_(mean, mean, value=-1.0).clamp_(min=0.0)
        content = variance / (variance + self.floor)
        return cover, mean, variance.add_(self.floor), content if cover is None else content * cover

    def _means(self, tensor: Tensor, weight: Tensor | None, cover: Tensor | None) -> Tensor:
        if weight is None:
            return box(tensor, self.radius, self.stride)
        return box(tensor * weight, self.radius, self.stride) / cover.clamp(min=1e-3)


class _Windows(NamedTuple):
    """Statistics of every window, of its covered part where there is a weight."""

    weight: Tensor | None
    cover: Tensor | None
    fixed_mean: Tensor
    fixed_variance: Tensor
    content: Tensor
    mean: Tensor
    variance: Tensor
    covariance: Tensor

    def average(self, local: Tensor) -> float:
        total = local.sum() if self.cover is None else (local * self.cover).sum()
        return float(total / self.content.sum().clamp(min=1e-6))
