"""MASR-Net on one pair: from parameters and weights to a start, and from a start to the optimised deformation."""

from __future__ import annotations

import dataclasses
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .. import descriptors
from ..described import Described, described_level
from ..discrete import pyramid_search
from ..errors import ModelError
from ..events import Events
from ..matching import reduced
from ..networks.masr import DSIR
from ..networks.matcher import shape_for
from ..pair import Pair
from .masr import Parameters
from .masr_optimise import levels_for, optimise

MATCHER_VOXELS = 150_000
"""Of the grid on which the network registers: what it was trained on."""
SEARCH_STEPS = (4, 3)
"""Steps that the two rounds of the search reach in each direction; control points lie as far apart as one step."""
FINEST_SEARCH = 6.0
"""Distance of the second round's control points in mm, if there are not too many of them."""
MOST_POINTS = 20_000


_described: WeakKeyDictionary[Pair, tuple[Any, Described]] = WeakKeyDictionary()
"""What was described last of each pair that is still in use: the start and the optimisation look at the same."""


def describe(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> Described:
    """Both images of the pair, described at the spacing that the parameters ask for; without weights by MIND-SSC."""
    learned = parameters.descriptor == "dsir" and state is not None
    key = (learned, parameters.detail, id(state) if learned else 0)
    known = _described.get(pair)
    if known is None or known[0] != key:
        descriptor = descriptors.dsir(state, config or {}, pair.fixed.device) if learned else descriptors.mind()
        # A copy: what is kept must not hold its own key.
        level = dataclasses.replace(described_level(pair, parameters.detail))
        known = (key, Described(level, descriptor, events))
        _described[pair] = known
    return known[1]


def start(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> Tensor:
    """Displacement (1, d, *coarse) to begin the optimisation with."""
    if parameters.start == "none":
        return pair.fixed.new_zeros(1, len(pair.shape), *pair.level(8.0).shape)
    held = describe(pair, parameters, state, config, events)
    events.progress(0.4)
    if parameters.start == "network":
        return _predicted(held, state, config)
    with torch.inference_mode():
        rounds = _rounds(pair, parameters.reach)
        found = pyramid_search(held.fixed, held.moving, *zip(*rounds, strict=True), tick=events.check)
    return found.clone()


def _rounds(pair: Pair, reach: float) -> list[tuple[tuple[int, ...], int]]:
    """Grid and reach in steps of each round of the search; the first is left out where the second reaches as far."""
    fine = described_level(pair, FINEST_SEARCH, MOST_POINTS)
    step = fine.spacing_of_finest
    if reach <= SEARCH_STEPS[1] * step:
        return [(fine.shape, max(1, round(reach / step)))]
    coarse = described_level(pair, reach / SEARCH_STEPS[0], MOST_POINTS)
    return [(coarse.shape, SEARCH_STEPS[0]), (fine.shape, SEARCH_STEPS[1])]


def _predicted(held: Described, state: dict[str, Tensor] | None, config: dict[str, Any] | None) -> Tensor:
    """What the registration network makes of the descriptors, in one pass.

    Raises:
        ModelError: there are no weights for it.
    """
    network = DSIR.from_config(config or {}) if state is not None else None
    if network is None or network.matcher is None:
        raise ModelError(
            "The registration network of MASR-Net has no trained weights here; choose start=search, or install them."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    matcher = network.matcher.to(held.fixed.device).eval()
    shape = shape_for(held.fixed.shape[2:], MATCHER_VOXELS)
    with torch.inference_mode():
        found = matcher(reduced(held.fixed, shape), reduced(held.moving, shape))
    return found.clone()


def improve(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """``displacement`` optimised on the pair's descriptors."""
    return _optimised(describe(pair, parameters, state, config, events), displacement, parameters, events, how)


def refine_with(
    kind: str, pair: Pair, displacement: Tensor, events: Events, how: str | int, regularization: float
) -> Tensor:
    """Any dense model's ``displacement`` improved by the descriptor ``kind``, with the installed weights."""
    descriptor = descriptors.installed(kind, len(pair.shape), events, pair.fixed.device)
    held = Described(described_level(pair), descriptor, events)
    return _optimised(held, displacement, Parameters(regularization=regularization), events, how)


def _optimised(held: Described, displacement: Tensor, parameters: Parameters, events: Events, how: str | int) -> Tensor:
    """``how`` may be the iterations of the finest level."""
    text, iterations = str(how).strip(), parameters.iterations
    finest = int(text) if text.isdigit() else iterations
    levels = levels_for(held, iterations, finest, parameters.regularization)
    return optimise(held, displacement, levels, events, parameters.diffeomorphic)
