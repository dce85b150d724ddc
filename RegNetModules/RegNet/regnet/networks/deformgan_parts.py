"""The three networks of Deform-GAN: what registers, what translates, and what judges the translation.

The paper (Zhang, Jian, Chen, Yang, arXiv 2002.11430) says that the first two are like a U-Net and gives no sizes. The
registration network is VoxelMorph's (Balakrishnan et al., TMI 2019); translator and judge are pix2pix's (Isola et al.,
CVPR 2017) without transposed convolutions, whose checkerboards would be edges to the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..errors import ModelError
from ..matching import reduced, unit
from ..spatial import along_axis, exponential, interpolation_matrix, resize_displacement
from .blocks import check_dims, convolution, keep_variance, leaky, same_pair, to_multiple
from .edges import edge_descriptor
from .masr import DSIR, MASRConfig
from .matcher import Matcher
from .mind import mind_ssc

FLOW_STD = 1e-5
"""Of the flow layer's first weights: a fresh network moves nothing."""


class UNet(nn.Module):
    """Features (B, last, *grid) of two images as channels (B, 2, *shape); see :class:`RegistrationNet`."""

    def __init__(
        self, dims: int, encoder: Sequence[int], decoder: Sequence[int], last: Sequence[int], full: bool
    ) -> None:
        super().__init__()
        self.full = full
        skips = [2 if full else 0, *encoder[:-1]]
        self.down = nn.ModuleList(
            convolution(dims, a, b, stride=2) for a, b in zip([2, *encoder], encoder, strict=False)
        )
        self.up, self.last = nn.ModuleList(), nn.ModuleList()
        channels = encoder[-1]
        for outputs, skip in zip(decoder, reversed(skips), strict=True):
            self.up.append(convolution(dims, channels, outputs))
            channels = outputs + skip
        for outputs in last:
            self.last.append(convolution(dims, channels, outputs))
            channels = outputs

    def forward(self, pair: Tensor) -> Tensor:
        kept, x = [], pair
        for layer in self.down:
            kept.append(x)
            x = leaky(layer(x))
        if not self.full:
            kept[0] = None
        for layer in self.up:
            x = leaky(layer(x))
            skip = kept.pop()
            if skip is not None:
                x = _joined(x, skip)
        for layer in self.last:
            x = leaky(layer(x))
        return x


