"""More ways than tiles to show the two layers of a slice view at once: in turn, as edges, and in a window.

Each is a ``combine`` of :class:`LiveComposite`, as :class:`Checkerboard` is; no node is changed.
"""

from __future__ import annotations

import numpy as np
import vtk

from .live_composite import fill_mask, masking_filter

EDGE_COLOUR = (1.0, 0.85, 0.1)
GREYS = 256


class Flicker:
    """One of the two images at a time; :meth:`flip` shows the other one."""

    def __init__(self) -> None:
        self._shown = vtk.vtkImageCast()
        self._shown.SetOutputScalarTypeToUnsignedChar()
        self._ports: list = []
        self._second = False

    def connect(self, fixed, moving) -> None:
        self._ports = [fixed, moving]
        self._shown.SetInputConnection(self._ports[self._second])

    def flip(self, second: bool) -> None:
        """Show the moving image, or the fixed one."""
        self._second = second
        if self._ports:
            self._shown.SetInputConnection(self._ports[second])

    def output_ports(self) -> list:
        return [self._shown.GetOutputPort()]

    def fit(self, slice_node) -> None:
        """Nothing depends on the slice view's size or zoom."""


class Edges:
    """The fixed image with the edges of the moving one drawn over it.

    An edge is where the grey on the screen, 0 to 255, changes by ``steepness`` or more in a millimetre.
    """

    def __init__(self, steepness: float) -> None:
        self._steepness = steepness
        self._fixed = None
        self._colours = vtk.vtkImageExtractComponents()
        self._colours.SetComponents(0, 1, 2)
        grey = vtk.vtkImageLuminance()
        grey.SetInputConnection(self._colours.GetOutputPort())
        fractions = vtk.vtkImageCast()  # where a voxel is many pixels wide, greys change by less than one
        fractions.SetInputConnection(grey.GetOutputPort())
        fractions.SetOutputScalarTypeToFloat()
        slope = vtk.vtkImageGradientMagnitude()
        slope.SetDimensionality(2)
        slope.HandleBoundariesOn()
        slope.SetInputConnection(fractions.GetOutputPort())
        self._table = _edge_table()
        self._lines = vtk.vtkImageMapToColors()
        self._lines.SetInputConnection(slope.GetOutputPort())
        self._lines.SetLookupTable(self._table)
        self._lines.SetOutputFormatToRGBA()

    def set_steepness(self, steepness: float, slice_node) -> None:
        self._steepness = steepness
        self.fit(slice_node)

    def connect(self, fixed, moving) -> None:
        self._fixed = fixed
        self._colours.SetInputConnection(moving)

    def output_ports(self) -> list:
        return [self._fixed, self._lines.GetOutputPort()]

    def fit(self, slice_node) -> None:
        """The steepness in greys per pixel at the slice view's present zoom."""
        least = self._steepness * pixel_mm(slice_node)
        self._table.SetTableRange(0.5 * least, 1.5 * least)
        self._table.Modified()


class Reveal:
    """The fixed image, and the moving one in a round window of a radius in millimetres."""

    def __init__(self, radius_mm: float) -> None:
        self._radius_mm = radius_mm
        self._fixed = None
        self._middle: tuple[float, float] | None = None
        self._moving, self._window = masking_filter(0.0), vtk.vtkImageData()
        self._moving.SetMaskInputData(self._window)

    def connect(self, fixed, moving) -> None:
        self._fixed = fixed
        self._moving.SetInputConnection(0, moving)

    def output_ports(self) -> list:
        return [self._fixed, self._moving.GetOutputPort()]

    def set_radius(self, radius_mm: float, slice_node) -> None:
        self._radius_mm = radius_mm
        self.fit(slice_node)

    def place(self, middle: tuple[float, float] | None, slice_node) -> bool:
        """Put the window around a pixel (x, y) of the slice view; None for no window. Whether that changes anything."""
        if middle == self._middle:
            return False
        self._middle = middle
        self.fit(slice_node)
        return True

    def is_open(self) -> bool:
        return self._middle is not None

    def fit(self, slice_node) -> None:
        """Draw the window for the slice view's present size and zoom."""
        width, height, depth = slice_node.GetDimensions()
        inside = np.zeros((height, width), bool)
        if self._middle is not None:
            x, y = np.arange(width) - self._middle[0], np.arange(height) - self._middle[1]
            inside = x[None] ** 2 + y[:, None] ** 2 <= (self._radius_mm / pixel_mm(slice_node)) ** 2
        fill_mask(self._window, inside, depth)


def pixel_mm(slice_node) -> float:
    """Width of a slice view's pixel in millimetres."""
    return slice_node.GetFieldOfView()[0] / max(slice_node.GetDimensions()[0], 1)


def _edge_table():
    """From see-through to opaque in one colour."""
    table = vtk.vtkLookupTable()
    table.SetNumberOfTableValues(GREYS)
    for level in range(GREYS):
        table.SetTableValue(level, *EDGE_COLOUR, level / (GREYS - 1))
    return table
