"""The layout manager and its views: qMRML's interface over real slice logics, displayable managers and rendering."""

from __future__ import annotations

import contextlib

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets

from .layouts import Layouts
from .mrml_widgets import SceneHolder, qMRMLWidget
from .native_property import stored
from .pictures import render_to_array

# Name, orientation, label, colour: Slicer's three standard slice views.
SLICE_VIEWS = {
    "Red": ("Axial", "R", (0.952941176471, 0.290196078431, 0.2)),
    "Yellow": ("Sagittal", "Y", (0.929411764706, 0.835294117647, 0.298039215686)),
    "Green": ("Coronal", "G", (0.43137254902, 0.690196078431, 0.294117647059)),
}
RENDER_DELAY_MS = 20


class _TimerRendering:
    """Draws soon after something changed, once for many changes, as Slicer does."""

    paused = 0

    def __init__(self):
        self._timer = QtCore.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(RENDER_DELAY_MS)
        self._timer.timeout.connect(self._render)
        self._view = None

    def set_abstract_view(self, view) -> None:
        self._view = view

    def schedule_render(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _render(self) -> None:
        if _TimerRendering.paused:
            self._timer.start()
        elif self._view is not None:
            self._view.render()

    def did_render(self) -> None:
        self._timer.stop()


@contextlib.contextmanager
def _quiet_vtk():
    """The views of trame-slicer observe an event that VTK 9.6 announces to retire, and VTK says so once per window."""
    import vtk

    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.GlobalWarningDisplayOn()


class _View(QtWidgets.QWidget):
    """What slice and 3D views share (ctkVTKAbstractView)."""

    renderEnabled = stored(bool, True, "renderEnabled")
    cornerAnnotationText = stored(str, "", "cornerAnnotationText")

    def __init__(self, view, parent):
        super().__init__(parent)
        self._view = view

    def renderWindow(self):
        return self._view.render_window()

    def interactor(self):
        return self._view.interactor()

    def interactorStyle(self):
        return self._view.interactor_style()

    def scheduleRender(self) -> None:
        self._view.schedule_render()

    def forceRender(self) -> None:
        self._view.render()

    def getDisplayableManagers(self, collection) -> None:
        group = self._view._displayable_manager_group
        for index in range(group.GetDisplayableManagerCount()):
            collection.AddItem(group.GetNthDisplayableManager(index))

    def displayableManagerByClassName(self, class_name: str):
        return self._view._displayable_manager_group.GetDisplayableManagerByClassName(class_name)

    def paintEvent(self, _event) -> None:
        pixels = np.ascontiguousarray(render_to_array(self.renderWindow()))
        height, width, _ = pixels.shape
        image = QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format_RGB888)
        QtGui.QPainter(self).drawImage(self.rect(), image)


class qMRMLSliceView(_View):
    """One slice view's drawing area."""

    def mrmlSliceNode(self):
        return self._view._view_node

    def overlayRenderer(self):
        return self._view._overlay_renderer

    def convertRASToXYZ(self, point):
        import vtk

        ras_to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), ras_to_xy)
        return list(ras_to_xy.MultiplyPoint([*point[:3], 1.0])[:3])


class qMRMLThreeDView(_View):
    """The 3D view's drawing area."""

    def mrmlViewNode(self):
        return self._view._view_node

    def resetFocalPoint(self) -> None:
        self._view.reset_focal_point()

    def resetCamera(self, *_options) -> None:
        self._view.reset_camera()


class qMRMLSliceControllerWidget(qMRMLWidget):
    """The bar above a slice view."""

    def __init__(self, view, parent):
        super().__init__(parent)
        self._view = view

    def sliceLogic(self):
        return self._view._logic

    def mrmlSliceNode(self):
        return self._view._view_node

    def mrmlSliceCompositeNode(self):
        return self._view._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._view._logic.FitSliceToBackground()

    def setSliceLink(self, linked: bool) -> None:
        """Slicer's button links all views, not this one only."""
        import slicer

        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            node.SetLinkedControl(linked)


