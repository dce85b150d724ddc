"""Squared local correlation of a fixed image with many moving ones: value and exact gradient, without autograd.

The measure is that of Avants et al. (2008, Medical Image Analysis 12): the squared correlation coefficient in a box
around every voxel, averaged. Its gradient by the moving intensities is written out, which costs six box means a step
and no stored graph; ``losses.lncc`` is the differentiable module with the same values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..spatial import box


class LocalCorrelation:
    """The similarity to one fixed image.

    Args:
        fixed: (1, 1, *shape), intensities in [0, 1].
        radius: the window has ``2 * radius + 1`` voxels per axis.
        weight: (1, 1, *shape), how much each window counts, or None for all alike.
        noise: standard deviation below which a window counts as flat.
    """

    def __init__(self, fixed: Tensor, radius: int = 2, weight: Tensor | None = None, noise: float = 1e-2) -> None:
        self.fixed, self.radius, self.weight = fixed, radius, weight
        self.floor = noise**4
        self.mean = box(fixed, radius)
        self.variance = (box(fixed * fixed, radius) - self.mean * self.mean).clamp_(min=0.0)
        self.total = float(weight.sum()) if weight is not None else float(fixed.numel())

    def value(self, moving: Tensor, weight: Tensor | None = None) -> float:
        """Mean squared correlation, in [0, 1]."""
        mean, variance, covariance = self._moments(moving)
        local = covariance.square().div_(variance.mul_(self.variance).add_(self.floor))
        return self._mean(local, self._weights(weight))

    def value_and_gradient(self, moving: Tensor, weight: Tensor | None = None) -> tuple[float, Tensor]:
        """The value, and the derivative of the *sum* over windows by each voxel of ``moving``.

        ``weight`` is a further (1, 1, *shape) factor for this call, a warped mask for instance.
        """
        mean, variance, covariance = self._moments(moving)
        inverse = (self.variance * variance).add_(self.floor).reciprocal_()
        first = covariance * inverse
        local = first * covariance
        second = (local * self.variance).mul_(inverse)
        weights = self._weights(weight)
        value = self._mean(local, weights)
        if weights is not None:
            first, second = first * weights, second * weights
        both = torch.cat([first, second, second * mean - first * self.mean], dim=1)
        both = box(both, self.radius)
        gradient = both[:, 0:1] * self.fixed
        gradient.addcmul_(both[:, 1:2], moving, value=-1.0).add_(both[:, 2:3]).mul_(2.0)
        return value, gradient

    def _moments(self, moving: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        means = box(torch.cat([moving, moving * moving, self.fixed * moving], dim=1), self.radius)
        mean = means[:, 0:1]
        variance = means[:, 1:2].addcmul_(mean, mean, value=-1.0).clamp_(min=0.0)
        return mean, variance, means[:, 2:3].addcmul_(self.mean, mean, value=-1.0)

    def _weights(self, weight: Tensor | None) -> Tensor | None:
        if self.weight is None or weight is None:
            return self.weight if weight is None else weight
        return self.weight * weight

    def _mean(self, local: Tensor, weights: Tensor | None) -> float:
        if weights is None:
            return float(local.mean())
        return float((local * weights).sum() / weights.sum().clamp(min=1e-6))
