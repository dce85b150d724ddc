"""What a model brings to be trained: a small class beside it, found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from torch import Tensor, nn

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
