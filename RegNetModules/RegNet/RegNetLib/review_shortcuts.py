"""Keys for the ways of looking that one switches between most often."""

from __future__ import annotations

import qt
import slicer

from .connections import Connections
from .review_modes import CHECKERBOARD, FADE, FLICKER

KEYS = {FADE: "Shift+F", FLICKER: "Shift+L", CHECKERBOARD: "Shift+C"}
"""With Shift, because the slice views use the plain letters. Fields that take text keep them."""


class ReviewShortcuts:
    """Presses the mode's button; listens only between :meth:`listen` with True and with False.

    Args:
        ui: the section's widgets.
    """

    def __init__(self, ui) -> None:
        self._connections = Connections()
        self._keys = []
        window = slicer.util.mainWindow()
        if window is None:
            return
        for mode, key in KEYS.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.setEnabled(False)
            button = getattr(ui, f"{mode}Button")
            self._connections.add(shortcut, "activated()", _pressing(ui, button))
            self._keys.append(shortcut)

    def listen(self, listening: bool) -> None:
        for shortcut in self._keys:
            shortcut.setEnabled(listening)

    def close(self) -> None:
        self._connections.close()
        for shortcut in self._keys:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._keys = []


def _pressing(ui, button):
    def press() -> None:
        if ui.reviewFrame.enabled:
            button.click()

    return press
