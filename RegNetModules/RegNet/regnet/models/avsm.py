"""AVSM: multi-step affine and vector momentum-parameterised stationary velocity field (Shen et al., CVPR 2019).

Without trained weights the model's own parameters are optimised on the pair: the affine map, then the momentum
field through the smoother and the map equation (``vSVF-opt`` in the paper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import ModelInfo, ParametersBase, parameter, stiffness

if TYPE_CHECKING:
    from torch import Tensor

    from ..events import Events
    from ..pair import Pair

info = ModelInfo(
    name="avsm",
    title="AVSM",
    summary="Smooth, invertible registration of scans of the same contrast: multi-step affine, then a vector "
    "momentum-parameterised stationary velocity field.",
    paper="Networks for Joint Affine and Non-parametric Image Registration, CVPR 2019, arXiv 1903.08811",
    citation="Z. Shen, X. Han, Z. Xu, M. Niethammer. Networks for Joint Affine and Non-parametric Image Registration. "
    "CVPR 2019, 4224-4233.",
    dimensions=(2, 3),
    modalities="same contrast, any organ; other contrasts with similar edges",
    transform_kind="dense",
    fuses=False,
    variants=("brain",),
    without_weights="without them, optimised on this pair",
)


@dataclass(frozen=True)
class Parameters(ParametersBase):
    weights: str = parameter(
        "brain",
        "Trained for",
        "Which trained networks predict the deformation. With none it is optimised on the pair alone: for organs the "
        "networks have never seen.",
        choices=(*info.variants, "none"),
    )
    regularization: float = stiffness()
    momentum_steps: int = parameter(
        0,
        "Momentum steps",
        "Velocity fields applied one after the other; more allow larger deformations. 0 for as many as the weights "
        "were trained for, or two without weights.",
        minimum=0,
        maximum=10,
        advanced=True,
    )
    affine_steps: int = parameter(
        0,
        "Affine steps",
        "Passes of the affine network, each improving the one before; 0 for as many as it was trained for. Only used "
        "with trained weights.",
        minimum=0,
        maximum=10,
        advanced=True,
    )
    similarity: str = parameter(
        "lncc",
        "Similarity",
        "What counts as a match when optimised without networks: local correlation in one small window, or in several "
        "windows at once (mk-lncc, the paper's, slower). Change it when intensities differ in slow waves.",
        choices=("lncc", "mk-lncc"),
        advanced=True,
    )
    refine_with: str = parameter(
        "lncc",
        "Refine with",
        "What the refinement compares: local correlation, for scans of one contrast, or a structural descriptor, "
        "learned (dsir, slower) or not (mind), for scans of two.",
        choices=("lncc", "dsir", "mind"),
        advanced=True,
    )
    iterations: int = parameter(
        30,
        "Iterations",
        "Most iterations of the momentum per resolution level, without networks; it stops early when nothing improves.",
        minimum=0,
        maximum=500,
        advanced=True,
    )
    time_steps: int = parameter(
        10,
        "Time steps",
        "Steps in which the map is carried along the velocity, without networks; raised by itself where that would "
        "not be stable.",
        minimum=2,
        maximum=30,
        advanced=True,
    )


def dimension_of(config: dict[str, Any]) -> int:
    """2 or 3: the images that networks of this configuration take."""
    return len(config.get("image_shape", (1, 1, 1)))


def improve_affine(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
) -> Any:
    """A 4x4 world matrix to apply before the present alignment.

    With weights the affine network's transform is where the optimisation starts, if it brings the images closer.
    """
    from .avsm_optimise import improve_affine as improve

    start = None
    if state is not None:
        from .avsm_network import Prediction

        start = Prediction(pair, state, config or {}, events).affine(parameters)
    return improve(pair, events, start)


def predict(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    final: bool = True,
) -> Tensor:
    """Displacement in voxels, (1, d, *coarse), of a grid over the pair's corners.

    With weights (``state`` and the ``config`` they were trained with) it is the networks'; without, the momentum is
    optimised on the pair. What is not ``final`` will be refined, so the networks' finer grid is left out.
    """
    from ..networks.maps import map_to_displacement

    if state is not None:
        from .avsm_network import Prediction

        return map_to_displacement(Prediction(pair, state, config or {}, events).map(parameters, final))
    from .avsm_optimise import optimise

    return optimise(pair, parameters, events)


def refine(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """The prediction improved on this very pair, by local correlation or by a descriptor."""
    from ..refine import AFTER_NETWORK, after_network, is_auto, schedule_for
    from ..refine import refine as improve

    if parameters.refine_with != "lncc":
        from .masr_run import refine_with

        return refine_with(parameters.refine_with, pair, displacement, events, how, parameters.regularization)
    if state is None:
        schedule = schedule_for(how)
    else:
        schedule = after_network(pair, displacement.shape[2:]) if is_auto(how) else schedule_for(how, AFTER_NETWORK)
    return improve(pair, displacement, schedule, events, parameters.regularization)
