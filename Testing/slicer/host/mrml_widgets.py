"""Widgets that follow the MRML scene."""

from __future__ import annotations

import shiboken6
from PySide6 import QtCore, QtWidgets

from .ctk_buttons import ctkCollapsibleButton
from .ctk_inputs import ctkDoubleSpinBox, ctkSliderWidget
from .native_property import stored
from .ui_loader import register


class SceneHolder:
    """`mrmlScene()`, `setMRMLScene(scene)` and the signal `mrmlSceneChanged(vtkMRMLScene*)`."""

    def mrmlScene(self):
        return self.__dict__.get("_scene")

    def setMRMLScene(self, scene) -> None:
        if scene is self.mrmlScene():
            return
        self.__dict__["_scene"] = scene
        self._scene_changed()
        self.mrmlSceneChanged.emit(scene)

    def _scene_changed(self) -> None:
        """For subclasses."""


def observe(native, vtk_object, event, method_name: str) -> int:
    """Observe a VTK object as long as the widget lives, without keeping the widget alive."""

    def callback(caller, name):
        if shiboken6.isValid(native):
            getattr(native, method_name)(caller, name)

    return vtk_object.AddObserver(event, callback)


@register
class qMRMLWidget(QtWidgets.QWidget, SceneHolder):
    """A widget that hands the scene to the widgets inside (through the .ui file's connections)."""

    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


@register
class qSlicerWidget(qMRMLWidget):
    """The base of C++ module widgets."""


@register
class qMRMLCollapsibleButton(ctkCollapsibleButton, SceneHolder):
    """A collapsible button that hands the scene on."""

    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


@register
class qMRMLSliderWidget(ctkSliderWidget, SceneHolder):
    """A slider with units."""

    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    quantity = stored(str, "", "quantity")
    unitAwareProperties = stored(str, "", "unitAwareProperties")


@register
class qMRMLSpinBox(ctkDoubleSpinBox, SceneHolder):
    """A spin box with units."""

    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    quantity = stored(str, "", "quantity")
    unitAwareProperties = stored(str, "", "unitAwareProperties")
