"""Edges as a descriptor: which way the local gradient runs, whatever the contrast. It needs no weights.

The scalar product of two such descriptors is large where the local gradients of Deform-GAN (Zhang et al. 2020, see
:mod:`regnet.losses.local_gradient`) are parallel or opposite, or where there are none on either side: the outer product
``n n^T`` has ``<n n^T, m m^T> = (n . m)^2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..losses.local_gradient import derivatives, window_sum
from ..matching import unit

WINDOWS = (1, 3, 7)
NOISE = 0.5
"""Of the mean length of an image's local gradients: what is shorter counts as flat."""


def edge_descriptor(image: Tensor, windows: Sequence[int] = WINDOWS) -> Tensor:
    """(B, 1, *shape) to unit vectors (B, C, *shape); C is 7 per window in 3D, 4 in 2D. Differentiable by the image."""
    slopes, parts = derivatives(image), []
    axes = range(image.ndim - 2)
    for side in windows:
        gradient = window_sum(slopes, side)
        length = gradient.square().sum(1, keepdim=True).add(1e-16).sqrt()
        inside = (length > 1e-6).to(length.dtype)
        mean = (length * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1.0)
        floor = (NOISE * mean).clamp(min=1e-6).view(-1, *(1,) * (image.ndim - 1))
        n = gradient / (length + floor)
        pairs = [(i, j, 1.0 if i == j else math.sqrt(2.0)) for i in axes for j in axes[i:]]
        parts += [n[:, i : i + 1] * n[:, j : j + 1] * weight for i, j, weight in pairs]
        parts.append(1.0 - n.square().sum(1, keepdim=True))
    return unit(torch.cat(parts, dim=1))
