"""BSAFusion's trained network on one pair: the deformation, and the fusion of images that lie on each other."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..events import Events
from ..networks.bsafusion import BSAFusion
from ..orientation import Orientation
from ..pair import Pair

SPACING = {2: 2.0, 3: 2.5}
"""Of the grid on which the network registers, in mm, by the images' dimension: what it was trained on; in planes a
little finer than that (2.7), where real pairs, of tuning cases, are moved less without a reason."""
TRAINING_ONLY = "representation.frozen."
LOCAL = {2: 2.5, 3: 3.0}
"""Voxels of the network's grid over which displacements are judged together, a Gaussian's width, by dimension."""
AT_ONCE = {2: 3, 3: 1}
"""Mirror images that are looked at together: small ones in a batch take less time than one by one."""
KEPT = 2
"""Networks that stay built in a thread: those for planes and for volumes."""
_built = threading.local()


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

    @classmethod
    def of(cls, state: dict[str, Tensor], config: dict[str, Any] | None, device: torch.device) -> Network:
        """The network of these very tensors: the one built before, if it is among the last of this thread.

        Building one takes longer than a pass in the plane. A thread's own, because a cancel hangs on its layers.
        """
        held = _built.__dict__.setdefault("networks", [])
        for known, where, network in held:
            if known is state and where == device:
                return network
        # Ordinary tensors, wherever it is asked for.
        with torch.inference_mode(False):
            network = cls(state, config, device)
        held[:] = [(state, device, network), *held][:KEPT]
        return network

    def displacement(self, pair: Pair, events: Events) -> Tensor:
        """(1, d, *grid) in voxels of a grid of :data:`SPACING` over the pair's corners, in one pass."""
        return self._looks(*self._ready(pair), [()], events)

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
        at_once = AT_ONCE[self.dims]
        for start in range(0, len(ways), at_once):
            found.append(self._looks(*ready, ways[start : start + at_once], events))
            events.progress(min(start + at_once, len(ways)) / len(ways))
        said = torch.cat(found)
        mean = said.mean(0, keepdim=True)
        noise = spatial.gaussian(said.var(0, keepdim=True).sum(1, keepdim=True), LOCAL[self.dims])
        signal = spatial.gaussian(mean.square().sum(1, keepdim=True), LOCAL[self.dims])
        return mean * (signal / (signal + noise).clamp_min(1e-6))

    def _ready(self, pair: Pair) -> tuple[Tensor, Tensor, Orientation]:
        """The pair as the network sees it, and how to turn back what it says."""
        if self.dims != len(pair.shape):
            raise ModelError(f"These BSAFusion weights are for {self.dims}D images, not for {len(pair.shape)}D ones.")
        level, orientation = seen(pair), Orientation.of(pair.grid)
        return orientation.apply(level.fixed), orientation.apply(level.moving), orientation

    def _looks(
        self, fixed: Tensor, moving: Tensor, orientation: Orientation, ways: list[tuple[int, ...]], events: Events
    ) -> Tensor:
        """(looks, d, *grid), what the network says of images mirrored along the axes of each of ``ways``, together."""
        flips = [[axis + 2 for axis in way] for way in ways]
        sides = (torch.cat([image.flip(axes) for axes in flips]) for image in (fixed, moving))
        with torch.inference_mode(), events.stoppable(self.network):
            found = self.network.register(*sides)
        turned = []
        for look, axes, way in zip(found.split(1), flips, ways, strict=True):
            signs = found.new_ones(self.dims)
            signs[list(way)] = -1.0
            turned.append(look.flip(axes) * signs.view(1, -1, *(1,) * self.dims))
        return orientation.displacement_back(torch.cat(turned)).clone()

    def fuse(self, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
        """Aligned images (B, 1, *shape) in [0, 1] as one, (B, 1, *shape) in (0, 1)."""
        with torch.inference_mode(), events.stoppable(self.network):
            return self.network.fuse(self.network.encode(fixed, moving, transfer=False))


def seen(pair: Pair) -> Pair:
    """The pair as the network sees it to register it."""
    return pair.level(max(SPACING[len(pair.shape)] / pair.spacing_of_finest, 1.0))
