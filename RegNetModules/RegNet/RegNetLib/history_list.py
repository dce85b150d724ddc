"""The rows of the history: a picture, and three lines of text."""

from __future__ import annotations

import time
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

from .history import Entry
from .history_verdict import told_verdict

LEAST_ROWS, MOST_ROWS = 1, 4
ROW_HEIGHT = 80


@dataclass(frozen=True)
class Row:
    """``key`` is the ID of the entry's node."""

    key: str
    text: str
    tool_tip: str


class HistoryList:
    """Shows entries in a QListWidget, the newest first; what is chosen stays chosen."""

    def __init__(self, widget) -> None:
        self._widget = widget
        self._rows: list[Row] = []

    def show(self, entries: list[Entry], current: Entry | None) -> None:
        """``current`` is the one of the panel's present result."""
        entries = entries[::-1]
        rows = [_row(entry, current is not None and entry.node is current.node) for entry in entries]
        if rows == self._rows:
            return
        chosen = self.chosen()
        self._widget.blockSignals(True)  # until rows and items agree again
        self._widget.clear()
        for entry, row in zip(entries, rows, strict=True):
            item = qt.QListWidgetItem(row.text)
            item.setToolTip(row.tool_tip)
            item.setSizeHint(qt.QSize(200, ROW_HEIGHT))
            picture = qt.QPixmap()
            if picture.loadFromData(entry.picture()):
                item.setIcon(qt.QIcon(picture))
            self._widget.addItem(item)
            item.setSelected(row.key in chosen)
        self._rows = rows
        self._widget.blockSignals(False)
        shown = min(max(len(rows), LEAST_ROWS), MOST_ROWS)
        self._widget.setFixedHeight(shown * (ROW_HEIGHT + 2 * self._widget.spacing) + 2 * self._widget.frameWidth + 2)

    def chosen(self) -> list[str]:
        """Keys of the rows that are chosen, from top to bottom."""
        return [row.key for n, row in enumerate(self._rows) if self._widget.item(n).isSelected()]


def _row(entry: Entry, is_current: bool) -> Row:
    moving, fixed = entry.pair()
    title = " · ".join(filter(None, [told_run(entry), _told_time(entry.time), _("shown") if is_current else ""]))
    gone = entry.what_is_gone()
    last = _("Can only be deleted: {reason}.").format(reason=gone) if gone else _told_numbers(entry)
    pair = _("{moving} → {fixed}").format(moving=moving, fixed=fixed)
    return Row(entry.node.GetID(), "\n".join([title, pair, last]), _told_settings(entry))


def told_run(entry: Entry) -> str:
    """The run and its model, in a few words."""
    return _("Run {number} · {model}").format(number=entry.number, model=entry.title)


def _told_time(seconds: float) -> str:
    when = time.localtime(seconds)
    today = time.strftime("%Y%m%d", when) == time.strftime("%Y%m%d")
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", when)


def _told_numbers(entry: Entry) -> str:
    numbers, parts = entry.numbers, []
    if entry.seconds is not None:
        parts.append(_("{seconds:.1f} s").format(seconds=entry.seconds))
    before, after = numbers.get("similarity_before"), numbers.get("similarity_after")
    if before is not None and after is not None:
        parts.append(_("similarity {before:.3f} → {after:.3f}").format(before=before, after=after))
    if numbers.get("folding_percent") is not None:
        parts.append(_("folds {share:.2g} %").format(share=numbers["folding_percent"]))
    parts += [told] if (told := told_verdict(entry)) else []
    return " · ".join(parts)


def _told_settings(entry: Entry) -> str:
    settings = entry.settings
    values = {**{name: value for name, value in settings.items() if name != "values"}, **settings.get("values", {})}
    return "\n".join(f"{name}: {value}" for name, value in values.items())
