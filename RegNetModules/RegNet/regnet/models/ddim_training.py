"""How DDIM is trained: on pairs of one anatomy whose affine misalignment is known, of one contrast and of two.

Beside the network's own terms, which compare intensities and so count for pairs of one contrast only, one that
supervises: the distance to the known displacement. Passes taken beforehand without gradients show the network pairs
that are half aligned, as it meets them when it is applied more than once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..networks.ddim import DDIM, DDIMConfig, DDIMOutput
from ..networks.maps import affine_map, displacement_to_map, map_to_displacement
from ..spatial import resize
from ..synth.deform import AffineRange
from ..training.config import Strict
from ..training.losses import end_point_error
from ..training.recipe import Pair, RegistrationRecipe
from ..training.schedule import Place
from ..training.turned import turned

LATTICE = 6
"""Points per axis at which two affine maps are compared: straight lines between them say the rest."""


class Options(Strict):
    """Of a stage.

    ``intensity``: weight of the network's own terms, by ``similarity``, for pairs of one contrast. ``error``: of each
    voxel of distance to the known displacement, a mean over the stages, the last of which counts twice. ``turns``: use
    each pair so many times, its moving image turned anew within ``turn``. ``passes``: up to so many, a number drawn
    for each batch, are taken beforehand.
    """

    intensity: float = Field(1.0, ge=0)
    similarity: Literal["mse", "lncc"] = "mse"
    error: float = Field(1.0, ge=0)
    turns: int = Field(0, ge=0)
    turn: AffineRange = AffineRange()
    passes: int = Field(0, ge=0)


class Recipe(RegistrationRecipe):
    Options = Options
    parts = ("interpolators", "matchers")

    def build(self) -> DDIM:
        fixed = {"dims": len(self.config.shape), "image_shape": self.config.shape}
        return DDIM(DDIMConfig.from_dict({**fixed, **self.config.network}))

    def losses(self, network: DDIM, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        if options.turns:
            pair = turned(pair, options.turn, options.turns)
        fixed, moving = pair["fixed"], pair["moving"]
        start = None
        for _ in range(int(pair["seed"][0]) % (options.passes + 1)):
            start = network.align(fixed, moving, start)
        output = network(fixed, moving, start)
        terms = {}
        if options.intensity:
            terms |= self._intensity(network, output, pair, options)
        if options.error:
            terms["error"] = options.error * self._error(output, pair)
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def displacement(self, network: DDIM, pair: Pair, options: Options) -> Tensor:
        affine = None
        for _ in range(1 + options.passes):
            affine = network.align(pair["fixed"], pair["moving"], affine)
        return map_to_displacement(affine_map(affine, pair["fixed"].shape[2:]))

    def export(self, network: DDIM) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return network.state_dict(), network.config()

    @staticmethod
    def _intensity(network: DDIM, output: DDIMOutput, pair: Pair, options: Options) -> dict[str, Tensor]:
        """The network's terms over the samples of one contrast, times the share that they are of all."""
        chosen = pair["same_contrast"].to(output.affine.device)
        if not bool(chosen.any()):
            # Every parameter still gets a gradient, zero here: several devices wait for each other's.
            return {"residual": 0.0 * (output.reconstruction.sum() + output.warped.sum())}
        found = dataclasses.replace(
            output,
            affine=output.affine[chosen],
            warped=output.warped[chosen],
            residuals=[residual[chosen] for residual in output.residuals],
            reconstruction=output.reconstruction[chosen],
        )
        share = options.intensity * float(chosen.float().mean())
        terms = network.losses(found, pair["fixed"][chosen], pair["moving"][chosen], similarity=options.similarity)
        return {name: share * value for name, value in terms.items()}

    @staticmethod
    def _error(output: DDIMOutput, pair: Pair) -> Tensor:
        shape = tuple(pair["fixed"].shape[2:])
        lattice = (LATTICE,) * len(shape)
        truth = resize(displacement_to_map(pair["displacement"]), lattice)
        everywhere = torch.ones_like(truth[:, :1])
        found = [*output.affines, output.affine]
        errors = [end_point_error(affine_map(one, lattice), truth, everywhere, shape) for one in found]
        return torch.stack(errors).mean()
