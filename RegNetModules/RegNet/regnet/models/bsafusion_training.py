"""How BSAFusion is trained: on pairs of one anatomy in two modalities, of which one was deformed as is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..losses.fusion import FusionWeights, StructureBalance, fusion_losses
from ..networks.bsafusion import BSAFusion, BSAFusionConfig
from ..spatial import warp
from ..training.config import Strict
from ..training.recipe import Pair, RegistrationRecipe
from ..training.schedule import Place
from .bsafusion_run import TRAINING_ONLY

BALANCE = "balance"
"""Buffer of a network in training: mu and the two sums of :class:`~regnet.losses.fusion.StructureBalance`."""


class Options(Strict):
    """Of a stage: the weights of :class:`~regnet.losses.fusion.FusionWeights`."""

    modality: float = Field(1.0, ge=0)
    exchange: float = Field(1.0, ge=0)
    consistency: float = Field(1.0, ge=0)
    smoothness: float = Field(1.0, ge=0)
    structure: float = Field(1.0, ge=0)
    gradient: float = Field(1.0, ge=0)
    intensity: float = Field(0.5, ge=0)
    endpoint: float = Field(0.0, ge=0)

    def weights(self) -> FusionWeights:
        return FusionWeights(**self.model_dump())


class Recipe(RegistrationRecipe):
    Options = Options
    parts = ("representation", "decoder")

    def build(self) -> BSAFusion:
        fixed = {"dims": len(self.config.shape), "image_shape": self.config.shape}
        network = BSAFusion(BSAFusionConfig.from_dict({**fixed, **self.config.network}))
        # In the network, so that it is in the checkpoints.
        network.register_buffer(BALANCE, torch.tensor([1.0, 0.0, 0.0]))
        return network

    def parameters(self, network: BSAFusion, options: Options) -> Iterable[nn.Parameter]:
        """All but the frozen classifier's."""
        return (entry for name, entry in network.named_parameters() if not name.startswith(TRAINING_ONLY))

    def losses(self, network: BSAFusion, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        balance = StructureBalance.restored(network.get_buffer(BALANCE))
        if place.step % self.config.steps_per_epoch == 0 and place.part == 0:
            network.refresh()
            balance.refresh()
        fixed, moving = pair["fixed"], pair["moving"]
        found = network(fixed, moving)
        undistorted = warp(moving, pair["displacement"])
        terms = fusion_losses(found, fixed, undistorted, pair["displacement"], options.weights(), balance)
        network.get_buffer(BALANCE).copy_(balance.state())
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def displacement(self, network: BSAFusion, pair: Pair, options: Options) -> Tensor:
        with torch.inference_mode():
            return network.register(pair["fixed"], pair["moving"])

    def export(self, network: BSAFusion) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Without what only a training needs."""
        state = network.state_dict()
        kept = {name: t for name, t in state.items() if name != BALANCE and not name.startswith(TRAINING_ONLY)}
        return kept, network.config()
