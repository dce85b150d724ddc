"""BSAFusion: registration and fusion of two modalities by one network (Li et al. 2025). Info and parameters; the work
is in ``bsafusion_run`` and, for the fusion, in :mod:`regnet.fusing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .base import ModelInfo, ParametersBase, parameter, stiffness

if TYPE_CHECKING:
    from torch import Tensor

    from ..colour_table import ColourTable
    from ..events import Events
    from ..fusing import Fusion
    from ..image import Image
    from ..pair import Pair
    from ..transform import Transform

PLANES = ("ct-mri", "pet-mri", "spect-mri")
"""Weights for planes, one for each pair of modalities,"""
VOLUMES = "volumes"
"""and those for volumes."""
REFINEMENTS = ("auto", "looks", "dsir", "mind", "edges")
LOOKS = 1
"""At mirrored pairs, unless told otherwise: the first is upside down. A head's left and right are alike, and so are the
errors of a look from left to right; all three looks gain next to nothing (tuning cases), in twice the time."""
FUSION_MODES = ("auto", "volume", "slices")

info = ModelInfo(
    name="bsafusion",
    title="BSAFusion",
    summary="Registers scans of two modalities, CT, PET or SPECT onto MR, and fuses them to one picture in the same "
    "pass; a look at the mirrored pair, or the pair itself, then refines the registration.",
    paper="BSAFusion: A Bidirectional Stepwise Feature Alignment Network for Unaligned Medical Image Fusion, AAAI "
    "2025, arXiv 2412.08050",
    citation="H. Li, D. Su, Q. Cai, Y. Zhang. BSAFusion: A Bidirectional Stepwise Feature Alignment Network for "
    "Unaligned Medical Image Fusion. AAAI 2025, arXiv 2412.08050.",
    dimensions=(2, 3),
    modalities="MR with CT, PET or SPECT of the head",
    transform_kind="dense",
    fuses=True,
    variants=(*PLANES, VOLUMES),
    without_weights="without them, by its refinement alone, and fuses nothing",
    planar_alignment="none",
)


@dataclass(frozen=True)
class Parameters(ParametersBase):
    weights: str = parameter(
        PLANES[0],
        "Modalities",
        "Which trained networks register and fuse planes and slices; volumes have one of their own for all. With none "
        "the refinement registers, and nothing is fused.",
        choices=(*PLANES, "none"),
    )
    fusion: str = parameter(
        "auto",
        "Fuse",
        "As a volume, or slice by slice with one and the same deformation; auto takes slices where a volume would be "
        "too large for this machine. off gives the transform only.",
        choices=(*FUSION_MODES, "off"),
    )
    refine_with: str = parameter(
        "auto",
        "Refine with",
        "What refines the network's registration: its own look at the mirrored pair, as far as both agree (looks), or "
        "a comparison of the pair by a structural descriptor, learned (dsir; MIND in planes) or not (mind), or by "
        "edges (edges). auto takes looks in planes and dsir in volumes.",
        choices=REFINEMENTS,
    )
    regularization: float = stiffness()

    def wanted_weights(self, dims: int) -> str:
        return self.weights if dims == 2 or self.weights == "none" else VOLUMES


def dimension_of(config: dict[str, Any]) -> int:
    """2 or 3: the images that networks of this configuration take."""
    return int(config.get("dims", 2))


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
    """Displacement in voxels, (1, d, *coarse), of a grid over the pair's corners: the network's own; without weights
    none."""
    if state is None:
        return pair.fixed.new_zeros(1, len(pair.shape), *pair.level(8.0).shape)
    from .bsafusion_run import Network

    return Network.of(state, config, pair.fixed.device).displacement(pair, events)


def refine(
    pair: Pair,
    displacement: Tensor,
    parameters: Parameters,
    state: dict[str, Tensor] | None,
    config: dict[str, Any] | None,
    events: Events,
    how: str | int,
) -> Tensor:
    """The prediction improved on this very pair, by what the network says of its mirror images or by a descriptor of
    structure. Without weights there are no looks: a descriptor then takes their place."""
    kind = parameters.refine_with
    if kind == "auto":
        kind = "looks" if len(pair.shape) == 2 else "dsir"
    if kind == "looks" and state is not None:
        from .bsafusion_run import Network

        looks = int(how) if str(how).strip().isdigit() else LOOKS
        return Network.of(state, config, pair.fixed.device).agreed(pair, displacement, looks, events)
    from .masr_run import refine_with

    return refine_with("dsir" if kind == "looks" else kind, pair, displacement, events, how, parameters.regularization)


def fuse(
    fixed: Image, moving: Image, transform: Transform, parameters: Parameters, colours: ColourTable | None, **how: Any
) -> Fusion | None:
    """Both images as one, see :func:`regnet.fusing.fuse`; None if that was not asked for."""
    if parameters.weights == "none" or parameters.fusion == "off":
        return None
    from ..fusing import fuse as made

    return made(fixed, moving, transform, colours=colours, weights=parameters.weights, mode=parameters.fusion, **how)
