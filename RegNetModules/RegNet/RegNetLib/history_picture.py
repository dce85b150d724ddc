"""The thumbnail of a result: the middle slice of the fixed volume in tiles with the registered moving one.

Two small reslices and a PNG file in memory: hundredths of a second, whatever the size of the volumes.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

PIXELS = 96
"""Along the longer side."""
TILES = 6
"""Along the longer side."""
MOVING_TINT = (1.0, 0.78, 0.45)
"""Red, green, blue of the moving volume's white; the fixed volume is grey."""


def make_picture(fixed, moving, transform) -> bytes:
    """A PNG file of the middle slice, seen as in Slicer's slice views.

    Args:
        transform: the node under which the moving volume lies on the fixed one.
    """
    lattice, size = slice_lattice(fixed)
    grey = _resliced(fixed, fixed.GetParentTransformNode(), fixed, lattice, size)
    other = _resliced(moving, transform, fixed, lattice, size)
    tile = PIXELS / TILES
    rows, columns = (np.floor(np.arange(n) / tile).astype(int) for n in size[::-1])
    is_fixed = (rows[:, None] + columns[None, :]) % 2 == 0
    tinted = _to_unit(other)[..., None] * np.array(MOVING_TINT)
    picture = np.where(is_fixed[..., None], _to_unit(grey)[..., None], tinted)
    return _png(np.rint(255 * picture).astype(np.uint8))


def slice_lattice(volume) -> tuple[np.ndarray, tuple[int, int]]:
    """From the picture's (column, row, 0, 1) to the volume's (i, j, k, 1), and its columns and rows.

    The slice is the axial one, or the only one of a flat volume. Columns go from right to left or from the front to the
    back, rows downwards: right, front and head are at the left and at the top, as in Slicer's slice views.
    """
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    axes = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    shape = np.array(volume.GetImageData().GetDimensions())
    spacing = np.linalg.norm(axes, axis=0)
    along = np.abs(axes / spacing)
    thin = np.flatnonzero(shape == 1)
    across = int(thin[0]) if len(thin) else int(along[2].argmax())
    sides = sorted((n for n in range(3) if n != across), key=lambda n: int(along[:, n].argmax()))
    lengths = (shape * spacing)[sides]
    step = lengths.max() / PIXELS
    size = tuple(max(1, int(round(length / step))) for length in lengths)
    lattice = np.eye(4)
    lattice[:3, :3] = 0.0
    lattice[:3, 3] = (shape - 1) / 2
    for column, (axis, pixels) in enumerate(zip(sides, size, strict=True)):
        forward = axes[int(along[:, axis].argmax()), axis] > 0
        voxels = shape[axis] / pixels * (-1.0 if forward else 1.0)
        lattice[axis, column] = voxels
        lattice[axis, 3] -= voxels * (pixels - 1) / 2
    return lattice, size


def _resliced(volume, parent, fixed, lattice: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) of ``volume`` under ``parent`` on a lattice in the fixed volume's voxels; NaN outside."""
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(slicer.util.vtkMatrixFromArray(lattice))
    if volume is not fixed:
        to_ras, to_world, from_world = vtk.vtkMatrix4x4(), vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
        fixed.GetIJKToRASMatrix(to_ras)
        chain.Concatenate(to_ras)
        if fixed.GetParentTransformNode() is not None:
            fixed.GetParentTransformNode().GetTransformToWorld(to_world)
            chain.Concatenate(to_world)
        parent.GetTransformFromWorld(from_world)
        chain.Concatenate(from_world)
        to_ijk = vtk.vtkMatrix4x4()
        volume.GetRASToIJKMatrix(to_ijk)
        chain.Concatenate(to_ijk)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(volume.GetImageData())
    reslice.SetResliceTransform(chain)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputScalarType(vtk.VTK_FLOAT)
    reslice.SetBackgroundLevel(float("nan"))
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    reslice.SetOutputExtent(0, size[0] - 1, 0, size[1] - 1, 0, 0)
    reslice.Update()
    return numpy_support.vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars()).reshape(size[::-1])


def _to_unit(values: np.ndarray) -> np.ndarray:
    """In [0, 1], but for the darkest and the brightest hundredth; outside of the volume black."""
    inside = values[np.isfinite(values)]
    if not inside.size:
        return np.zeros(values.shape)
    low, high = np.percentile(inside, (1, 99))
    return np.nan_to_num(np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0))


def _png(pixels: np.ndarray) -> bytes:
    """(rows, columns, 3) uint8, the first row at the top."""
    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(pixels[::-1].reshape(-1, 3).copy(), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.WriteToMemoryOn()
    writer.SetInputData(image)
    writer.Write()
    return numpy_support.vtk_to_numpy(writer.GetResult()).tobytes()