class qMRMLSliceWidget(qMRMLWidget):
    """A slice view with its controller."""

    def __init__(self, view, name: str, size=(400, 400)):
        super().__init__()
        self._trame, self._name = view, name
        self._view = qMRMLSliceView(view, self)
        self._controller = qMRMLSliceControllerWidget(view, self)
        self.setObjectName(f"qMRMLSliceWidget{name}")
        orientation, label, colour = SLICE_VIEWS.get(name, ("Axial", name, (0.5, 0.5, 0.5)))
        node = view._view_node
        node.SetLayoutLabel(label)
        node.SetLayoutColor(*colour)
        node.SetOrientation(orientation)
        node.SetMappedInLayout(1)
        self._set_size(size)

    def _set_size(self, size) -> None:
        """Width and height of the drawing area in pixels."""
        self._trame.render_window().SetSize(*size)
        self._trame._logic.ResizeSliceNode(*size)

    def sliceView(self):
        return self._view

    def sliceController(self):
        return self._controller

    def sliceLogic(self):
        return self._trame._logic

    def mrmlSliceNode(self):
        return self._trame._view_node

    def mrmlSliceCompositeNode(self):
        return self._trame._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._trame._logic.FitSliceToBackground()

    sliceViewName = QtCore.Property(str, lambda self: self._name)
    sliceOrientation = QtCore.Property(
        str,
        lambda self: self.mrmlSliceNode().GetOrientation(),
        lambda self, name: self.mrmlSliceNode().SetOrientation(name),
    )


class qMRMLThreeDWidget(qMRMLWidget):
    """The 3D view with its controller."""

    def __init__(self, view):
        super().__init__()
        self._view = qMRMLThreeDView(view, self)

    def threeDView(self):
        return self._view

    def mrmlViewNode(self):
        return self._view.mrmlViewNode()


class qSlicerLayoutManager(QtCore.QObject, SceneHolder):
    """The three slice views and the 3D view, and the slice views of a layout that a module has registered."""

    mrmlSceneChanged = QtCore.Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    layoutChanged = QtCore.Signal(int)
    layout = stored(int, 3, "layout", "layoutChanged")

    def __init__(self, trame_app, parent=None):
        super().__init__(parent)
        self._app = trame_app
        self.setMRMLScene(trame_app.scene)
        self._slices = {name: self._make_slice_widget(name) for name in SLICE_VIEWS}
        self._layouts = Layouts(trame_app.scene, self._slices, self._make_slice_widget)
        self._three_d = None

    def _make_slice_widget(self, name: str):
        from trame_slicer.views import SliceView

        with _quiet_vtk():
            view = SliceView(self._app.scene, self._app.app_logic, name, scheduled_render_strategy=_TimerRendering())
        view.render_window().SetOffScreenRendering(1)
        return qMRMLSliceWidget(view, name)

    def layoutLogic(self):
        return self._layouts.logic()

    def sliceViewNames(self) -> list[str]:
        return list(self._slices)

    def sliceWidget(self, name: str):
        return self._slices.get(name)

    def mrmlSliceLogics(self):
        return self._app.app_logic.GetSliceLogics()

    def threeDWidget(self, index: int):
        if index != 0:
            return None
        if self._three_d is None:
            from trame_slicer.views import ThreeDView

            with _quiet_vtk():
                view = ThreeDView(
                    self._app.scene, self._app.app_logic, "1", scheduled_render_strategy=_TimerRendering()
                )
            view.render_window().SetOffScreenRendering(1)
            self._three_d = qMRMLThreeDWidget(view)
        return self._three_d

    def setLayout(self, layout: int) -> None:
        self._layouts.show(layout)
        self.setProperty("layout", layout)

    def _reset(self) -> None:
        """Before each test: Slicer's usual layout, and no views of others."""
        self.setLayout(3)
        self._layouts.reset()

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        if self._three_d is not None:
            self._three_d.threeDView().resetFocalPoint()

    threeDViewCount = QtCore.Property(int, lambda self: 1)
    tableViewCount = QtCore.Property(int, lambda self: 0)
    plotViewCount = QtCore.Property(int, lambda self: 0)
