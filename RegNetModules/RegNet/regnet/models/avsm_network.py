"""AVSM with trained weights: the map that its networks predict for a pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..networks.avsm import AVSM
from ..pair import Pair
from .avsm import Parameters


def predict_map(pair: Pair, parameters: Parameters, state: dict[str, Tensor], config: dict[str, Any]) -> Tensor:
    """The map (1, d, *network's grid) in the unit cube's coordinates.

    The pair is resampled to the grid the networks were trained on, over the same corners; maps of the unit cube do
    not change by that.

    Raises:
        ModelError: the weights are of another dimension or do not fit their configuration.
    """
    network = AVSM.from_config(config)
    if network.dims != len(pair.shape):
        raise ModelError(f"These AVSM weights are for {network.dims}D images, not for {len(pair.shape)}D ones.")
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ModelError(f"These AVSM weights do not fit their configuration: {str(error).splitlines()[0]}.") from None
    network = network.to(pair.fixed.device).eval()
    shape = network.settings.image_shape
    with torch.inference_mode():
        output = network(
            spatial.reduce(pair.moving, shape),
            spatial.reduce(pair.fixed, shape),
            affine_steps=parameters.affine_steps,
            momentum_steps=parameters.momentum_steps,
        )
    # A clone made outside: inference tensors cannot take part in the optimisation that follows.
    return output["transform"].clone()
