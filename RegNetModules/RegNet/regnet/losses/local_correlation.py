"""Squared local correlation of a fixed image with many moving ones: value and exact gradient, without autograd.

The measure is that of Avants et al. (2008, Medical Image Analysis 12): the squared correlation coefficient in a box,
averaged over boxes. Its gradient by the moving intensities is written out, which costs six box means a step and no
stored graph. Windows on every second voxel still overlap by more than half, and cost a third of all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..spatial import box, box_transpose


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
        self, fixed: Tensor, radius: int = 2, weight: Tensor | None = None, stride: int = 1, noise: float = 1e-2
    ) -> None:
        self.fixed, self.radius, self.stride = fixed, radius, stride
        self.floor = noise**4
        self.weight = None if weight is None else self._means(weight)
        self.mean = self._means(fixed)
        self.variance = self._means(fixed * fixed).addcmul_(self.mean, self.mean, value=-1.0).clamp_(min=0.0)

    def value(self, moving: Tensor, weight: Tensor | None = None) -> float:
        """Mean squared correlation, in [0, 1]. ``weight`` is a further (1, 1, *shape) factor for this call."""
        _, variance, covariance = self._moments(moving)
        local = covariance.square_().div_(variance.mul_(self.variance).add_(self.floor))
        return self._mean(local, self._weights(weight))

    def value_and_gradient(self, moving: Tensor, weight: Tensor | None = None) -> tuple[float, Tensor]:
        """The value, and the derivative of the *sum* over windows by each voxel of ``moving``, times window size."""
        mean, variance, covariance = self._moments(moving)
        inverse = variance.mul_(self.variance).add_(self.floor).reciprocal_()
        first = inverse.mul_(covariance)
        local = first * covariance
        # local / variance, written so that a flat window gives zero.
        second = first * first * self.variance
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
        variance = means[:, 1:2].addcmul_(mean, mean, value=-1.0).clamp_(min=0.0)
        return mean, variance, means[:, 2:3].addcmul_(self.mean, mean, value=-1.0)

    def _weights(self, weight: Tensor | None) -> Tensor | None:
        if weight is None:
            return self.weight
        weight = self._means(weight)
        return weight if self.weight is None else weight * self.weight

    @staticmethod
    def _mean(local: Tensor, weights: Tensor | None) -> float:
        if weights is None:
            return float(local.mean())
        return float((local * weights).sum() / weights.sum().clamp(min=1e-6))
