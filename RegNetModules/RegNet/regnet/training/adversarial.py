"""The Lightning module of networks that train against each other: each has its turn in every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .module import Training
from .recipe import AdversarialRecipe


class AdversarialTraining(Training):
    """Trains the players of an :class:`~regnet.training.recipe.AdversarialRecipe` in their order, one optimiser each.

    Raises:
        InputError: a stage accumulates gradients, which cannot be done over turns.
    """

    recipe: AdversarialRecipe

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.automatic_optimization = False
        self.memory = self.recipe.memory()
        for stage in self.config.stages:
            if stage.accumulate != 1:
                raise InputError(
                    f"The stage {stage.name!r} accumulates {stage.accumulate} batches, but networks that train "
                    "against each other take their turns in every batch; set accumulate to 1."
                )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rate = self.config.stages[0].lr
        return [
            self.recipe.optimizer(player, self.network.get_submodule(player).parameters(), rate)
            for player in self.recipe.players
        ]

    def _rates(self, rate: float) -> list[tuple[torch.optim.Optimizer, float]]:
        optimizers, options = self.optimizers(use_pl_optimizer=False), self.options[self.place.stage]
        return [
            (one, self.recipe.rate(player, rate, options))
            for player, one in zip(self.recipe.players, optimizers, strict=True)
        ]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        options = self.options[self.place.stage]
        playing = self.recipe.playing(options)
        shared = self.recipe.begin(self.network, batch, options)
        shown: dict[str, Tensor] = {}
        for player, optimizer in zip(self.recipe.players, self.optimizers(), strict=True):
            if player not in playing:
                continue
            terms = self.recipe.turn(self.network, player, batch, shared, options, self.place, self.memory)
            if not terms:
                continue
            optimizer.zero_grad()
            self.manual_backward(torch.stack([*terms.values()]).sum())
            self._clip(self.network.get_submodule(player).parameters(), f"gradient/{player}")
            optimizer.step()
            shown |= {f"loss/{player}/{name}": value.detach() for name, value in terms.items()}
            self.logged.add(f"gradient/{player}")
        self.logged |= {*shown, "rate"}
        self.log_dict(shown, on_step=False, on_epoch=True, batch_size=len(batch["fixed"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.memory is not None:
            checkpoint["memory"] = self.memory.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.memory is not None and "memory" in checkpoint:
            self.memory.load_state_dict(checkpoint["memory"])
