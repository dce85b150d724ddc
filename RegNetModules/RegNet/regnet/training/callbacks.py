"""What happens around the training loop: checkpoints, a time limit, a line per epoch."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from .checkpoints import BEST, LAST
from .module import Training


class Checkpoints(Checkpoint):
    """``last.ckpt`` at every epoch's end, and ``best.ckpt``, the one whose validation scored highest in its stage.

    Each appears whole or not at all. A new stage begins a new search: its scores are of other pairs.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.best, self.stage, self.minutes = -math.inf, -1, 0.0
        self.figures: dict[str, float] = {}
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        now = time.monotonic()
        self.minutes, self._since = self.minutes + (now - self._since) / 60, now
        held = {"best": self.best, "stage": self.stage, "minutes": self.minutes, "figures": self.figures}
        return {**held, "facts": self.facts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.stage, self.minutes = state["best"], state["stage"], state["minutes"]
        self.figures = state["figures"]

    def on_train_start(self, *_: Any) -> None:
        self._since = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, module: Training) -> None:
        self.figures = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Training) -> None:
        stage = module.place.stage
        if stage != self.stage:
            self.stage, self.best = stage, -math.inf
        score = self.figures.get("val/score", -math.inf)
        validated = (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0
        better = validated and score > self.best
        if better:
            self.best = score
        self._save(trainer, LAST)
        if better:
            self._copy(trainer)

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        temporary = self.folder / f".{name}"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.folder / name)

    def _copy(self, trainer: pl.Trainer) -> None:
        """A link costs no time and no space; the next ``last.ckpt`` is another file."""
        if not trainer.is_global_zero:
            return
        temporary = self.folder / f".{BEST}"
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.folder / LAST, temporary)
        except OSError:
            temporary.write_bytes((self.folder / LAST).read_bytes())
        os.replace(temporary, self.folder / BEST)


class TimeLimit(pl.Callback):
    """Stops at the end of an epoch when the next one would probably not end within ``minutes``."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.started = self.epoch_started = time.monotonic()

    def on_train_start(self, *_: Any) -> None:
        self.epoch_started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        now = time.monotonic()
        over = now - self.started + (now - self.epoch_started) > 60 * self.minutes
        self.epoch_started = now
        # All processes must do the same.
        trainer.should_stop = trainer.should_stop or trainer.strategy.broadcast(over)


class Lines(pl.Callback):
    """One line per epoch on standard error and in ``progress.jsonl``."""

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.path, self.quiet = folder / "progress.jsonl", quiet
        self.started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        self.started = time.monotonic()
        if trainer.is_global_zero and self.path.exists():
            # What a killed run noted of epochs that are now done again.
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.path.write_text("".join(lines[: trainer.current_epoch]), encoding="utf-8")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Training) -> None:
        if not trainer.is_global_zero:
            return
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        stage = module.config.stages[module.place.stage]
        # Lightning also keeps what earlier stages logged and this one does not.
        known = [name for name in trainer.logged_metrics if name in module.logged or name.startswith("val/")]
        figures = {name: round(float(trainer.logged_metrics[name]), 6) for name in known}
        entry = {
            "epoch": trainer.current_epoch + 1,
            "stage": stage.name,
            "step": module.place.step + 1,
            "seconds": round(seconds, 1),
            **figures,
        }
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if not self.quiet:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            text = f"epoch {entry['epoch']} of {len(module.schedule)}, {stage.name} step {entry['step']}/{stage.steps}"
            print(f"{text}, {seconds:.0f} s: {shown}", file=sys.stderr, flush=True)
