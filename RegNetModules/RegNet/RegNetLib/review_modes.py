"""The live ways of looking at a pair in the slice views, one at a time, and what moves in them: a timer, the cursor."""

from __future__ import annotations

import qt
import slicer

from .live_composite import Checkerboard, Difference, LiveComposite
from .review_composites import Edges, Flicker, Reveal
from .slice_views import slice_views

FADE, FLICKER, CHECKERBOARD, DIFFERENCE = "fade", "flicker", "checkerboard", "difference"
EDGES, REVEAL, FUSED = "edges", "reveal", "fused"
LIVE_MODES = (FLICKER, CHECKERBOARD, DIFFERENCE, EDGES, REVEAL)
"""Those that need a composite; the others are Slicer's own blending."""
SLIDERS = {FADE: "fade", FLICKER: "rate", CHECKERBOARD: "tile", EDGES: "edge", REVEAL: "reveal"}
"""The mode's slider and its label are named so."""


class LiveModes:
    """The composites that are in the slice views now. :meth:`stop` leaves nothing of them behind."""

    def __init__(self) -> None:
        self._shown: list[tuple] = []
        self._mode = ""
        self._second = False
        self._cursor = _Cursor(self._on_cursor)
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._on_timer)

    def close(self) -> None:
        self.stop()
        self._timer.disconnect("timeout()", self._on_timer)

    def is_flickering(self) -> bool:
        return self._timer.isActive()

    def composites(self) -> list[LiveComposite]:
        return [composite for composite, _combine, _view in self._shown]

    def start(self, mode: str, value: float) -> None:
        """Show ``mode``, one of :data:`LIVE_MODES`, in all slice views, with its slider's value."""
        self.stop()
        self._mode, self._second = mode, False
        for view in slice_views():
            combine = _combine(mode, value)
            composite = LiveComposite(view, combine)
            self._shown.append((composite, combine, view))
            composite.show()
        if mode == FLICKER:
            self.set_value(value)
            self._timer.start()
        elif mode == REVEAL:
            self._cursor.follow()

    def stop(self) -> None:
        """Give the slice views their own images back. Stopping twice is fine."""
        self._timer.stop()
        self._cursor.leave()
        for composite, _combine, _view in self._shown:
            composite.remove()
        self._shown, self._mode = [], ""

    def pause(self, paused: bool) -> None:
        """Nothing moves while there is nothing to be seen."""
        if self._mode == FLICKER and paused == self._timer.isActive():
            self._timer.stop() if paused else self._timer.start()

    def set_value(self, value: float) -> None:
        """What the mode's slider says."""
        if self._mode == FLICKER:
            self._timer.setInterval(int(round(1000.0 / value)))
        for _composite, combine, view in self._shown:
            if self._mode == CHECKERBOARD:
                combine.set_tile(value, view.slice_node)
            elif self._mode == EDGES:
                combine.set_steepness(value, view.slice_node)
            elif self._mode == REVEAL:
                combine.set_radius(value, view.slice_node)
            view.schedule_render()

    def _on_timer(self) -> None:
        self._second = not self._second
        for _composite, combine, view in self._shown:
            combine.flip(self._second)
            view.schedule_render()

    def _on_cursor(self, slice_node, position: tuple[float, float]) -> None:
        for _composite, combine, view in self._shown:
            here = slice_node is not None and view.slice_node is slice_node
            if view.slice_node is not None and combine.place(position if here else None, view.slice_node):
                view.schedule_render()


def _combine(mode: str, value: float):
    if mode == CHECKERBOARD:
        return Checkerboard(value)
    if mode == EDGES:
        return Edges(value)
    if mode == REVEAL:
        return Reveal(value)
    return Flicker() if mode == FLICKER else Difference()


class _Cursor:
    """Where the mouse is in the slice views, as Slicer's crosshair node knows it.

    Args:
        on_moved: called with the slice node, None outside of all, and the pixel (x, y) in it.
    """

    def __init__(self, on_moved) -> None:
        self._on_moved = on_moved
        self._node, self._tag = None, 0

    def follow(self) -> None:
        self.leave()
        self._node = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")
        if self._node is not None:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            self._tag = self._node.AddObserver(event, self._on_event)

    def leave(self) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = None

    def _on_event(self, node, _event) -> None:
        position = [0.0, 0.0, 0.0]
        slice_node = node.GetCursorPositionXYZ(position)
        self._on_moved(slice_node, (position[0], position[1]))
