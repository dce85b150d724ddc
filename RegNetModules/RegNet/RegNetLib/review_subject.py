"""What is looked at and judged: two volumes, and the transform that puts the moving one onto the fixed one."""

from __future__ import annotations

from .fused_volume import fused_of
from .live_preview import is_previewed
from .result_nodes import FIXED, MOVING, RESULT_PARENT, is_own_result

PLACE_BEFORE = "RegNetReviewPlaceBefore"
"""Node reference from the review module's parameter node to what the moving volume lay under before."""


class PanelSubject:
    """The pair and the result of a registration panel.

    Args:
        get_parameters: gives the panel's parameter node, or None between scenes.
    """

    def __init__(self, get_parameters) -> None:
        self._get_parameters = get_parameters

    def parameters(self):
        """The panel's parameter node; None between scenes."""
        return self._get_parameters()

    def volumes(self):
        """The fixed and the moving volume, each None where none is chosen."""
        parameters = self.parameters()
        return (None, None) if parameters is None else (parameters.fixedVolume, parameters.movingVolume)

    def pair(self):
        """The two volumes to be shown, (None, None) where there are no two.

        The resampled volume stands for the moving one where that was not transformed.
        """
        fixed, moving = self.volumes()
        parameters = self.parameters()
        if parameters is not None and parameters.createVolume and not parameters.applyToMoving:
            moving = parameters.outputVolume or moving
        return (fixed, moving) if None not in (fixed, moving) and fixed is not moving else (None, None)

    def transform(self):
        parameters = self.parameters()
        return parameters.resultTransform if parameters is not None else None

    def fused(self):
        """The fused volume of the pair, None where there is none."""
        parameters = self.parameters()
        return fused_of(parameters) if parameters is not None else None

    def can_be_toggled(self) -> bool:
        """Before and after differ by the moving volume's transform, so a result must know its volumes."""
        result = self.transform()
        return result is not None and None not in (result.GetNodeReference(FIXED), result.GetNodeReference(MOVING))

    def is_applied(self) -> bool | None:
        """Whether the moving volume lies under the transform; None while nobody can tell."""
        moving = self._toggled()
        return None if is_previewed(moving) else moving.GetTransformNodeID() == self.transform().GetID()

    def place_before(self):
        """The transform node that places the moving volume before the transform does; None for none."""
        moving, result = self.volumes()[1], self.transform()
        if moving is None or result is None:
            return None
        if is_own_result(result, moving):
            return result.GetNodeReference(RESULT_PARENT)
        parent = moving.GetParentTransformNode()
        return parent if parent is not result else None

    def apply(self, after: bool) -> None:
        """Put the moving volume under the transform, or back to where it was before."""
        place = self.transform() if after else self.transform().GetNodeReference(RESULT_PARENT)
        self._toggled().SetAndObserveTransformNodeID(place.GetID() if place is not None else None)

    def _toggled(self):
        return self.transform().GetNodeReference(MOVING)


class TransformSubject(PanelSubject):
    """Two volumes and any transform: it need not be a result of RegNet, nor know its volumes."""

    def pair(self):
        fixed, moving = self.volumes()
        return (fixed, moving) if None not in (fixed, moving) and fixed is not moving else (None, None)

    def fused(self):
        return None

    def can_be_toggled(self) -> bool:
        return self.transform() is not None and None not in self.pair()

    def place_before(self):
        moving, transform = self.volumes()[1], self.transform()
        if moving is None or transform is None:
            return None
        if is_own_result(transform, moving):
            return transform.GetNodeReference(RESULT_PARENT)
        if moving.GetParentTransformNode() is not transform:
            return moving.GetParentTransformNode()
        return self.parameters().parameterNode.GetNodeReference(PLACE_BEFORE)

    def apply(self, after: bool) -> None:
        before = self.place_before()
        identity = before.GetID() if before is not None else None
        self._toggled().SetAndObserveTransformNodeID(self.transform().GetID() if after else identity)
        # Last: the panel looks again at once, and shows what is then.
        self.parameters().parameterNode.SetNodeReferenceID(PLACE_BEFORE, identity)

    def _toggled(self):
        return self.volumes()[1]
