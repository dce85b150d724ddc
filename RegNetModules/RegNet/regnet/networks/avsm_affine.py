"""The multi-step affine network of AVSM (Shen, Han, Xu, Niethammer, CVPR 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ModelError
from .blocks import adaptive_pool, check_dims, convolution, halving, keep_variance, same_pair
from .maps import affine_map, compose_affine, identity_affine, warp_by_map

COMPOSITIONS = ("paper", "target")


class AffineNet(nn.Module):
    """One step: an affine transform ``[A | b]`` (B, d, d + 1) in coordinates [-1, 1] from two images in [0, 1].

    The first convolution is shared by the two images. The last linear layer is zero with the identity as its bias, so
    an untrained network does nothing; the published one starts at random.

    Args:
        image_shape: size of the images, which fixes the width of the linear layers.
        adaptive: average the last features to the size that ``image_shape`` gives, so that any other size works too.
        channels, last_stride: of the last convolution, 4 and 2 as published for 80x192x192 voxels. Small images keep
            more of where things are with more channels and a stride of 1.
    """

    def __init__(
        self, image_shape: Sequence[int], adaptive: bool = False, channels: int = 4, last_stride: int = 2
    ) -> None:
        super().__init__()
        dims = check_dims(len(image_shape))
        self.dims, self.image_shape, self.adaptive = dims, tuple(int(n) for n in image_shape), bool(adaptive)
        if min(self.image_shape) < 8:
            raise ModelError(f"The affine network needs 8 voxels or more along each axis, not {self.image_shape}.")
        self.first = nn.Sequential(convolution(dims, 1, 16), nn.ReLU())
        layers: list[nn.Module] = [halving(dims)]
        for inputs, outputs, stride in ((32, 32, 1), (32, 32, 2), (32, 32, 1)):
            layers += [convolution(dims, inputs, outputs, stride), nn.ReLU()]
        layers.append(halving(dims))
        for inputs, outputs, stride in ((32, 32, 1), (32, 16, 2), (16, 16, 1), (16, channels, last_stride)):
            layers += [convolution(dims, inputs, outputs, stride), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        size = self._feature_shape()
        self.pool = adaptive_pool(dims, size[1:]) if adaptive else nn.Identity()
        self.head = nn.Sequential(nn.Linear(size.numel(), 32), nn.ReLU(), nn.Linear(32, dims * (dims + 1)))
        keep_variance(self)
        with torch.no_grad():
            self.head[-1].weight.zero_()
            self.head[-1].bias.copy_(torch.eye(dims, dims + 1).flatten())

    def _feature_shape(self) -> torch.Size:
        """(channels, *sizes) of the last features; a dry run on shapes alone would make PyTorch import for a second."""
        channels, sizes = 0, list(self.image_shape)
        for layer in self.features:
            if isinstance(layer, (nn.MaxPool2d, nn.MaxPool3d)):
                sizes = [n // 2 for n in sizes]
            elif isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                channels = layer.out_channels
                sizes = [(n - 1) // layer.stride[0] + 1 for n in sizes]
        return torch.Size((channels, *sizes))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        same_pair(moving, fixed, self.dims)
        if not self.adaptive and tuple(fixed.shape[2:]) != self.image_shape:
            raise ModelError(
                f"This affine network was built for images of {self.image_shape} voxels, not {tuple(fixed.shape[2:])}; "
                "resample them, or build it with adaptive=True."
            )
        pair = torch.cat([self.first(2.0 * moving - 1.0), self.first(2.0 * fixed - 1.0)], dim=1)
        vector = self.head(self.pool(self.features(pair)).flatten(1))
        return vector.view(-1, self.dims, self.dims + 1)


class MultiStepAffine(nn.Module):
    """The affine network applied again and again to what is left to do.

    Each step sees the moving image, read anew from the original through the transform so far, and predicts one more
    transform. With ``compose="paper"`` that one is applied last, ``A_t = A~ A_{t-1}``, ``b_t = A~ b_{t-1} + b~``: on
    the moving image's side, as published. What the step saw, though, was the warped image, and to warp that once more
    is ``compose="target"``, ``A_{t-1} A~``. The two differ by as much as the matrices fail to commute.
    """

    def __init__(self, net: AffineNet, steps: int = 3, compose: str = "paper") -> None:
        super().__init__()
        if compose not in COMPOSITIONS or steps < 1:
            raise ModelError(
                f"Affine steps are 1 or more, composed by one of {', '.join(COMPOSITIONS)}, not {steps}, {compose!r}."
            )
        self.net, self.steps, self.compose = net, int(steps), compose

    def forward(
        self, moving: Tensor, fixed: Tensor, steps: int | None = None, initial: Tensor | None = None
    ) -> list[Tensor]:
        """The transform (B, d, d + 1) after each step, from the identity or ``initial``; steps from the second on are
        computed again in the backward pass instead of kept."""
        affine = identity_affine(len(moving), self.net.dims, moving) if initial is None else initial
        transforms = []
        for step in range(self.steps if steps is None else steps):
            if step and torch.is_grad_enabled():
                affine = checkpoint(self._advance, moving, fixed, affine, use_reentrant=False)
            elif step or initial is not None:
                affine = self._advance(moving, fixed, affine)
            else:
                affine = self._join(self.net(moving, fixed), affine)
            transforms.append(affine)
        return transforms

    def _advance(self, moving: Tensor, fixed: Tensor, affine: Tensor) -> Tensor:
        warped = warp_by_map(moving, affine_map(affine, fixed.shape[2:]))
        return self._join(self.net(warped, fixed), affine)

    def _join(self, increment: Tensor, affine: Tensor) -> Tensor:
        if self.compose == "paper":
            return compose_affine(increment, affine)
        return compose_affine(affine, increment)
