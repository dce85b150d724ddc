"""The slice views of the present layout, behind one small interface."""

from __future__ import annotations

from contextlib import contextmanager

import slicer
import vtk


class SliceView:
    """One slice view: its logic, its nodes, and the mapper that puts its image on the screen."""

    def __init__(self, widget) -> None:
        self._widget = widget
        self.logic = widget.sliceLogic()

    @property
    def slice_node(self):
        return self.logic.GetSliceNode()

    @property
    def composite_node(self):
        return self.logic.GetSliceCompositeNode()

    def image_mappers(self) -> list:
        """The mappers that show the slice logic's image (several in a light box)."""
        shown = self.logic.GetImageDataConnection()
        if shown is None:
            return []
        renderers = self._widget.sliceView().renderWindow().GetRenderers()
        props = [prop for renderer in _items(renderers) for prop in _items(renderer.GetViewProps())]
        mappers = [prop.GetMapper() for prop in props if isinstance(prop, vtk.vtkActor2D)]
        return [mapper for mapper in mappers if isinstance(mapper, vtk.vtkImageMapper) and _feeds(shown, mapper)]

    def schedule_render(self) -> None:
        self._widget.sliceView().scheduleRender()


def slice_views() -> list[SliceView]:
    """The slice views that exist now; none without a main window."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return []
    return [SliceView(manager.sliceWidget(name)) for name in manager.sliceViewNames()]


@contextmanager
def views_kept():
    """Whatever happens inside, the slice views show the same place and as much of it as before."""
    nodes = [view.slice_node for view in slice_views()]
    places = [(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()), node.GetFieldOfView()) for node in nodes]
    yield
    for node, (matrix, view) in zip(nodes, places, strict=True):
        node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
        node.SetFieldOfView(*view)
        node.UpdateMatrices()


def _items(collection) -> list:
    return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]


def _feeds(port, mapper) -> bool:
    if not mapper.GetNumberOfInputConnections(0):
        return False
    return mapper.GetInputConnection(0, 0).GetProducer() is port.GetProducer()
