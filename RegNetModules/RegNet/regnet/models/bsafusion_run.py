"""BSAFusion's trained network on one pair: the deformation, and the fusion of images that lie on each other."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..events import Events
from ..networks.bsafusion import BSAFusion
from ..orientation import Orientation
from ..pair import Pair

SPACING = {2: 1.5, 3: 2.2}
"""Of the grid on which the network registers, in mm, by the images' dimension: what it was trained on, about."""
TRAINING_ONLY = "representation.frozen."
LOCAL = 4.0
"""Voxels of the network's grid over which displacements are judged together, a Gaussian's width."""


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
        return self._look(*self._ready(pair), (), events)

    def agreed(self, pair: Pair, first: Tensor, looks: int, events: Events) -> Tensor:
        """What the network says of the pair's mirror images, too, as far as it says the same. Not the paper's.

        The true deformation of a mirrored pair is the mirrored deformation; what differs is the network's own error.
        The mean of all looks has less of it, and what is left is known from their variance: the mean is damped by the
        share of its square that is not variance, as Wiener's filter would.

        Args:
            first: (1, d, *grid), what :meth:`displacement` gave.
            looks: the most mirror images, of 2**d - 1.
        """
        ready = self._ready(pair)
        ways = [way for count in range(1, self.dims + 1) for way in itertools.combinations(range(self.dims), count)]
        ways, found = ways[:looks], [first]
        for number, way in enumerate(ways):
            found.append(self._look(*ready, way, events))
            events.progress((number + 1) / len(ways))
        said = torch.cat(found)
        mean = said.mean(0, keepdim=True)
        noise = spatial.gaussian(said.var(0, keepdim=True).sum(1, keepdim=True), LOCAL)
        signal = spatial.gaussian(mean.square().sum(1, keepdim=True), LOCAL)
        return mean * (signal / (signal + noise).clamp_min(1e-6))

    def _ready(self, pair: Pair) -> tuple[Tensor, Tensor, Orientation]:
        """The pair as the network sees it, and how to turn back what it says."""
        if self.dims != len(pair.shape):
            raise ModelError(f"These BSAFusion weights are for {self.dims}D images, not for {len(pair.shape)}D ones.")
        level, orientation = seen(pair), Orientation.of(pair.grid)
        return orientation.apply(level.fixed), orientation.apply(level.moving), orientation

    def _look(
        self, fixed: Tensor, moving: Tensor, orientation: Orientation, mirrored: tuple[int, ...], events: Events
    ) -> Tensor:
        """(1, d, *grid), what the network says of images ``mirrored`` along these of their axes."""
        axes = [axis + 2 for axis in mirrored]
        with torch.inference_mode(), events.stoppable(self.network):
            found = self.network.register(fixed.flip(axes), moving.flip(axes)).flip(axes)
        signs = found.new_ones(self.dims)
        signs[list(mirrored)] = -1.0
        return orientation.displacement_back(found * signs.view(1, -1, *(1,) * self.dims)).clone()

    def fuse(self, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
        """Aligned images (B, 1, *shape) in [0, 1] as one, (B, 1, *shape) in (0, 1)."""
        with torch.inference_mode(), events.stoppable(self.network):
            return self.network.fuse(self.network.encode(fixed, moving, transfer=False))


def seen(pair: Pair) -> Pair:
    """The pair as the network sees it to register it."""
    return pair.level(max(SPACING[len(pair.shape)] / pair.spacing_of_finest, 1.0))
