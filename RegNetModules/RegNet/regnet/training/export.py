"""From a checkpoint to the weights that ship: tensors as safetensors, and their record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from .._version import __version__
from ..errors import ModelError
from ..files import replacing
from ..models import get_recipe
from .checkpoints import facts_of, load_checkpoint
from .config import TrainConfig, make_config
from .schedule import Schedule


def export(checkpoint: Path, folder: Path, *, half: bool = True) -> Path:
    """Write ``<folder>/<model>/<variant>.safetensors`` and its record ``<variant>.json``; returns the former.

    Args:
        half: store float16. The weights then have a relative error of 2**-11 at most.

    Raises:
        ModelError: the checkpoint cannot be read, or its weights are not finite.
    """
    from safetensors.torch import save

    held = load_checkpoint(checkpoint)
    facts = facts_of(held, checkpoint)
    config = make_config(facts["config"])
    recipe = get_recipe(config.model)(config)
    network = recipe.build()
    network.load_state_dict(network_state(held["state_dict"]))
    state, settings = recipe.export(network)
    tensors = {name: _stored(name, tensor, half) for name, tensor in state.items()}
    path = folder / config.model / f"{config.variant}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = save(tensors)
    record = {
        "model": config.model,
        "variant": config.variant,
        "version": __version__,
        "sha256": hashlib.sha256(data).hexdigest(),
        "config": json.loads(json.dumps(settings)),
        "data": facts["data"],
        "seed": config.seed,
        "command": facts["command"],
        "minutes": round(facts["minutes"], 1),
        "device": facts["device"],
        "steps": steps_done(config, held["epoch"]),
        "figures": {name.removeprefix("val/"): round(value, 4) for name, value in facts["figures"].items()},
    }
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def network_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The averaged network's tensors if there are any, else the network's."""
    for prefix in ("average.module.", "network."):
        found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if found:
            return found
    raise ModelError("The checkpoint holds no network.")


def steps_done(config: TrainConfig, epoch: int) -> int:
    """Optimiser steps up to the end of ``epoch``."""
    schedule = Schedule(config)
    return sum(schedule.epoch(number)[2] for number in range(min(epoch + 1, len(schedule))))


def _stored(name: str, tensor: torch.Tensor, half: bool) -> torch.Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(f"The weights {name!r} are not finite; the training has failed, so nothing was exported.")
    if half and tensor.is_floating_point():
        tensor = tensor.half()
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"The weights {name!r} exceed the range of half precision; export them without it.")
    return tensor.contiguous()
