"""A list of things to tick: the segments, the targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import qt

from .connections import Connections

LEAST_ROWS, MOST_ROWS = 2, 8


@dataclass(frozen=True)
class Row:
    """``key`` identifies it; ``colour`` is (red, green, blue) in [0, 1]."""

    key: str
    text: str
    ticked: bool
    colour: tuple[float, ...] | None = None


class TickList:
    """Shows rows in a QListWidget.

    Args:
        widget: the list.
        on_ticked: called without arguments when the user ticks or unticks a row.
    """

    def __init__(self, widget, on_ticked) -> None:
        self._widget, self._on_ticked = widget, on_ticked
        self._rows: list[Row] | None = None
        self._showing = False
        self._connections = Connections()
        self._connections.add(widget, "itemChanged(QListWidgetItem*)", self._changed)

    def close(self) -> None:
        self._connections.close()

    def show(self, rows: list[Row]) -> None:
        if rows == self._rows:
            return
        self._showing = True
        try:
            self._widget.clear()
            for row in rows:
                self._widget.addItem(self._item(row))
            shown = min(max(len(rows), LEAST_ROWS), MOST_ROWS)
            height = self._widget.sizeHintForRow(0) if rows else self._widget.fontMetrics().height() + 4
            self._widget.setFixedHeight(shown * height + 2 * self._widget.frameWidth + 2)
        finally:
            self._showing = False
        self._rows = list(rows)

    def ticked(self) -> list[str]:
        """Keys of the rows that are ticked, from top to bottom."""
        states = [self._widget.item(n).checkState() == qt.Qt.Checked for n in range(self._widget.count)]
        return [row.key for row, state in zip(self._rows or [], states, strict=True) if state]

    def tick_all(self, ticked: bool) -> None:
        self._showing = True
        try:
            for n in range(self._widget.count):
                self._widget.item(n).setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
        finally:
            self._showing = False
        self._changed()

    @staticmethod
    def _item(row: Row):
        item = qt.QListWidgetItem(row.text)
        item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
        item.setCheckState(qt.Qt.Checked if row.ticked else qt.Qt.Unchecked)
        if row.colour is not None:
            item.setData(qt.Qt.DecorationRole, qt.QColor.fromRgbF(*row.colour))
        return item

    def _changed(self, *_arguments) -> None:
        if not self._showing:
            ticked = set(self.ticked())
            self._rows = [replace(row, ticked=row.key in ticked) for row in self._rows]
            self._on_ticked()