class RegistrationNet(nn.Module):
    """T: displacement (B, d, *shape) in voxels, pull, from a fixed and a moving image (B, 1, *shape) in [0, 1].

    Each level of the encoder halves the grid, upwards, so any size is taken. Each of the decoder convolves, doubles
    by repetition and joins the features of that size; ``last`` follows, then the flow layer, whose weights are so small
    at first that a fresh network moves nothing.

    Args:
        dims: 2 or 3.
        encoder, decoder, last: channels of the layers.
        resolution: ``full``, or ``half``: the last doubling is left out, and the displacement at every second voxel is
            interpolated linearly. At 160x192x160 voxels 570 and 125 GFLOP.
        diffeomorphic: the flow is a stationary velocity, integrated at half resolution by scaling and squaring.
        squarings: of that.
    """

    def __init__(
        self,
        dims: int = 3,
        encoder: Sequence[int] = (16, 32, 32, 32),
        decoder: Sequence[int] = (32, 32, 32, 32),
        last: Sequence[int] = (32, 16, 16),
        resolution: str = "full",
        diffeomorphic: bool = False,
        squarings: int = 7,
    ) -> None:
        super().__init__()
        self.dims, self.resolution = check_dims(dims), resolution
        self.diffeomorphic, self.squarings = diffeomorphic, squarings
        self.unet = UNet(dims, encoder, decoder, last, resolution == "full")
        self.flow = convolution(dims, last[-1], dims)
        keep_variance(self)
        nn.init.normal_(self.flow.weight, std=FLOW_STD)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        same_pair(moving, fixed, self.dims)
        shape = tuple(fixed.shape[2:])
        flow = self.flow(self.unet(torch.cat([fixed, moving], dim=1)))
        if self.resolution == "half":
            if self.diffeomorphic:
                flow = exponential(flow, self.squarings)
            return _doubled(flow, shape)
        if self.diffeomorphic:
            half = resize_displacement(flow, [(n + 1) // 2 for n in shape])
            flow = resize_displacement(exponential(half, self.squarings), shape)
        return flow


class MatchingNet(nn.Module):
    """T by comparing: structure that looks alike in both contrasts, at every shift of a small window, coarse to fine
    (:class:`~regnet.networks.matcher.Matcher`), on every second voxel.

    Displacement (B, d, *shape) in voxels, pull, without folds, from images (B, 1, *shape) in [0, 1]. What the U-Net has
    to learn from many thousands of pairs, that contrasts differ and that displacements are shifts, is built in.

    Args:
        width: channels of the matcher.
        descriptor: what is compared: the paper's local gradients (``edges``), MIND-SSC (``mind``), or the learned
            descriptor of MASR-Net (``dsir``), which then belongs to the weights and is not trained here.
    """

    def __init__(self, dims: int = 3, width: int = 24, descriptor: str = "edges") -> None:
        super().__init__()
        self.dims = check_dims(dims)
        self.matcher = Matcher(dims, width)
        self.descriptor = DSIR(MASRConfig(dims=dims)) if descriptor == "dsir" else None
        if self.descriptor is not None:
            self.descriptor.requires_grad_(False)
        self._plain = {"edges": edge_descriptor, "mind": lambda image: unit(mind_ssc(image))}.get(descriptor)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        same_pair(moving, fixed, self.dims)
        shape = tuple(fixed.shape[2:])
        half = [(n + 1) // 2 for n in shape]
        with torch.no_grad():
            seen = (self._plain or self.descriptor)(torch.cat([fixed, moving]))
        target, source = reduced(seen, half).chunk(2)
        found = [self.matcher(a, b) for a, b in zip(target.split(1), source.split(1), strict=True)]
        return resize_displacement(torch.cat(found), shape)


class Translator(nn.Module):
    """G: an image (B, 1, *shape) in [0, 1] in another contrast, (B, 1, *shape) in (0, 1).

    ``depth`` convolutions of side 4 halve the grid; their channels double from ``width`` up to eight times it. On the
    way back each level doubles by repetition, joins and convolves. Instance normalisation, so batches of 1 are fine.
    Sizes are made multiples by repeating the border.

    Args:
        stem: channels of a convolution of side 3 ahead of everything, 0 for none. Without, the finest level knows
            nothing but intensities, and learns slowly which of them are what tissue.

    Raises:
        ModelError: the image is so small that one voxel is left at the bottom, which cannot be normalised.
    """

    def __init__(self, dims: int = 3, width: int = 32, depth: int = 5, stem: int = 0) -> None:
        super().__init__()
        self.dims, self.multiple = check_dims(dims), 2**depth
        self.stem = convolution(dims, 1, stem) if stem else None
        first = stem or 1
        channels = [width * min(2**level, 8) for level in range(depth)]
        self.down = nn.ModuleList(_wide(dims, a, b, 2) for a, b in zip([first, *channels], channels, strict=False))
        self.up = nn.ModuleList()
        below = channels[-1]
        for skip, outputs in zip([*channels[-2::-1], first], [*channels[-2::-1], max(width // 2, 1)], strict=True):
            self.up.append(convolution(dims, below + skip, outputs))
            below = outputs
        self.last = convolution(dims, below, 1)
        keep_variance(self)

    def forward(self, image: Tensor) -> Tensor:
        shape = tuple(image.shape[2:])
        if image.ndim != self.dims + 2 or image.shape[1] != 1:
            raise ModelError(f"The {self.dims}D generator takes images (batch, 1, ...), not {tuple(image.shape)}.")
        if max(shape) <= self.multiple:
            raise ModelError(
                f"The generator needs more than {self.multiple} voxels along at least one axis, not {list(shape)}; "
                "take larger images or a smaller depth."
            )
        x, kept = to_multiple(image, self.multiple), []
        if self.stem is not None:
            x = leaky(self.stem(x))
        for level, layer in enumerate(self.down):
            kept.append(x)
            x = layer(x)
            x = leaky(functional.instance_norm(x) if level else x)
        for layer in self.up:
            skip = kept.pop()
            x = functional.instance_norm(layer(_joined(x, skip))).relu_()
        return torch.sigmoid(self.last(x))[(slice(None), slice(None), *(slice(n) for n in shape))]


class Discriminator(nn.Module):
    """D: a score for each patch of an image, (B, 1, *patches), larger meaning more real (PatchGAN, Isola et al. 2017).

    Three convolutions of side 4 halve the grid, two more keep it but for one voxel each; a score sees 70 voxels.

    Args:
        conditional: also sees the image that was translated, so it judges the translation and not only the look.
        width: channels of the first layer.

    Raises:
        ModelError: an axis is shorter than :data:`LEAST` voxels.
    """

    LEAST = 24

    def __init__(self, dims: int = 3, width: int = 32, conditional: bool = True) -> None:
        super().__init__()
        self.dims, self.conditional = check_dims(dims), conditional
        channels = [2 if conditional else 1, width, 2 * width, 4 * width, 8 * width, 1]
        strides = (2, 2, 2, 1, 1)
        self.layers = nn.ModuleList(
            _wide(dims, a, b, s) for a, b, s in zip(channels, channels[1:], strides, strict=False)
        )
        keep_variance(self)

    def inputs(self, source: Tensor, image: Tensor) -> Tensor:
        """What it judges: ``image`` (B, 1, *shape), beside the ``source`` it is a translation of if conditional."""
        return torch.cat([source, image], dim=1) if self.conditional else image

    def forward(self, given: Tensor) -> Tensor:
        channels = 2 if self.conditional else 1
        if given.ndim != self.dims + 2 or given.shape[1] != channels:
            raise ModelError(
                f"The {self.dims}D discriminator takes images (batch, {channels}, ...), not {tuple(given.shape)}."
            )
        if min(given.shape[2:]) < self.LEAST:
            raise ModelError(
                f"The discriminator needs {self.LEAST} voxels or more along each axis, not {list(given.shape[2:])}."
            )
        x = leaky(self.layers[0](given))
        for layer in self.layers[1:-1]:
            x = leaky(functional.instance_norm(layer(x)))
        return self.layers[-1](x)


def _wide(dims: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    """A convolution of side 4, which reads each voxel equally often with stride 2."""
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(inputs, outputs, 4, stride, 1)


def _joined(features: Tensor, skip: Tensor) -> Tensor:
    """``features``, each voxel repeated along every axis, and those of the finer ``skip`` as further channels."""
    fine = functional.interpolate(features, skip.shape[2:], mode="nearest")
    layout = torch.channels_last if fine.ndim == 4 else torch.channels_last_3d
    if fine.is_contiguous(memory_format=layout):
        # Of two layouts the sum would have the slower one.
        skip = skip.contiguous(memory_format=layout)
    return torch.cat([fine, skip], dim=1)


def _doubled(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    """Displacement in voxels of a grid of ``shape`` from one at its every second voxel, the first among them: linear,
    beyond the last constant."""
    displacement = 2.0 * displacement
    for axis, n in enumerate(shape):
        old = displacement.shape[axis + 2]
        matrix = interpolation_matrix(old, 2 * old - 1, displacement.dtype, displacement.device)
        displacement = along_axis(displacement, torch.cat([matrix, matrix[-1:]])[:n], axis)
    return displacement
