"""Comparing where both images lie: what BSAFusion's registration layers are told besides their tokens. Not the paper's.

The published layers have to learn from tokens of 16 voxels a side alone that displacements are shifts, which takes
thousands of epochs. Here a pyramid of each image's own features, from a half of the resolution to a 16th, is read as
far as the alignment is and compared at every shift of a small window; a level is told how alike all shifts are, and
starts from the likeliest. Comparing by shifts is after Sun et al., *PWC-Net*, CVPR 2018.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from .. import spatial
from ..discrete import shifts, windows
from ..matching import reduced, unit
from .blocks import convolution, keep_variance, leaky
from .bsafusion_encoder import Pointwise
from .edges import WINDOWS, edge_descriptor
from .masr import DSIR, MASRConfig

LEVELS = 4
"""With a pyramid; full resolution has none."""
RADIUS = 2
SIGMA = 1.0
"""Width in voxels of the Gaussian that the likeliest shifts pass through."""
CAUTION = {"learned": (0.0,), "dsir": (-3.0, -3.0)}
"""What the comparisons of the coarsest levels are told to think of the likeliest shift before they have learned
anything: 0 believes it. Of descriptors that were made for full resolution and averaged over 16 or 8 voxels along each
axis it is mostly wrong, and believing it first is what nothing is learned from."""


class Pyramid(nn.Module):
    """An image (B, 1, *padded), sizes multiples of 16, to unit vectors (B, width, *grid) at a 16th, an 8th, a quarter
    and a half of the resolution. What is coarse is handed down, so that every level knows what is around it.

    Beside the intensities it is given which way edges run (:func:`~regnet.networks.edges.edge_descriptor`), which
    modalities have in common to begin with.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        edges = len(WINDOWS) * (dims * (dims + 1) // 2 + 1)
        inputs = [1 + edges] + [width] * (LEVELS - 1)
        self.down = nn.ModuleList(convolution(dims, n, width, stride=2) for n in inputs)
        self.same = nn.ModuleList(convolution(dims, width, width) for _ in inputs)
        self.join = nn.ModuleList(convolution(dims, 2 * width, width) for _ in inputs[1:])
        self.last = nn.ModuleList(Pointwise(width, width) for _ in inputs)
        keep_variance(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        seen, x = [], torch.cat([image, edge_descriptor(image)], dim=1)
        for down, same in zip(self.down, self.same, strict=True):
            x = leaky(down(x))
            x = leaky(_normal(same(x)))
            seen.append(x)
        x, found = seen.pop(), []
        for level in range(LEVELS):
            if level:
                finer = seen.pop()
                above = functional.interpolate(x, finer.shape[2:], mode="nearest")
                x = leaky(self.join[level - 1](torch.cat([above, finer], dim=1)))
            found.append(unit(self.last[level](x)))
        return found


class Structure(nn.Module):
    """The same from the descriptor of MASR-Net (:class:`~regnet.networks.masr.DSIR`), (B, 16, *grid) each. It belongs
    to the weights and is not trained here."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.descriptor = DSIR(MASRConfig(dims=dims)).requires_grad_(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        seen = self.descriptor(image)
        return [reduced(seen, [n // 2**power for n in image.shape[2:]]) for power in range(LEVELS, 0, -1)]


class Comparison(nn.Module):
    """What one level is told: both images' vectors (B, C, *grid), read as far as each has moved, to features of a
    registration layer (B, outputs, *grid) and the shift to start from (B, d, *grid), in voxels of the grid.

    The likeliest shift, each voxel's as far as a few convolutions of the likenesses around it trust it, and what these
    make of their neighbourhood where it says nothing. ``trust`` is that trust's logarithmic odds to begin with.
    """

    def __init__(self, dims: int, width: int, outputs: int, trust: float = 0.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.first = Pointwise((2 * RADIUS + 1) ** dims + dims, width)
        self.second = convolution(dims, width, width)
        self.third = convolution(dims, width, width)
        self.last = convolution(dims, width, dims + 1)
        self.told = Pointwise(width, outputs)
        keep_variance(self)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias[0] = trust

    def forward(self, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """For the side whose vectors are ``own``."""
        dims = own.ndim - 2
        alike = likenesses(other, own, RADIUS)
        shares = torch.softmax(alike.flatten(2) * self.sharpness.exp(), dim=1)
        likeliest = (shifts(dims, RADIUS, shares) @ shares).view(-1, dims, *own.shape[2:])
        x = leaky(self.first(torch.cat([alike, likeliest], dim=1)))
        x = leaky(self.third(leaky(self.second(x))))
        trust, more = self.last(x).split([1, dims], dim=1)
        # Both sides move, so each goes half the way.
        start = 0.5 * spatial.gaussian(2.0 * torch.sigmoid(trust) * likeliest + more, SIGMA)
        return self.told(x), start


class Matching(nn.Module):
    """What both images are compared by, and a comparison for each of the coarsest four levels.

    Args:
        kind: ``learned``, a pyramid for each of the images, or ``dsir``, one :class:`Structure` for both.
        width: channels of the pyramids and comparisons.
        layers: channels of the registration layers.
    """

    def __init__(self, dims: int, kind: str, width: int, layers: tuple[int, ...]) -> None:
        super().__init__()
        learned = kind == "learned"
        self.structure = None if learned else Structure(dims)
        self.pyramids = nn.ModuleList(Pyramid(dims, width) for _ in range(2 if learned else 0))
        caution = [*CAUTION[kind], *(0.0,) * LEVELS]
        self.levels = nn.ModuleList(
            Comparison(dims, width, n, trust) for n, trust in zip(layers[:LEVELS], caution, strict=False)
        )

    def forward(self, *images: Tensor) -> Compared:
        """Of a fixed and a moving image (B, 1, *padded)."""
        if self.structure is not None:
            return Compared(self.levels, *(self.structure(image) for image in images))
        return Compared(self.levels, *(pyramid(image) for pyramid, image in zip(self.pyramids, images, strict=True)))


class Compared:
    """Both images' vectors, which follow the alignment from level to level."""

    def __init__(self, levels: nn.ModuleList, fixed: list[Tensor], moving: list[Tensor]) -> None:
        self._levels, self._vectors = levels, (fixed, moving)
        self._moved: list[Tensor | None] = [None, None]

    def at(self, level: int) -> list[tuple[Tensor, Tensor]] | None:
        """For each side what :class:`Comparison` gives; None at the level that has none."""
        if level >= len(self._levels):
            return None
        read = []
        for side, moved in zip(self._vectors, self._moved, strict=True):
            vectors = side[level]
            if moved is not None:
                vectors = unit(
                    spatial.warp(vectors, spatial.resize_displacement(moved, vectors.shape[2:]), padding="border")
                )
            read.append(vectors)
        return [self._levels[level](*read), self._levels[level](*read[::-1])]

    def alone(self) -> tuple[list[Tensor], list[Tensor]]:
        """How both images move at each level, (B, d, *grid), if every level ends where it starts."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for level in range(len(self._levels)):
            fields = [torch.tanh(start) for _, start in self.at(level)]
            self.step(fields)
            for side, field in zip(found, fields, strict=True):
                side.append(field)
        return found

    def step(self, fields: list[Tensor]) -> None:
        """Both sides have moved by ``fields`` (B, d, *grid), each where it was; nothing is learned through this."""
        for side, field in enumerate(fields):
            before, field = self._moved[side], field.detach()
            if before is not None:
                field = spatial.compose(spatial.resize_displacement(before, field.shape[2:]), field)
            self._moved[side] = field


def likenesses(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """(B, K, *shape): scalar products of ``fixed`` (B, C, *shape) with ``moving`` at each shift, in the order of
    :func:`regnet.discrete.shifts`; beyond the border its last vectors are repeated. Differentiable by both."""
    # Channel by channel in memory, whatever the convolutions prefer: four times as fast in volumes.
    fixed, moving = fixed.contiguous(), moving.contiguous()
    return torch.stack([(fixed * window).sum(1) for window in windows(moving, radius)], dim=1)


def _normal(features: Tensor) -> Tensor:
    return torch.group_norm(features, features.shape[1])
