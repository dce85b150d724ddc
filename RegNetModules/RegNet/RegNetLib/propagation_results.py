"""The Result section: what became of each segment on each target, and the target in the slice views."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from .connections import Connections
from .propagation_nodes import ON, earlier_result, report_of
from .propagation_sequence import SEQUENCE, browser_of, frame_title, proxy_of, show_frame, shown_frame

WHOLE = 0.995
"""A share that is told as all of it."""


class ResultTable:
    """Shows the results of the panel's present segmentation on its present targets; hidden while there are none.

    Args:
        ui: the panel's widgets.
        get_parameters: gives the panel's parameter node, or None between scenes.
    """

    def __init__(self, ui, get_parameters) -> None:
        self._ui, self._get_parameters = ui, get_parameters
        self._entries: list[tuple[str, object, dict]] = []
        self._showing = False
        table = ui.resultTable
        labels = [_("Segment"), _("In view"), _("Before (mL)"), _("After (mL)"), _("Dice"), _("Note")]
        table.setColumnCount(len(labels))
        table.setHorizontalHeaderLabels(labels)
        table.verticalHeader().visible = False
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self._connections = Connections()
        self._connections.add(ui.resultComboBox, "currentIndexChanged(int)", self._on_chosen)
        self._connections.add(ui.showResultButton, "clicked()", self.show_in_views)

    def close(self) -> None:
        self._connections.close()

    def refresh(self) -> None:
        """Look for results again; the chosen one stays chosen if it is still there."""
        entries = self._found()
        titles = [title for title, _key, _report in entries]
        combo = self._ui.resultComboBox
        if titles != [title for title, _key, _report in self._entries]:
            self._showing = True
            try:
                chosen = combo.currentText
                combo.clear()
                combo.addItems(titles)
                combo.currentIndex = titles.index(chosen) if chosen in titles else 0 if titles else -1
            finally:
                self._showing = False
        changed = entries != self._entries
        self._entries = entries
        self._ui.resultSection.visible = bool(entries)
        if changed:
            self._fill()

    def show_new(self) -> None:
        """A run has left results: show the first one, or the frame that is looked at."""
        self.refresh()
        if self._entries:
            parameters = self._get_parameters()
            if parameters.is_along_sequence():
                numbers = [key for _title, key, _report in self._entries]
                shown = shown_frame(parameters.sequence)
                self._choose(numbers.index(shown) if shown in numbers else 0)
            self.show_in_views()

    def show_in_views(self) -> None:
        """The chosen target in the slice views, with its segments and without those of the others."""
        parameters, entry = self._get_parameters(), self._chosen()
        if parameters is None or entry is None:
            return
        if parameters.is_along_sequence():
            show_frame(parameters.sequence, entry[1])
            volume, result = proxy_of(parameters.sequence), self._sequence_proxy(parameters)
            others = []
        else:
            result = entry[1]
            volume = result.GetNodeReference(ON)
            others = [node for _title, node, _report in self._entries if node is not result]
        if volume is None:
            return
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True)
        for node in [parameters.segmentation, *others]:
            _set_visible(node, False)
        _set_visible(result, True)

    def _found(self) -> list[tuple[str, object, dict]]:
        """(title, result node or number of the frame, report) in the order of the targets."""
        parameters = self._get_parameters()
        if parameters is None or parameters.segmentation is None:
            return []
        if parameters.is_along_sequence():
            node = earlier_result(parameters.segmentation, parameters.sequence, SEQUENCE)
            frames = report_of(node).get("frames", {})
            numbers = sorted(int(n) for n in frames if n.isdigit())
            numbers = [n for n in numbers if n < parameters.sequence.GetNumberOfDataNodes()] if numbers else []
            return [(frame_title(parameters.sequence, n), n, frames[str(n)]) for n in numbers]
        results = [(target, earlier_result(parameters.segmentation, target)) for target in parameters.targets()]
        return [(target.GetName(), node, report_of(node)) for target, node in results if node is not None]

    @staticmethod
    def _sequence_proxy(parameters):
        node = earlier_result(parameters.segmentation, parameters.sequence, SEQUENCE)
        browser = browser_of(parameters.sequence)
        return browser.GetProxyNode(node) if node is not None and browser is not None else None

    def _chosen(self):
        index = self._ui.resultComboBox.currentIndex
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def _choose(self, index: int) -> None:
        self._showing = True
        try:
            self._ui.resultComboBox.currentIndex = index
        finally:
            self._showing = False
        self._fill()

    def _on_chosen(self, _index: int) -> None:
        if not self._showing:
            self._fill()
            self.show_in_views()

    def _fill(self) -> None:
        table, entry = self._ui.resultTable, self._chosen()
        rows = table_rows(entry[2]) if entry is not None else []
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.resizeRowsToContents()
        height = sum(table.rowHeight(number) for number in range(min(len(rows), 12)))
        table.setFixedHeight(height + table.horizontalHeader().sizeHint.height() + 2 * table.frameWidth + 2)


def table_rows(report: dict) -> list[tuple[str, ...]]:
    """The texts of the table for one target; the mean Dice comes last where there are several."""
    rows = [
        (
            str(row.get("name", "")),
            _number(row.get("share_in_view"), "{:.0%}"),
            _number(row.get("source_volume_ml"), "{:.2f}"),
            _number(row.get("volume_ml"), "{:.2f}"),
            _number(row.get("dice"), "{:.3f}"),
            note_of(row),
        )
        for row in report.get("segments", [])
    ]
    mean = report.get("mean") or {}
    if mean.get("segments", 0) > 1:
        title = _("Mean of {count}").format(count=mean["segments"])
        rows.append((title, "", "", "", _number(mean["dice"], "{:.3f}"), ""))
    return rows


def note_of(row: dict) -> str:
    """What is wrong with a segment, in a word or two; empty if nothing is."""
    share = row.get("share_in_view")
    if not row.get("source_voxels"):
        return _("empty in the source")
    if share == 0:
        return _("outside the target")
    if not row.get("voxels"):
        return _("too small for the voxels")
    return _("partly outside the target") if share is not None and share < WHOLE else ""


def _number(value, pattern: str) -> str:
    return pattern.format(value) if isinstance(value, (int, float)) and value == value else "–"


def _set_visible(node, visible: bool) -> None:
    if node is not None and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility(visible)
