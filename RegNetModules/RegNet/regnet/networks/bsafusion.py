"""BSAFusion: two images of different modalities registered and fused by one network.

Li, Su, Cai, Zhang, *BSAFusion: A Bidirectional Stepwise Feature Alignment Network for Unaligned Medical Image Fusion*,
AAAI 2025, arXiv 2412.08050. A shared encoder, tokens freed of their modality
(:mod:`~regnet.networks.bsafusion_encoder`), alignment from both sides over five levels
(:mod:`~regnet.networks.bsafusion_align`), and fusion of the aligned features
(:mod:`~regnet.networks.bsafusion_fuse`); :mod:`regnet.losses.fusion` is what it is trained with. The paper's network
is for planes; in volumes patches have 16 voxels along each of three axes and displacements three components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import ModelError
from ..spatial import warp
from .blocks import check_dims, same_pair, to_multiple
from .bsafusion_align import StepwiseAlignment, accumulated
from .bsafusion_encoder import PATCH, Encoded, Representation
from .bsafusion_fuse import FusionDecoder
from .bsafusion_matching import Matching
from .settings import NetworkSettings

LEVELS = 5
POSITIONS = {2: 256, 3: 32}
CHOICES = {
    "restormer": ("canonical", "authors"),
    "accumulate": ("sum", "compose"),
    "level_scale": ("exact", "powers"),
    "matching": ("none", "learned", "dsir"),
    "fusion_base": ("none", "detail"),
}


@dataclass(frozen=True)
class BSAFusionConfig(NetworkSettings):
    """What decides the network's shape and how it adds up; plain values, so that it can be stored beside the weights.

    Attributes:
        dims: 2 as published, or 3.
        image_shape: the grid it was trained on, None if not told; the network takes others.
        tokens: width of a token.
        widths: channels of each image's features at a 16th, an 8th, a quarter, a half and all of the resolution; the
            first is ``tokens``.
        fusion: channels of the fused features at all of these but the last.
        shallow, narrow: channels of the features at full resolution, for the fusion and for the patches.
        heads, mlp, depth, dropout: of the transformers.
        positions: entries along each axis of the learned plane of positions; 0 for 256 in planes, 32 in volumes.
        restormer, expansion: see :class:`~regnet.networks.bsafusion_encoder.Restormer`.
        matching, matching_width: what is compared at shifts, see :class:`~regnet.networks.bsafusion_matching.Matching`;
            ``none`` as published.
        fusion_base: what the fused image starts from, see :class:`~regnet.networks.bsafusion_fuse.FusionDecoder`.
        accumulate: see :func:`~regnet.networks.bsafusion_align.accumulated`.
        level_scale: see :func:`~regnet.networks.bsafusion_align.raised`.
    """

    network = "BSAFusion"

    dims: int = 2
    image_shape: tuple[int, ...] | None = None
    tokens: int = 256
    widths: tuple[int, ...] = (256, 64, 32, 16, 8)
    fusion: tuple[int, ...] = (64, 32, 16, 12)
    shallow: int = 8
    narrow: int = 3
    heads: int = 4
    mlp: int = 256
    depth: int = 2
    dropout: float = 0.1
    positions: int = 0
    restormer: Literal["canonical", "authors"] = "canonical"
    expansion: int = 4
    matching: Literal["none", "learned", "dsir"] = "none"
    matching_width: int = 24
    fusion_base: Literal["none", "detail"] = "none"
    accumulate: Literal["sum", "compose"] = "sum"
    level_scale: Literal["exact", "powers"] = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dims(self.dims)
        if self.image_shape is not None and len(self.image_shape) != self.dims:
            raise ModelError(f"BSAFusion in {self.dims}D has an image shape of {list(self.image_shape)}.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ModelError(f"BSAFusion has no {name} {getattr(self, name)!r}; choose from {', '.join(choices)}.")
        if len(self.widths) != LEVELS or len(self.fusion) != LEVELS - 1:
            raise ModelError(
                f"BSAFusion has {LEVELS} widths and {LEVELS - 1} of the fusion, not {len(self.widths)} and"
                f" {len(self.fusion)}."
            )
        sizes = (self.shallow, self.narrow, self.heads, self.mlp, self.depth, self.expansion, self.tokens)
        sizes += (self.matching_width,)
        if min(*self.widths, *self.fusion, *sizes) < 1 or self.positions < 0:
            raise ModelError("BSAFusion's widths, heads, depth and expansion must be 1 or more each.")
        if self.expansion % 2:
            raise ModelError(f"BSAFusion's expansion is halved by a gate, so it must be even, not {self.expansion}.")
        if self.widths[0] != self.tokens:
            raise ModelError(f"BSAFusion's first width is that of its tokens, {self.tokens}, not {self.widths[0]}.")
        if self.tokens % self.heads:
            raise ModelError(f"BSAFusion's tokens, {self.tokens} wide, cannot be shared by {self.heads} heads.")
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"The share that dropout leaves out lies in [0, 1), not at {self.dropout}.")


@dataclass(frozen=True)
class Aligned:
    """``displacement`` (B, d, *shape) in voxels, pull, takes the moving image to the fixed one.

    ``fixed_levels``, ``moving_levels``: how each image moves at each level, coarse to fine, (B, d, *grid of the level)
    in voxels of the level; the grids are those of the images made multiples of 16.
    """

    displacement: Tensor
    fixed_levels: tuple[Tensor, ...]
    moving_levels: tuple[Tensor, ...]


@dataclass(frozen=True)
class Fused:
    """All that a pass finds: ``warped``, the moving image on the fixed one, and ``fused`` are (B, 1, *shape); without a
    fusion ``fused`` is None."""

    encoded: Encoded
    aligned: Aligned
    warped: Tensor
    fused: Tensor | None

    @property
    def displacement(self) -> Tensor:
        return self.aligned.displacement


class BSAFusion(nn.Module):
    """The whole network. A fresh one moves nothing.

    The default has 7.92 M parameters, of which 0.86 M are the frozen copy, with the ``authors``' Restormer 9.21 M.
    Published are 10.03 M and 1.12 M: the copy there holds what makes the tokens, too (0.26 M), and a scale and a shift
    for every voxel of a plane of 256 x 256 in its norms would be the rest (0.57 M).

    >>> import torch
    >>> model = BSAFusion(BSAFusionConfig(tokens=32, widths=(32, 16, 8, 8, 8)))
    >>> fixed, moving = torch.rand(2, 1, 1, 40, 50)
    >>> bool((model.register(fixed, moving) == 0).all())
    True
    >>> model(fixed, moving).fused.shape
    torch.Size([1, 1, 40, 50])
    """

    def __init__(self, config: BSAFusionConfig | None = None) -> None:
        super().__init__()
        self.settings = config = config or BSAFusionConfig()
        self.dims = config.dims
        self.representation = Representation(
            config.dims,
            shallow=config.shallow,
            narrow=config.narrow,
            tokens=config.tokens,
            heads=config.heads,
            mlp=config.mlp,
            depth=config.depth,
            dropout=config.dropout,
            positions=config.positions or POSITIONS[config.dims],
            variant=config.restormer,
            expansion=config.expansion,
        )
        self.alignment = StepwiseAlignment(config.dims, config.widths)
        self.matching = None
        if config.matching != "none":
            self.matching = Matching(config.dims, config.matching, config.matching_width, config.widths)
        self.decoder = FusionDecoder(
            config.dims,
            config.widths[:-1],
            config.fusion,
            config.shallow,
            config.restormer,
            config.expansion,
            config.fusion_base,
        )

    def config(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` builds the same model."""
        return self.settings.plain()

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> BSAFusion:
        return cls(BSAFusionConfig.from_dict(values))

    def refresh(self) -> None:
        """Renew the frozen copy of the classifier; due at the end of each epoch of training."""
        self.representation.refresh()

    def encode(self, fixed: Tensor, moving: Tensor, transfer: bool = True) -> Encoded:
        """What the network sees in images (B, 1, *shape) in [0, 1]; without ``transfer`` enough to fuse them only."""
        same_pair(moving, fixed, self.dims)
        shape = tuple(fixed.shape[2:])
        return self.representation(to_multiple(fixed, PATCH), to_multiple(moving, PATCH), shape, transfer)

    def align(self, encoded: Encoded, accumulate: str | None = None) -> Aligned:
        """How the moving image has to be deformed; ``accumulate`` other than the configuration's if wanted."""
        how = accumulate or self.settings.accumulate
        if how not in CHOICES["accumulate"]:
            raise ModelError(f"BSAFusion cannot {how!r} displacements; choose from {', '.join(CHOICES['accumulate'])}.")
        if encoded.transferred is None:
            raise ModelError("Aligning needs the transferred tokens; encode the images with them.")
        compared = self.matching(*encoded.images) if self.matching is not None else None
        return self._aligned(self.alignment(*encoded.transferred, compared), encoded.shape, encoded.padded, how)

    def compare(self, fixed: Tensor, moving: Tensor) -> Aligned:
        """How far images (B, 1, *shape) in [0, 1] are aligned by their comparison at shifts alone, to be trained first.

        Raises:
            ModelError: nothing is compared by this configuration.
        """
        if self.matching is None:
            raise ModelError("This BSAFusion compares nothing at shifts; choose a matching other than 'none'.")
        same_pair(moving, fixed, self.dims)
        images = [to_multiple(image, PATCH) for image in (fixed, moving)]
        shape, padded = (tuple(image.shape[2:]) for image in (fixed, images[0]))
        return self._aligned(self.matching(*images).alone(), shape, padded, self.settings.accumulate)

    def _aligned(
        self, levels: tuple[list[Tensor], list[Tensor]], shape: tuple[int, ...], padded: tuple[int, ...], how: str
    ) -> Aligned:
        whole = accumulated(levels, padded, how, self.settings.level_scale)
        return Aligned(_cut(whole, shape), *(tuple(side) for side in levels))

    def fuse(self, encoded: Encoded, displacement: Tensor | None = None) -> Tensor:
        """The fused image (B, 1, *shape) in (0, 1).

        Args:
            displacement: (B, d, *shape) in voxels, pull, fixed to moving, by whatever registration; None for images
                that already are aligned.
        """
        if displacement is not None:
            expected = (encoded.heads[0].shape[0], self.dims, *encoded.shape)
            if tuple(displacement.shape) != expected:
                raise ModelError(f"Fusing needs a displacement {expected}, not {tuple(displacement.shape)}.")
            displacement = to_multiple(displacement, PATCH)
        fused = self.decoder(encoded.tokens, encoded.shallow, encoded.images, displacement, self.settings.level_scale)
        return _cut(fused, encoded.shape)

    def register(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, d, *shape) in voxels, pull, of images (B, 1, *shape) in [0, 1]."""
        return self.align(self.encode(fixed, moving)).displacement

    def forward(self, fixed: Tensor, moving: Tensor, fuse: bool = True) -> Fused:
        """Register, warp and, unless told not to, fuse images (B, 1, *shape) in [0, 1]."""
        encoded = self.encode(fixed, moving)
        aligned = self.align(encoded)
        fused = self.fuse(encoded, aligned.displacement) if fuse else None
        return Fused(encoded, aligned, warp(moving, aligned.displacement), fused)


def _cut(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor[(slice(None), slice(None), *(slice(n) for n in shape))]
