"""Deform-GAN's trained networks on one pair: the deformation in one pass, and the translation to T1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..events import Events
from ..networks.deformgan import DeformGAN
from ..orientation import Orientation
from ..pair import FOREGROUND, Pair

SPACING = {2: 1.5, 3: 2.3}
"""Of the grid on which the networks see a pair, in mm, by the images' dimension: what they were trained on, about."""


class Networks:
    """Registration network and generator, ready for pairs, which they see the way round that they were trained on.

    Raises:
        ModelError: the weights do not fit their configuration.
    """

    def __init__(self, state: dict[str, Tensor], config: dict[str, Any] | None, device: torch.device) -> None:
        network = DeformGAN.from_config(config or {})
        # What is shipped has no discriminator.
        del network.discriminator
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise ModelError("These Deform-GAN weights do not fit their configuration; install them again.") from None
        layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
        self.network = network.to(device, memory_format=layout).eval()

    def displacement(self, pair: Pair, events: Events) -> Tensor:
        """(1, d, *grid) in voxels of a grid of :data:`SPACING` over the pair's corners, in one pass."""
        if self.network.dims != len(pair.shape):
            raise ModelError(
                f"These Deform-GAN weights are for {self.network.dims}D images, not for {len(pair.shape)}D ones."
            )
        level, orientation = _seen(pair), Orientation.of(pair.grid)
        with torch.inference_mode(), events.stoppable(self.network):
            found = self.network.register(orientation.apply(level.fixed), orientation.apply(level.moving))
        return orientation.displacement_back(found).clone()

    def translation(self, image: Tensor, orientation: Orientation, events: Events) -> Tensor:
        """``image`` (1, 1, *shape) in [0, 1] as T1; what is empty stays empty."""
        with torch.inference_mode(), events.stoppable(self.network):
            made = self.network.generator(orientation.apply(image))
        return (orientation.back(made) * (image > FOREGROUND)).clone()


def _seen(pair: Pair) -> Pair:
    return pair.level(max(SPACING[len(pair.shape)] / pair.spacing_of_finest, 1.0))


def synthetic(
    pair: Pair, displacement: Tensor, state: dict[str, Tensor], config: dict[str, Any] | None, events: Events
) -> Tensor:
    """F'(phi): the moving image, deformed by ``displacement`` in voxels of any grid over the pair's corners and
    translated to T1, (1, 1, *grid) in [0, 1]."""
    level = _seen(pair)
    warped = spatial.warp(level.moving, spatial.resize_displacement(displacement, level.shape))
    return Networks(state, config, pair.fixed.device).translation(warped, Orientation.of(pair.grid), events)
