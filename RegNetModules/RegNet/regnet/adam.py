"""Adam (Kingma and Ba 2015) for a handful of numbers.

``torch.optim`` imports the compiler, which takes longer than the alignment that would use it.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Turns gradients into steps of about unit length per entry; the caller multiplies by its rate.

    Gradients of ``epsilon`` and below, rounding noise, make shorter ones.
    """

    def __init__(self, like: Tensor, betas: tuple[float, float] = (0.8, 0.95), epsilon: float = 1e-12) -> None:
        self.betas, self.epsilon = betas, epsilon
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.count = 0

    def step(self, gradient: Tensor) -> Tensor:
        slow, slower = self.betas
        self.count += 1
        self.first.mul_(slow).add_(gradient, alpha=1 - slow)
        self.second.mul_(slower).addcmul_(gradient, gradient, value=1 - slower)
        mean = self.first / (1 - slow**self.count)
        return mean / ((self.second / (1 - slower**self.count)).sqrt() + self.epsilon)
