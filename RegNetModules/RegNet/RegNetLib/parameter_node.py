"""What a registration panel remembers: saved with the scene and bound to the widgets of the same name."""

from __future__ import annotations

import enum
from typing import Annotated, Union

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Alignment(enum.Enum):
    """How the images are brought together before the model runs; values as in ``regnet.align.ALIGNMENTS``, and "auto"
    for what the model asks for."""

    AUTO = "auto"
    AFFINE = "affine"
    DDIM = "ddim"
    RIGID = "rigid"
    NEAREST = "nearest"
    MOMENTS = "moments"
    CENTRES = "centres"
    NONE = "none"

    def label(self) -> str:
        return {
            Alignment.AUTO: _("Automatic"),
            Alignment.AFFINE: _("Affine, by a search"),
            Alignment.DDIM: _("Affine, by DDIM's network"),
            Alignment.RIGID: _("Rigid"),
            Alignment.NEAREST: _("Centres or none, whichever fits"),
            Alignment.MOMENTS: _("Centres of mass"),
            Alignment.CENTRES: _("Centres of the volumes"),
            Alignment.NONE: _("None (already aligned)"),
        }[self]


class Refinement(enum.Enum):
    """Whether the model's result is improved on this very pair."""

    AUTO = "auto"
    OFF = "off"
    STEPS = "steps"

    def label(self) -> str:
        return {
            Refinement.AUTO: _("Automatic"),
            Refinement.OFF: _("Off"),
            Refinement.STEPS: _("Number of steps"),
        }[self]


class Device(enum.Enum):
    """Where the computation runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("NVIDIA graphics card (CUDA)"),
            Device.MPS: _("Apple graphics (MPS)"),
        }[self]


class FusionWeights(enum.Enum):
    """What the networks that fuse planes and slices are trained for; values as in ``bsafusion.PLANES``."""

    CT_MRI = "ct-mri"
    PET_MRI = "pet-mri"
    SPECT_MRI = "spect-mri"

    def label(self) -> str:
        return {
            FusionWeights.CT_MRI: _("CT with MR"),
            FusionWeights.PET_MRI: _("PET with MR"),
            FusionWeights.SPECT_MRI: _("SPECT with MR"),
        }[self]


class CorrectionMode(enum.Enum):
    """How points bind a correction; values as in ``regnet.correct.MODES``."""

    SOFT = "soft"
    EXACT = "exact"

    def label(self) -> str:
        return {CorrectionMode.SOFT: _("About right"), CorrectionMode.EXACT: _("Exact")}[self]


class Comparison(enum.Enum):
    """What the images are compared by; values as in ``regnet.correct_images.SIMILARITIES``."""

    MIND = "mind"
    DSIR = "dsir"
    LNCC = "lncc"

    def label(self) -> str:
        return {
            Comparison.MIND: _("MIND-SSC"),
            Comparison.DSIR: _("MASR-Net's descriptor"),
            Comparison.LNCC: _("Local correlation"),
        }[self]


Labels = Union[vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode, None]  # noqa: UP007 - Slicer looks for Union
"""Where an image counts. Slicer needs the None to store that there is none."""
Place = Union[vtkMRMLMarkupsROINode, vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode, None]  # noqa: UP007
"""A region of interest."""


@parameterNodeWrapper
class PanelParameterNode:
    """Names are those of the widgets' ``SlicerParameterName``.

    ``model`` and ``modelParameters`` (JSON: model name -> its parameters) are bound by the panel itself, because the
    widgets for them depend on the model. ``syntheticVolume`` and ``fusedVolume`` have no widget: they are what the last
    run of a model that translates, and the last fusion, have made. Nor have ``correctFixedPoints`` and
    ``correctMovingPoints``, which the user places, and the segments, whose choices depend on the segmentation; an empty
    one of a mask or region stands for all of its segments.
    """

    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    fixedMask: Labels
    movingMask: Labels
    fixedMaskSegment: str = ""
    movingMaskSegment: str = ""
    region: Place
    regionSegment: str = ""
    regionTaper: Annotated[float, WithinRange(0.0, 1000.0)] = 10.0
    model: str = ""
    modelParameters: str = "{}"
    alignment: Alignment = Alignment.AUTO
    refinement: Refinement = Refinement.AUTO
    refineSteps: Annotated[int, WithinRange(1, 1000)] = 50
    device: Device = Device.AUTO
    seed: Annotated[int, WithinRange(0, 1000000)] = 0
    livePreview: bool = True
    resultTransform: vtkMRMLTransformNode
    applyToMoving: bool = True
    createVolume: bool = False
    outputVolume: vtkMRMLScalarVolumeNode
    syntheticVolume: vtkMRMLScalarVolumeNode
    fusedVolume: vtkMRMLScalarVolumeNode
    fuseWeights: FusionWeights = FusionWeights.CT_MRI
    correctFixedPoints: vtkMRMLMarkupsFiducialNode
    correctMovingPoints: vtkMRMLMarkupsFiducialNode
    correctSegmentation: vtkMRMLSegmentationNode
    correctSegment: str = ""
    correctMode: CorrectionMode = CorrectionMode.SOFT
    correctReach: Annotated[float, WithinRange(0.0, 1000.0)] = 0.0
    correctImages: bool = False
    correctSimilarity: Comparison = Comparison.MIND

    def refine_option(self) -> str | int:
        """The core's ``refine``: "auto", "off" or a number of steps."""
        return self.refineSteps if self.refinement is Refinement.STEPS else self.refinement.value
