"""MASR-Net's installed weights, for the trainings of other models that compare its descriptors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import ModelError
from ..zoo import find_weights, load_state

MATCHER = "matcher."


def installed(dims: int, who: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights of the descriptor, those of the matcher, and the configuration.

    Args:
        who: the name of the model that wants them, for the sentence when there are none.

    Raises:
        ModelError: they are not installed, or of another dimension.
    """
    record = find_weights("masr")
    if record is None or record.config.get("dims", 3) != dims:
        raise ModelError(f"{who} with dsir needs MASR-Net's weights for {dims}D images; install them.")
    state = {name: tensor.float() for name, tensor in load_state(record).items()}
    own = {name: tensor for name, tensor in state.items() if not name.startswith(MATCHER)}
    matcher = {name.removeprefix(MATCHER): tensor for name, tensor in state.items() if name.startswith(MATCHER)}
    return own, matcher, record.config
