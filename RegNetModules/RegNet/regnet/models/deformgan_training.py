"""How Deform-GAN is trained: discriminator, generator and registration network in turn, as the paper has it.

The fixed image is of one contrast and the moving one of any other, so that the generator knows what to translate to.
No loss sees the known displacement; validation does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..losses.adversarial import ImagePool
from ..networks.deformgan import (
    Deformed,
    DeformGAN,
    DeformGANConfig,
    DeformGANWeights,
    discriminator_loss,
    generator_loss,
    registration_loss,
)
from ..training.config import Strict
from ..training.recipe import AdversarialRecipe, Pair
from ..training.schedule import Place
from .masr_weights import installed

PLAYERS = ("discriminator", "generator", "registration")
BETAS = (0.5, 0.999)
"""Of Adam for the two that play against each other (Radford et al. 2016)."""
POOL = 50


class Options(Strict):
    """Of a stage: the weights of :class:`~regnet.networks.deformgan.DeformGANWeights`, and

    ``players``: who is trained; the others stay as they are. ``ramp``: share of the stage over which the similarity
    through the generator grows from nothing. ``adversaries``: learning rate of discriminator and generator as a
    multiple of the stage's.
    """

    alpha: float = Field(1.0, ge=0)
    beta: float = Field(1.0, ge=0)
    mu: float = Field(10.0, ge=0)
    lambda_: float = Field(100.0, ge=0)
    similarity: float = Field(1.0, ge=0)
    direct: float = Field(0.0, ge=0)
    direct_with: Literal["lncc", "mind"] = "lncc"
    cgan: float = Field(1.0, ge=0)
    lncc_window: int = Field(9, ge=3)
    gradient_windows: tuple[int, ...] = (7,)
    adversarial: Literal["bce", "lsgan"] = "bce"
    players: tuple[Literal["discriminator", "generator", "registration"], ...] = Field(PLAYERS, min_length=1)
    ramp: float = Field(0.1, ge=0, le=1)
    adversaries: float = Field(2.0, gt=0)

    def weights(self) -> DeformGANWeights:
        return DeformGANWeights(**self.model_dump(exclude={"players", "ramp", "adversaries"}))


class Recipe(AdversarialRecipe):
    Options = Options
    parts = PLAYERS
    players = PLAYERS

    def build(self) -> DeformGAN:
        fixed = {"dims": len(self.config.shape), "image_shape": self.config.shape}
        network = DeformGAN(DeformGANConfig.from_dict({**fixed, **self.config.network}))
        if network.settings.matching and network.settings.descriptor == "dsir":
            begin_as_masr(network)
        return network

    def playing(self, options: Options) -> tuple[str, ...]:
        return options.players

    def optimizer(self, player: str, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        betas = (0.9, 0.999) if player == "registration" else BETAS
        return torch.optim.Adam(parameters, lr=rate, betas=betas)

    def rate(self, player: str, rate: float, options: Options) -> float:
        return rate if player == "registration" else rate * options.adversaries

    def memory(self) -> ImagePool:
        return ImagePool(POOL if len(self.config.shape) == 2 else POOL // 10, self.config.seed)

    def begin(self, network: DeformGAN, pair: Pair, options: Options) -> Deformed:
        with torch.set_grad_enabled("registration" in options.players):
            return network.deform(pair["fixed"], pair["moving"])

    def turn(
        self, network: DeformGAN, player: str, pair: Pair, shared: Deformed, options: Options, place: Place, memory: Any
    ) -> dict[str, Tensor]:
        fixed, weights = pair["fixed"], options.weights()
        if player == "discriminator":
            return discriminator_loss(network, fixed, shared, weights, memory)
        if player == "generator":
            return generator_loss(network, fixed, shared, weights)
        ramp = min(place.fraction / options.ramp, 1.0) if options.ramp else 1.0
        return registration_loss(network, fixed, shared, weights, ramp)

    def displacement(self, network: DeformGAN, pair: Pair, options: Options) -> Tensor:
        with torch.inference_mode():
            return network.register(pair["fixed"], pair["moving"])

    def export(self, network: DeformGAN) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Without the discriminator, which nobody needs to register."""
        state = network.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith("discriminator.")}, (
            network.config()
        )


def begin_as_masr(network: DeformGAN) -> None:
    """Give a registration network that compares MASR-Net's descriptors the installed weights of it, and its matcher
    that of MASR-Net where they are of one size.

    Raises:
        ModelError: they are not installed, or of another dimension.
    """
    own, matcher, config = installed(network.dims, "Deform-GAN")
    net = network.registration
    net.descriptor.load_state_dict(own)
    if config.get("matcher_width") == network.settings.matching:
        net.matcher.load_state_dict(matcher)
