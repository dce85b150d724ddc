"""What the panel of segment propagation remembers: saved with the scene, bound to the widgets of the same name."""

from __future__ import annotations

import enum
import json
from typing import Annotated

import slicer
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
    vtkMRMLTransformNode,
)
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .parameter_node import Alignment, Device, Refinement

TARGETS = "RegNetPropagationTargets"
"""Node references from the parameter node to the ticked targets."""


class Destination(enum.Enum):
    """Where the segments go."""

    VOLUMES = "volumes"
    SEQUENCE = "sequence"

    def label(self) -> str:
        return {
            Destination.VOLUMES: _("One or several volumes"),
            Destination.SEQUENCE: _("The frames of a sequence (4D)"),
        }[self]


class Along(enum.Enum):
    """What each frame of a sequence is registered to; values as in ``regnet.propagate.ALONG``."""

    REFERENCE = "reference"
    CHAIN = "chain"

    def label(self) -> str:
        return {
            Along.REFERENCE: _("Every frame to the segmented one"),
            Along.CHAIN: _("Frame to frame"),
        }[self]


class Mapping(enum.Enum):
    """What says which point of the scan belongs to which of a target."""

    REGISTER = "register"
    TRANSFORM = "transform"

    def label(self) -> str:
        return {
            Mapping.REGISTER: _("Register the scan to each target"),
            Mapping.TRANSFORM: _("Use a transform that exists"),
        }[self]


class Interpolation(enum.Enum):
    """Values as in ``regnet.label_maps.INTERPOLATIONS``."""

    SMOOTH = "smooth"
    NEAREST = "nearest"

    def label(self) -> str:
        return {Interpolation.SMOOTH: _("Smooth"), Interpolation.NEAREST: _("Nearest voxel")}[self]


@parameterNodeWrapper
class PropagationParameterNode:
    """Names are those of the widgets' ``SlicerParameterName``.

    ``model``, ``modelParameters`` (JSON: model name -> its parameters) and ``leftOut`` (JSON: identities of the
    segments that are not carried) are bound by the panel itself, as are the targets, which are plain node references.
    """

    scan: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    leftOut: str = "[]"
    destination: Destination = Destination.VOLUMES
    sequence: vtkMRMLSequenceNode
    frame: Annotated[int, WithinRange(0, 100000)] = 0
    along: Along = Along.REFERENCE
    mapping: Mapping = Mapping.REGISTER
    transform: vtkMRMLTransformNode
    backwards: bool = False
    model: str = ""
    modelParameters: str = "{}"
    alignment: Alignment = Alignment.AUTO
    refinement: Refinement = Refinement.AUTO
    refineSteps: Annotated[int, WithinRange(1, 1000)] = 50
    device: Device = Device.AUTO
    seed: Annotated[int, WithinRange(0, 1000000)] = 0
    interpolation: Interpolation = Interpolation.SMOOTH
    reference: vtkMRMLSegmentationNode

    def targets(self) -> list:
        """The volumes that are ticked, in the order in which they were."""
        node = self.parameterNode
        found = [node.GetNthNodeReference(TARGETS, n) for n in range(node.GetNumberOfNodeReferences(TARGETS))]
        return [volume for volume in found if volume is not None and volume is not self.scan]

    def set_targets(self, volumes) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self.parameterNode.RemoveNodeReferenceIDs(TARGETS)
            for volume in volumes:
                self.parameterNode.AddNodeReferenceID(TARGETS, volume.GetID())

    def left_out(self) -> set[str]:
        """Identities of the segments that are not carried; none where a scene brings something unreadable."""
        try:
            kept = json.loads(self.leftOut)
        except ValueError:
            return set()
        return {str(identity) for identity in kept} if isinstance(kept, list) else set()

    def chosen_segments(self) -> list[str]:
        """Identities of the segments to carry, in the segmentation's order."""
        if self.segmentation is None:
            return []
        left_out, identities = self.left_out(), self.segmentation.GetSegmentation().GetSegmentIDs()
        return [identity for identity in identities if identity not in left_out]

    def is_along_sequence(self) -> bool:
        return self.destination is Destination.SEQUENCE

    def uses_transform(self) -> bool:
        """A transform that exists takes the place of the registration; a sequence has one for every frame."""
        return self.mapping is Mapping.TRANSFORM and not self.is_along_sequence()

    def refine_option(self) -> str | int:
        """The core's ``refine``: "auto", "off" or a number of steps."""
        return self.refineSteps if self.refinement is Refinement.STEPS else self.refinement.value
