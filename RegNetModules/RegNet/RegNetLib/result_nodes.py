"""What marks a transform node as the result of a registration, and what such a node knows."""

from __future__ import annotations

import json

from . import conversion

FIXED, MOVING = "spatialRegistrationFixed", "spatialRegistrationMoving"
"""The node references that Slicer's registration modules share."""
RESULT_PARENT = "RegNetMovingParent"
"""Node reference to the transform that the moving volume had before the result replaced it."""
REPORT = "RegNet.Report"
"""Attribute that keeps the numbers of the run with the result."""


def is_own_result(transform, volume) -> bool:
    """Whether ``transform`` is the result of a run of RegNet with ``volume`` as the moving one."""
    return bool(transform.GetAttribute(REPORT)) and transform.GetNodeReference(MOVING) is volume


def report_of(transform) -> dict:
    """The numbers that a result carries; {} for none."""
    try:
        report = json.loads(transform.GetAttribute(REPORT) or "{}")
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def fill_transform(node, pull) -> None:
    """Make a transform node what ``pull`` is, a vtkGeneralTransform from its parent; as a matrix where it is linear."""
    matrix = conversion.linear_matrix(pull)
    if matrix is None:
        node.SetAndObserveTransformFromParent(pull)
        return
    if not node.IsA("vtkMRMLLinearTransformNode"):
        node.SetAndObserveTransformFromParent(None)  # while it holds a field it takes no matrix
    node.SetMatrixTransformFromParent(matrix)
