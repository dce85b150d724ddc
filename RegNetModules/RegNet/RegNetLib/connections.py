"""Signal connections that can be taken back together: Qt's Python binding holds every handler strongly until then."""

from __future__ import annotations


class Connections:
    def __init__(self) -> None:
        self._made: list[tuple] = []

    def add(self, widget, signal: str, slot) -> None:
        """Connect; ``signal`` is a Qt signature such as ``"clicked()"``."""
        widget.connect(signal, slot)
        self._made.append((widget, signal, slot))

    def close(self) -> None:
        """Disconnect everything. Closing twice is fine."""
        for widget, signal, slot in self._made:
            widget.disconnect(signal, slot)
        self._made = []
