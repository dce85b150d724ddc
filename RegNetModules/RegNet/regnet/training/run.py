"""A training from its configuration to its checkpoints: resumable, on any number of devices."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import Cancelled, InputError, ModelError
from ..models import get_recipe
from ..zoo import find_weights, load_state
from .checkpoints import BEST, LAST, best_checkpoint, facts_of, load_checkpoint
from .config import TrainConfig, make_config
from .manifest import Subject, provenance, read_manifest
from .prepare import Prepared, prepare


@dataclass(frozen=True)
class Where:
    """Folders of a run. ``config`` is the folder that the manifest's path is relative to; ``data`` that of the images,
    or None for the manifest's; ``out`` takes checkpoints and logs; ``cache`` the prepared subjects."""

    config: Path
    out: Path
    data: Path | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class Devices:
    """What to run on: Lightning's ``accelerator`` (auto, cpu, gpu), ``devices`` per node, and nodes."""

    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1


def subjects_of(config: TrainConfig, where: Where) -> list[Subject]:
    """The rows of the configuration's manifest; none without one."""
    if config.data is None:
        return []
    return read_manifest(where.config / config.data.manifest, where.data)


def prepared_subjects(config: TrainConfig, where: Where, say: Callable[[str], None] = lambda _: None) -> list[Prepared]:
    """The configuration's subjects in the working space; made where they are not in the cache yet."""
    if config.data is None:
        return []
    data = where.data or (where.config / config.data.manifest).parent
    return prepare(subjects_of(config, where), config.data, data, where.cache or where.out / "cache", say)


def train(
    config: TrainConfig,
    where: Where,
    devices: Devices = Devices(),
    *,
    resume: bool | None = None,
    overfit: bool = False,
    minutes: float | None = None,
    quiet: bool = False,
    command: str = "",
) -> Path:
    """Train, or go on training, and return the checkpoint to export: the best one, else the last.

    Args:
        resume: True goes on from ``last.ckpt`` and False starts afresh; None goes on if there is one.
        overfit: every step of a stage uses the stage's first pair; for a look at whether the loss falls.
        minutes: stop at the end of an epoch before this much time is over; 0 trains nothing.
        command: what to record as the command of the run.

    Raises:
        InputError: configuration, data or run folder cannot be used.
        ModelError: the training diverged.
    """
    pl = _lightning()
    from .adversarial import AdversarialTraining
    from .callbacks import Checkpoints, Lines, TimeLimit
    from .data import Draws
    from .module import Training
    from .precision import choose, plugin
    from .recipe import AdversarialRecipe
    from .validate import ValidationSet

    recipe = get_recipe(config.model)(config)
    folder = where.out / "overfit" if overfit else where.out
    checkpoint = _resumed(folder / LAST, config, False if overfit else resume)
    if minutes == 0 and checkpoint is not None:
        return best_checkpoint(folder)
    accelerator, number, strategy = _placing(pl, devices)
    device = "cuda" if accelerator == "cuda" else "cpu"
    precision = choose(config.precision, device)
    subjects = prepared_subjects(config, where, (lambda _: None) if quiet else _say)
    draws = Draws(config, subjects)
    pl.seed_everything(config.seed, verbose=False)
    kind = AdversarialTraining if isinstance(recipe, AdversarialRecipe) else Training
    module = kind(config, recipe, draws, ValidationSet(config, subjects, draws), precision, overfit)
    if config.initial and checkpoint is None:
        _begin_with(module, config)
    facts = _facts(config, where, command, device, number * devices.num_nodes)
    callbacks: list[Any] = [Checkpoints(folder, facts), Lines(folder, quiet or sys.stderr.isatty())]
    if minutes is not None:
        callbacks.append(TimeLimit(minutes))
    if sys.stderr.isatty() and not quiet:
        callbacks.append(pl.callbacks.TQDMProgressBar())
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=number,
        num_nodes=devices.num_nodes,
        strategy=strategy,
        plugins=plugin(precision, device),
        max_epochs=len(module.schedule),
        check_val_every_n_epoch=config.validate_every,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        limit_val_batches=0 if overfit else None,
        use_distributed_sampler=False,
        logger=pl.loggers.TensorBoardLogger(str(folder), name="", version="tensorboard"),
        log_every_n_steps=10,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty() and not quiet,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # What Lightning makes of Ctrl-C and of a termination signal.
        text = "Stopped; run the same command again to go on from the last finished epoch."
        raise Cancelled(text) from None
    return best_checkpoint(folder)


