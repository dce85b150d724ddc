"""The nodes that a propagation leaves: one segmentation per target, which knows where it comes from."""

from __future__ import annotations

import json

import slicer
from slicer.i18n import tr as _

from .propagation_labels import fill_segmentation

FROM, ON = "RegNetPropagatedFrom", "RegNetPropagatedOn"
"""Node references from a result to the segmentation that was carried, and to the volume or the sequence."""
REPORT = "RegNet.Propagation"
"""Attribute that keeps the numbers of the run with the result."""


def earlier_result(segmentation, target, kind: str = "vtkMRMLSegmentationNode"):
    """What an earlier run made of ``segmentation`` on ``target``, None for nothing."""
    if segmentation is None or target is None:
        return None
    nodes = slicer.util.getNodesByClass(kind)
    return next(
        (node for node in nodes if node.GetNodeReference(FROM) is segmentation and node.GetNodeReference(ON) is target),
        None,
    )


def result_name(segmentation, target) -> str:
    name = _("{segmentation} on {target}").format(segmentation=segmentation.GetName(), target=target.GetName())
    return slicer.mrmlScene.GenerateUniqueName(name)


def mark(node, segmentation, target, report: dict) -> None:
    """Remember on a result what it is of."""
    node.SetNodeReferenceID(FROM, segmentation.GetID())
    node.SetNodeReferenceID(ON, target.GetID())
    node.SetAttribute(REPORT, json.dumps(report))


def report_of(node) -> dict:
    """The numbers that a result carries; {} for none."""
    text = node.GetAttribute(REPORT) if node is not None else None
    try:
        report = json.loads(text) if text else {}
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def fill_result(segmentation, target, array, entries, report: dict):
    """The result on a volume, made new or updated; a new node goes again if it cannot be filled."""
    node = earlier_result(segmentation, target)
    is_new = node is None
    if is_new:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", result_name(segmentation, target))
    try:
        if is_new:
            node.CreateDefaultDisplayNodes()
        fill_segmentation(node, array, entries, target)
    except Exception:
        if is_new:
            slicer.mrmlScene.RemoveNode(node)
        raise
    node.SetReferenceImageGeometryParameterFromVolumeNode(target)
    node.SetAndObserveTransformNodeID(target.GetTransformNodeID())
    mark(node, segmentation, target, report)
    return node
