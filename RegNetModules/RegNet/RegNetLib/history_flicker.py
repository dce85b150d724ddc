"""Two results in turn: the moving volume is put under one and the other, so that the eye sees what differs."""

from __future__ import annotations

import time

import qt
import slicer

from .live_preview import dialog_is_open

LOOK_MS = 50


class Flicker:
    """Puts a volume under two transforms in turn, and back to where it was at the end.

    While a dialog is open that has to be answered, the volume is where it was: it may be the dialog that saves.

    Args:
        on_changed: called with the number of the transform that is shown, 0 or 1, and with -1 at the end.
    """

    def __init__(self, on_changed) -> None:
        self._on_changed = on_changed
        self._volume_id = ""
        self._home_id: str | None = None
        self._transform_ids: tuple[str, ...] = ()
        self._shown = -1
        self._since = 0.0
        self._period = 1.0
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)

    def close(self) -> None:
        self.stop()
        self._timer.disconnect("timeout()", self._look)

    def is_running(self) -> bool:
        return bool(self._volume_id)

    def set_rate(self, per_second: float) -> None:
        """How often in a second the transforms change."""
        self._period = 1.0 / per_second

    def start(self, volume, first, second) -> None:
        """Show ``volume`` under transform node ``first``, then under ``second``, and so on."""
        self.stop()
        self._volume_id, self._home_id = volume.GetID(), volume.GetTransformNodeID()
        self._transform_ids = (first.GetID(), second.GetID())
        self._timer.start()
        self._show(0)

    def stop(self) -> None:
        """Put the volume back, unless it was put under something else meanwhile. Stopping twice is fine."""
        if not self.is_running():
            return
        self._timer.stop()
        self._go_home()
        self._volume_id, self._transform_ids, self._shown = "", (), -1
        self._on_changed(-1)

    def check(self) -> None:
        """Stop where a volume or a transform was removed, or where the volume was put elsewhere."""
        if self.is_running():
            volume = slicer.mrmlScene.GetNodeByID(self._volume_id)
            there = all(slicer.mrmlScene.GetNodeByID(identity) is not None for identity in self._transform_ids)
            if volume is None or not there or volume.GetTransformNodeID() not in (*self._transform_ids, self._home_id):
                self.stop()

    def _look(self) -> None:
        self.check()
        if not self.is_running():
            return
        if dialog_is_open():
            self._go_home()
            self._since = 0.0
        elif time.monotonic() >= self._since + self._period:
            self._show(1 - self._shown)

    def _show(self, number: int) -> None:
        self._shown, self._since = number, time.monotonic()
        volume = slicer.mrmlScene.GetNodeByID(self._volume_id)
        volume.SetAndObserveTransformNodeID(self._transform_ids[number])
        self._on_changed(number)

    def _go_home(self) -> None:
        volume = slicer.mrmlScene.GetNodeByID(self._volume_id)
        places = [identity if slicer.mrmlScene.GetNodeByID(identity) else None for identity in self._transform_ids]
        if volume is None or volume.GetTransformNodeID() not in places:  # removing a transform leaves it under none
            return
        home = slicer.mrmlScene.GetNodeByID(self._home_id) if self._home_id else None
        volume.SetAndObserveTransformNodeID(home.GetID() if home is not None else None)
