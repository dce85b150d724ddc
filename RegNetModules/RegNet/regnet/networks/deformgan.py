"""Deform-GAN: registration of two contrasts with a translator that learns beside it.

Zhang, Jian, Chen, Yang, *Deform-GAN: An Unsupervised Learning Model for Deformable Registration*, arXiv 2002.11430.
T finds the displacement phi that aligns the moving image F with the fixed image R; G translates F(phi) to R's contrast,
F'(phi); D tells F'(phi) from R. T learns from the local gradients of R and F(phi), which do not mind contrast, and from
the local correlation of R and F'(phi), which reaches phi through G. Each iteration trains D, then G, then T, the others
frozen; only T registers. The paper's sums are means here, and its weights, which it does not tell, those of
:class:`DeformGANWeights`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..descriptors import mind
from ..errors import ModelError
from ..losses.adversarial import GANLoss, ImagePool
from ..losses.descriptor import DescriptorLoss
from ..losses.lncc import LNCC
from ..losses.local_gradient import LocalGradient
from ..losses.roughness import roughness
from ..spatial import warp
from .blocks import check_dims
from .deformgan_parts import Discriminator, MatchingNet, RegistrationNet, Translator
from .settings import NetworkSettings

RESOLUTIONS = ("full", "half")
DESCRIPTORS = ("edges", "mind", "dsir")
DISTANCES = ("lncc", "mind")


@dataclass(frozen=True)
class DeformGANConfig(NetworkSettings):
    """What decides the networks' shapes; plain values, so that it can be stored beside the weights.

    Attributes:
        dims: 2 or 3.
        image_shape: the grid it was trained on, None if not told; the networks take others.
        matching, descriptor: of T as a :class:`~regnet.networks.deformgan_parts.MatchingNet`; with 0 it is a U-Net:
        encoder, decoder, last, resolution, diffeomorphic, squarings: of T as a
            :class:`~regnet.networks.deformgan_parts.RegistrationNet`.
        generator_width, generator_depth, generator_stem: see :class:`~regnet.networks.deformgan_parts.Translator`.
        discriminator_width, conditional: see :class:`~regnet.networks.deformgan_parts.Discriminator`. Without the
            condition it cannot learn alignment in the place of realism while the images are far apart.
    """

    network = "Deform-GAN"

    dims: int = 3
    image_shape: tuple[int, ...] | None = None
    matching: int = 0
    descriptor: Literal["edges", "mind", "dsir"] = "edges"
    encoder: tuple[int, ...] = (16, 32, 32, 32)
    decoder: tuple[int, ...] = (32, 32, 32, 32)
    last: tuple[int, ...] = (32, 16, 16)
    resolution: Literal["full", "half"] = "full"
    diffeomorphic: bool = False
    squarings: int = 7
    generator_width: int = 32
    generator_depth: int = 5
    generator_stem: int = 0
    discriminator_width: int = 32
    conditional: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dims(self.dims)
        if self.image_shape is not None and len(self.image_shape) != self.dims:
            raise ModelError(f"Deform-GAN in {self.dims}D has an image shape of {list(self.image_shape)}.")
        if self.resolution not in RESOLUTIONS:
            raise ModelError(f"There is no resolution {self.resolution!r}; choose from {', '.join(RESOLUTIONS)}.")
        if len(self.encoder) != len(self.decoder):
            raise ModelError(
                f"Encoder and decoder need as many levels, not {len(self.encoder)} and {len(self.decoder)}."
            )
        sizes = (self.generator_width, self.generator_depth, self.discriminator_width, self.squarings)
        if not self.encoder or not self.last or min(*self.encoder, *self.decoder, *self.last, *sizes) < 1:
            raise ModelError("Deform-GAN's channels, levels, widths, depth and squarings must be 1 or more each.")
        if self.descriptor not in DESCRIPTORS:
            raise ModelError(f"There is no descriptor {self.descriptor!r}; choose from {', '.join(DESCRIPTORS)}.")
        if min(self.generator_stem, self.matching) < 0:
            raise ModelError("Deform-GAN's generator_stem and matching are 0 channels or more.")


@dataclass(frozen=True)
class DeformGANWeights:
    """What the terms of the losses count; a term of weight 0 is left out, and what only it needs is not computed.

    Attributes:
        similarity: T's LNCC of R and F'(phi).
        alpha: T's smoothness, mean squared strain of phi in voxels.
        beta: T's local gradients of R and F(phi).
        direct: T's distance of R and F(phi), not the paper's, for a registration without G; ``direct_with`` says by
            what it is measured, LNCC or MIND-SSC.
        mu, lambda_: G's local gradients of F'(phi) and F(phi), and mean absolute difference of F'(phi) and R.
        cgan: G's adversarial loss; with 0 there is nothing for D to learn either.
        lncc_window, gradient_windows: sides in voxels.
        adversarial: kind of :class:`~regnet.losses.adversarial.GANLoss`.
    """

    alpha: float = 1.0
    beta: float = 1.0
    mu: float = 10.0
    lambda_: float = 100.0
    similarity: float = 1.0
    direct: float = 0.0
    cgan: float = 1.0
    lncc_window: int = 9
    gradient_windows: tuple[int, ...] = (7,)
    adversarial: Literal["bce", "lsgan"] = "bce"
    direct_with: Literal["lncc", "mind"] = "lncc"

    def __post_init__(self) -> None:
        if self.direct_with not in DISTANCES:
            raise ModelError(f"Deform-GAN has no distance {self.direct_with!r}; choose from {', '.join(DISTANCES)}.")
        GANLoss(self.adversarial)
        LocalGradient(self.gradient_windows)
        for name in ("alpha", "beta", "mu", "lambda_", "similarity", "direct", "cgan"):
            if getattr(self, name) < 0:
                raise ModelError(f"Weights of Deform-GAN's losses are 0 or more, but {name} is {getattr(self, name)}.")


@dataclass(frozen=True)
class Deformed:
    """``displacement`` phi (B, d, *shape) in voxels, pull; ``warped`` F(phi) and ``translated`` F'(phi),
    (B, 1, *shape), the last None if it was not wanted."""

    displacement: Tensor
    warped: Tensor
    translated: Tensor | None = None


class DeformGAN(nn.Module):
    """The whole model, of which only ``registration`` is needed to register. A fresh one moves nothing.

    >>> model = DeformGAN(DeformGANConfig(dims=2))
    >>> fixed, moving = torch.rand(2, 1, 1, 40, 48)
    >>> bool((model.register(fixed, moving).abs() < 1e-3).all())
    True
    """

    def __init__(self, config: DeformGANConfig | None = None) -> None:
        super().__init__()
        self.settings = config = config or DeformGANConfig()
        self.dims = config.dims
        self.registration = _registration(config)
        self.generator = Translator(config.dims, config.generator_width, config.generator_depth, config.generator_stem)
        self.discriminator = Discriminator(config.dims, config.discriminator_width, config.conditional)

    def config(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` builds the same model."""
        return self.settings.plain()

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> DeformGAN:
        return cls(DeformGANConfig.from_dict(values))

    def register(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Displacement (B, d, *shape) in voxels, pull, of images (B, 1, *shape) in [0, 1]."""
        return self.registration(fixed, moving)

    def deform(self, fixed: Tensor, moving: Tensor) -> Deformed:
        """Register and warp; all that the losses need."""
        displacement = self.registration(fixed, moving)
        return Deformed(displacement, warp(moving, displacement))

    def forward(self, fixed: Tensor, moving: Tensor) -> Deformed:
        """Register, warp and translate images (B, 1, *shape) in [0, 1]."""
        deformed = self.deform(fixed, moving)
        return dataclasses.replace(deformed, translated=self.generator(deformed.warped))


def _registration(config: DeformGANConfig) -> nn.Module:
    if config.matching:
        return MatchingNet(config.dims, config.matching, config.descriptor)
    shape = (config.encoder, config.decoder, config.last, config.resolution)
    return RegistrationNet(config.dims, *shape, config.diffeomorphic, config.squarings)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Let gradients pass through ``networks`` without reaching their parameters, for what is computed inside."""
    parameters = [entry for network in networks for entry in network.parameters() if entry.requires_grad]
    for entry in parameters:
        entry.requires_grad_(False)
    try:
        yield
    finally:
        for entry in parameters:
            entry.requires_grad_(True)


def discriminator_loss(
    model: DeformGAN,
    fixed: Tensor,
    deformed: Deformed,
    weights: DeformGANWeights = DeformGANWeights(),
    pool: ImagePool | None = None,
) -> dict[str, Tensor]:
    """D's terms, ``real`` and ``fake``, of the pairs (F(phi), R) and (F(phi), F'(phi)); nothing reaches T or G.

    ``pool`` replaces some fakes by past ones.
    """
    if not weights.cgan:
        return {}
    loss, judge = GANLoss(weights.adversarial), model.discriminator
    with torch.no_grad():
        warped, translated = deformed.warped.detach(), deformed.translated
        made = judge.inputs(warped, model.generator(warped) if translated is None else translated.detach())
        made = made if pool is None else pool(made)
    return {"real": loss.real(judge(judge.inputs(warped, fixed))), "fake": loss.fake(judge(made))}


def generator_loss(
    model: DeformGAN, fixed: Tensor, deformed: Deformed, weights: DeformGANWeights = DeformGANWeights()
) -> dict[str, Tensor]:
    """G's terms, weighted: ``adversarial``, ``structure`` (local gradients) and ``intensity``; D is frozen, and nothing
    reaches T."""
    warped, terms = deformed.warped.detach(), {}
    translated = model.generator(warped)
    if weights.cgan:
        with frozen(model.discriminator):
            scores = model.discriminator(model.discriminator.inputs(warped, translated))
        terms["adversarial"] = weights.cgan * GANLoss(weights.adversarial).generator(scores)
    if weights.mu:
        terms["structure"] = weights.mu * LocalGradient(weights.gradient_windows)(warped, translated)
    if weights.lambda_:
        terms["intensity"] = weights.lambda_ * functional.l1_loss(translated, fixed)
    return terms


def registration_loss(
    model: DeformGAN,
    fixed: Tensor,
    deformed: Deformed,
    weights: DeformGANWeights = DeformGANWeights(),
    ramp: float = 1.0,
) -> dict[str, Tensor]:
    """T's terms, weighted: ``similarity`` (LNCC of R and F'(phi), through the frozen G), ``direct`` (R and F(phi)),
    ``structure`` (local gradients) and ``smoothness``.

    Args:
        deformed: with the graph from T's parameters to it. F'(phi) is made anew, by G as it is now.
        ramp: a factor of ``similarity``, in [0, 1]: while G is poor, T had better follow the local gradients.
    """
    if not 0.0 <= ramp <= 1.0:
        raise ModelError(f"The ramp of the similarity lies between 0 and 1, not at {ramp}.")
    terms, lncc = {}, LNCC(weights.lncc_window)
    if weights.similarity * ramp:
        with frozen(model.generator):
            translated = model.generator(deformed.warped)
        terms["similarity"] = weights.similarity * ramp * lncc(fixed, translated)
    if weights.direct:
        distance = lncc if weights.direct_with == "lncc" else DescriptorLoss(mind())
        terms["direct"] = weights.direct * distance(fixed, deformed.warped)
    if weights.beta:
        terms["structure"] = weights.beta * LocalGradient(weights.gradient_windows)(fixed, deformed.warped)
    if weights.alpha:
        terms["smoothness"] = weights.alpha * roughness(deformed.displacement)
    return terms
