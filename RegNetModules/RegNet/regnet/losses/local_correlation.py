"""Squared local correlation of a fixed image with many moving ones: value and exact gradient, without autograd.

The measure is that of Avants et al. (2008, Medical Image Analysis 12): the squared correlation coefficient in a box,
averaged over boxes. Windows that are flat in the fixed image count little, whatever the moving one does: only the fixed
variance gets a constant of weight added. On the moving side, or on the product, it would reward stretching the moving
image's edges into flat regions, away from a perfect match. The gradient by the moving intensities is written out, which costs six box means a
step and no stored graph. Windows on every second voxel still overlap by more than half, and cost a third of all.
"""

from __future__ import annotations

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
        self.floor, self.tiny = noise**2, TINY
        self.mean = self._means(fixed)
        variance = self._means(fixed * fixed).addcmul_(self.mean, self.mean, value=-1.0).clamp_(min=0.0)
        self.variance = variance + self.floor
        self.weight = None if weight is None else self._means(weight)
        self.content = variance / self.variance

    def value(self, moving: Tensor, weight: Tensor | None = None) -> float:
        """Mean squared correlation over the windows in which the fixed image has content, in [0, 1].

        ``weight`` is a further (1, 1, *shape) factor for this call, a warped mask for instance.
        """
        _, variance, covariance = self._moments(moving)
        return self._mean(covariance.square_().div_(variance.mul_(self.variance)), self._weights(weight))

    def value_and_gradient(self, moving: Tensor, weight: Tensor | None = None) -> tuple[float, Tensor]:
        """The value, and the derivative of the *sum* over windows by each voxel of ``moving``, times window size."""
        mean, variance, covariance = self._moments(moving)
        first = covariance / (variance * self.variance)
        local = first * covariance
        second = local / variance
        weights = self._weights(weight)
        value = self._mean(local, weights)
        if weights is not None:
            first, second = first * weights, second * weights
        back = torch.cat([first, second, second * mean - first * self.mean], dim=1)
        back = box_transpose(back, moving.shape[2:], self.radius, self.stride)
        gradient = back[:, 0:1].mul_(self.fixed)
        return value, gradient.addcmul_(back[:, 1:2], moving, value=-1.0).add_(back[:, 2:3]).mul_(2.0)

    def _means(self, tensor: Tensor) -> Tensor:
        return box(tensor, self.radius, self.stride)

    def _moments(self, moving: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        means = self._means(torch.cat([moving, moving * moving, self.fixed * moving], dim=1))
        mean = means[:, 0:1]
        variance = means[:, 1:2].addcmul_(mean, mean, value=-1.0).clamp_(min=0.0).add_(self.tiny)
        return mean, variance, means[:, 2:3].addcmul_(self.mean, mean, value=-1.0)

    def _weights(self, weight: Tensor | None) -> Tensor | None:
        if weight is None:
            return self.weight
        weight = self._means(weight)
        return weight if self.weight is None else weight * self.weight

    def _mean(self, local: Tensor, weights: Tensor | None) -> float:
        if weights is None:
            return float(local.sum() / self.content.sum().clamp(min=1e-6))
        return float((local * weights).sum() / (self.content * weights).sum().clamp(min=1e-6))
