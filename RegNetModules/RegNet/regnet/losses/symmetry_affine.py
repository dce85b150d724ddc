"""Whether the affine transforms of the two directions undo each other."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_symmetry(first: Tensor, second: Tensor, *, both_orders: bool = True) -> Tensor:
    """``|A_1 A_2 - I|^2 + |A_1 b_2 + b_1|^2`` for ``[A | b]`` (B, d, d + 1); mean over the batch (Shen 2019).

    The published form depends on which direction is called the first; ``both_orders`` averages it with its swap.
    """
    one = _distance_from_identity(first, second)
    return 0.5 * (one + _distance_from_identity(second, first)) if both_orders else one


def _distance_from_identity(outer: Tensor, inner: Tensor) -> Tensor:
    linear, shift = outer[..., :-1], outer[..., -1:]
    identity = torch.eye(linear.shape[-1], dtype=linear.dtype, device=linear.device)
    closed = (linear @ inner[..., :-1] - identity).square().sum(dim=(1, 2))
    return (closed + (linear @ inner[..., -1:] + shift).square().sum(dim=(1, 2))).mean()
