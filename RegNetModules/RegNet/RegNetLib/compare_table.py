"""The table of a comparison: a table node of the scene, and how it is shown."""

from __future__ import annotations

import math

import slicer
import vtk
from slicer.i18n import tr as _

from .compare_run import Compared
from .history import Entry
from .history_verdict import told_verdict
from .result_nodes import FIXED, MOVING

COMPARISON = "RegNet.Comparison"
"""Attribute that marks the table node."""
ROW = "RegNetComparisonRow"
"""Node reference from the table to the history's entry of a row, with the row's number after it."""
FIELDS = ("title", "seconds", "before", "after", "folds", "farthest", "verdict")
PATTERNS = ("", "{:.1f}", "{:.3f}", "{:.3f}", "{:.4f}", "{:.1f}", "")
"""How the numbers of a column are shown; empty for text."""


UNKNOWN = "–"
"""Shown for a number that is not known."""


def column_titles() -> list[str]:
    return [
        _("Model"),
        _("Time (s)"),
        _("Before"),
        _("After"),
        _("Folds (%)"),
        _("Farthest (mm)"),
        _("Verdict"),
    ]


def table_of(fixed, moving):
    """The table node of a pair's last comparison, None for none."""
    if fixed is None or moving is None:
        return None
    nodes = slicer.util.getNodesByClass("vtkMRMLTableNode")
    own = [node for node in nodes if node.GetAttribute(COMPARISON)]
    return next((n for n in own if n.GetNodeReference(FIXED) is fixed and n.GetNodeReference(MOVING) is moving), None)


def fill_table(rows: list[Compared], fixed, moving) -> None:
    """Put a comparison into the pair's table node, which is made where there is none."""
    node = table_of(fixed, moving)
    if node is None:
        name = _("Models compared: {moving} to {fixed}").format(moving=moving.GetName(), fixed=fixed.GetName())
        name = slicer.mrmlScene.GenerateUniqueName(name)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
        node.SetAttribute(COMPARISON, "1")
        node.SetNodeReferenceID(FIXED, fixed.GetID())
        node.SetNodeReferenceID(MOVING, moving.GetID())
    for number in range(node.GetNumberOfRows()):
        node.SetNodeReferenceID(f"{ROW}{number}", None)
    table = vtk.vtkTable()
    for field, title, pattern in zip(FIELDS, column_titles(), PATTERNS, strict=True):
        column = vtk.vtkDoubleArray() if pattern else vtk.vtkStringArray()
        column.SetName(title)
        for row in rows:
            value = getattr(row, field)
            column.InsertNextValue(math.nan if value is None else value)
        table.AddColumn(column)
    for number, row in enumerate(rows):
        if row.entry is not None:
            node.SetNodeReferenceID(f"{ROW}{number}", row.entry.GetID())
    node.SetAndObserveTable(table)


def texts_of(node) -> list[tuple[str, ...]]:
    """The rows of a table node, as they are shown; a result that was judged since with its verdict."""
    if node is None:
        return []
    columns, rows = range(min(node.GetNumberOfColumns(), len(FIELDS))), []
    for row, entry in enumerate(entries_of(node)):
        texts = [_text(node.GetCellText(row, column), PATTERNS[column]) for column in columns]
        if entry is not None and texts and not texts[-1]:
            texts[-1] = told_verdict(entry)
        rows.append(tuple(texts))
    return rows


def entries_of(node) -> list[Entry | None]:
    """The history's entry of each row; None where the model failed, or where the entry or what it needs is gone."""
    if node is None:
        return []
    found = [node.GetNodeReference(f"{ROW}{row}") for row in range(node.GetNumberOfRows())]
    entries = [Entry(entry) if entry is not None else None for entry in found]
    return [None if entry is None or entry.what_is_gone() else entry for entry in entries]


def _text(text: str, pattern: str) -> str:
    if not pattern:
        return text
    try:
        number = float(text)
    except ValueError:
        return UNKNOWN
    return pattern.format(number) if math.isfinite(number) else UNKNOWN
