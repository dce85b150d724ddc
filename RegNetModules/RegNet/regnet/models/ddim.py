"""DDIM: an affine transform from a cascade of feature matchers. Info and parameters; the work is in ``ddim_run``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import ModelInfo, ParametersBase, for_planes, parameter

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..events import Events
    from ..image import Image
    from ..pair import Pair
    from ..transform import Affine

info = ModelInfo(
    name="ddim",
    title="DDIM",
    summary="Linear registration in a second: a network proposes the transform, mutual information refines it.",
    paper="Deep differentiable interpolation-based matching (reconstruction of an unverified note)",
    citation=(
        "A reconstruction of a note on deep differentiable interpolation-based matching; no publication of it is known "
        "to us, and no published result is claimed."
    ),
    dimensions=(2, 3),
    modalities="same or different contrast; trained on heads",
    transform_kind="linear",
    fuses=False,
    variants=("general", "general-2d"),
    without_weights="by mutual information near the centres",
    alignment="nearest",
)


@dataclass(frozen=True)
class Parameters(ParametersBase):
    weights: str = parameter(
        "general",
        "Trained for",
        "Which trained network proposes the transform. With none only the optimisation on the pair remains, which "
        "does not find the way from far.",
        choices=("general", "none"),
    )
    passes: int = parameter(
        2,
        "Passes",
        "How often the cascade is applied, each time to what the one before has left. More help where the images are "
        "far apart.",
        minimum=1,
        maximum=5,
    )

    def wanted_weights(self, dims: int) -> str:
        return for_planes(self.weights, dims)


def dimension_of(config: dict[str, Any]) -> int:
    """2 or 3: the images that a network of this configuration takes."""
    return int(config.get("dims", 3))


def improve_affine(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> np.ndarray:
    """The 4x4 world matrix to apply before the present alignment; the identity without weights."""
    import numpy as np

    if state is None:
        return np.eye(4)
    from .ddim_run import Cascade

    return Cascade(state, config or {}, pair.fixed.device).world_matrix(pair, parameters.passes, events)


def propose(fixed: Image, moving: Image, start: Affine, events: Events, device: str) -> Affine | None:
    """The network's transform, fixed to moving points, from ``start``; None, with a warning, without its weights."""
    import torch

    from ..pair import LINEAR_MB, make_pair
    from ..transform import Affine
    from ..zoo import find_weights, load_state

    parameters = Parameters()
    record = find_weights(info.name, parameters.wanted_weights(fixed.ndim))
    if record is None:
        events.warn(f"The weights of {info.title} for {fixed.ndim}D images are not installed; a search aligns instead.")
        return None
    pair = make_pair(fixed, moving, start, None, None, LINEAR_MB, torch.device(device))
    matrix = improve_affine(pair, parameters, load_state(record), record.config, events)
    return Affine(matrix, fixed.ndim).then(start)
