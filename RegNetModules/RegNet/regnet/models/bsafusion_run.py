"""BSAFusion's trained network on one pair: the deformation, and the fusion of images that lie on each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..events import Events
from ..networks.bsafusion import BSAFusion
from ..orientation import Orientation
from ..pair import Pair

SPACING = {2: 1.0, 3: 2.2}
"""Of the grid on which the network registers, in mm, by the images' dimension: what it was trained on, about."""
TRAINING_ONLY = "representation.frozen."


class Network:
    """The network, ready for pairs.

    Raises:
        ModelError: the weights do not fit their configuration.
    """

    def __init__(self, state: dict[str, Tensor], config: dict[str, Any] | None, device: torch.device) -> None:
        network = BSAFusion.from_config(config or {})
        # What is shipped has no frozen copy of the classifier.
        wanted = {name for name in network.state_dict() if not name.startswith(TRAINING_ONLY)}
        try:
            if set(state) != wanted:
                raise RuntimeError
            network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        except RuntimeError:
            raise ModelError("These BSAFusion weights do not fit their configuration; install them again.") from None
        layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
        self.network = network.to(device, memory_format=layout).eval()
        self.dims = network.dims

    def displacement(self, pair: Pair, events: Events) -> Tensor:
        """(1, d, *grid) in voxels of a grid of :data:`SPACING` over the pair's corners, in one pass."""
        if self.dims != len(pair.shape):
            raise ModelError(f"These BSAFusion weights are for {self.dims}D images, not for {len(pair.shape)}D ones.")
        level, orientation = seen(pair), Orientation.of(pair.grid)
        with torch.inference_mode(), events.stoppable(self.network):
            found = self.network.register(orientation.apply(level.fixed), orientation.apply(level.moving))
        return orientation.displacement_back(found).clone()

    def fuse(self, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
        """Aligned images (B, 1, *shape) in [0, 1] as one, (B, 1, *shape) in (0, 1)."""
        with torch.inference_mode(), events.stoppable(self.network):
            return self.network.fuse(self.network.encode(fixed, moving, transfer=False))


def seen(pair: Pair) -> Pair:
    """The pair as the network sees it to register it."""
    return pair.level(max(SPACING[len(pair.shape)] / pair.spacing_of_finest, 1.0))
