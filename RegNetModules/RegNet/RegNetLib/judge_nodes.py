"""The nodes that a judgement leaves: its maps as coloured volumes, and a table of all its numbers.

Each knows the transform that it is about; judging that again fills the same nodes.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from regnet.judge_report import rows
from slicer.i18n import tr as _

from . import conversion

JUDGED = "RegNetJudgedTransform"
"""Node reference from a map or a table to the transform that it is about."""
KIND = "RegNet.Judged"
"""Attribute that says which map a volume is, or that a table is one of these."""
TABLE = "table"
MAP_TITLES = {
    "jacobian": _("Jacobian determinant"),
    "displacement": _("Displacement (mm)"),
    "inverse_consistency": _("Inverse consistency error (mm)"),
    "misfit": _("Distance to the best fit (mm)"),
}
"""Maps as in ``regnet.judge.MAPS``."""
FOLD_COLOUR = (0.9, 0.05, 0.05)
COLOURS = 256
LOW, HIGH = -0.5, 2.0
"""Ends of the colours of the Jacobian determinant, as shares of the linear part's: folds, below 0, have their own."""
LEAST_MM = 0.5
"""Colours of lengths end here at least, so that rounding errors are not painted in alarming ones."""
SEEN = 0.02
"""Lengths below this share of the colours' end are see-through."""


def judged_nodes(transform) -> dict:
    """The nodes of the last judgement of a transform by their kind."""
    found = {}
    for name in ("vtkMRMLScalarVolumeNode", "vtkMRMLTableNode"):
        for node in slicer.util.getNodesByClass(name):
            if transform is not None and node.GetAttribute(KIND) and node.GetNodeReference(JUDGED) is transform:
                found[node.GetAttribute(KIND)] = node
    return found


def fill_nodes(transform, maps: dict, report: dict) -> None:
    """Put a judgement into its nodes; if that fails no new one stays, and earlier ones may hold some new values.

    Args:
        maps: name -> (array (D, H, W), 4x4 from its voxels to LPS mm).
        report: as the worker tells it.
    """
    earlier, added = judged_nodes(transform), []
    try:
        for name, (array, place) in maps.items():
            node = earlier.get(name) or _new("vtkMRMLScalarVolumeNode", name, MAP_TITLES[name], transform, added)
            conversion.set_volume(node, array, place)
            _colour(node, name, array, report["numbers"])
        table = earlier.get(TABLE) or _new("vtkMRMLTableNode", TABLE, _("Judgement"), transform, added)
        fill_table(table, report)
    except Exception:
        for node in added:
            slicer.mrmlScene.RemoveNode(node)  # and its display node
        raise


def fill_table(node, report: dict) -> None:
    """All numbers in a table of three columns; positions in Slicer's own directions."""
    numbers = report["numbers"]
    seen = {
        name: conversion.flipped_points(value)[0].tolist() if isinstance(value, list) else value
        for name, value in numbers.items()
    }
    columns = [vtk.vtkStringArray() for _column in range(3)]
    for column, title in zip(columns, (_("Quantity"), _("Value"), _("Unit")), strict=True):
        column.SetName(title)
    for row in rows({**report, "numbers": seen}, "RAS"):
        for column, text in zip(columns, row, strict=True):
            column.InsertNextValue(text)
    was_modifying = node.StartModify()
    node.RemoveAllColumns()
    for column in columns:
        node.AddColumn(column)
    node.EndModify(was_modifying)


def _new(class_name: str, kind: str, title: str, transform, added: list):
    name = _("{title} of {transform}").format(title=title, transform=transform.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
    added.append(node)
    node.SetAttribute(KIND, kind)
    node.SetNodeReferenceID(JUDGED, transform.GetID())
    return node


def _colour(node, name: str, array: np.ndarray, numbers: dict) -> None:
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    if name == "jacobian":
        scale = numbers.get("linear_scale") or 1.0
        display.SetAndObserveColorNodeID(_table("RegNet Jacobian", _jacobian_colours()).GetID())
        display.SetWindowLevelMinMax(LOW * scale, HIGH * scale)
        return
    high = max(float(array.max()), LEAST_MM)
    display.SetAndObserveColorNodeID(_table("RegNet millimetres", _length_colours()).GetID())
    display.SetWindowLevelMinMax(0.0, high)
    display.SetThreshold(SEEN * high, 1e6)
    display.SetApplyThreshold(True)


def _table(name: str, colours: np.ndarray):
    """A colour table node, made once per scene and kept out of the user's lists."""
    node = slicer.mrmlScene.GetFirstNode(name, "vtkMRMLColorTableNode")
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
        node.SetTypeToUser()
        node.SetHideFromEditors(True)
        node.SetNumberOfColors(len(colours))
        for level, colour in enumerate(colours):
            node.SetColor(level, str(level), *(float(part) for part in colour), 1.0)
    return node


def _jacobian_colours() -> np.ndarray:
    """Red for folds; blue where the moving image is smaller, orange where it is larger, and grey where it is not."""
    values = np.linspace(LOW, HIGH, COLOURS)
    stops = [0.0, 0.5, 1.0, 1.5, HIGH]
    parts = [(60, 90, 130, 215, 255), (130, 150, 130, 140, 190), (255, 205, 130, 70, 90)]
    colours = np.stack([np.interp(values, stops, np.array(part) / 255) for part in parts], axis=1)
    colours[values <= 0] = FOLD_COLOUR
    return colours


def _length_colours() -> np.ndarray:
    """From dark blue over green and yellow to red."""
    stops = np.linspace(0, 1, 5)
    parts = [(20, 30, 60, 240, 220), (30, 110, 180, 210, 40), (90, 170, 110, 70, 40)]
    values = np.linspace(0, 1, COLOURS)
    return np.stack([np.interp(values, stops, np.array(part) / 255) for part in parts], axis=1)
