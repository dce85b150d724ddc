"""AVSM with trained weights: what its networks predict for a pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..events import Events
from ..networks.avsm import AVSM
from ..networks.avsm_momentum import half_shape
from ..networks.maps import identity_affine
from ..orientation import Orientation
from ..pair import Pair
from .avsm import Parameters

FINER = 1.25
"""The grid of a final prediction, as a factor of the one that the network was trained on."""


class Prediction:
    """The trained networks, ready for pairs of the device.

    Pairs are turned the way round the networks know and resampled to the grid they were trained on, over the same
    corners; maps of the unit cube and affine transforms in [-1, 1] do not change by the latter.

    Raises:
        ModelError: the weights are of another dimension or do not fit their configuration.
    """

    def __init__(self, pair: Pair, state: dict[str, Tensor], config: dict[str, Any], events: Events) -> None:
        self.events = events
        network = AVSM.from_config(config)
        if network.dims != len(pair.shape):
            raise ModelError(f"These AVSM weights are for {network.dims}D images, not for {len(pair.shape)}D ones.")
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise ModelError("These AVSM weights do not fit their configuration; install them again.") from None
        # Convolutions of few channels are much faster with the channels side by side.
        layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
        self.network = network.to(pair.fixed.device, memory_format=layout).eval()
        self.orientation = Orientation.of(pair.grid)
        self.moving, self.fixed = self.orientation.apply(pair.moving), self.orientation.apply(pair.fixed)

    def affine(self, parameters: Parameters) -> Tensor:
        """``[A | b]``, (d, d + 1), of the affine network."""
        with torch.inference_mode(), self.events.stoppable(self.network):
            images = self._images(self.network.settings.image_shape)
            output = self.network(*images, stage="affine", affine_steps=parameters.affine_steps or None)
        return self.orientation.affine_back(output["aux"]["affine"][0]).clone()

    def map(self, parameters: Parameters, final: bool = True) -> Tensor:
        """The momentum network's map (1, d, *its grid) of a pair that is affinely aligned, on the coarse grid and, for
        a ``final`` one, then on the finer."""
        settings, where, output = self.network.settings, None, {}
        steps = parameters.momentum_steps or settings.momentum_steps
        grids = [(settings.coarse_shape or settings.image_shape, steps)]
        if final and settings.coarse_shape:
            # Convolutions fit any grid, and a finer one than they were trained on serves them well.
            fine = tuple(round(FINER * n) for n in settings.image_shape)
            grids.append((fine, parameters.momentum_steps or steps + 1))
        with torch.inference_mode(), self.events.stoppable(self.network):
            for shape, count in grids:
                images = self._images(shape)
                if where is not None:
                    where = spatial.resize(where, half_shape(shape))
                output = self.network(
                    *images,
                    initial_affine=identity_affine(1, self.network.dims, images[1]),
                    initial_map=where,
                    momentum_steps=count,
                    search=True,
                )
                where = output["aux"]["maps"][-1] if output["aux"]["maps"] else where
        # A clone made outside: inference tensors cannot take part in an optimisation that follows.
        return self.orientation.map_back(output["transform"]).clone()

    def _images(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Moving and fixed on a grid of ``shape``."""
        return spatial.reduce(self.moving, shape), spatial.reduce(self.fixed, shape)
