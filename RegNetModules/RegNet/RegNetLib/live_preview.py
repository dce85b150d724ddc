"""The moving volume seen through the present state of the optimisation while a registration runs.

A transform node of its own takes the place of the volume's parent meanwhile. It is hidden and not saved with the scene;
what it stands in for is written down in the volume, so that the volume gets back to where it was whatever happens.
"""

from __future__ import annotations

import time

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from . import conversion

PREVIEWED = "RegNet.Previewed"
"""Attribute of a volume that is under a preview."""
PREVIEWED_PARENT = "RegNetPreviewedParent"
"""Node reference from such a volume to the transform that the preview stands in for; none where it had none."""
TAG = "RegNetPreview"
"""Makes the node's ID unlike any other: in a scene that was saved meanwhile it must not be taken for another node."""
WATCH_MS = 20
MOST_BUSY = 0.5
"""Of the window's time that showing and drawing previews may take: the rest is the user's."""
MOST_DRAWN = 4
"""Times the longest delay that one preview can have caused, a drawing for each of so many views. What is late beyond
that is a computer with too much to do, on which leaving out previews helps nobody."""


def is_previewed(volume) -> bool:
    return volume.GetAttribute(PREVIEWED) is not None


def put_back(volume) -> None:
    """Undo a preview. A volume that was put under another transform meanwhile stays there."""
    if not is_previewed(volume):
        return
    before = volume.GetNodeReference(PREVIEWED_PARENT)
    if volume.GetParentTransformNode() is _node():
        volume.SetAndObserveTransformNodeID(before.GetID() if before is not None else None)
    volume.SetNodeReferenceID(PREVIEWED_PARENT, None)
    volume.SetAttribute(PREVIEWED, None)


def put_all_back() -> None:
    """For a scene that was saved while a registration ran and is loaded again: the preview itself was not saved."""
    for volume in slicer.util.getNodesByClass("vtkMRMLVolumeNode"):
        put_back(volume)


class LivePreview:
    """Shows the previews of one run after the other; between runs nothing of it is in the scene.

    While a dialog is open that has to be answered, the volume is where it was: it may be the dialog that saves. Where
    drawing is slow, previews are left out: a timer tells by its lateness how long the window was busy.
    """

    def __init__(self) -> None:
        self._volume_id = self._parent_id = ""
        self._below = None
        self._paused = False
        self._shown_at = self._looked_at = self._busy = self._longest = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(WATCH_MS)
        self._timer.connect("timeout()", self._watch)

    def begin(self, moving, placing_parent) -> None:
        """A run starts with ``moving`` where ``placing_parent`` puts it (a transform node or None)."""
        self.end()
        self._shown_at = self._busy = self._longest = 0.0
        self._volume_id = moving.GetID()
        self._parent_id = placing_parent.GetID() if placing_parent is not None else ""
        self._below = None

    def show(self, preview: dict, folder) -> bool:
        """Put the volume where ``preview``, as the worker's protocol has it, says; whether that was done."""
        if not self._volume_id or self._paused or self._is_behind() or dialog_is_open():
            return False
        started = time.monotonic()
        volume, node = slicer.mrmlScene.GetNodeByID(self._volume_id), _node()
        if volume is None or node is not None and volume.GetParentTransformNode() is not node:
            self.end()  # it was removed, or the user, or another program, put it elsewhere: that counts
            return False
        try:
            field = folder.load(preview["displacement"]["file"])
        except (OSError, ValueError):
            return False  # there is a newer one already
        pull = conversion.pull_transform(preview["affine"], field, preview["displacement"]["index_to_world"])
        if node is None:
            node = _new_node()
        node.SetAndObserveTransformFromParent(self._into_own_coordinates(pull))
        if not is_previewed(volume):
            volume.SetNodeReferenceID(PREVIEWED_PARENT, volume.GetTransformNodeID())
            volume.SetAttribute(PREVIEWED, "1")
            volume.SetAndObserveTransformNodeID(node.GetID())
            self._timer.start()
        self._shown_at, self._looked_at = started, time.monotonic()
        self._busy = self._longest = self._looked_at - started
        return True

    def hide(self) -> None:
        """Put the volume back; the next preview is shown again."""
        self._timer.stop()
        if not self._volume_id:
            return  # what is shown, if anything is, is another panel's
        volume = slicer.mrmlScene.GetNodeByID(self._volume_id)
        if volume is not None:
            put_back(volume)
        node = _node()
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)

    def end(self) -> None:
        """Put the volume back, and show nothing more of this run. Ending twice is fine."""
        self.hide()
        self._volume_id, self._below = "", None

    def pause(self) -> None:
        """Put the volume back, and show nothing until :meth:`resume`."""
        self._paused = True
        self.hide()

    def resume(self) -> None:
        self._paused = False

    def _watch(self) -> None:
        now = time.monotonic()
        late = max(0.0, now - self._looked_at - WATCH_MS / 1000)
        self._busy, self._longest = self._busy + late, max(self._longest, late)
        self._looked_at = now
        if dialog_is_open():
            self.hide()

    def _is_behind(self) -> bool:
        """Whether the preview before has kept the window too busy for the next one."""
        return time.monotonic() < self._shown_at + min(self._busy, MOST_DRAWN * self._longest) / MOST_BUSY

    def _into_own_coordinates(self, pull):
        """``pull`` continued to the volume's own coordinates; the parent's part, which can be large, is made once."""
        if self._below is None:
            parent = slicer.mrmlScene.GetNodeByID(self._parent_id) if self._parent_id else None
            self._below = conversion.into_own_coordinates(vtk.vtkGeneralTransform(), parent)
        return conversion.chained(pull, self._below)


def _node():
    """The transform node of the present preview, None where there is none."""
    return slicer.mrmlScene.GetSingletonNode(TAG, "vtkMRMLTransformNode")


def _new_node():
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLTransformNode")
    node.SetSingletonTag(TAG)
    node.SetName(_("Live preview"))
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    added = slicer.mrmlScene.AddNode(node)
    node.UnRegister(None)
    return added


def dialog_is_open() -> bool:
    return qt.QApplication.activeModalWidget() is not None
