"""Random numbers for a batch: few of them, drawn on the CPU, and noise fields that a device expands from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..spatial import along_axis

Randomness = torch.Generator | Sequence[torch.Generator]
"""One generator for the whole batch, or one per sample: then no sample depends on which others it is made with."""


class Draws:
    """Random numbers for ``batch`` samples; each method draws the same number of them whatever their values are."""

    def __init__(self, generator: Randomness, batch: int, device: torch.device | str = "cpu") -> None:
        self.batch = batch
        self.device = torch.device(device)
        self.generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
        if len(self.generators) not in (1, batch):
            raise InputError(f"{len(self.generators)} generators cannot serve a batch of {batch}; give 1 or {batch}.")
        for one in self.generators:
            if one.device.type != "cpu":
                raise InputError(f"The generator is of device {one.device}; give one of the CPU, whatever the device.")

    def uniform(self, low: float | Tensor, high: float | Tensor, *shape: int) -> Tensor:
        """(B, *shape) on the CPU, uniform in [low, high)."""
        return low + (high - low) * self._draw(torch.rand, *shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        return self._draw(torch.randn, *shape)

    def chance(self, probability: float) -> Tensor:
        """(B,) bool on the CPU."""
        return self._draw(torch.rand) < probability

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 on the CPU, uniform in low, ..., high."""
        return low + (self._draw(torch.rand, *shape) * (high - low + 1)).long().clamp_(max=high - low)

    def put(self, values: Tensor, dims: int = 0) -> Tensor:
        """``values`` on the device; with ``dims``, (B,) becomes (B, 1, 1, ...) for images of so many axes."""
        values = values.to(self.device, non_blocking=True)
        return values.view(values.shape[0], *(1,) * (dims + 1)) if dims else values

    def white_noise(self, shape: Sequence[int], channels: int = 1) -> Tensor:
        """(B, channels, *shape) on the device, independent, mean 0, variance 1, nearly normal (|x| < 3.5).

        The device computes it from one drawn number per sample by hashing indices: quicker than drawing, and the same
        on every device. The hash is C. Wellons' lowbias32 (hash-prospector). The four bytes of a hash, added with the
        signs of a Hadamard matrix, give four uncorrelated values, for voxels a quarter of the volume apart.
        """
        seed = self.put(self.whole(0, 2**31 - 1, 1))
        count = channels * math.prod(shape)
        index = torch.arange((count + 3) // 4, dtype=torch.int32, device=self.device)
        bits = _hash(index[None] ^ seed.to(torch.int32))
        a, b, c, d = (((bits >> shift) & 0xFF).float().sub_(127.5) for shift in (0, 8, 16, 24))
        total, rest, difference, other = a + b, c + d, a.sub_(b), c.sub_(d)
        noise = torch.cat([total + rest, total.sub_(rest), difference + other, difference.sub_(other)], dim=1)
        noise.mul_(1.0 / math.sqrt((2**16 - 1) / 3))
        return noise[:, :count].view(self.batch, channels, *shape)

    def smooth_noise(self, shape: Sequence[int], spacing: float, channels: int = 1) -> Tensor:
        """(B, channels, *shape) on the device: a cubic B-spline with white coefficients every ``spacing`` voxels.

        Mean 0 and variance 1 at every voxel, twice continuously differentiable.
        """
        cells = [max(1, round((n - 1) / spacing)) for n in shape]
        return spline(self.white_noise([n + 3 for n in cells], channels), shape, keep_variance=True)

    def _draw(self, draw: Callable[..., Tensor], *shape: int) -> Tensor:
        if len(self.generators) == 1:
            return draw((self.batch, *shape), generator=self.generators[0])
        return torch.stack([draw(shape, generator=one) for one in self.generators])


def _hash(x: Tensor) -> Tensor:
    """32 mixed bits; int32 products wrap, right shifts are made logical by a mask."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def spline(coefficients: Tensor, shape: Sequence[int], keep_variance: bool = False) -> Tensor:
    """The cubic B-spline with these coefficients (B, C, *cells + 3) over a grid: (B, C, *shape).

    The first cell begins at the first voxel, the last ends at the last; with ``keep_variance`` weights are scaled such
    that white coefficients make a spline of the same variance at every voxel.
    """
    # The last axis first: it is the cheapest to enlarge while the others are still small.
    for axis in reversed(range(len(shape))):
        cells = coefficients.shape[axis + 2] - 3
        matrix = spline_matrix(cells, int(shape[axis]), keep_variance, coefficients.device)
        coefficients = along_axis(coefficients, matrix, axis)
    return coefficients


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def spline_matrix(cells: int, n: int, keep_variance: bool, device: torch.device) -> Tensor:
    """``(n, cells + 3)``: what every coefficient of :func:`spline` counts at every voxel of a line."""
    position = torch.linspace(0, cells, n, dtype=torch.float64)
    cell = position.floor().clamp(0, cells - 1)
    t = (position - cell)[:, None]
    weights = torch.cat([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dim=1)
    weights /= weights.norm(dim=1, keepdim=True) if keep_variance else 6.0
    matrix = torch.zeros(n, cells + 3, dtype=torch.float64)
    matrix.scatter_(1, cell.long()[:, None] + torch.arange(4), weights)
    return matrix.to(device=device, dtype=torch.float32)
