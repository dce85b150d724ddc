"""Layouts that a module registers in the layout node: the slice views that they name are made when they are chosen.

The descriptions are read by MRML's own layout logic and node. Slicer's standard layouts all show the host's own views.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree


class Layouts:
    """Belongs to the layout manager.

    Args:
        scene: the MRML scene.
        slices: name → slice widget, those of the host; views of layouts are added to it.
        make_slice_widget: gives a new slice widget of a name.
    """

    def __init__(self, scene, slices: dict, make_slice_widget) -> None:
        self._scene, self._slices, self._own, self._make = scene, slices, list(slices), make_slice_widget
        self._put_away: dict = {}
        self._logic = None

    def logic(self):
        """vtkMRMLLayoutLogic, with the scene's layout node."""
        import slicer

        if self._logic is None:
            self._logic = slicer.vtkMRMLLayoutLogic()
            self._logic.SetMRMLScene(self._scene)
        return self._logic

    def show(self, layout: int) -> None:
        """Map the views of a layout, and unmap all others."""
        names = self._own
        if self._logic is not None and self._names(layout):
            names = self._names(layout)
            for name in names:
                if name not in self._slices:
                    self._slices[name] = self._put_away.pop(name, None) or self._make(name)
            self._logic.GetLayoutNode().SetViewArrangement(layout)
        for name, widget in self._slices.items():
            widget.mrmlSliceNode().SetMappedInLayout(int(name in names))

    def reset(self) -> None:
        """No views but the host's own; the others wait for a layout that names them again."""
        for name in [name for name in self._slices if name not in self._own]:
            self._put_away[name] = self._slices.pop(name)

    def _names(self, layout: int) -> list[str]:
        """The slice views of a registered layout that are not the host's; empty for a standard layout."""
        node = self._logic.GetLayoutNode()
        text = node.GetLayoutDescription(layout) if node.IsLayoutDescription(layout) else ""
        views = ElementTree.fromstring(text).iter("view") if text else []
        found = [view.get("singletontag") for view in views if view.get("class") == "vtkMRMLSliceNode"]
        return [] if set(found) & set(self._own) else found
