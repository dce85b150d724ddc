"""Several results side by side: slice views, each with its own transformed moving volume over the fixed one.

A volume can be under one transform only, so each view gets a stand-in for the moving volume that shares its voxels. The
stand-ins are hidden, are not saved with the scene, and go with the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import slicer
import vtk

from .connections import Connections
from .slice_views import SliceView

MOST = 4
FIRST_LAYOUT = 57300
"""Number of the layout with no view; each further view counts one up. Slicer's own numbers are far below."""
VIEW = "RegNet{number}"
COLOURS = ("#F34A33", "#4A90D9", "#6EB04B", "#EDD54C")
VIEW_GROUP = 57
"""The views are linked with each other and with no others."""
OPACITY = 0.5


@dataclass(frozen=True)
class Shown:
    """A result to be looked at: nodes, and what it is called."""

    title: str
    fixed: object
    moving: object
    transform: object


def layout_description(count: int) -> str:
    """Slicer's description of a layout of ``count`` axial slice views, at most two in a row where there are four."""
    views = [
        f'<item><view class="vtkMRMLSliceNode" singletontag="{VIEW.format(number=number)}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{number}</property>'
        f'<property name="viewcolor" action="default">{COLOURS[number - 1]}</property>'
        "</view></item>"
        for number in range(1, count + 1)
    ]
    if count < MOST:
        return f'<layout type="horizontal" split="true">{"".join(views)}</layout>'
    rows = ["".join(views[:2]), "".join(views[2:])]
    rows = [f'<item><layout type="horizontal" split="true">{row}</layout></item>' for row in rows]
    return f'<layout type="vertical" split="true">{"".join(rows)}</layout>'


def register_layouts() -> None:
    """Let Slicer know the layouts, also those of a scene that is loaded later. Registering twice is fine."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return
    node = manager.layoutLogic().GetLayoutNode()
    for count in range(2, MOST + 1):
        if not node.IsLayoutDescription(FIRST_LAYOUT + count):
            node.AddLayoutDescription(FIRST_LAYOUT + count, layout_description(count))


def is_own_layout(layout: int) -> bool:
    return FIRST_LAYOUT < layout <= FIRST_LAYOUT + MOST


class SideBySide:
    """Shows results in a layout of their own, until :meth:`end` or until the user chooses another layout.

    Args:
        on_changed: called without arguments when it begins or ends.
    """

    def __init__(self, on_changed) -> None:
        self._on_changed = on_changed
        self._needed: list[str] = []
        self._stand_ins: list[str] = []
        self._layout_before = 0
        self._ending = False
        self._connections = Connections()
        manager = slicer.app.layoutManager()
        if manager is not None:
            self._connections.add(manager, "layoutChanged(int)", self._on_layout)

    def close(self) -> None:
        self.end()
        self._connections.close()

    def is_shown(self) -> bool:
        return bool(self._stand_ins)

    def show(self, results: list[Shown]) -> None:
        """Show two to :data:`MOST` results, each over its own fixed volume, in linked views."""
        self.end()
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        register_layouts()
        self._layout_before = manager.layout
        for result in results:
            self._needed += [node.GetID() for node in (result.fixed, result.moving, result.transform)]
            self._stand_ins.append(_stand_in(result).GetID())
        manager.setLayout(FIRST_LAYOUT + len(results))
        views = [manager.sliceWidget(VIEW.format(number=n + 1)) for n in range(len(results))]
        for widget, result, volume in zip(views, results, self._stand_ins, strict=True):
            view = SliceView(widget)
            composite = view.composite_node
            composite.SetLinkedControl(0)
            composite.SetBackgroundVolumeID(result.fixed.GetID())
            composite.SetForegroundVolumeID(volume)
            composite.SetForegroundOpacity(OPACITY)
            view.slice_node.SetLayoutLabel(result.title)
            view.slice_node.SetViewGroup(VIEW_GROUP)
            widget.fitSliceToBackground()
        for widget in views:
            SliceView(widget).composite_node.SetLinkedControl(1)
            SliceView(widget).composite_node.SetHotLinkedControl(1)
        self._on_changed()

    def end(self) -> None:
        """Put the layout before back, unless the user has chosen another one, and leave nothing. Ending twice is
        fine."""
        manager = slicer.app.layoutManager()
        if not self._stand_ins or self._ending:
            return
        self._ending = True
        try:
            if is_own_layout(manager.layout):
                manager.setLayout(self._layout_before)
            for identity in self._stand_ins:
                node = slicer.mrmlScene.GetNodeByID(identity)
                if node is not None:
                    slicer.mrmlScene.RemoveNode(node)  # and its display node
            self._stand_ins, self._needed = [], []
        finally:
            self._ending = False
        self._on_changed()

    def check(self) -> None:
        """End where something that is shown was removed: the rest would be shown under a wrong title."""
        if any(slicer.mrmlScene.GetNodeByID(identity) is None for identity in self._needed):
            self.end()

    def _on_layout(self, layout: int) -> None:
        if self._stand_ins and not is_own_layout(layout):
            self.end()


def leave_empty_layout() -> None:
    """After loading a scene that was saved during a comparison, which is not saved: show Slicer's usual views."""
    manager = slicer.app.layoutManager()
    if manager is not None and is_own_layout(manager.layout):
        manager.setLayout(int(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView))


def _stand_in(result: Shown):
    """A hidden volume with the moving one's voxels, window and colours, under the result's transform."""
    moving = result.moving
    volume = _add_hidden(moving.GetClassName(), f"{moving.GetName()} ({result.title})")
    matrix = vtk.vtkMatrix4x4()
    moving.GetIJKToRASMatrix(matrix)
    volume.SetIJKToRASMatrix(matrix)
    volume.SetAndObserveImageData(moving.GetImageData())
    if moving.GetDisplayNode() is not None:
        display = _add_hidden(moving.GetDisplayNode().GetClassName(), volume.GetName())
        display.CopyContent(moving.GetDisplayNode())
        volume.SetAndObserveDisplayNodeID(display.GetID())
    else:
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().SetSaveWithScene(False)
    volume.SetAndObserveTransformNodeID(result.transform.GetID())
    return volume


def _add_hidden(kind: str, name: str):
    node = slicer.mrmlScene.CreateNodeByClass(kind)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    added = slicer.mrmlScene.AddNode(node)
    node.UnRegister(None)
    return added
