"""How BSAFusion aligns: both images step towards each other, from a 16th of the resolution to all of it.

Li et al., AAAI 2025, arXiv 2412.08050. At each of five levels a forward layer (FRL) moves the features of the fixed
image A by up to a voxel of that level along each axis, a reverse layer (RRL) those of the moving image B. With A and B
as far as they then are, ``A(x + phi_A(x))`` and ``B(x + phi_B(x))`` are alike, so ``(id + phi_B) o (id + phi_A)^-1``
takes B to A. The paper adds instead: ``phi = phi_B - phi_A``, each the sum of its levels, which is right to first
order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from .. import spatial
from .blocks import convolution, keep_variance, leaky
from .bsafusion_encoder import Pointwise
from .bsafusion_matching import Compared

GAIN = {2: 0.1, 3: 0.01}
"""Of the flow layers, by dimension. They sum over hundreds or thousands of entries: with steps that suit all other
layers they would run into the flat ends of the hyperbolic tangent, and stay there."""


class RegistrationLayer(nn.Module):
    """FRL or RRL: features (2B, width, *grid), first of B fixed images, then of the moving ones, to how one side moves.

    Displacement (B, d, *grid), at most a voxel of the grid along each axis, 0 from a fresh layer; and the ``context``
    of the next level, (B, below, *twice the grid), None where ``below`` is 0.
    """

    def __init__(self, dims: int, width: int, below: int) -> None:
        super().__init__()
        self.gain = GAIN[dims]
        self.joint = Pointwise(2 * width, width)
        self.attention = convolution(dims, width, 2 * width)
        self.residual = convolution(dims, width, width)
        self.onward = Pointwise(width, below) if below else None
        self.flow = convolution(dims, width, dims)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)

    def forward(
        self, both: Tensor, side: int, context: Tensor | None = None, compared: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """``side``: 0 if it is the fixed images that move, 1 for the moving ones; ``compared``: of that side, what
        :class:`~regnet.networks.bsafusion_matching.Comparison` gives."""
        images = both.chunk(2)
        x = leaky(self.joint(torch.cat([images[side], images[1 - side]], dim=1)))
        if context is not None:
            x = x + context
        if compared is not None:
            x = x + compared[0]
        first, second = self._attended(both).chunk(2)
        x = x + first + second
        x = x + leaky(self.residual(x))
        flow = self.flow(x)
        # What half precision leaves of a voxel of a coarse level is not enough.
        flow = self.gain * (flow if flow.dtype == torch.float64 else flow.float())
        flow = torch.tanh(flow if compared is None else flow + compared[1].to(flow.dtype))
        return flow, None if self.onward is None else leaky(twice(self.onward(x)))

    def _attended(self, both: Tensor) -> Tensor:
        """Each image's features and, added, they gated by where the other's answer them."""
        query, key = self.attention(both).relu().chunk(2, dim=1)
        product = query * torch.cat(key.chunk(2)[::-1])
        gate = torch.softmax(product.movedim(1, -1).flatten(1, -2), dim=1)
        return torch.addcmul(both, both, gate.unflatten(1, both.shape[2:]).movedim(-1, 1))


class Raise(nn.Module):
    """Features for the grid twice as fine: (B, inputs, *grid) to (B, outputs, *twice the grid)."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.narrow = Pointwise(inputs, outputs)
        self.smooth = convolution(dims, outputs, outputs)
        keep_variance(self)

    def forward(self, features: Tensor) -> Tensor:
        x = self.smooth(twice(self.narrow(features)))
        # A group for each channel is instance normalisation, and leaves the channels innermost where they are.
        return leaky(torch.group_norm(x, x.shape[1]))


class StepwiseAlignment(nn.Module):
    """BSFA: tokens (B, widths[0], *grid) of the fixed and of the moving image to the displacements of both at each
    level, coarse to fine, each (B, d, *grid of the level) in voxels of that level."""

    def __init__(self, dims: int, widths: Sequence[int]) -> None:
        super().__init__()
        below = [*widths[1:], 0]
        self.forward_layers = nn.ModuleList(RegistrationLayer(dims, a, b) for a, b in zip(widths, below, strict=True))
        self.reverse_layers = nn.ModuleList(RegistrationLayer(dims, a, b) for a, b in zip(widths, below, strict=True))
        self.decoder = nn.ModuleList(Raise(dims, a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(
        self, fixed: Tensor, moving: Tensor, compared: Compared | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        fields: tuple[list[Tensor], list[Tensor]] = ([], [])
        contexts: list[Tensor | None] = [None, None]
        both = torch.cat([fixed, moving])
        for level, layers in enumerate(zip(self.forward_layers, self.reverse_layers, strict=True)):
            told = compared.at(level) if compared is not None else None
            for side, layer in enumerate(layers):
                field, contexts[side] = layer(both, side, contexts[side], told[side] if told else None)
                fields[side].append(field)
            if level < len(self.decoder):
                if compared is not None:
                    compared.step([side[-1] for side in fields])
                steps = torch.cat([side[-1] for side in fields])
                both = self.decoder[level](spatial.warp(both, steps, padding="border"))
        return fields


def accumulated(
    levels: tuple[Sequence[Tensor], Sequence[Tensor]], shape: Sequence[int], how: str, scale: str
) -> Tensor:
    """The displacement (B, d, *shape) that takes the moving image to the fixed one, from those of both at each level.

    Args:
        how: ``sum``, the paper's, or ``compose``, where each level is applied after the coarser ones, and the fixed
            image's way is undone by inverting it.
        scale: see :func:`raised`.
    """
    fixed, moving = ([raised(field, shape, scale) for field in side] for side in levels)
    if how == "sum":
        return sum(moving) - sum(fixed)
    return spatial.compose(_composed(moving), spatial.invert(_composed(fixed)))


def _composed(fields: Sequence[Tensor]) -> Tensor:
    """Features are warped by the coarsest first, so that is the outermost."""
    total = fields[0]
    for field in fields[1:]:
        total = spatial.compose(total, field)
    return total


def raised(displacement: Tensor, shape: Sequence[int], scale: str = "exact") -> Tensor:
    """A displacement (B, d, *grid) in voxels of its grid on a grid of ``shape`` and in its voxels.

    Args:
        scale: ``exact``, by the ratio of the distances between the corners, ``(n' - 1) / (n - 1)``; or ``powers``, by
            that of the sizes, as published: five levels of a voxel each then are 31 voxels at most.
    """
    with torch.autocast(displacement.device.type, enabled=False):
        if scale == "exact":
            return spatial.resize_displacement(displacement, shape)
        ratios = [new / old for old, new in zip(displacement.shape[2:], shape, strict=True)]
        ratio = torch.tensor(ratios, device=displacement.device, dtype=displacement.dtype)
        return spatial.resize(displacement, shape) * ratio.view(1, -1, *(1,) * len(ratios))


def twice(features: Tensor) -> Tensor:
    """Linear interpolation to twice as many voxels along each axis, over the same corners.

    A convolution of side 1 ahead of it gives the same as one behind it, and sooner.
    """
    mode = "bilinear" if features.ndim == 4 else "trilinear"
    shape = [2 * n for n in features.shape[2:]]
    return functional.interpolate(features, shape, mode=mode, align_corners=True)
