"""Deform-GAN: registration of two contrasts with a translator beside it (Zhang et al. 2020). Info and parameters; the
work is in ``deformgan_run``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import ModelInfo, ParametersBase, for_planes, parameter, stiffness

if TYPE_CHECKING:
    from torch import Tensor

    from ..events import Events
    from ..pair import Pair

info = ModelInfo(
    name="deformgan",
    title="Deform-GAN",
    summary="Registration of brain scans of two contrasts, T1 to T2 or FLAIR, in one pass, which the pair itself then "
    "refines. It was trained against a translator to T1; the translated scan can be had, too.",
    paper="Deform-GAN: An Unsupervised Learning Model for Deformable Registration, 2020, arXiv 2002.11430",
    citation="X. Zhang, W. Jian, Y. Chen, S. Yang. Deform-GAN: An Unsupervised Learning Model for Deformable "
    "Registration. arXiv 2002.11430, 2020.",
    dimensions=(2, 3),
    modalities="MR contrasts of the brain",
    transform_kind="dense",
    fuses=False,
    translates=True,
    variants=("to-t1", "to-t1-2d"),
    without_weights="without them, by its refinement alone, and translates nothing",
)


@dataclass(frozen=True)
class Parameters(ParametersBase):
    refine_with: str = parameter(
        "dsir",
        "Refine with",
        "What the refinement compares: a structural descriptor, learned (dsir, best; in planes edges) or not (mind, "
        "quicker), or the edges that the paper's loss looks at (edges, quickest).",
        choices=("dsir", "mind", "edges"),
    )
    regularization: float = stiffness()
    translation: bool = parameter(
        False,
        "Translated image",
        "Also give the moving image as T1, registered: a synthetic image, for looking at, not for a diagnosis.",
    )
    weights: str = parameter(
        "to-t1",
        "Trained weights",
        "Which trained networks register and translate. With none the refinement does all of it.",
        choices=("to-t1", "none"),
        advanced=True,
    )

    def wanted_weights(self, dims: int) -> str:
        return for_planes(self.weights, dims)


def dimension_of(config: dict[str, Any]) -> int:
    """2 or 3: the images that networks of this configuration take."""
    return int(config.get("dims", 3))


def improve_affine(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> Any:
    """A 4x4 world matrix to apply before the present alignment: the affine under which MIND-SSC agrees most."""
    from ..descriptor_affine import improve_by_mind

    return improve_by_mind(pair, events)


def predict(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    final: bool = True,
) -> Tensor:
    """Displacement in voxels, (1, d, *coarse), of a grid over the pair's corners; without weights none."""
    if state is None:
        return pair.fixed.new_zeros(1, len(pair.shape), *pair.level(8.0).shape)
    from .deformgan_run import Networks

    return Networks(state, config, pair.fixed.device).displacement(pair, events)


def refine(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """The prediction improved on this very pair, by a descriptor of structure."""
    from .masr_run import refine_with

    kind = parameters.refine_with
    if kind == "dsir" and len(pair.shape) == 2:
        # It has no weights for planes, and there edges are better than MIND (the model's card has the figures).
        kind = "edges"
    return refine_with(kind, pair, displacement, events, how, parameters.regularization)


def synthetic(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> Tensor | None:
    """The registered moving image as T1, (1, 1, *coarse) of a grid over the pair's corners, if it was asked for."""
    if state is None or not parameters.translation:
        return None
    from .deformgan_run import synthetic as made

    return made(pair, displacement, state, config, events)
