"""Live compositing of the two layers of a slice view, as tiles or as a difference.

Slicer's slice view shows the output of a blending filter. While a composite is shown, the view's image mapper is fed
from a small VTK pipeline over the same two layers instead, so that scrolling, zooming, windowing or moving a volume is
seen at once, in compiled code. Annotations, segmentations and markups stay on top as before. Taking the composite away
plugs the view's own image back in.
"""

from __future__ import annotations

import numpy as np
import vtk
from vtk.util import numpy_support

EARLY, LATE = 10.0, -10.0
"""Observer priorities: before and after the slice logic's own answer to the same event."""


class LiveComposite:
    """The composite of one slice view.

    Args:
        view: a :class:`SliceView`.
        combine: a :class:`Checkerboard`, a :class:`Difference` or one of :mod:`review_composites`.
    """

    def __init__(self, view, combine) -> None:
        self._view, self._combine = view, combine
        self._blend = vtk.vtkImageBlend()
        self._plugged: list = []
        self._own_port = None
        self._observations: list = []

    def show(self) -> None:
        view = self._view
        self._observe(view.slice_node, self._on_geometry, EARLY)
        for subject in (view.logic, view.composite_node, view.slice_node):
            self._observe(subject, self._on_layers, LATE)
        self._on_geometry()
        self._on_layers()

    def remove(self) -> None:
        """Show the view's own image again. Removing twice is fine."""
        for subject, tag in self._observations:
            subject.RemoveObserver(tag)
        self._observations = []
        self._unplug()
        self._view.schedule_render()

    def is_shown(self) -> bool:
        return bool(self._plugged)

    def output_port(self):
        return self._blend.GetOutputPort()

    def _observe(self, subject, callback, priority: float) -> None:
        if subject is not None:
            tag = subject.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_arguments: callback(), priority)
            self._observations.append((subject, tag))

    def _on_geometry(self) -> None:
        if self._view.slice_node is not None:
            self._combine.fit(self._view.slice_node)

    def _on_layers(self) -> None:
        logic = self._view.logic
        fixed = _port(logic.GetBackgroundLayer())
        moving = _port(logic.GetForegroundLayer())
        if fixed is None or moving is None:
            self._unplug()
            return
        self._combine.connect(fixed, moving)
        self._blend.RemoveAllInputConnections(0)
        for port in self._combine.output_ports():
            self._blend.AddInputConnection(port)
        label = _port(logic.GetLabelLayer())
        if label is not None:
            self._blend.AddInputConnection(label)
            self._blend.SetOpacity(
                self._blend.GetNumberOfInputConnections(0) - 1, self._view.composite_node.GetLabelOpacity()
            )
        self._plug()
        self._view.schedule_render()

    def _plug(self) -> None:
        for mapper in self._view.image_mappers():
            self._own_port = self._view.logic.GetImageDataConnection()
            mapper.SetInputConnection(self._blend.GetOutputPort())
            if mapper not in self._plugged:
                self._plugged.append(mapper)

    def _unplug(self) -> None:
        for mapper in self._plugged:
            connected = mapper.GetInputConnection(0, 0) if mapper.GetNumberOfInputConnections(0) else None
            if connected is not None and connected.GetProducer() is self._blend:
                mapper.SetInputConnection(self._own_port)
        self._plugged = []


