"""From a checkpoint to the weights that ship: tensors as safetensors, and their record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .._version import __version__
from ..errors import ModelError
from ..files import replacing
from ..models import get_recipe
from .checkpoints import facts_of, load_checkpoint
from .config import TrainConfig, make_config
from .schedule import Schedule


@dataclass(frozen=True)
class _Run:
    """What a checkpoint holds: the network's tensors and settings, which parts its stages trained, and its record."""

    config: TrainConfig
    state: dict[str, torch.Tensor]
    settings: dict[str, Any]
    trained: set[str]
    record: dict[str, Any]


def export(checkpoint: Path, folder: Path, *, half: bool = True, joined: Path | None = None) -> Path:
    """Write ``<folder>/<model>/<variant>.safetensors`` and its record ``<variant>.json``; returns the former.

    Args:
        half: store float16. The weights then have a relative error of 2**-11 at most.
        joined: the checkpoint of another run of the same model; the parts of the network that its stages trained are
            taken from it, together with the settings whose names begin with theirs.

    Raises:
        ModelError: a checkpoint cannot be read, its weights are not finite, or the two do not fit together.
    """
    from safetensors.torch import save

    run = _read(checkpoint)
    if joined is not None:
        run = _join(run, _read(joined))
    tensors = {name: _stored(name, tensor, half) for name, tensor in run.state.items()}
    path = folder / run.config.model / f"{run.config.variant}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = save(tensors)
    identity = {
        "model": run.config.model,
        "variant": run.config.variant,
        "version": __version__,
        "sha256": hashlib.sha256(data).hexdigest(),
        "config": json.loads(json.dumps(run.settings)),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(
            json.dumps({**identity, **run.record}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return path


def _read(checkpoint: Path) -> _Run:
    held = load_checkpoint(checkpoint)
    facts = facts_of(held, checkpoint)
    config = make_config(facts["config"])
    recipe = get_recipe(config.model)(config)
    network = recipe.build()
    network.load_state_dict(network_state(held["state_dict"]))
    state, settings = recipe.export(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    used = [parameter for stage in config.stages for parameter in recipe.parameters(network, recipe.options(stage))]
    record = {
        "data": facts["data"],
        "seed": config.seed,
        "command": facts["command"],
        "minutes": round(facts["minutes"], 1),
        "device": facts["device"],
        "steps": steps_done(config, held["epoch"]),
        "figures": {name.removeprefix("val/"): round(value, 4) for name, value in facts["figures"].items()},
    }
    return _Run(config, state, settings, {_part(names[id(parameter)]) for parameter in used}, record)


def _join(run: _Run, other: _Run) -> _Run:
    """``run`` with the parts that ``other`` trained."""
    if (run.config.model, run.config.variant) != (other.config.model, other.config.variant):
        mine, others = (f"{one.config.model}-{one.config.variant}" for one in (run, other))
        raise ModelError(f"The run to join is of {others}, not of {mine}; only runs of the same weights can be joined.")

    def theirs(name: str) -> bool:
        return name.startswith(tuple(f"{part}_" for part in other.trained))

    mine = tuple(f"{part}_" for part in run.trained)
    for name, value in run.settings.items():
        if not theirs(name) and not name.startswith(mine) and other.settings.get(name) != value:
            raise ModelError(
                f"The runs cannot be joined: {name} is {value!r} in one and {other.settings.get(name)!r} in the other."
            )
    state = {name: tensor for name, tensor in run.state.items() if _part(name) not in other.trained}
    state |= {name: tensor for name, tensor in other.state.items() if _part(name) in other.trained}
    settings = {name: other.settings[name] if theirs(name) else value for name, value in run.settings.items()}
    record = {**run.record, "joined": [{"parts": sorted(other.trained), **other.record}]}
    return replace(run, state=state, settings=settings, trained=run.trained | other.trained, record=record)


def _part(name: str) -> str:
    """The module of the network that a tensor belongs to."""
    return name.partition(".")[0]


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
