"""How BSAFusion is trained: on pairs of one anatomy in two modalities, of which one was deformed as is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import ModelError
from ..losses.fusion import FusionWeights, StructureBalance, endpoint_losses, fusion_losses, where_seen
from ..networks.bsafusion import BSAFusion, BSAFusionConfig
from ..spatial import warp
from ..training.config import Strict
from ..training.recipe import Pair, RegistrationRecipe
from ..training.schedule import Place
from .bsafusion_run import TRAINING_ONLY
from .masr_weights import installed

BALANCE = "balance"
"""Buffer of a network in training: mu and the two sums of :class:`~regnet.losses.fusion.StructureBalance`."""


class Options(Strict):
    """Of a stage: the weights of :class:`~regnet.losses.fusion.FusionWeights`; or ``only_compare``, by which nothing
    but the comparison at shifts learns, from the known displacement."""

    modality: float = Field(1.0, ge=0)
    exchange: float = Field(1.0, ge=0)
    consistency: float = Field(1.0, ge=0)
    smoothness: float = Field(1.0, ge=0)
    structure: float = Field(1.0, ge=0)
    gradient: float = Field(1.0, ge=0)
    intensity: float = Field(0.5, ge=0)
    endpoint: float = Field(0.0, ge=0)
    only_compare: bool = False

    def weights(self) -> FusionWeights:
        return FusionWeights(**self.model_dump(exclude={"only_compare"}))


class Recipe(RegistrationRecipe):
    Options = Options
    parts = ("representation", "decoder")

    def build(self) -> BSAFusion:
        fixed = {"dims": len(self.config.shape), "image_shape": self.config.shape}
        network = BSAFusion(BSAFusionConfig.from_dict({**fixed, **self.config.network}))
        if network.settings.matching == "dsir":
            network.matching.structure.descriptor.load_state_dict(installed(network.dims, "BSAFusion")[0])
        # In the network, so that it is in the checkpoints.
        network.register_buffer(BALANCE, torch.tensor([1.0, 0.0, 0.0]))
        return network

    def parameters(self, network: BSAFusion, options: Options) -> Iterable[nn.Parameter]:
        """All but the frozen classifier's, or those of the comparison."""
        learning: nn.Module | None = network.matching if options.only_compare else network
        if learning is None:
            raise ModelError("A stage that only compares needs a network that does; set its matching to 'learned'.")
        return (entry for entry in learning.parameters() if entry.requires_grad)

    def losses(self, network: BSAFusion, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        if options.only_compare:
            found = network.compare(pair["fixed"], pair["moving"])
            return {"total": endpoint_losses(found, pair["displacement"], where_seen(pair["fixed"]))}
        balance = StructureBalance.restored(network.get_buffer(BALANCE))
        if place.step % self.config.steps_per_epoch == 0 and place.part == 0:
            network.refresh()
            balance.refresh()
        fixed, moving = pair["fixed"], pair["moving"]
        # A stage that only learns to register need not fuse.
        found = network(fixed, moving, fuse=max(options.structure, options.gradient, options.intensity) > 0)
        undistorted = warp(moving, pair["displacement"])
        terms = fusion_losses(found, fixed, undistorted, pair["displacement"], options.weights(), balance)
        network.get_buffer(BALANCE).copy_(balance.state())
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def displacement(self, network: BSAFusion, pair: Pair, options: Options) -> Tensor:
        with torch.inference_mode():
            if options.only_compare:
                return network.compare(pair["fixed"], pair["moving"]).displacement
            return network.register(pair["fixed"], pair["moving"])

    def export(self, network: BSAFusion) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Without what only a training needs."""
        state = network.state_dict()
        kept = {name: t for name, t in state.items() if name != BALANCE and not name.startswith(TRAINING_ONLY)}
        return kept, network.config()
