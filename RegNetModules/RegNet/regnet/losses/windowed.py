"""What the two local correlations share: the statistics of a window, their derivatives, and how autograd meets them.

For images ``x`` and ``y`` and a window, squared correlation is ``(sum x~ y~)^2 / (sum x~^2 sum y~^2 + eps)``, ``~``
meaning "less its mean in the window". It follows from the window sums of x, y, xx, yy and xy. Its gradient by ``y`` is
``x T(a) + 2 y T(b) + T(c)``, where ``a``, ``b``, ``c`` are its derivatives by the sums of xy, yy and y, and ``T``
spreads each window's number over its voxels. Writing this out takes eight window sums instead of the many that autograd
makes, and a fraction of its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5
"""Added to the product of the two sums of squares: a window where an image is constant counts as uncorrelated."""

_CONSTANT = 32.0
"""Sums of squares below this many rounding errors of what they were subtracted from are taken for zero."""


class Coefficients(NamedTuple):
    """``value``: sum over windows of weight times squared correlation; ``total``: sum of the weights, or None for a
    plain count; ``fixed`` and ``moving``: derivatives by the sums of (xy, own square, own value), stacked first, or
    None."""

    value: Tensor
    total: Tensor | None
    fixed: Tensor | None
    moving: Tensor | None


def products(fixed: Tensor, moving: Tensor, mask: Tensor | None) -> Tensor:
    """The five fields to sum (6 with a mask): (x, y, xx, yy, xy[, mask]), each weighted by ``mask``; stacked first."""
    out = fixed.new_empty(5 if mask is None else 6, *fixed.shape)
    if mask is None:
        out[0].copy_(fixed)
        out[1].copy_(moving)
    else:
        torch.mul(fixed, mask, out=out[0])
        torch.mul(moving, mask, out=out[1])
        out[5].copy_(mask)
    torch.mul(out[0], fixed, out=out[2])
    torch.mul(out[1], moving, out=out[3])
    torch.mul(out[0], moving, out=out[4])
    return out


def correlate(sums: Tensor, voxels: int, for_fixed: bool, for_moving: bool) -> Coefficients:
    """Squared correlation of every window, and its derivatives, from the sums of :func:`products`.

    ``sums`` is overwritten. With a mask, each window counts as the share of it that the mask covers.
    """
    sx, sy, sxx, syy, sxy = sums[:5]
    weight = None
    if sums.shape[0] == 6:
        count = sums[5].clamp(min=1e-3)
        weight = sums[5] / voxels
        mean_x, mean_y = sx / count, sy / count
    else:
        mean_x, mean_y = sx / voxels, sy / voxels
    flat = _CONSTANT * torch.finfo(sums.dtype).eps
    floor_x, floor_y = sxx * flat, syy * flat
    cross = sxy.addcmul_(mean_x, sy, value=-1.0)
    var_x = sxx.addcmul_(mean_x, sx, value=-1.0)
    var_y = syy.addcmul_(mean_y, sy, value=-1.0)
    scale = (var_x * var_y).add_(EPSILON).reciprocal_()
    scale.mul_((var_x > floor_x).logical_and_(var_y > floor_y))
    by_cross = cross * scale
    if weight is not None:
        by_cross.mul_(weight)
    correlation = cross.mul_(by_cross)
    value = correlation.sum(dtype=torch.float64)
    total = None if weight is None else weight.sum(dtype=torch.float64)
    if not (for_fixed or for_moving):
        return Coefficients(value, total, None, None)
    by_cross.mul_(2.0)
    decrease = correlation.mul_(scale).neg_()
    fixed = _derivatives(by_cross, decrease * var_y, mean_x, mean_y) if for_fixed else None
    moving = _derivatives(by_cross, decrease.mul_(var_x), mean_y, mean_x) if for_moving else None
    return Coefficients(value, total, fixed, moving)


def _derivatives(by_cross: Tensor, by_square: Tensor, own_mean: Tensor, other_mean: Tensor) -> Tensor:
    out = by_cross.new_empty(3, *by_cross.shape)
    out[0].copy_(by_cross)
    out[1].copy_(by_square)
    torch.mul(by_cross, other_mean, out=out[2])
    out[2].addcmul_(by_square, own_mean, value=2.0).neg_()
    return out


def add_gradient(spread: Tensor, own: Tensor, other: Tensor, mask: Tensor | None, out: Tensor) -> None:
    """Add ``other T(a) + 2 own T(b) + T(c)`` to ``out``; ``spread`` (3, ...) is overwritten."""
    gradient = spread[2].addcmul_(spread[0], other).addcmul_(spread[1], own, value=2.0)
    if mask is not None:
        gradient.mul_(mask)
    out.add_(gradient)


Evaluation = Callable[[Tensor, Tensor, bool, bool], tuple[Tensor, Tensor | None, Tensor | None]]


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fixed: Tensor, moving: Tensor, evaluate: Evaluation, needs: tuple[bool, bool]) -> Tensor:
        loss, *gradients = evaluate(fixed, moving, *needs)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        fixed, moving = (None if known is None else known * upstream for known in ctx.saved_tensors)
        return fixed, moving, None, None


def differentiable(fixed: Tensor, moving: Tensor, evaluate: Evaluation) -> Tensor:
    """The scalar that ``evaluate(fixed, moving, for_fixed, for_moving)`` gives first, with the gradients it gives next.

    The gradients are made with the value, because the window sums are at hand then.
    """
    grad = torch.is_grad_enabled()
    needs = (grad and fixed.requires_grad, grad and moving.requires_grad)
    return _KnownGradient.apply(fixed, moving, evaluate, needs)
