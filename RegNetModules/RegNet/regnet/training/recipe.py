"""What a model brings to be trained: a small class beside it, found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .config import Stage, TrainConfig, check_options
from .schedule import Place
from .scores import FIGURES, measure

Pair = dict[str, Any]
"""Tensors, batch first: ``fixed`` and ``moving`` (B, 1, *shape) in [0, 1]; where known ``fixed_labels`` and
``moving_labels`` (B, 1, *shape) integers, ``displacement`` (B, d, *shape) in voxels, pull; ``same_contrast`` (B,) bool;
``seed``, one integer per sample, for whatever a loss draws at random."""


class Recipe(ABC):
    """Base of the models' recipes: networks, losses and options of the stages. Loops, files and devices are not its.

    ``Options`` is the model of a stage's ``options``. ``parts`` are the submodules that may run in 16 bit; everything
    else stays in 32. ``figures`` name what validation measures.
    """

    Options: type[BaseModel]
    parts: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def options(self, stage: Stage) -> Any:
        """The checked options of a stage."""
        return check_options(self.Options, stage.options, f"The options of stage {stage.name!r}")

    @abstractmethod
    def build(self) -> nn.Module:
        """A fresh network."""

    def parameters(self, network: nn.Module, options: Any) -> Iterable[nn.Parameter]:
        """Those that the stage trains; all others are frozen."""
        return network.parameters()

    @abstractmethod
    def losses(self, network: nn.Module, pair: Pair, options: Any, place: Place) -> dict[str, Tensor]:
        """Weighted terms, each a mean over the samples, and their ``total``."""

    @abstractmethod
    def measure(self, network: nn.Module, pair: Pair, options: Any) -> dict[str, float]:
        """Those of the ``figures`` that can be told of a validation pair (batch 1)."""

    @abstractmethod
    def score(self, figures: dict[str, float]) -> float:
        """Of which the best checkpoint has the most; ``figures`` are means, their names begin with ``val/``."""

    @abstractmethod
    def export(self, network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and configuration, as the model's ``predict`` wants them back."""


class RegistrationRecipe(Recipe):
    """Of a network that predicts a displacement: scored by Dice where there are labels, else by end-point error."""

    figures = FIGURES

    @abstractmethod
    def displacement(self, network: nn.Module, pair: Pair, options: Any) -> Tensor:
        """What the network predicts at this stage, (B, d, *shape) in voxels."""

    def measure(self, network: nn.Module, pair: Pair, options: Any) -> dict[str, float]:
        return measure(pair, self.displacement(network, pair, options))

    def score(self, figures: dict[str, float]) -> float:
        folding = figures.get("val/folding", 0.0)
        if "val/dice" in figures:
            return figures["val/dice"] - 0.01 * folding
        return -figures.get("val/error", 0.0) - 0.01 * folding


class AdversarialRecipe(RegistrationRecipe):
    """Of networks that train against each other: in every step each of the ``players``, submodules of the network, has
    its turn and its own optimiser, the others are frozen."""

    players: tuple[str, ...] = ()

    def optimizer(self, player: str, parameters: Iterable[nn.Parameter], rate: float) -> Optimizer:
        return Adam(parameters, lr=rate)

    def rate(self, player: str, rate: float, options: Any) -> float:
        """The player's learning rate where the stage's is ``rate``."""
        return rate

    def playing(self, options: Any) -> Sequence[str]:
        """Those of the players that the stage trains."""
        return self.players

    def parameters(self, network: nn.Module, options: Any) -> Iterable[nn.Parameter]:
        for player in self.playing(options):
            yield from network.get_submodule(player).parameters()

    def memory(self) -> Any:
        """What lasts from step to step besides weights: something with ``state_dict`` and ``load_state_dict``."""
        return None

    @abstractmethod
    def begin(self, network: nn.Module, pair: Pair, options: Any) -> Any:
        """What all turns of a step share, with its graph."""

    @abstractmethod
    def turn(
        self, network: nn.Module, player: str, pair: Pair, shared: Any, options: Any, place: Place, memory: Any
    ) -> dict[str, Tensor]:
        """Weighted terms of the player's loss; their sum is minimised. Empty: it has nothing to learn."""

    def losses(self, network: nn.Module, pair: Pair, options: Any, place: Place) -> dict[str, Tensor]:
        """All players' terms at once, for looking at: the training takes them in turn."""
        shared = self.begin(network, pair, options)
        terms = {}
        for player in self.playing(options):
            found = self.turn(network, player, pair, shared, options, place, None)
            terms |= {f"{player}/{name}": value for name, value in found.items()}
        return {**terms, "total": torch.stack([*terms.values()]).sum()}
