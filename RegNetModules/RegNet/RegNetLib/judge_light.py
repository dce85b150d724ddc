"""The verdict as a traffic light: a lamp in its colour, and always a word beside it."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

LAMPS = (("red", "#d13b30"), ("amber", "#e8a317"), ("green", "#2e9e5b"))
DARK, CASE = "#4a4f55", "#23272b"
SIZE, GAP = 20, 5
"""Of a lamp, and around it, in pixels."""
WORDS = {
    "green": _("Green: looks right"),
    "amber": _("Amber: look before you use it"),
    "red": _("Red: do not use it"),
    "unknown": _("Unknown: cannot tell"),
}


def light_picture(level: str):
    """A pixmap of three lamps; none is lit where the verdict is unknown, or where there is none."""
    width, height = len(LAMPS) * (SIZE + GAP) + GAP, SIZE + 2 * GAP
    picture = qt.QPixmap(width, height)
    picture.fill(qt.QColor(CASE))
    painter = qt.QPainter(picture)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    painter.setPen(qt.QPen(qt.QColor(DARK)))
    for place, (name, colour) in enumerate(LAMPS):
        painter.setBrush(qt.QBrush(qt.QColor(colour if name == level else DARK)))
        painter.drawEllipse(GAP + place * (SIZE + GAP), GAP, SIZE, SIZE)
    painter.end()
    return picture
