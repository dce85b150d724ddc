"""A small network that registers two descriptor volumes in one pass: what optimisation finds, learned.

At each of three resolutions, coarse to fine, and twice at each, the moving vectors are read where the deformation so
far says and compared with the fixed ones at every shift of a small window; a few convolutions turn these likenesses
into a smooth velocity, by whose exponential the deformation grows. The same weights serve all resolutions. Comparing by
shifts and updating repeatedly is after Teed and Deng (ECCV 2020); the loss is the descriptor's own likeness, the
amortised use that Mok et al. (CVPR 2024) name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from .. import spatial
from ..discrete import costs_of_shifts, shifts
from ..matching import moved, reduced
from .blocks import convolution

FACTORS = (4, 2, 1)
PASSES = 2
RADIUS = 2
SIGMA = 1.2
"""Width in voxels of the Gaussian that velocities pass through."""
SQUARINGS = 4
LEAST_SIDE = 6


class Matcher(nn.Module):
    """Unit vectors (1, C, *shape) of a fixed and a moving image to a displacement (1, d, *shape) in voxels, pull."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.dims = dims
        count = (2 * RADIUS + 1) ** dims
        self.sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.gain = nn.Parameter(torch.tensor(0.0))
        self.first = _pointwise(dims, count + dims, width)
        self.second = convolution(dims, width, width)
        self.third = convolution(dims, width, width)
        self.last = convolution(dims, width, dims)
        # Layers are where a cancel takes effect, and comparing at all shifts takes longer than any of them.
        self.pause = nn.Identity()
        # At first the update is that of the likeliest shifts alone.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return self.all_steps(fixed, moving)[-1]

    def all_steps(self, fixed: Tensor, moving: Tensor) -> list[Tensor]:
        """The displacement at the end of each resolution, on its own grid."""
        displacement, found = None, []
        for factor in FACTORS:
            shape = [max(min(n, LEAST_SIDE), round((n - 1) / factor) + 1) for n in fixed.shape[2:]]
            target, source = reduced(fixed, shape), reduced(moving, shape)
            if displacement is None:
                displacement = target.new_zeros(1, self.dims, *shape)
            else:
                displacement = spatial.resize_displacement(displacement, shape)
            for _ in range(PASSES):
                displacement = spatial.compose(displacement, self._update(target, source, displacement))
            found.append(displacement)
        return found

    def _update(self, target: Tensor, source: Tensor, displacement: Tensor) -> Tensor:
        """The displacement of one step."""
        with torch.no_grad():
            warped = self.pause(moved(source, displacement))
            likeness = self.pause(1.0 - costs_of_shifts(target, warped, RADIUS)[None])
            every = shifts(self.dims, RADIUS, likeness)
        shares = torch.softmax(likeness.flatten(2)[0] * self.sharpness.exp(), dim=0)
        likeliest = (every @ shares).view_as(displacement)
        x = functional.leaky_relu(self.first(torch.cat([likeness, likeliest], dim=1)), 0.2)
        x = functional.leaky_relu(self.second(x), 0.2)
        x = functional.leaky_relu(self.third(x), 0.2)
        velocity = self.pause(spatial.gaussian(self.last(x) + self.gain.exp() * likeliest, SIGMA))
        return spatial.exponential(velocity, SQUARINGS)


def _pointwise(dims: int, inputs: int, outputs: int) -> nn.Module:
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(inputs, outputs, 1)


def shape_for(shape: Sequence[int], most: int) -> tuple[int, ...]:
    """A grid over the same corners with at most about ``most`` voxels."""
    factor = max(1.0, (math.prod(shape) / most) ** (1 / len(shape)))
    return tuple(max(min(n, LEAST_SIDE), round((n - 1) / factor) + 1) for n in shape)
