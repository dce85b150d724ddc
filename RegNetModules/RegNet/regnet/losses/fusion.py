"""What BSAFusion learns from: images aligned, their modalities told apart and then not, and a fused image that keeps
the edges and the brightness of both.

Li, Su, Cai, Zhang, *BSAFusion*, AAAI 2025, arXiv 2412.08050. Its sources are co-registered pairs of which the moving
image was deformed, so what the warped image should look like is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from .ssim import SSIM

if TYPE_CHECKING:
    from ..networks.bsafusion import Aligned, Fused

SEEN, RIM, UNSEEN = 0.05, 2, 0.02
"""Of :func:`where_seen`: the intensity above which something is, the voxels around it, and what the rest counts."""


@dataclass(frozen=True)
class FusionWeights:
    """What the terms of :func:`fusion_losses` count; one of weight 0 is left out and not computed.

    Attributes:
        modality, exchange, consistency, smoothness, structure, gradient, intensity: the paper's.
        endpoint: of the known displacement, not the paper's.
    """

    modality: float = 1.0
    exchange: float = 1.0
    consistency: float = 1.0
    smoothness: float = 1.0
    structure: float = 1.0
    gradient: float = 1.0
    intensity: float = 0.5
    endpoint: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not (value >= 0 and math.isfinite(value)):
                raise ModelError(f"Weights of BSAFusion's losses are 0 or more, but {entry.name} is {value}.")


class StructureBalance:
    """mu, the weight of the fused image's likeness to the warped image beside that to the fixed one.

    It is the ratio of the second loss to the first over the epoch before, 1 in the first epoch: what the fused image
    has kept less of counts more.
    """

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self._sums = [0.0, 0.0]

    def add(self, fixed: Tensor, moving: Tensor) -> None:
        """The losses of one step."""
        self._sums[0] += float(fixed.detach())
        self._sums[1] += float(moving.detach())

    def refresh(self) -> float:
        """Begin another epoch; its mu, the same as before if nothing was added."""
        if self._sums[0] > 0:
            self.value = self._sums[1] / self._sums[0]
        self._sums = [0.0, 0.0]
        return self.value

    def state(self) -> Tensor:
        """(3,), from which :meth:`restored` goes on."""
        return torch.tensor([self.value, *self._sums])

    @classmethod
    def restored(cls, state: Tensor) -> StructureBalance:
        value, *sums = state.tolist()
        balance = cls(value)
        balance._sums = sums
        return balance


def fusion_losses(
    found: Fused,
    fixed: Tensor,
    undistorted: Tensor | None = None,
    displacement: Tensor | None = None,
    weights: FusionWeights = FusionWeights(),
    balance: StructureBalance | None = None,
) -> dict[str, Tensor]:
    """The terms, weighted; their sum is to be minimised.

    Args:
        found: what the network in training made of ``fixed`` and a moving image.
        fixed: (B, 1, *shape).
        undistorted: (B, 1, *shape), the moving image as it was on the fixed one; None leaves out ``consistency``.
        displacement: (B, d, *shape) in voxels, pull, the one to be found; None leaves out ``endpoint``.
        balance: gives mu and is told the losses it is made from; None for a mu of 1.
    """
    terms: dict[str, Tensor] = {}
    if weights.modality:
        terms["modality"] = weights.modality * modality_loss(*found.encoded.logits)
    if weights.exchange:
        if found.encoded.judged is None:
            raise ModelError("Only a network in training tells what its frozen classifier says; call train() first.")
        terms["exchange"] = weights.exchange * exchange_loss(*found.encoded.judged)
    if weights.consistency and undistorted is not None:
        terms["consistency"] = weights.consistency * consistency_loss(found.warped, undistorted)
    if weights.smoothness:
        levels = found.aligned.fixed_levels, found.aligned.moving_levels
        terms["smoothness"] = weights.smoothness * smoothness_loss(*levels, found.displacement)
    if weights.structure:
        first, second = structure_losses(found.fused, fixed, found.warped)
        terms["structure"] = weights.structure * (first + (balance.value if balance else 1.0) * second)
        if balance is not None:
            balance.add(first, second)
    if weights.gradient:
        terms["gradient"] = weights.gradient * gradient_loss(found.fused, fixed, found.warped)
    if weights.intensity:
        terms["intensity"] = weights.intensity * intensity_loss(found.fused, fixed, found.warped)
    if weights.endpoint and displacement is not None:
        terms["endpoint"] = weights.endpoint * endpoint_losses(found.aligned, displacement, where_seen(fixed))
    return terms


def modality_loss(fixed: Tensor, moving: Tensor) -> Tensor:
    """Cross entropy of logits (B, 2), those of the fixed image with [0, 1], those of the moving one with [1, 0]."""
    batch = fixed.shape[0]
    ones = torch.ones(batch, dtype=torch.long, device=fixed.device)
    return functional.cross_entropy(fixed, ones) + functional.cross_entropy(moving, torch.zeros_like(ones))


def exchange_loss(fixed: Tensor, moving: Tensor) -> Tensor:
    """Cross entropy of logits (B, 2) with [1/2, 1/2], summed over both images: 2 ln 2 where nothing can be told."""
    return -sum(functional.log_softmax(logits, dim=1).mean() for logits in (fixed, moving))


def consistency_loss(warped: Tensor, undistorted: Tensor) -> Tensor:
    """One less SSIM, and the mean absolute difference; (B, 1, *shape) each."""
    return SSIM()(warped, undistorted) + functional.l1_loss(warped, undistorted)


def smoothness_loss(fixed: Sequence[Tensor], moving: Sequence[Tensor], total: Tensor) -> Tensor:
    """Slopes of the displacements of both images at each level, (B, d, *grid) in voxels of it, coarse to fine, and of
    the whole; each level counts ten times the one before, the last as much as the whole."""
    parts = [
        10.0 ** (number + 1 - len(side)) * _slope(field)
        for side in (fixed, moving)
        for number, field in enumerate(side)
    ]
    return _slope(total) + sum(parts)


def structure_losses(fused: Tensor, fixed: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
    """One less SSIM of the fused image and the fixed one, and of it and the warped one."""
    return SSIM()(fused, fixed), SSIM()(fused, warped)


def gradient_loss(fused: Tensor, fixed: Tensor, warped: Tensor) -> Tensor:
    """How far the edges of the fused image are from the stronger ones of the two others, mean absolute."""
    return functional.l1_loss(edges(fused), torch.maximum(edges(fixed), edges(warped)))


def intensity_loss(fused: Tensor, fixed: Tensor, warped: Tensor) -> Tensor:
    """How far the fused image is from the brighter of the two others, mean absolute."""
    return functional.l1_loss(fused, torch.maximum(fixed, warped))


def endpoint_loss(displacement: Tensor, known: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean distance in voxels between where two displacements (B, d, *shape) lead.

    Args:
        weight: (B, 1, *shape), how much each voxel counts; all the same by default.
    """
    distance = (displacement - known).square().sum(1, keepdim=True).add(1e-12).sqrt()
    return distance.mean() if weight is None else (weight * distance).sum() / weight.sum()


