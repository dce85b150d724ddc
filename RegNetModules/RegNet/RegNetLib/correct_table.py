"""The table of the pairs of points: number, error before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

from .connections import Connections

MOST_ROWS = 8


@dataclass(frozen=True)
class PairRow:
    """``after`` is None where the result has not been corrected by the pair as it is."""

    label: str
    before: float
    after: float | None


class PairTable:
    """Shows pairs in a QTableWidget.

    Args:
        on_chosen: called with a pair's label when the user clicks on its row.
    """

    def __init__(self, widget, on_chosen: Callable[[str], None]) -> None:
        self._widget, self._on_chosen = widget, on_chosen
        self._rows: list[PairRow] | None = None
        widget.setColumnCount(3)
        widget.setHorizontalHeaderLabels([_("Point"), _("Error before [mm]"), _("Error after [mm]")])
        widget.verticalHeader().visible = False
        widget.horizontalHeader().setStretchLastSection(True)
        widget.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        widget.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        widget.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        widget.setSelectionMode(qt.QAbstractItemView.ExtendedSelection)
        self._connections = Connections()
        self._connections.add(widget, "cellClicked(int,int)", self._on_clicked)
        self.show([])

    def close(self) -> None:
        self._connections.close()

    def show(self, rows: list[PairRow]) -> None:
        if rows == self._rows:
            return
        table = self._widget
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate((row.label, _told(row.before), _told(row.after))):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.resizeRowsToContents()
        height = sum(table.rowHeight(number) for number in range(min(len(rows), MOST_ROWS)))
        table.setFixedHeight(height + table.horizontalHeader().sizeHint.height() + 2 * table.frameWidth)
        table.visible = bool(rows)
        self._rows = list(rows)

    def chosen(self) -> list[str]:
        """Labels of the rows that are selected, from top to bottom."""
        rows = {index.row() for index in self._widget.selectionModel().selectedRows()}
        return [row.label for number, row in enumerate(self._rows or []) if number in rows]

    def _on_clicked(self, number: int, _column: int) -> None:
        if self._rows and number < len(self._rows):
            self._on_chosen(self._rows[number].label)


def _told(error: float | None) -> str:
    return "–" if error is None else f"{error:.2f}"