def _begin_with(module: Any, config: TrainConfig) -> None:
    """Take over the tensors of the installed weights that ``initial`` names.

    Raises:
        InputError: they are not installed, or none of their tensors is one of the network's.
    """
    record = find_weights(config.model, config.initial)
    if record is None:
        raise InputError(f"The initial weights {config.initial!r} of {config.model} are not installed.")
    state = load_state(record)
    for network in module.networks():
        own = network.state_dict()
        fitting = {name: tensor.float() for name, tensor in state.items() if name in own}
        if not fitting or any(own[name].shape != tensor.shape for name, tensor in fitting.items()):
            raise InputError(f"The initial weights {config.initial!r} are of another network; check its settings.")
        network.load_state_dict({**own, **fitting})


def _lightning() -> Any:
    try:
        import lightning.pytorch as pl
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ModelError(f"Training needs {error.name}; install it with `pip install 'regnet[train]'`.") from None
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of Lightning's hints none is for the person who starts a training of ours.
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    return pl


def _placing(pl: Any, devices: Devices) -> tuple[str, int, Any]:
    """Accelerator, devices and strategy as Lightning's trainer takes them.

    Raises:
        InputError: they do not exist here.
    """
    from lightning.pytorch.strategies import DDPStrategy

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices.accelerator not in ("auto", "cpu", "gpu"):
        raise InputError(f"There is no accelerator {devices.accelerator!r}; choose from auto, cpu, gpu.")
    if devices.accelerator == "gpu" and not gpus:
        raise InputError("This machine has no usable GPU; choose --accelerator cpu or auto.")
    accelerator = "cpu" if devices.accelerator == "cpu" or not gpus else "cuda"
    if devices.devices == "auto":
        number = gpus if accelerator == "cuda" else 1
    elif devices.devices.isdigit() and int(devices.devices) > 0:
        number = int(devices.devices)
    else:
        raise InputError(f"--devices is {devices.devices!r}; give a number from 1 up, or auto.")
    if accelerator == "cuda" and number > gpus:
        raise InputError(f"--devices asks for {number} GPUs, but this machine has {gpus}.")
    if number * devices.num_nodes == 1:
        return accelerator, 1, "auto"
    # Each stage trains some of the parameters only.
    strategy = DDPStrategy(
        find_unused_parameters=True, process_group_backend="gloo" if accelerator == "cpu" else "nccl"
    )
    return accelerator, number, strategy


def _resumed(last: Path, config: TrainConfig, resume: bool | None) -> Path | None:
    """The checkpoint to go on from, if any; a fresh start clears what an earlier run left."""
    if resume and not last.exists():
        raise InputError(f"There is nothing to resume in {str(last.parent)!r}; leave out --resume.")
    if resume is False or not last.exists():
        if last.parent.exists() and _is_first_process():
            for old in (last, last.with_name(BEST), last.with_name("progress.jsonl")):
                old.unlink(missing_ok=True)
            shutil.rmtree(last.with_name("tensorboard"), ignore_errors=True)
        last.parent.mkdir(parents=True, exist_ok=True)
        return None
    begun = make_config(facts_of(load_checkpoint(last), last)["config"])
    if begun.fingerprint() != config.fingerprint():
        raise InputError(
            f"The run in {str(last.parent)!r} was begun with another configuration; go on with that one, choose "
            "another --out, or start afresh with --fresh."
        )
    return last


def _is_first_process() -> bool:
    """Whoever starts the other processes, Lightning or a cluster, gives them their rank in the environment."""
    names = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _facts(config: TrainConfig, where: Where, command: str, device: str, count: int) -> dict[str, Any]:
    """Plain values about the run, kept in its checkpoints for the record of the weights."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{_processor()}, {torch.get_num_threads()} threads"
    used = [subject for subject in subjects_of(config, where) if subject.split == "train"]
    return {
        "config": json.loads(config.model_dump_json()),
        "command": command,
        "device": name if count == 1 else f"{count} x {name}",
        "data": provenance(used),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"
