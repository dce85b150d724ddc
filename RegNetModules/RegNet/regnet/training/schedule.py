"""Which stage, step and learning rate a batch belongs to: pure functions of the epoch and the batch's number in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .config import TrainConfig


@dataclass(frozen=True)
class Place:
    """Where in the training a batch lies. ``step`` is the optimiser step and ``part`` the accumulated part of it;
    ``epoch`` counts from the stage's start and ``fraction`` is how much of the stage is done, in [0, 1]."""

    stage: int
    step: int
    part: int
    epoch: float
    fraction: float


class Schedule:
    """Stages cut into epochs of at most ``steps_per_epoch`` optimiser steps; a stage begins with an epoch."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._epochs: list[tuple[int, int, int]] = []
        for number, stage in enumerate(config.stages):
            for first in range(0, stage.steps, config.steps_per_epoch):
                self._epochs.append((number, first, min(config.steps_per_epoch, stage.steps - first)))

    def __len__(self) -> int:
        """Epochs of the whole training."""
        return len(self._epochs)

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.config.stages)

    def epoch(self, number: int) -> tuple[int, int, int]:
        """(stage, its step at the epoch's start, steps in the epoch); the last epoch for any number beyond."""
        return self._epochs[min(number, len(self._epochs) - 1)]

    def batches(self, number: int) -> int:
        stage, _, steps = self.epoch(number)
        return steps * self.config.stages[stage].accumulate

    def place(self, number: int, batch: int) -> Place:
        """The place of a batch (its number in the epoch)."""
        stage, first, _ = self.epoch(number)
        entry = self.config.stages[stage]
        step = first + batch // entry.accumulate
        return Place(
            stage, step, batch % entry.accumulate, step / self.config.steps_per_epoch, min(step / entry.steps, 1.0)
        )

    def rate(self, place: Place) -> float:
        """The learning rate: a linear rise, then half a cosine."""
        stage = self.config.stages[place.stage]
        if place.step < stage.warmup:
            return stage.lr * (place.step + 1) / (stage.warmup + 1)
        done = (place.step - stage.warmup) / max(stage.steps - stage.warmup, 1)
        return stage.lr * (stage.final_lr + (1 - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
