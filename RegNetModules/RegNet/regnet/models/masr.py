"""MASR-Net: registration of images of any two modalities by a learned structural descriptor (Mok et al., CVPR 2024).

The descriptor (:mod:`regnet.networks.masr`) of each image is compared; a discrete search starts the deformation and an
optimisation of a stationary velocity field finishes it. With MIND-SSC in its place no weights are needed.
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
    name="masr",
    title="MASR-Net",
    summary="Registration of any two contrasts or modalities: CT to MR, T1 to T2, one contrast phase to another. A "
    "learned descriptor of structure that looks alike in all of them, a discrete search, then an optimised, "
    "invertible deformation.",
    paper="Modality-Agnostic Structural Image Representation Learning for Deformable Multi-Modality Medical Image "
    "Registration, CVPR 2024, arXiv 2402.18933",
    citation="T. C. W. Mok, Z. Li, Y. Bai, J. Zhang, W. Liu, Y.-J. Zhou, K. Yan, D. Jin, Y. Shi, X. Yin, L. Lu, "
    "L. Zhang. Modality-Agnostic Structural Image Representation Learning for Deformable Multi-Modality Medical Image "
    "Registration. CVPR 2024.",
    dimensions=(2, 3),
    modalities="any two contrasts or modalities, any organ",
    transform_kind="dense",
    fuses=False,
    variants=("general",),
    without_weights="without them, by MIND-SSC",
)


@dataclass(frozen=True)
class Parameters(ParametersBase):
    descriptor: str = parameter(
        "dsir",
        "Descriptor",
        "What is compared: dsir is learned and tells structures apart best; mind (MIND-SSC) needs no trained weights.",
        choices=("dsir", "mind"),
    )
    regularization: float = stiffness()
    reach: float = parameter(
        48.0,
        "Reach",
        "How far apart, after the alignment, the same anatomy may lie to be found by the search.",
        minimum=4.0,
        maximum=120.0,
        unit="mm",
    )
    weights: str = parameter(
        "general",
        "Trained weights",
        "Which trained networks describe the images and predict the start. With none, the descriptor is mind.",
        choices=(*info.variants, "none"),
        advanced=True,
    )
    start: str = parameter(
        "search",
        "Start",
        "Where the optimisation starts: a search over shifts of every region, the prediction of the registration "
        "network, which is quicker, or the alignment alone.",
        choices=("search", "network", "none"),
        advanced=True,
    )
    iterations: int = parameter(
        40,
        "Iterations",
        "Steps of the optimisation per resolution level.",
        minimum=0,
        maximum=1000,
        advanced=True,
    )
    diffeomorphic: bool = parameter(
        True,
        "Without folds",
        "Optimise a velocity field, whose deformation can be inverted everywhere; without, displacements themselves.",
        advanced=True,
    )
    detail: float = parameter(
        0.0,
        "Detail",
        "Voxel size at which the images are compared; 0 for as fine as about a million voxels allow.",
        minimum=0.0,
        maximum=10.0,
        unit="mm",
        advanced=True,
    )

    def wanted_weights(self, dims: int) -> str:
        """None where the descriptor needs none and no network is to predict the start."""
        return "none" if self.descriptor == "mind" and self.start != "network" else self.weights


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
    """A 4x4 world matrix to apply before the present alignment: the affine under which the descriptors agree most."""
    from ..descriptor_affine import improve_affine as improve
    from .masr_run import describe

    return improve(describe(pair, parameters, state, config, events), events)


def predict(
    pair: Pair,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    final: bool = True,
) -> Tensor:
    """Displacement in voxels, (1, d, *coarse), of a grid over the pair's corners: the search's or the network's."""
    from .masr_run import start

    return start(pair, parameters, state, config, events)


def refine(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """The start optimised on this very pair, coarse to fine; ``how`` may be the iterations of the finest level."""
    from .masr_run import improve

    return improve(pair, displacement, parameters, state, config, events, how)
