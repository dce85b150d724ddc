"""Deform-GAN's trained networks on one pair: prediction, translation to T1, refinement on the translated images."""

from __future__ import annotations

import dataclasses
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .. import spatial
from ..errors import ModelError
from ..events import Events
from ..networks.deformgan import DeformGAN
from ..orientation import Orientation
from ..pair import FOREGROUND, Pair
from ..refine import AFTER_NETWORK, after_network, is_auto, schedule_for
from ..refine import refine as refined
from .deformgan import Parameters

SPACING = 2.4
"""Of the grid on which the networks see a pair, in mm: what they were trained on, about."""
FINEST = 1.5
"""Of the grid on which the translated images are compared, in mm; finer ones than the generator was trained on serve
it less and cost more."""
ALREADY = 0.9
"""Correlation of an image with its own translation from which on it counts as T1 and is taken as it is."""


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
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"These Deform-GAN weights do not fit their configuration: {reason}.") from None
        layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
        self.network = network.to(device, memory_format=layout).eval()
        self._translated: WeakKeyDictionary[Pair, dict[float, Pair]] = WeakKeyDictionary()

    def displacement(self, pair: Pair, events: Events) -> Tensor:
        """(1, d, *grid) in voxels of a grid of :data:`SPACING` over the pair's corners, in one pass."""
        if self.network.dims != len(pair.shape):
            raise ModelError(
                f"These Deform-GAN weights are for {self.network.dims}D images, not for {len(pair.shape)}D ones."
            )
        level, orientation = pair.level(SPACING / pair.spacing_of_finest), Orientation.of(pair.grid)
        fixed = self.translated(pair, SPACING, events).fixed
        with torch.inference_mode(), events.stoppable(self.network):
            found = self.network.register(orientation.apply(fixed), orientation.apply(level.moving))
        return orientation.displacement_back(found).clone()

    def translated(self, pair: Pair, spacing: float, events: Events) -> Pair:
        """The pair as T1 on both sides, at ``spacing`` mm; an image that is T1 already stays as it is."""
        kept = self._translated.setdefault(pair, {})
        if spacing not in kept:
            level, orientation = pair.level(spacing / pair.spacing_of_finest), Orientation.of(pair.grid)
            images = [self._as_t1(image, orientation, events) for image in (level.fixed, level.moving)]
            # A copy: what is kept must not hold its own key.
            kept[spacing] = dataclasses.replace(level, fixed=images[0], moving=images[1])
        return kept[spacing]

    def translation(self, image: Tensor, orientation: Orientation, events: Events) -> Tensor:
        """``image`` (1, 1, *shape) in [0, 1] as T1; what is empty stays empty."""
        with torch.inference_mode(), events.stoppable(self.network):
            made = self.network.generator(orientation.apply(image))
        return (orientation.back(made) * (image > FOREGROUND)).clone()

    def _as_t1(self, image: Tensor, orientation: Orientation, events: Events) -> Tensor:
        made = self.translation(image, orientation, events)
        return image if correlation(image, made) > ALREADY else made


def correlation(first: Tensor, second: Tensor) -> float:
    """Of two images where the first has content; 0 where either is flat."""
    inside = first > FOREGROUND
    a, b = first[inside], second[inside]
    if len(a) < 2 or float(a.std()) < 1e-6 or float(b.std()) < 1e-6:
        return 0.0
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


_made: list[tuple[dict[str, Tensor], str, Networks]] = []


def networks_of(state: dict[str, Tensor], config: dict[str, Any] | None, device: torch.device) -> Networks:
    """The networks of these weights; those asked for last are kept, with what they have translated."""
    if not _made or _made[0][0] is not state or _made[0][1] != str(device):
        _made[:] = [(state, str(device), Networks(state, config, device))]
    return _made[0][2]


def improve(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor],
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """``displacement`` improved by the local correlation of the translated images."""
    networks = networks_of(state, config, pair.fixed.device)
    level = networks.translated(pair, max(FINEST, pair.spacing_of_finest), events)
    schedule = after_network(level, displacement.shape[2:]) if is_auto(how) else schedule_for(how, AFTER_NETWORK)
    return refined(level, displacement, schedule, events, parameters.regularization)


def synthetic(
    pair: Pair, displacement: Tensor, state: dict[str, Tensor], config: dict[str, Any] | None, events: Events
) -> Tensor:
    """F'(phi): the moving image, deformed by ``displacement`` in voxels of any grid over the pair's corners and
    translated to T1, (1, 1, *grid) in [0, 1]."""
    level = pair.level(max(FINEST / pair.spacing_of_finest, 1.0))
    warped = spatial.warp(level.moving, spatial.resize_displacement(displacement, level.shape))
    return networks_of(state, config, pair.fixed.device).translation(warped, Orientation.of(pair.grid), events)
