"""Normalised mutual information of paired samples (Studholme et al. 1999, Pattern Recognition 32), differentiable."""

from __future__ import annotations

import torch
from torch import Tensor


def normalized_mutual_information(first: Tensor, second: Tensor, weight: Tensor, bins: int = 32) -> Tensor:
    """``(H(a) + H(b)) / H(a, b) - 1`` per row, in [0, 1]: 0 when independent, 1 when one tells the other.

    The joint histogram has linear Parzen windows. The gradient reaches ``second`` only.

    Args:
        first, second: (B, N) samples in [0, 1].
        weight: (B, N) how much each pair counts, not negative.
    """
    return _Nmi.apply(first, second, weight, bins)


class _Nmi(torch.autograd.Function):
    """The derivative of a histogram's entropies is a look-up in a small table: no (N, bins) tensor is ever made."""

    @staticmethod
    def forward(ctx, first: Tensor, second: Tensor, weight: Tensor, bins: int) -> Tensor:
        batch = second.shape[0]
        row, row_part = _bin(first, bins)
        column, column_part = _bin(second, bins)
        base = torch.arange(batch, device=second.device).view(-1, 1) * bins * bins + row * bins + column
        joint = torch.zeros(batch * bins * bins, dtype=second.dtype, device=second.device)
        low, high = (1 - row_part) * weight, row_part * weight
        for offset, part in ((0, low), (bins, high)):
            joint.index_add_(0, (base + offset).flatten(), (part * (1 - column_part)).flatten())
            joint.index_add_(0, (base + offset + 1).flatten(), (part * column_part).flatten())
        total = weight.sum(dim=1).clamp(min=1e-6)
        joint = joint.view(batch, bins, bins) / total.view(-1, 1, 1)
        marginal_first, marginal_second = joint.sum(dim=2), joint.sum(dim=1)
        both = _entropy(joint.flatten(1)).clamp(min=1e-6)
        single = _entropy(marginal_first) + _entropy(marginal_second)
        ctx.save_for_backward(joint, both, single, base, low, high, total)
        ctx.bins = bins
        return single / both - 1.0

    @staticmethod
    def backward(ctx, upstream: Tensor):
        joint, both, single, base, low, high, total = ctx.saved_tensors
        bins = ctx.bins
        # d(-p log p) = -(log p + 1); the weights of a sample always sum to one, so the constant drops out.
        log_joint = (joint + 1e-8).log()
        log_single = (joint.sum(dim=2, keepdim=True) + 1e-8).log() + (joint.sum(dim=1, keepdim=True) + 1e-8).log()
        both, single = both.view(-1, 1, 1), single.view(-1, 1, 1)
        table = (single / both**2 * log_joint - log_single / both) * (upstream / total).view(-1, 1, 1)
        slope = (table[..., 1:] - table[..., :-1]) * (bins - 1)
        slope = torch.nn.functional.pad(slope, (0, 1)).flatten()
        return None, low * slope[base] + high * slope[base + bins], None, None


def _bin(values: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Lower bin of each value in [0, 1], and the share that falls to the bin above."""
    position = values.clamp(0.0, 1.0) * (bins - 1)
    low = position.floor().clamp_(max=bins - 2)
    return low.long(), position - low


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * (probabilities + 1e-8).log()).sum(dim=1)
