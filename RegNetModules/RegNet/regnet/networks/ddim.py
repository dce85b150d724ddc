"""DDIM, deep differentiable interpolation-based matching: an affine registration network in stages, coarse to fine.

A reconstruction of an unverified note (CSDN 131022061): no paper, code or result could be found behind it, so no
published result is claimed, and what it leaves open is chosen here. The diffusion sampler of that name is unrelated.

A stage makes features of both images, resamples those of the fixed one by an affine layer of its own, and turns what
differs into an affine increment. Increments compose as homogeneous matrices, ``T_i = T_(i-1) A_i``, and a learned
global matrix closes the chain, ``T = T_depth G``. Transforms are ``[A | b]`` (B, d, d + 1) in coordinates [-1, 1] in
array order and pull: ``warped(x) = moving(T(x))``, read from the original moving image every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..errors import ModelError
from ..losses.lncc import LNCC
from ..spatial import reduce, sample
from .blocks import check_dims, convolution, keep_variance, same_pair
from .maps import affine_map, compose_affine, identity_affine, identity_map, warp_by_map
from .settings import NetworkSettings

LEAST_SIDE = 16
"""Voxels that an image needs along each axis."""
RECONSTRUCTION_WEIGHT, CLOSENESS_WEIGHT = 0.1, 1e-3


@dataclass(frozen=True)
class DDIMConfig(NetworkSettings):
    """What decides the network's shape.

    Attributes:
        dims: 2 or 3.
        depth: stages.
        width: channels of the features.
        scales: of the stages, parts of the full resolution, coarse to fine.
        hidden: numbers between the two linear layers of a matcher.
        image_shape: the grid that weights were trained on, for who prepares the images; the network takes any.
        moments: pool features with their coordinates, too. Plain sums do not know where things are.
        cumulative: a stage goes on from the one before; else each starts anew, and the last one's affine counts.
        residual_only: from the second stage on the fixed image's features are those of the residual alone.
    """

    network = "DDIM"

    dims: int = 3
    depth: int = 3
    width: int = 16
    scales: tuple[float, ...] = (0.25, 0.5, 1.0)
    hidden: int = 64
    image_shape: tuple[int, ...] | None = None
    moments: bool = True
    cumulative: bool = True
    residual_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dims(self.dims)
        if min(self.depth, self.width, self.hidden) < 1:
            sizes = f"{self.depth}, {self.width} and {self.hidden}"
            raise ModelError(f"DDIM's depth, width and hidden are 1 or more, not {sizes}.")
        rising = all(a <= b for a, b in zip(self.scales, (*self.scales[1:], 1.0), strict=True))
        if len(self.scales) != self.depth or not rising or not self.scales[0] > 0:
            raise ModelError(
                f"DDIM's scales are {self.depth} numbers above 0 and up to 1, coarse to fine, not {list(self.scales)}."
            )
        shape = self.image_shape
        if shape is not None and (len(shape) != self.dims or min(shape) < LEAST_SIDE):
            raise ModelError(
                f"DDIM's image_shape has {self.dims} sizes of {LEAST_SIDE} voxels or more, not {list(shape)}."
            )


@dataclass(frozen=True)
class DDIMOutput:
    """What :meth:`DDIM.forward` finds.

    Attributes:
        affine: the transform (B, d, d + 1), fixed to moving.
        affines: the transform after each stage, before the global matrix.
        warped: the moving image (B, 1, *shape) read at ``affine``.
        residuals: fixed image less moving image read at ``affines``, one (B, 1, *shape) for each stage.
        reconstruction: the fixed image (B, 1, *shape) as the head predicts it.
    """

    affine: Tensor
    affines: list[Tensor]
    warped: Tensor
    residuals: list[Tensor]
    reconstruction: Tensor


class Interpolator(nn.Module):
    """Features of both images: two convolutions at half the stage's scale, linear interpolation to exactly its grid,
    and for the fixed image a learned affine layer.

    Both images share the convolutions, so features are compared with features; these keep their signs and have mean 0
    and variance 1 over each image, whatever its brightness and contrast. The affine layer resamples features,
    not grids; its ``theta`` (d, d + 1) starts as the identity and is expanded to the batch.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.mode = "bilinear" if dims == 2 else "trilinear"
        self.layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        self.first, self.second = convolution(dims, 2, width), convolution(dims, width, width)
        self.theta = nn.Parameter(torch.eye(dims, dims + 1))

    def forward(self, fixed: Tensor, moving: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, 2, *half) each, image and residual, to (B, W, *shape) each."""
        both = torch.cat([fixed, moving]).contiguous(memory_format=self.layout)
        both = functional.instance_norm(self.second(functional.relu(self.first(both))))
        fixed, moving = functional.interpolate(both, tuple(shape), mode=self.mode, align_corners=True).chunk(2)
        return self._resampled(fixed), moving

    def _resampled(self, features: Tensor) -> Tensor:
        shape = features.shape[2:]
        where = affine_map(self.theta.expand(len(features), -1, -1), shape)
        last = where.new_tensor([n - 1 for n in shape]).view(1, -1, *(1,) * len(shape))
        # The sampler returns planes; convolutions on a CPU are a third faster with channels last.
        return sample(features, where * last, padding="border").contiguous(memory_format=self.layout)


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip connection (He et al., ECCV 2016), without normalisation. Nothing follows the sum:
    a difference keeps its sign, which tells where to."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.first, self.second = convolution(dims, width, width), convolution(dims, width, width)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(functional.relu(self.first(features)))


class Matcher(nn.Module):
    """An affine increment (B, d, d + 1) from features (B, W, *shape) of the fixed and the moving image.

    Residual blocks see the difference of the features. What they make of it and its product with the moving image's
    features are averaged over the grid: ``2 W`` numbers, and ``2 W d`` more with first moments, whatever its size. The
    last layer starts at zero and its result is added to the identity, so an untrained matcher does nothing.
    """

    def __init__(self, config: DDIMConfig) -> None:
        super().__init__()
        self.dims, self.moments = config.dims, config.moments
        self.blocks = nn.Sequential(*(ResidualBlock(config.dims, config.width) for _ in range(2)))
        numbers = 2 * config.width * (1 + config.dims if config.moments else 1)
        self.hidden = nn.Linear(numbers, config.hidden)
        self.last = nn.Linear(config.hidden, config.dims * (config.dims + 1))

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        difference = self.blocks(fixed - moving)
        numbers = torch.cat([self.pooled(moving * difference), self.pooled(difference)], dim=1)
        change = self.last(functional.relu(self.hidden(numbers))).view(-1, self.dims, self.dims + 1)
        return identity_affine(1, self.dims, change) + change

    def pooled(self, features: Tensor) -> Tensor:
        """Means over the grid (B, W), or (B, (1 + d) W): of channels, then of channels times each coordinate."""
        lines = features.flatten(2)
        if not self.moments:
            return lines.mean(dim=2)
        coordinates = 2.0 * identity_map(features.shape[2:], features).flatten(2) - 1.0
        weights = torch.cat([torch.ones_like(coordinates[:, :1]), coordinates], dim=1) / lines.shape[2]
        return torch.bmm(weights.expand(len(lines), -1, -1), lines.transpose(1, 2)).flatten(1)


class DDIM(nn.Module):
    """The whole network, for images (B, 1, *shape) in [0, 1] of any size from 16 voxels per axis, in 2D and 3D.

    A stage sees the fixed image and the moving one as placed by the stages before, each beside the residual of the
    two, zero for the first stage. The global matrix, too, starts as the identity: a product with zero would pass no
    gradient on. A head, for training only, predicts the fixed image from it, the warped one and their difference.

    >>> network = DDIM(DDIMConfig(dims=2))
    >>> fixed, moving = torch.rand(2, 1, 1, 24, 31)
    >>> network.align(fixed, moving)
    tensor([[[1., 0., 0.],
             [0., 1., 0.]]])
    """

    def __init__(self, config: DDIMConfig = DDIMConfig()) -> None:
        super().__init__()
        self.settings, self.dims = config, config.dims
        self.interpolators = nn.ModuleList(Interpolator(self.dims, config.width) for _ in range(config.depth))
        self.matchers = nn.ModuleList(Matcher(config) for _ in range(config.depth))
        self.final = nn.Parameter(torch.eye(self.dims, self.dims + 1))
        self.head = convolution(self.dims, 3, 1)
        keep_variance(self)
        for matcher in self.matchers:
            nn.init.zeros_(matcher.last.weight)

    def config(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` builds the same network."""
        return self.settings.plain()

    @staticmethod
    def from_config(values: dict[str, Any]) -> DDIM:
        return DDIM(DDIMConfig.from_dict(values))

    def forward(self, fixed: Tensor, moving: Tensor, initial: Tensor | None = None) -> DDIMOutput:
        """Register, with all that the loss needs. ``initial`` (B, d, d + 1): where to start from."""
        affines, images = self._stages(fixed, moving, initial)
        affine = self._closed(affines[-1])
        warped = _placed(moving, affine)
        predicted = self.head(torch.cat([fixed, warped, fixed - warped], dim=1))
        return DDIMOutput(affine, affines, warped, [fixed - image for image in images], predicted)

    @torch.no_grad()
    def align(self, fixed: Tensor, moving: Tensor, initial: Tensor | None = None) -> Tensor:
        """The transform of :meth:`forward` alone, without the last two warps and the head."""
        return self._closed(self._stages(fixed, moving, initial, last_image=False)[0][-1])

    def losses(
        self, output: DDIMOutput, fixed: Tensor, moving: Tensor, *, similarity: str = "mse"
    ) -> dict[str, Tensor]:
        """The weighted terms of the training loss for what :meth:`forward` returned; their sum is the loss.

        ``residual``: mean squared residual, averaged over the stages; ``similarity``: the same of the final transform;
        ``reconstruction``: 0.1 times the mean squared error of the head; ``closeness``: 1e-3 times the squared distance
        of the transform from the identity. With ``similarity="lncc"`` the first two are
        :class:`~regnet.losses.LNCC`, since squared differences mean nothing between contrasts.
        """
        same_pair(moving, fixed, self.dims)
        if similarity not in ("mse", "lncc"):
            raise ModelError(f"DDIM's loss compares images by mse or lncc, not {similarity!r}.")
        unlike = functional.mse_loss if similarity == "mse" else LNCC()
        stages = [unlike(fixed, fixed - residual) for residual in output.residuals]
        away = output.affine - identity_affine(1, self.dims, output.affine)
        return {
            "residual": torch.stack(stages).mean(),
            "similarity": unlike(fixed, output.warped),
            "reconstruction": RECONSTRUCTION_WEIGHT * functional.mse_loss(output.reconstruction, fixed),
            "closeness": CLOSENESS_WEIGHT * away.square().sum(dim=(1, 2)).mean(),
        }

    def _stages(
        self, fixed: Tensor, moving: Tensor, initial: Tensor | None, last_image: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The transform after each stage and the moving image read at it; at the last only with ``last_image``."""
        self._check(fixed, moving, initial)
        start = identity_affine(len(fixed), self.dims, fixed) if initial is None else initial
        seen = moving if initial is None else _placed(moving, initial)
        affines: list[Tensor] = []
        images: list[Tensor] = []
        for stage in range(self.settings.depth):
            increment = self._increment(stage, fixed, seen, images[-1] if images else None)
            affines.append(compose_affine(start, increment))
            if stage == self.settings.depth - 1 and not last_image:
                break
            images.append(_placed(moving, affines[-1]))
            if self.settings.cumulative:
                start, seen = affines[-1], images[-1]
        return affines, images

    def _increment(self, stage: int, fixed: Tensor, seen: Tensor, warped: Tensor | None) -> Tensor:
        """What a stage adds, (B, d, d + 1). ``seen``: the moving image as the stage finds it; ``warped``: as the last
        stage left it, for the residual."""
        scale = self.settings.scales[stage]
        half = _grid_at(fixed.shape[2:], scale / 2)
        fixed_part, moving_part = reduce(fixed, half), reduce(seen, half)
        nothing = torch.zeros_like(fixed_part)
        residual = nothing if warped is None else fixed_part - (moving_part if warped is seen else reduce(warped, half))
        if stage and self.settings.residual_only:
            fixed_part = nothing
        pairs = [torch.cat([part, residual], dim=1) for part in (fixed_part, moving_part)]
        return self.matchers[stage](*self.interpolators[stage](*pairs, _grid_at(fixed.shape[2:], scale)))

    def _closed(self, affine: Tensor) -> Tensor:
        return compose_affine(affine, self.final.expand(len(affine), -1, -1))

    def _check(self, fixed: Tensor, moving: Tensor, initial: Tensor | None) -> None:
        same_pair(moving, fixed, self.dims)
        if min(fixed.shape[2:]) < LEAST_SIDE:
            raise ModelError(f"DDIM needs {LEAST_SIDE} voxels or more along each axis, not {tuple(fixed.shape[2:])}.")
        if initial is not None and initial.shape != (len(fixed), self.dims, self.dims + 1):
            raise ModelError(f"DDIM needs one initial affine (d, d + 1) per image, not {tuple(initial.shape)}.")


def _grid_at(shape: Sequence[int], scale: float) -> tuple[int, ...]:
    """A grid over the same corners with ``scale`` times as many steps along each axis."""
    return tuple(max(2, round((n - 1) * scale) + 1) for n in shape)


def _placed(moving: Tensor, affine: Tensor) -> Tensor:
    """The moving image read at the transform of its own grid; zero beyond it."""
    return warp_by_map(moving, affine_map(affine, moving.shape[2:]))
