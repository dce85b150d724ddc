"""How BSAFusion is trained: on pairs of one anatomy in two modalities, of which one was deformed as is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import ModelError
from ..losses.fusion import FusionWeights, StructureBalance, endpoint_losses, fusion_losses, where_seen
from ..networks.bsafusion import Aligned, BSAFusion, BSAFusionConfig, Fused
from ..spatial import warp
from ..training.config import Strict
from ..training.recipe import Pair, RegistrationRecipe
from ..training.schedule import Place
from .bsafusion_run import TRAINING_ONLY
from .masr_weights import installed

BALANCE = "balance"
"""Buffer of a network in training: mu and the two sums of :class:`~regnet.losses.fusion.StructureBalance`."""

OF_REGISTRATION, OF_ENCODER = ("smoothness", "consistency", "endpoint"), ("modality", "exchange")
OF_FUSION = ("structure", "gradient", "intensity")
UNTOUCHED = {"register": OF_ENCODER + OF_FUSION, "fuse": OF_REGISTRATION, "decode": OF_REGISTRATION + OF_ENCODER}
"""Losses that have nothing to say to what learns, by :attr:`Options.only`."""


class Options(Strict):
    """Of a stage: the weights of :class:`~regnet.losses.fusion.FusionWeights`, and what of the network learns: all of
    it; what compares at shifts, from nothing but the known displacement; that and the layers that register; or, with
    the known displacement in place of a registration, all that fuses (``fuse``) or its decoder alone (``decode``).
    """

    modality: float = Field(1.0, ge=0)
    exchange: float = Field(1.0, ge=0)
    consistency: float = Field(1.0, ge=0)
    smoothness: float = Field(1.0, ge=0)
    structure: float = Field(1.0, ge=0)
    gradient: float = Field(1.0, ge=0)
    intensity: float = Field(0.5, ge=0)
    endpoint: float = Field(0.0, ge=0)
    only: Literal["", "compare", "register", "fuse", "decode"] = ""

    @property
    def fuses_only(self) -> bool:
        return self.only in ("fuse", "decode")

    def weights(self) -> FusionWeights:
        still = dict.fromkeys(UNTOUCHED.get(self.only, ()), 0.0)
        return FusionWeights(**{**self.model_dump(exclude={"only"}), **still})


class Recipe(RegistrationRecipe):
    Options = Options
    parts = ("representation", "decoder")
    figures = (*RegistrationRecipe.figures, "fusion")

    def build(self) -> BSAFusion:
        fixed = {"dims": len(self.config.shape), "image_shape": self.config.shape}
        network = BSAFusion(BSAFusionConfig.from_dict({**fixed, **self.config.network}))
        if network.settings.matching == "dsir":
            network.matching.structure.descriptor.load_state_dict(installed(network.dims, "BSAFusion")[0])
        # In the network, so that it is in the checkpoints.
        network.register_buffer(BALANCE, torch.tensor([1.0, 0.0, 0.0]))
        return network

    def parameters(self, network: BSAFusion, options: Options) -> Iterable[nn.Parameter]:
        """Those of what the stage leaves to learn; never the frozen classifier's."""
        if options.only == "compare" and network.matching is None:
            raise ModelError("A stage that only compares needs a network that does; set its matching to 'learned'.")
        learning = {
            "": [network],
            "compare": [network.matching],
            "register": [network.alignment, *([] if network.matching is None else [network.matching])],
            "fuse": [network.representation, network.decoder],
            "decode": [network.decoder],
        }[options.only]
        return (entry for part in learning for entry in part.parameters() if entry.requires_grad)

    def losses(self, network: BSAFusion, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        if options.only == "compare":
            found = network.compare(pair["fixed"], pair["moving"])
            return {"total": endpoint_losses(found, pair["displacement"], where_seen(pair["fixed"]))}
        balance = StructureBalance.restored(network.get_buffer(BALANCE))
        if place.step % self.config.steps_per_epoch == 0 and place.part == 0:
            network.refresh()
            balance.refresh()
        fixed, moving, weights = pair["fixed"], pair["moving"], options.weights()
        undistorted = warp(moving, pair["displacement"])
        if options.fuses_only:
            found = fused_by(network, fixed, moving, pair["displacement"])
        else:
            # A stage that only learns to register need not fuse.
            found = network(fixed, moving, fuse=max(weights.structure, weights.gradient, weights.intensity) > 0)
        terms = fusion_losses(found, fixed, undistorted, pair["displacement"], weights, balance)
        network.get_buffer(BALANCE).copy_(balance.state())
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def measure(self, network: BSAFusion, pair: Pair, options: Options) -> dict[str, float]:
        """Of a stage that only fuses, ``fusion``: the losses of the fused image."""
        if not options.fuses_only:
            return super().measure(network, pair, options)
        with torch.inference_mode():
            found = fused_by(network, pair["fixed"], pair["moving"], pair["displacement"])
            return {"fusion": float(sum(fusion_losses(found, pair["fixed"], weights=options.weights()).values()))}

    def score(self, figures: dict[str, float]) -> float:
        return -figures["val/fusion"] if "val/fusion" in figures else super().score(figures)

    def displacement(self, network: BSAFusion, pair: Pair, options: Options) -> Tensor:
        with torch.inference_mode():
            if options.only == "compare":
                return network.compare(pair["fixed"], pair["moving"]).displacement
            return network.register(pair["fixed"], pair["moving"])

    def export(self, network: BSAFusion) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Without what only a training needs."""
        state = network.state_dict()
        kept = {name: t for name, t in state.items() if name != BALANCE and not name.startswith(TRAINING_ONLY)}
        return kept, network.config()


def fused_by(network: BSAFusion, fixed: Tensor, moving: Tensor, displacement: Tensor) -> Fused:
    """What the network makes of images (B, 1, *shape) that ``displacement`` (B, d, *shape) registers."""
    encoded = network.encode(fixed, moving)
    aligned = Aligned(displacement, (), ())
    return Fused(encoded, aligned, warp(moving, displacement), network.fuse(encoded, displacement))