class Checkerboard:
    """Tiles of the fixed and of the moving image in turn. Tiles are measured in millimetres and keep to the anatomy."""

    def __init__(self, tile_mm: float) -> None:
        self._tile_mm = tile_mm
        # The lower layer stays opaque where it is masked: what is blended over nothing would not be seen.
        self._fixed, self._moving = masking_filter(255.0), masking_filter(0.0)
        self._tiles, self._other_tiles = vtk.vtkImageData(), vtk.vtkImageData()
        self._fixed.SetMaskInputData(self._tiles)
        self._moving.SetMaskInputData(self._other_tiles)

    def set_tile(self, tile_mm: float, slice_node) -> None:
        self._tile_mm = tile_mm
        self.fit(slice_node)

    def connect(self, fixed, moving) -> None:
        self._fixed.SetInputConnection(0, fixed)
        self._moving.SetInputConnection(0, moving)

    def output_ports(self) -> list:
        return [self._fixed.GetOutputPort(), self._moving.GetOutputPort()]

    def fit(self, slice_node) -> None:
        """Draw the tiles for the slice view's present size, zoom and position."""
        size = slice_node.GetDimensions()
        to_mm = slice_node.GetXYToSlice()
        columns, rows = (
            np.floor((to_mm.GetElement(axis, axis) * np.arange(size[axis]) + to_mm.GetElement(axis, 3)) / self._tile_mm)
            for axis in (0, 1)
        )
        even = (rows % 2 == 0)[:, None] == (columns % 2 == 0)[None, :]
        fill_mask(self._tiles, even, size[2])
        fill_mask(self._other_tiles, ~even, size[2])


class Difference:
    """The absolute difference of the two images as they are shown, black where they agree or where one has no data."""

    def __init__(self) -> None:
        self._casts = [vtk.vtkImageCast(), vtk.vtkImageCast()]
        self._alphas = [vtk.vtkImageExtractComponents(), vtk.vtkImageExtractComponents()]
        for cast, alpha in zip(self._casts, self._alphas, strict=True):
            cast.SetOutputScalarTypeToShort()  # bytes would wrap round below zero
            alpha.SetComponents(3)
        subtract = _mathematics("SetOperationToSubtract", [cast.GetOutputPort() for cast in self._casts])
        absolute = _mathematics("SetOperationToAbsoluteValue", [subtract.GetOutputPort()])
        to_bytes = vtk.vtkImageCast()
        to_bytes.SetInputConnection(absolute.GetOutputPort())
        to_bytes.SetOutputScalarTypeToUnsignedChar()
        to_bytes.ClampOverflowOn()
        colours = vtk.vtkImageExtractComponents()
        colours.SetInputConnection(to_bytes.GetOutputPort())
        colours.SetComponents(0, 1, 2)
        both = _mathematics("SetOperationToMin", [alpha.GetOutputPort() for alpha in self._alphas])
        self._output = vtk.vtkImageAppendComponents()
        self._output.AddInputConnection(colours.GetOutputPort())
        self._output.AddInputConnection(both.GetOutputPort())

    def connect(self, fixed, moving) -> None:
        for port, cast, alpha in zip((fixed, moving), self._casts, self._alphas, strict=True):
            cast.SetInputConnection(port)
            alpha.SetInputConnection(port)

    def output_ports(self) -> list:
        return [self._output.GetOutputPort()]

    def fit(self, slice_node) -> None:
        """Nothing depends on the slice view's size or zoom."""


def _port(layer):
    return layer.GetImageDataConnection() if layer is not None and layer.GetVolumeNode() is not None else None


def masking_filter(alpha: float):
    """Leaves of an image what its mask shows; the rest becomes black of that opacity."""
    mask = vtk.vtkImageMask()
    mask.SetMaskedOutputValue(4, [0.0, 0.0, 0.0, alpha])
    return mask


def _mathematics(operation: str, ports: list):
    mathematics = vtk.vtkImageMathematics()
    getattr(mathematics, operation)()
    for index, port in enumerate(ports):
        mathematics.SetInputConnection(index, port)
    return mathematics


def fill_mask(image, shown: np.ndarray, depth: int) -> None:
    """Make a vtkImageData the mask that shows what is true in (rows, columns)."""
    values = np.repeat(np.where(shown, 255, 0).astype(np.uint8)[None], depth, axis=0)
    image.SetDimensions(shown.shape[1], shown.shape[0], depth)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(values.ravel(), deep=True))
    image.Modified()
