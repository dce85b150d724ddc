"""The momentum network of AVSM, the residual version (Shen, Han, Xu, Niethammer, CVPR 2019, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..spatial import reduce
from .blocks import check_dims, convolution, doubling, keep_variance, pad_to_multiple, same_pair
from .guidance import matching_force

SLOPE = 0.01
"""Of the decoder's leaky rectifier."""


class _Encoder(nn.Module):
    """One level: halve, then convolve ``depth`` times, each adding its predecessor or, ``from_first``, the first."""

    def __init__(self, dims: int, inputs: int, outputs: int, depth: int, from_first: bool = False) -> None:
        super().__init__()
        self.down = convolution(dims, inputs, outputs, stride=2)
        self.keep = nn.ModuleList(convolution(dims, outputs, outputs) for _ in range(depth))
        self.from_first = from_first

    def forward(self, features: Tensor) -> Tensor:
        features = first = self.down(features).relu()
        for layer in self.keep:
            features = layer(features).relu() + (first if self.from_first else features)
        return features


class _Decoder(nn.Module):
    """One level: double, join the encoder's features, convolve to ``outputs``, and add one residual convolution."""

    def __init__(self, dims: int, inputs: int, doubled: int, joined: int, outputs: int) -> None:
        super().__init__()
        self.up = doubling(dims, inputs, doubled)
        self.merge = convolution(dims, doubled + joined, outputs)
        self.keep = convolution(dims, outputs, outputs)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        features = torch.cat([_leaky(self.up(features)), skip], dim=1)
        features = _leaky(self.merge(features))
        return features + _leaky(self.keep(features))


class MomentumNet(nn.Module):
    """Momentum (B, d, *half) at half resolution from a warped and a fixed image (B, 1, *shape) in [0, 1].

    A U-Net without its last level and without normalisation. Half means ``ceil(n / 2)`` along each axis; sizes that
    are no multiple of 16 are padded with zeros inside, and the momentum is cut again. The last convolution is zero at
    first, so an untrained network moves nothing (a guided one follows the force); the published one starts at random.

    Args:
        dims: 2 or 3.
        clamp: largest absolute momentum, or None for no limit.
        width: channels at full resolution, 16 as published; all other levels scale with it.
        scale: factor of the momentum. The features are of size 1, so a step of the optimiser moves the last layer's
            output by about a tenth; momenta that matter in the unit cube are that large, and a factor below 1 makes
            the first steps small.
        guided: also take a force field (see :mod:`.guidance`), as input and, at half resolution, before the last layer:
            the network then learns to shape a force that points the right way, which takes far fewer examples than to
            learn matching itself.
    """

    MULTIPLE = 16

    def __init__(
        self, dims: int = 3, clamp: float | None = None, width: int = 16, scale: float = 1.0, guided: bool = False
    ) -> None:
        super().__init__()
        if width < 1:
            raise ModelError(f"The momentum network's width is {width}; it must be 1 or more.")
        self.dims, self.clamp, self.scale, self.guided = check_dims(dims), clamp, float(scale), bool(guided)
        extra = dims if guided else 0
        self.first = convolution(dims, 2 + extra, width)
        self.down_half = _Encoder(dims, width, 2 * width, 2, from_first=True)
        self.down_quarter = _Encoder(dims, 2 * width, 4 * width, 2)
        self.down_eighth = _Encoder(dims, 4 * width, 8 * width, 2)
        self.down_sixteenth = _Encoder(dims, 8 * width, 16 * width, 1)
        self.up_eighth = _Decoder(dims, 16 * width, 8 * width, 8 * width, 8 * width)
        self.up_quarter = _Decoder(dims, 8 * width, 4 * width, 4 * width, 2 * width)
        self.up_half = doubling(dims, 2 * width, 2 * width)
        self.merge = convolution(dims, 4 * width, width)
        self.last = convolution(dims, width + extra, dims)
        keep_variance(self)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        if guided:
            self._follow_the_force()

    def _follow_the_force(self) -> None:
        """Start with the force itself as the momentum: learning then begins with a registration that works already."""
        with torch.no_grad():
            middle = self.last.weight[(slice(None), slice(None), *(1,) * self.dims)]
            # Maps are pulled back along the velocity, so the momentum goes against the force.
            middle[:, -self.dims :] = -torch.eye(self.dims)

    def forward(self, warped: Tensor, fixed: Tensor) -> Tensor:
        same_pair(warped, fixed, self.dims)
        pair = torch.cat([warped, fixed], dim=1)
        if self.guided:
            pair = torch.cat([pair, matching_force(warped.detach(), fixed)], dim=1)
        pair = pad_to_multiple(pair, self.MULTIPLE)
        alone = len(pair) == 1 and pair.device.type == "cpu" and not torch.is_grad_enabled()
        if alone:
            # PyTorch gives small volumes to its fast convolutions in batches only: two take half as long as one.
            pair = pair.expand(2, *pair.shape[1:])
        half = self.down_half(self.first(pair).relu())
        quarter = self.down_quarter(half)
        eighth = self.down_eighth(quarter)
        features = self.up_eighth(self.down_sixteenth(eighth), eighth)
        features = self.up_quarter(features, quarter)
        features = torch.cat([_leaky(self.up_half(features)), half], dim=1)
        features = self.merge(features)
        if self.guided:
            force = reduce(pair[:, 2:], features.shape[2:])
            features = torch.cat([features, force], dim=1)
        momentum = self.last(features) * self.scale
        momentum = momentum[:1] if alone else momentum
        for axis, n in enumerate(fixed.shape[2:]):
            momentum = momentum.narrow(axis + 2, 0, (n + 1) // 2)
        return momentum if self.clamp is None else momentum.clamp(-self.clamp, self.clamp)


def half_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Grid of the momentum for images of ``shape``."""
    return tuple((n + 1) // 2 for n in shape)


def _leaky(features: Tensor) -> Tensor:
    return nn.functional.leaky_relu(features, SLOPE)
