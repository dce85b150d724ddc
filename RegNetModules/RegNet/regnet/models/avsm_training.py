"""How AVSM is trained: affine network by one step, several, both directions; then the momentum network likewise.

Beside the paper's terms (Shen et al. 2019) two that supervise: overlap of warped labels, which also teaches pairs
whose contrasts differ, and the distance to the displacement where that is known. The similarity counts only for pairs
of one contrast, unless it is that of structural descriptors (``dsir``, ``mind``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..descriptors import installed
from ..errors import ModelError
from ..events import Events
from ..losses.descriptor import DescriptorLoss
from ..losses.lncc import LNCC
from ..losses.mklncc import MultiKernelLNCC
from ..losses.ncc import NCC
from ..losses.regularity import RegularityWeight
from ..networks.avsm import AVSM, AVSMConfig, AVSMWeights
from ..networks.avsm_momentum import half_shape
from ..networks.maps import affine_map, displacement_to_map, identity_affine, map_to_displacement
from ..spatial import resize
from ..synth.deform import AffineRange
from ..training.config import Strict
from ..training.losses import OfSameContrast, end_point_error, foreground, label_channels, warped_dice
from ..training.recipe import Pair, RegistrationRecipe
from ..training.schedule import Place
from ..training.turned import turned

SIMILARITIES = {"ncc": NCC, "lncc": LNCC, "mk-lncc": MultiKernelLNCC}
"""Of images of one contrast; beside them ``dsir`` and ``mind``, which compare any two."""


class Options(Strict):
    """Of a stage.

    ``part``: train the ``affine`` network, the ``momentum`` network on pairs that are aligned already (its affine map
    is the identity), or ``both``. Weights of the terms: ``similarity_weight``; ``dice`` of up to ``labels`` labels per
    pair; ``error`` per voxel of end-point error; ``regularity`` of the affine map, published as 10 and falling, here
    constant and small because misalignments are large; ``energy`` and ``map_symmetry`` as published for similarities
    of weight 1; ``affine_symmetry``. ``search``: give momenta the length that makes the images most
    alike, as when registering. ``warm_steps``: up to so many momentum steps, a number drawn for each pair, are
    taken beforehand without gradients, as they are when registering: the network then also meets pairs on their way,
    and a few steps more at the end bring them closer still. ``turns``: use each pair so many times, its moving image
    turned anew within ``turn``; an affine network needs many misalignments more than many images. ``checkpoint``:
    compute the integration again in the backward pass to save memory.
    """

    part: Literal["affine", "momentum", "both"]
    affine_steps: int = Field(1, ge=1)
    momentum_steps: int = Field(1, ge=1)
    symmetric: bool = False
    similarity: Literal["ncc", "lncc", "mk-lncc", "dsir", "mind"] = "mk-lncc"
    similarity_weight: float = Field(1.0, ge=0)
    dice: float = Field(1.0, ge=0)
    labels: int = Field(16, gt=0)
    error: float = Field(0.1, ge=0)
    regularity: float = Field(0.01, ge=0)
    energy: float = Field(10.0, ge=0)
    affine_symmetry: float = Field(1.0, ge=0)
    map_symmetry: float = Field(500.0, ge=0)
    search: bool = False
    warm_steps: int = Field(0, ge=0)
    turns: int = Field(0, ge=0)
    turn: AffineRange = AffineRange()
    checkpoint: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Options:
        if self.warm_steps and (self.symmetric or self.part != "momentum"):
            raise ValueError("warm_steps go with part: momentum and symmetric: false only")
        return self


class Recipe(RegistrationRecipe):
    """Stages train one part after the other; see :class:`Options`."""

    Options = Options
    parts = ("affine.net", "momentum")
    _descriptor: tuple[Any, DescriptorLoss] | None = None

    def build(self) -> AVSM:
        return AVSM(AVSMConfig.from_dict({"image_shape": self.config.shape, **self.config.network}))

    def parameters(self, network: AVSM, options: Options) -> Iterable[nn.Parameter]:
        if options.part != "momentum":
            yield from network.affine.parameters()
        if options.part != "affine":
            yield from network.momentum.parameters()

    def losses(self, network: AVSM, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        if options.turns:
            pair = turned(pair, options.turn, options.turns)
        output = self._forward(network, pair, options, options.symmetric)
        similarity = self._similarity(pair, options)
        weights = AVSMWeights(
            regularity=RegularityWeight(options.regularity, floor=options.regularity),
            affine_symmetry=options.affine_symmetry,
            momentum=options.energy,
            map_symmetry=options.map_symmetry,
        )
        terms = network.losses(output, pair["moving"], pair["fixed"], weights=weights, similarity=similarity)
        terms.pop("total")
        terms |= self._supervision(output, pair, options)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def displacement(self, network: AVSM, pair: Pair, options: Options) -> Tensor:
        if options.part == "momentum":
            steps = network.settings.momentum_steps
            images = zip(pair["moving"].split(1), pair["fixed"].split(1), strict=True)
            maps = [_walk(network, moving, fixed, steps) for moving, fixed in images]
            return map_to_displacement(resize(torch.cat(maps), tuple(pair["fixed"].shape[2:])))
        return map_to_displacement(self._forward(network, pair, options, False)["transform"])

    def export(self, network: AVSM) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return network.state_dict(), network.config()

    def _similarity(self, pair: Pair, options: Options) -> OfSameContrast:
        if options.similarity in SIMILARITIES:
            return OfSameContrast(
                SIMILARITIES[options.similarity](), pair.get("same_contrast"), options.similarity_weight
            )
        fixed = pair["fixed"]
        if self._descriptor is None or self._descriptor[0] != (options.similarity, fixed.device):
            events = Events()
            frozen = installed(options.similarity, fixed.ndim - 2, events, fixed.device)
            if events.warnings:
                raise ModelError(f"{events.warnings[0][:-1]}; a training does not change its loss in silence.")
            self._descriptor = ((options.similarity, fixed.device), DescriptorLoss(frozen))
        return OfSameContrast(self._descriptor[1], None, options.similarity_weight)

    def _forward(self, network: AVSM, pair: Pair, options: Options, symmetric: bool) -> dict[str, Any]:
        network.vsvf.checkpoint = options.checkpoint
        fixed = pair["fixed"]
        aligned = identity_affine(len(fixed), network.dims, fixed) if options.part == "momentum" else None
        start = None
        if options.warm_steps:
            counts = [seed % (options.warm_steps + 1) for seed in pair["seed"].tolist()]
            images = zip(pair["moving"].split(1), pair["fixed"].split(1), counts, strict=True)
            start = torch.cat([_walk(network, moving, fixed, count) for moving, fixed, count in images])
        return network(
            pair["moving"],
            fixed,
            symmetric=symmetric,
            stage="affine" if options.part == "affine" else "dense",
            initial_affine=aligned,
            initial_map=start,
            search=options.search,
            affine_steps=options.affine_steps,
            momentum_steps=options.momentum_steps,
        )

    def _supervision(self, output: dict[str, Any], pair: Pair, options: Options) -> dict[str, Tensor]:
        """Terms on the maps at half resolution: all momentum steps' added up, as the others are."""
        aux, shape = output["aux"], tuple(pair["fixed"].shape[2:])
        maps = aux["maps"] or [affine_map(aux["affine"], half_shape(shape))]
        terms = {}
        if options.dice and "fixed_labels" in pair:
            seeds = pair["seed"].tolist()
            fixed, moving, used = label_channels(pair["fixed_labels"], pair["moving_labels"], options.labels, seeds)
            if aux["symmetric"]:
                fixed, moving, used = torch.cat([fixed, moving]), torch.cat([moving, fixed]), used.repeat(2, 1)
            terms["dice"] = options.dice * torch.stack([warped_dice(fixed, moving, used, m) for m in maps]).sum()
        if options.error and "displacement" in pair:
            truth = resize(displacement_to_map(pair["displacement"]), half_shape(shape))
            weight = foreground(pair, half_shape(shape))
            first = [where[: len(truth)] for where in maps]
            errors = [end_point_error(where, truth, weight, shape) for where in first]
            terms["error"] = options.error * torch.stack(errors).sum()
        return terms


@torch.no_grad()
def _walk(network: AVSM, moving: Tensor, fixed: Tensor, steps: int) -> Tensor:
    """The map (1, d, *half) after ``steps`` momentum steps of searched lengths of one aligned pair."""
    start = identity_affine(1, network.dims, fixed)
    maps = []
    if steps:
        output = network(moving, fixed, initial_affine=start, momentum_steps=steps, search=True)
        maps = output["aux"]["maps"]
    return maps[-1] if maps else affine_map(start, half_shape(tuple(fixed.shape[2:])))
