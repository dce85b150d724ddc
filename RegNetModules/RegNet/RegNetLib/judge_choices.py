"""What else there is of both sides to score a registration by: segmentations, and points."""

from __future__ import annotations

from .connections import Connections

ROLES = {
    "fixed_segmentation": ("RegNetJudgeFixedSegmentation", "fixedSegmentationSelector"),
    "moving_segmentation": ("RegNetJudgeMovingSegmentation", "movingSegmentationSelector"),
    "fixed_points": ("RegNetJudgeFixedPoints", "fixedPointsSelector"),
    "moving_points": ("RegNetJudgeMovingPoints", "movingPointsSelector"),
}
"""Role -> (node reference from the panel's parameter node, selector)."""


class JudgeChoices:
    """The chosen nodes as attributes named as in :data:`ROLES`, each None where none is chosen.

    They are node references of the parameter node, so they are saved with the scene.

    Args:
        ui: the panel's widgets.
        subject: what is judged; gives the parameter node.
        on_changed: called without arguments when the user chooses another node.
    """

    def __init__(self, ui, subject, on_changed) -> None:
        self._ui, self._subject, self._on_changed = ui, subject, on_changed
        self._showing = False
        self._connections = Connections()
        for _reference, selector in ROLES.values():
            self._connections.add(getattr(ui, selector), "currentNodeChanged(vtkMRMLNode*)", self._on_chosen)

    def __getattr__(self, name: str):
        if name not in ROLES:
            raise AttributeError(name)
        parameters = self._subject.parameters()
        return parameters.parameterNode.GetNodeReference(ROLES[name][0]) if parameters is not None else None

    def close(self) -> None:
        self._connections.close()

    def refresh(self) -> None:
        """Show what the parameter node says."""
        if self._subject.parameters() is None or self._showing:
            return
        self._showing = True
        try:
            for name, (_reference, selector) in ROLES.items():
                widget, node = getattr(self._ui, selector), getattr(self, name)
                if widget.currentNode() is not node:
                    widget.setCurrentNode(node)
        finally:
            self._showing = False

    def _on_chosen(self, _node=None) -> None:
        parameters = self._subject.parameters()
        if parameters is None or self._showing:
            return
        self._showing = True
        try:
            for reference, selector in ROLES.values():
                node = getattr(self._ui, selector).currentNode()
                parameters.parameterNode.SetNodeReferenceID(reference, node.GetID() if node is not None else None)
        finally:
            self._showing = False
        self._on_changed()
