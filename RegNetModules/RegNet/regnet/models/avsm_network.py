"""AVSM with trained weights: what its networks predict for a pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..networks.avsm import AVSM
from ..networks.maps import identity_affine
from ..pair import Pair
from .avsm import Parameters


class Prediction:
    """The trained networks, ready for pairs of the device.

    Pairs are resampled to the grid the networks were trained on, over the same corners; maps of the unit cube and
    affine transforms in [-1, 1] do not change by that.

    Raises:
        ModelError: the weights are of another dimension or do not fit their configuration.
    """

    def __init__(self, pair: Pair, state: dict[str, Tensor], config: dict[str, Any]) -> None:
        network = AVSM.from_config(config)
        if network.dims != len(pair.shape):
            raise ModelError(f"These AVSM weights are for {network.dims}D images, not for {len(pair.shape)}D ones.")
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"These AVSM weights do not fit their configuration: {reason}.") from None
        self.network = network.to(pair.fixed.device).eval()
        shape = network.settings.image_shape
        self.images = spatial.reduce(pair.moving, shape), spatial.reduce(pair.fixed, shape)

    def affine(self, parameters: Parameters) -> Tensor:
        """``[A | b]``, (d, d + 1), of the affine network."""
        with torch.inference_mode():
            output = self.network(*self.images, stage="affine", affine_steps=parameters.affine_steps or None)
        return output["aux"]["affine"][0].clone()

    def map(self, parameters: Parameters) -> Tensor:
        """The momentum network's map (1, d, *network's grid) of a pair that is affinely aligned."""
        aligned = identity_affine(1, self.network.dims, self.images[1])
        with torch.inference_mode():
            output = self.network(
                *self.images, initial_affine=aligned, momentum_steps=parameters.momentum_steps or None, search=True
            )
        # A clone made outside: inference tensors cannot take part in an optimisation that follows.
        return output["transform"].clone()
