"""A corrected registration becomes a transform node of its own; the one before it stays as it was."""

from __future__ import annotations

import json

import slicer
from slicer.i18n import tr as _

from . import conversion
from .fused_volume import outdate_fused
from .history_undo import move_along, note_what_was
from .result_nodes import FIXED, MOVING, REPORT, RESULT_PARENT, fill_transform, is_own_result, report_of
from .transform_steps import SentTransform

CORRECTION = "correction"
"""In a report: what :func:`regnet.correct.correct` told, with the points' names."""


def correction_of(transform) -> dict:
    """What is known of the correction that a transform node is the result of; {} for none."""
    return report_of(transform).get(CORRECTION) or {} if transform is not None else {}


class CorrectionImporter:
    """Turns the answer of one correction into a node. Made when it starts, so that it knows what it was about.

    Args:
        labels: of the pairs of points, in the order they were sent.
        sent: the present transform as it was sent.
    """

    def __init__(self, parameters, labels: list[str], sent: SentTransform) -> None:
        self._parameters, self._labels, self._sent = parameters, labels, sent
        self._fixed_id = parameters.fixedVolume.GetID()
        self._moving_id = parameters.movingVolume.GetID()
        self._result_id = parameters.resultTransform.GetID()

    def what_is_gone(self) -> str:
        """What of it was removed from the scene; empty if all is there."""
        if None in (_node(self._fixed_id), _node(self._moving_id)):
            return _("the fixed or the moving volume was removed meanwhile")
        return _("the result was removed meanwhile") if _node(self._result_id) is None else ""

    def load(self, result: dict, folder):
        """Take over what the worker sent and return the new transform node, which is the panel's result from now on.

        Raises:
            ValueError: something it was about is gone, with one sentence for the user.
        """
        gone = self.what_is_gone()
        if gone:
            raise ValueError(gone)
        fixed, moving, before = _node(self._fixed_id), _node(self._moving_id), _node(self._result_id)
        pull = self._sent.changed(result["transforms"], folder, before)
        matrix = conversion.linear_matrix(pull)
        name = slicer.mrmlScene.GenerateUniqueName(_("{name}, corrected").format(name=_bare(before)))
        kind = "vtkMRMLTransformNode" if matrix is None else "vtkMRMLLinearTransformNode"
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        try:
            fill_transform(node, pull)
            self._describe(node, before, fixed, moving, result.get("report") or {})
        except Exception:
            slicer.mrmlScene.RemoveNode(node)
            raise
        self._parameters.resultTransform = node
        outdate_fused(self._parameters, fixed, moving)
        if self._parameters.applyToMoving or moving.GetParentTransformNode() is before:
            move_along(before, moving, node)
        return node

    def _describe(self, node, before, fixed, moving, report: dict) -> None:
        """What the node is the result of, and what it replaces."""
        for pair, label in zip(report.get("points") or [], self._labels, strict=True):
            pair["name"] = label
        told = {name: value for name, value in report.items() if name not in ("points", "mode", "reach_mm")}
        correction = {name: report.get(name) for name in ("points", "mode", "reach_mm")}
        node.SetAttribute(REPORT, json.dumps({"model": _("Correction"), **told, CORRECTION: correction}))
        node.SetNodeReferenceID(FIXED, fixed.GetID())
        node.SetNodeReferenceID(MOVING, moving.GetID())
        parent = moving.GetParentTransformNode()
        if is_own_result(before, moving):
            parent = before.GetNodeReference(RESULT_PARENT)
        elif parent is before:
            parent = None
        node.SetNodeReferenceID(RESULT_PARENT, parent.GetID() if parent is not None else None)
        node.CreateDefaultDisplayNodes()
        note_what_was(node, before, None, moving)


def _node(identity: str):
    return slicer.mrmlScene.GetNodeByID(identity)


def _bare(transform) -> str:
    """The name of a result without what an earlier correction has added to it."""
    return transform.GetName().split(_(", corrected"))[0]
