"""How far an affine transform is from doing nothing, and how much that matters as training goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def affine_regularity(affine: Tensor) -> Tensor:
    """``|A - I|^2 + |b|^2`` for ``[A | b]`` (B, d, d + 1) in coordinates [-1, 1]; mean over the batch (Shen 2019).

    The symmetric stage sums it over both directions.
    """
    d = affine.shape[1]
    identity = torch.eye(d, d + 1, dtype=affine.dtype, device=affine.device)
    return (affine - identity).square().sum(dim=(1, 2)).mean()


@dataclass(frozen=True)
class RegularityWeight:
    """The weight of :func:`affine_regularity`: high at first, then a falling sigmoid (Shen 2019).

    ``weight(n) = max(floor, start * decay / (decay + exp(n / decay)))`` with ``n`` the epochs after ``static`` ones, in
    which it is ``start``.
    """

    start: float = 10.0
    decay: float = 4.0
    static: int = 5
    floor: float = 0.0

    def __call__(self, epoch: float) -> float:
        if epoch < self.static:
            return max(self.floor, self.start)
        # The exponential overflows long after the weight has vanished.
        exponent = min((epoch - self.static) / self.decay, 300.0)
        return max(self.floor, self.start * self.decay / (self.decay + math.exp(exponent)))


REGULARITY_WEIGHTS = {
    "plain": RegularityWeight(10.0, 4.0, 5),
    "symmetric": RegularityWeight(1.0, 3.0, 30, 0.1),
    "multi-step": RegularityWeight(0.1, 4.0, 1, 1e-3),
}
"""By training stage: the published values of the plain and the symmetric net, a hundredth of the start after that."""