def where_seen(image: Tensor) -> Tensor:
    """(B, 1, *shape), 1 where the image shows something or borders on what does, little elsewhere: of displacements in
    air nothing can be known."""
    pool = functional.max_pool2d if image.ndim == 4 else functional.max_pool3d
    return pool((image > SEEN).to(image.dtype), 2 * RIM + 1, 1, RIM).clamp(min=UNSEEN)


def endpoint_losses(found: Aligned, known: Tensor, weight: Tensor | None = None) -> Tensor:
    """:func:`endpoint_loss`, the mean of that in the end and, if sizes are multiples of 16, those after each level."""
    parts = [endpoint_loss(found.displacement, known, weight)]
    if not any(n % 16 for n in known.shape[2:]):
        parts += partial_losses(found.fixed_levels, found.moving_levels, known, weight)
    return torch.stack(parts).mean()


def partial_losses(
    fixed: Sequence[Tensor], moving: Sequence[Tensor], known: Tensor, weight: Tensor | None = None
) -> list[Tensor]:
    """What :func:`endpoint_loss` is, in voxels of ``known`` (B, d, *shape), after each level but the last, coarse to
    fine, of displacements (B, d, *grid) of both images in voxels of the grid. Every level gets its own, as what a fine
    one has to do depends on how far the coarse ones have come."""
    found, total = [], None
    for first, second in zip(fixed[:-1], moving[:-1], strict=True):
        grid = first.shape[2:]
        step = second - first
        total = step if total is None else spatial.resize_displacement(total, grid) + step
        wanted = spatial.resize_displacement(known, grid)
        size = torch.tensor([(n - 1) / max(m - 1, 1) for n, m in zip(known.shape[2:], grid, strict=True)])
        size = size.to(known).view(1, -1, *(1,) * len(grid))
        here = None if weight is None else spatial.reduce(weight, grid)
        found.append(endpoint_loss(size * total, size * wanted, here))
    return found


def edges(image: Tensor) -> Tensor:
    """Sum of the absolute Sobel derivatives of (B, 1, *shape) along all axes, border voxels repeated.

    In volumes each is divided by 4, so that an edge is as strong as in a plane.
    """
    d = image.ndim - 2
    wide = functional.pad(image, (1, 1) * d, mode="replicate")
    parts = []
    for axis in range(2, image.ndim):
        part = wide
        for other in range(2, image.ndim):
            before, here, after = (part.narrow(other, start, image.shape[other]) for start in range(3))
            part = after - before if other == axis else before + 2.0 * here + after
        parts.append(part.abs())
    return sum(parts) * 4.0 ** (2 - d)


def _slope(field: Tensor) -> Tensor:
    """A third of the mean squared difference of neighbours, summed over the axes; what is one voxel wide has none."""
    axes = [axis for axis in range(2, field.ndim) if field.shape[axis] > 1]
    return sum((field.diff(dim=axis).square().mean() for axis in axes), start=field.new_zeros(())) / 3.0
