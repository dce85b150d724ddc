"""MASR-Net: a deep structural image representation that is the same for every modality.

Mok et al., *Modality-Agnostic Structural Image Representation Learning for Deformable Multi-Modality Medical Image
Registration*, CVPR 2024, arXiv 2402.18933. A small encoder-decoder makes a few feature maps of one image; their
neighbourhood self-similarity (:mod:`regnet.networks.neighbourhood`) in two sizes is squeezed into one unit vector per
voxel. Two images are compared by the scalar product of these vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..errors import ModelError
from .blocks import check_dims, to_multiple
from .blocks import convolution as any_convolution
from .matcher import Matcher
from .neighbourhood import mixed_relations, padded, pairs, relations
from .settings import NetworkSettings

STRIDE = 8
REACH = 56
"""More than an output of the extractor looks far, in voxels (45 by measurement, 52 by its layers), in whole strides."""
SLAB_VOXELS = 1 << 19
"""Voxels whose relations are held at a time when no gradient is wanted."""
SQUEEZES = ("shared", "per_relation", "flatten")


@dataclass(frozen=True)
class MASRConfig(NetworkSettings):
    """What decides a network's shape.

    Attributes:
        dims: 2 or 3.
        features: feature maps of the extractor.
        radii: of the neighbourhoods, in voxels.
        squeeze: over the features: one weight per feature for all relations (``shared``), one per feature and relation
            (``per_relation``), or all features and relations into all relations (``flatten``).
        width: channels of the extractor's first level; it doubles with every level.
        matcher_width: channels of the network that registers two descriptors, 0 for none.
    """

    network = "The descriptor network"

    dims: int = 3
    features: int = 4
    radii: tuple[int, ...] = (1, 2)
    squeeze: Literal["shared", "per_relation", "flatten"] = "shared"
    width: int = 8
    matcher_width: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dims(self.dims)
        if self.squeeze not in SQUEEZES:
            raise ModelError(f"There is no squeeze {self.squeeze!r}; choose from {', '.join(SQUEEZES)}.")
        if self.features < 1 or self.width < 1 or not self.radii or min(self.radii) < 1:
            raise ModelError(
                f"A descriptor needs at least one feature, one channel and radii from 1 up, not {self.features}, "
                f"{self.width} and {list(self.radii)}."
            )

    @property
    def channels(self) -> int:
        """Components of the descriptor."""
        return len(self.radii) * len(pairs(self.dims))


def convolution(dims: int, inputs: int, outputs: int) -> nn.Module:
    """Of side 3, border values repeated: zeros would tell the network where the border is."""
    return any_convolution(dims, inputs, outputs, padding="replicate")


def blur_pool(tensor: Tensor) -> Tensor:
    """Every second voxel of the image smoothed by [1, 2, 1] / 4 along each axis (Zhang, ICML 2019), border repeated.

    Voxel k of the result lies at voxel 2 k.
    """
    for axis in range(2, tensor.ndim):
        n = tensor.shape[axis]
        wide = torch.cat([tensor.narrow(axis, 0, 1), tensor, tensor.narrow(axis, n - 1, 1)], dim=axis)
        even = _every_second(wide, axis, 0, n // 2) + _every_second(wide, axis, 2, n // 2)
        tensor = even.mul(0.25).add(_every_second(wide, axis, 1, n // 2), alpha=0.5)
    return tensor


def _every_second(tensor: Tensor, axis: int, start: int, count: int) -> Tensor:
    index = [slice(None)] * tensor.ndim
    index[axis] = slice(start, start + 2 * count - 1, 2)
    return tensor[tuple(index)]


def doubled(tensor: Tensor) -> Tensor:
    """Linear interpolation to twice the size with voxel 2 k at voxel k: what :func:`blur_pool` undoes in place."""
    sizes = [2 * n - 1 for n in tensor.shape[2:]]
    mode = "bilinear" if len(sizes) == 2 else "trilinear"
    fine = functional.interpolate(tensor, sizes, mode=mode, align_corners=True)
    return functional.pad(fine, (0, 1) * len(sizes), mode="replicate")


class Extractor(nn.Module):
    """Image (B, 1, *shape) to features (B, ``features``, *shape): four levels, skip connections, no normalisation.

    With the default sizes 293,356 parameters in 3D.
    """

    def __init__(self, config: MASRConfig) -> None:
        super().__init__()
        dims, w = config.dims, config.width
        self.down = nn.ModuleList(
            [
                convolution(dims, 1, w),
                convolution(dims, w, 2 * w),
                convolution(dims, 2 * w, 4 * w),
                convolution(dims, 4 * w, 8 * w),
            ]
        )
        self.bottom = convolution(dims, 8 * w, 8 * w)
        self.up = nn.ModuleList(
            [
                convolution(dims, 12 * w, 4 * w),
                convolution(dims, 6 * w, 2 * w),
                convolution(dims, 3 * w, w),
            ]
        )
        self.last = convolution(dims, w, config.features)

    def forward(self, image: Tensor) -> Tensor:
        shape = tuple(image.shape[2:])
        x = to_multiple(image, STRIDE)
        kept = []
        for level, layer in enumerate(self.down):
            x = functional.leaky_relu(layer(x), 0.2)
            if level < 3:
                kept.append(x)
                x = blur_pool(x)
        x = functional.leaky_relu(self.bottom(x), 0.2)
        for layer in self.up:
            x = functional.leaky_relu(layer(torch.cat([doubled(x), kept.pop()], dim=1)), 0.2)
        x = self.last(x)
        return x[(slice(None), slice(None), *(slice(n) for n in shape))]


class Squeeze(nn.Module):
    """Features (B, C, *shape) to the descriptor (B, R, *shape) of unit length, R relations.

    The self-similarity of every feature, a linear layer over the features, then two convolutions.
    """

    def __init__(self, config: MASRConfig) -> None:
        super().__init__()
        self.config = config
        count, relation_count = config.features, config.channels
        shapes = {
            "shared": (count, 1),
            "per_relation": (count, relation_count),
            "flatten": (count * relation_count, relation_count),
        }
        weight = torch.empty(shapes[config.squeeze])
        nn.init.normal_(weight, mean=1.0 / count if config.squeeze != "flatten" else 0.0, std=0.3 / math.sqrt(count))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(relation_count if config.squeeze != "shared" else 1))
        self.first = convolution(config.dims, relation_count, relation_count)
        self.second = convolution(config.dims, relation_count, relation_count)

    def forward(self, features: Tensor) -> Tensor:
        wide = padded(features, self.margin)
        trained = any(parameter.requires_grad for parameter in self.parameters())
        if torch.is_grad_enabled() and (features.requires_grad or trained):
            return self._convolved(self._related(wide))
        return self._in_slabs(wide)

    @property
    def margin(self) -> int:
        return max(self.config.radii)

    def _related(self, wide: Tensor) -> Tensor:
        """(B, R, *shape) of padded features: relations weighted and summed over the features."""
        if self.config.squeeze == "flatten":
            every = torch.cat([relations(wide, self.margin, radius) for radius in self.config.radii], dim=2)
            mixed = torch.einsum("bk...,kr->br...", every.flatten(1, 2), self.weight)
        else:
            weights = self.weight.expand(-1, self.config.channels).chunk(len(self.config.radii), dim=1)
            parts = zip(self.config.radii, weights, strict=True)
            mixed = torch.cat([mixed_relations(wide, self.margin, radius, weight) for radius, weight in parts], dim=1)
        return mixed + self.bias.view(1, -1, *(1,) * self.config.dims)

    def _convolved(self, related: Tensor) -> Tensor:
        return functional.normalize(self.second(functional.leaky_relu(self.first(related), 0.2)), dim=1)

    @torch.no_grad()
    def _in_slabs(self, wide: Tensor) -> Tensor:
        """The same, slab by slab along the first axis: all that lies between features and descriptor stays small."""
        margin, dims = self.margin, self.config.dims
        shape = [size - 2 * margin for size in wide.shape[2:]]
        n, depth = shape[0], max(4, SLAB_VOXELS // math.prod(shape[1:]))
        out = wide.new_empty(wide.shape[0], self.config.channels, *shape)
        layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        for start in range(0, n, depth):
            stop = min(start + depth, n)
            # The two convolutions see two more rows on either side.
            low, high = max(start - 2, 0), min(stop + 2, n)
            related = self._related(wide.narrow(2, low, high - low + 2 * margin))
            found = self._convolved(related.contiguous(memory_format=layout))
            out[:, :, start:stop] = found[:, :, start - low : stop - low]
        return out


class DSIR(nn.Module):
    """Deep structural image representation: (B, 1, *shape) in [0, 1] to unit vectors (B, R, *shape).

    >>> network = DSIR(MASRConfig(dims=2))
    >>> tuple(network(torch.rand(1, 1, 20, 30)).shape)
    (1, 8, 20, 30)
    """

    def __init__(self, config: MASRConfig = MASRConfig()) -> None:
        super().__init__()
        self.settings = config
        self.extractor, self.squeeze = Extractor(config), Squeeze(config)
        self.matcher = Matcher(config.dims, config.matcher_width) if config.matcher_width else None

    def forward(self, image: Tensor) -> Tensor:
        if image.ndim != self.settings.dims + 2 or image.shape[1] != 1:
            raise ModelError(
                f"The {self.settings.dims}D descriptor takes one-channel images (batch, 1, ...), not "
                f"{tuple(image.shape)}."
            )
        return self.squeeze(self.extractor(image))

    @torch.no_grad()
    def tiled(self, image: Tensor, tile: Sequence[int]) -> Tensor:
        """The same as a whole, tile by tile with a halo: for images whose features do not fit in memory.

        Args:
            tile: the side of a tile per axis in voxels, raised to a multiple of the stride.
        """
        shape, halo = tuple(image.shape[2:]), REACH + STRIDE
        sides = [max(STRIDE, -(-side // STRIDE) * STRIDE) for side in tile]
        out = image.new_empty(image.shape[0], self.settings.channels, *shape)
        for inner in _tiles(shape, sides):
            # Beyond the end lies what the whole image is padded with, so the last tile goes up to it, too.
            outer = [slice(max(s.start - halo, 0), min(s.stop + halo, n)) for s, n in zip(inner, shape, strict=True)]
            found = self(image[(slice(None), slice(None), *outer)])
            here = [slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)]
            out[(slice(None), slice(None), *inner)] = found[(slice(None), slice(None), *here)]
        return out

    def config(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` builds the same network."""
        return self.settings.plain()

    @staticmethod
    def from_config(values: dict[str, Any]) -> DSIR:
        return DSIR(MASRConfig.from_dict(values))


def _tiles(shape: Sequence[int], sides: Sequence[int]) -> Iterator[list[slice]]:
    starts = [range(0, n, side) for n, side in zip(shape, sides, strict=True)]
    for corner in torch.cartesian_prod(*(torch.tensor(list(line)) for line in starts)).view(-1, len(shape)).tolist():
        yield [slice(a, min(a + side, n)) for a, side, n in zip(corner, sides, shape, strict=True)]
