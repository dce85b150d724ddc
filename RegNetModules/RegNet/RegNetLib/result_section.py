"""The numbers of a finished registration, as a table that is read from the result's own transform node."""

from __future__ import annotations

import json

import qt
from slicer.i18n import tr as _

from .fused_volume import tell_fusion
from .result_nodes import REPORT

OUTER_STAGES = ("read", "align", "model", "refine", "export")
"""The core's stages that follow each other; those inside them are left out of the table."""


class ResultSection:
    """Shows the report that a transform node carries; nothing when it carries none."""

    def __init__(self, ui) -> None:
        self._ui = ui
        table = ui.numbersTable
        table.setColumnCount(2)
        table.horizontalHeader().visible = False
        table.verticalHeader().visible = False
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def show(self, transform) -> None:
        report = transform.GetAttribute(REPORT) if transform is not None else None
        rows = report_rows(json.loads(report)) if report else []
        table = self._ui.numbersTable
        table.setRowCount(len(rows))
        for index, (label, value) in enumerate(rows):
            table.setItem(index, 0, qt.QTableWidgetItem(label))
            table.setItem(index, 1, qt.QTableWidgetItem(value))
        table.resizeRowsToContents()
        height = sum(table.rowHeight(index) for index in range(len(rows)))
        table.setFixedHeight(height + 2 * table.frameWidth)
        self._ui.resultSection.visible = bool(rows)


def report_rows(report: dict) -> list[tuple[str, str]]:
    """(label, value) pairs in the order of reading; a number that the report lacks is left out."""
    rows = [
        (_("Similarity"), _change(report)),
        (_("Folding"), _number(report.get("folding_percent"), "{:.4f} %")),
        (_("Spread of log Jacobian"), _number(report.get("sdlogj"), "{:.3f}")),
        (_("Time"), _times(report.get("time_s") or {})),
        (_("Peak memory"), _number(report.get("peak_memory_mb"), "{:.0f} MB")),
        (_("Device"), str(report.get("device") or "")),
        (_("Working grid"), _grid(report.get("working_grid") or {})),
        (_("Weights"), _weights(report)),
        (_("Fusion"), tell_fusion(report["fusion"]) if report.get("fusion") else ""),
        (_("Warnings"), "\n".join(report.get("warnings") or [])),
    ]
    return [(label, value) for label, value in rows if value]


def _change(report: dict) -> str:
    before, after = report.get("similarity_before"), report.get("similarity_after")
    if before is None or after is None:
        return ""
    metric = report.get("similarity_metric")
    return f"{before:.3f} → {after:.3f}" + (f" ({metric})" if metric else "")


def _number(value, pattern: str) -> str:
    return pattern.format(value) if value is not None else ""


def _times(times: dict) -> str:
    stages = ", ".join(f"{name} {times[name]:.1f}" for name in OUTER_STAGES if name in times)
    total = _number(times.get("total"), "{:.1f} s")
    return f"{total} ({stages})" if total and stages else total


def _grid(grid: dict) -> str:
    shape, spacing = grid.get("shape"), grid.get("spacing")
    if not shape or not spacing:
        return ""
    return " × ".join(str(n) for n in reversed(shape)) + ", " + " × ".join(f"{mm:.2f}" for mm in spacing) + " mm"


def _weights(report: dict) -> str:
    if "weights" not in report:
        return ""
    weights = report["weights"]
    if not weights:
        return _("none: optimised on this pair")
    return str(weights.get("variant") or weights.get("path") or _("default"))
