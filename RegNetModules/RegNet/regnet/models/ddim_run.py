"""DDIM's trained network, applied to pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import spatial
from ..affine_ascent import to_world
from ..errors import ModelError
from ..events import Events
from ..networks.ddim import DDIM
from ..orientation import Orientation
from ..pair import Pair


class Cascade:
    """The network, ready for pairs.

    Pairs are turned the way round that the network knows and resampled to the grid it was trained on, over the same
    corners: affine transforms in [-1, 1] do not change by that.

    Raises:
        ModelError: the weights do not fit their configuration.
    """

    def __init__(self, state: dict[str, Tensor], config: dict[str, Any], device: torch.device | str) -> None:
        network = DDIM.from_config(config)
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError:
            raise ModelError("These DDIM weights do not fit their configuration; install them again.") from None
        layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
        self.network = network.to(device, memory_format=layout).eval()

    def world_matrix(self, pair: Pair, passes: int, events: Events) -> np.ndarray:
        """4x4, to apply before the alignment that the pair was made with."""
        if self.network.dims != len(pair.shape):
            raise ModelError(
                f"These DDIM weights are for {self.network.dims}D images, not for {len(pair.shape)}D ones."
            )
        orientation, shape = Orientation.of(pair.grid), self.network.settings.image_shape or pair.shape
        fixed, moving = (spatial.reduce(orientation.apply(one), shape) for one in (pair.fixed, pair.moving))
        affine = None
        with torch.inference_mode(), events.stoppable(self.network):
            for number in range(passes):
                affine = self.network.align(fixed, moving, affine)
                events.progress((number + 1) / passes)
        return to_world(orientation.affine_back(affine[0]), pair.grid)
