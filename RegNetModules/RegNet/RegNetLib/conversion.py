"""The one place where Slicer's RAS meets RegNet's LPS.

Slicer's nodes live in RAS millimetres, the core speaks LPS millimetres (as ITK does): x and y change their sign.
Arrays are (D, H, W) = (k, j, i) on both sides. A volume under a transform is described where the user sees it: a linear
parent is folded into the matrix, a non-linear one is applied to a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS from RAS, and RAS from LPS."""
MOST_SAMPLES = 500_000
"""Of a transform that is looked at point by point: a tenth of a second."""


@dataclass(frozen=True)
class ImageArray:
    """An image as the core takes it: ``array`` (D, H, W), and ``index_to_world`` from (i, j, k, 1) to LPS mm."""

    array: np.ndarray
    index_to_world: np.ndarray

    @property
    def ndim(self) -> int:
        """2 for a single slice, else 3."""
        return 2 if self.array.shape[0] == 1 else 3


def volume_to_array(volume, parent=None) -> ImageArray:
    """A volume node as an array in the world.

    Args:
        volume: a vtkMRMLScalarVolumeNode.
        parent: the transform node that places it in the world; None for none.
    """
    if not bends(parent):
        return ImageArray(np.array(slicer.util.arrayFromVolume(volume)), place_in_world(volume, parent))
    image, to_ras = _resampled_through(volume, parent)
    return ImageArray(_image_to_numpy(image), FLIP @ to_ras)


def bends(parent) -> bool:
    """Whether a transform node, or one above it, is more than linear; None does not."""
    return parent is not None and not parent.IsTransformToWorldLinear()


def place_in_world(volume, parent) -> np.ndarray:
    """From a volume's (i, j, k, 1) to LPS mm below a ``parent`` that does not bend."""
    return FLIP @ _linear_to_world(parent) @ _ijk_to_ras(volume)


def lattice_in_world(volume) -> tuple[tuple[int, int, int], np.ndarray]:
    """(D, H, W) and the place of what :func:`volume_to_array` makes of a volume where the user sees it."""
    parent = volume.GetParentTransformNode()
    if not bends(parent):
        return volume.GetImageData().GetDimensions()[::-1], place_in_world(volume, parent)
    to_ras = _ijk_to_ras(volume)
    low, high = _warped_bounds(volume, parent, to_ras)
    to_ras[:3, 3] = (to_ras @ [*low, 1.0])[:3]
    return tuple(int(n) for n in (high - low)[::-1] + 1), FLIP @ to_ras


def is_constant(volume) -> bool:
    """Whether all voxels of a volume node have the same value. A few of them, looked at first, nearly always differ: to
    look at all of a large volume would be felt in the window."""
    array = slicer.util.arrayFromVolume(volume)
    few = array[tuple(slice(None, None, max(1, n // 16)) for n in array.shape)]
    if (few != few.flat[0]).any():
        return False
    low, high = volume.GetImageData().GetScalarRange()
    return low == high


def labels_to_array(node) -> ImageArray | None:
    """A label volume or a segmentation node as one array of labels; None where it holds no voxels."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        return volume_to_array(node, node.GetParentTransformNode()) if node.GetImageData() else None
    merged = slicer.vtkOrientedImageData()
    node.GenerateMergedLabelmapForAllSegments(merged, slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS)
    found = oriented_to_array(merged)
    if found is None:
        return None
    return ImageArray(found.array, world_matrix(node.GetParentTransformNode()) @ found.index_to_world)


def oriented_to_array(image) -> ImageArray | None:
    """A vtkOrientedImageData where it lies by itself; None where it holds no voxels."""
    extent = image.GetExtent()
    if image.IsEmpty() or extent[0] > extent[1]:
        return None
    return ImageArray(_image_to_numpy(image), oriented_place(image))


def oriented_place(image) -> np.ndarray:
    """From (i, j, k, 1), counted from the corner of its extent, to LPS mm."""
    extent, matrix = image.GetExtent(), vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_ras = slicer.util.arrayFromVTKMatrix(matrix)
    to_ras[:3, 3] = (to_ras @ [extent[0], extent[2], extent[4], 1.0])[:3]
    return FLIP @ to_ras


def array_to_oriented(array: np.ndarray, index_to_world: np.ndarray, first=(0, 0, 0)):
    """A vtkOrientedImageData of (D, H, W), which is the part from voxel ``first`` (i, j, k) on of a larger lattice."""
    image = slicer.vtkOrientedImageData()
    ends = [(low, low + size - 1) for low, size in zip(first, array.shape[::-1], strict=True)]
    image.SetExtent(*(int(end) for pair in ends for end in pair))
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))
    image.SetGeometryFromImageToWorldMatrix(array_to_place(index_to_world))
    return image


def own_place(volume) -> np.ndarray:
    """From a volume's (i, j, k, 1) to LPS mm without what it lies under."""
    return FLIP @ _ijk_to_ras(volume)


def world_matrix(parent) -> np.ndarray:
    """A linear transform node to the world, 4x4 in LPS mm; the identity for None."""
    return FLIP @ _linear_to_world(parent) @ FLIP


def place_to_array(matrix) -> np.ndarray:
    """From a node's own axes to LPS mm, 4x4, where a vtkMatrix4x4 leads to Slicer's coordinates."""
    return FLIP @ slicer.util.arrayFromVTKMatrix(matrix)


def array_to_place(place):
    """The inverse of :func:`place_to_array`."""
    return slicer.util.vtkMatrixFromArray(FLIP @ np.asarray(place, float))


def pull_transform(affine, displacement=None, index_to_world=None):
    """A vtkGeneralTransform, RAS to RAS, that maps fixed world points to moving world points.

    Args:
        affine: 4x4, LPS mm, fixed to moving; applied after the displacement.
        displacement: (D, H, W, 3) float32 LPS mm with components (x, y, z), or None.
        index_to_world: 4x4, from the displacement's voxel (i, j, k, 1) to LPS mm.
    """
    result = vtk.vtkGeneralTransform()
    result.PostMultiply()
    if displacement is not None:
        result.Concatenate(grid_transform(displacement, index_to_world))
    linear = vtk.vtkTransform()
    linear.SetMatrix(slicer.util.vtkMatrixFromArray(FLIP @ np.asarray(affine, float) @ FLIP))
    result.Concatenate(linear)
    return result


def grid_transform(displacement, index_to_world):
    """A vtkOrientedGridTransform of a displacement field given in LPS, see :func:`pull_transform`."""
    to_ras = FLIP @ np.asarray(index_to_world, float)
    spacing = np.linalg.norm(to_ras[:3, :3], axis=0)
    field = np.array(displacement, dtype=np.float32, order="C")  # a copy: its signs are changed in place
    field[..., :2] *= -1.0
    image = vtk.vtkImageData()
    image.SetDimensions(*(int(n) for n in field.shape[2::-1]))
    image.SetSpacing(*spacing)
    image.SetOrigin(*to_ras[:3, 3])
    scalars = numpy_support.numpy_to_vtk(field.reshape(-1, 3), deep=True)
    scalars.SetName("displacement")
    image.GetPointData().SetScalars(scalars)  # scalars, not vectors: the grid transform reads nothing else
    directions = np.eye(4)
    directions[:3, :3] = to_ras[:3, :3] / spacing
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    grid.SetGridDirectionMatrix(slicer.util.vtkMatrixFromArray(directions))
    grid.SetInterpolationModeToLinear()
    return grid


def grid_to_array(grid) -> ImageArray:
    """The displacement field of a vtkOrientedGridTransform, as :func:`grid_transform` takes it: (D, H, W, 3) LPS mm."""
    image, to_ras = grid.GetDisplacementGrid(), np.eye(4)
    directions = grid.GetGridDirectionMatrix()
    axes = np.eye(3) if directions is None else slicer.util.arrayFromVTKMatrix(directions)[:3, :3]
    to_ras[:3, :3], to_ras[:3, 3] = axes * image.GetSpacing(), image.GetOrigin()
    vectors = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[::-1], 3)
    field = vectors * grid.GetDisplacementScale() + grid.GetDisplacementShift()
    return ImageArray((field * np.diag(FLIP)[:3]).astype(np.float32), FLIP @ to_ras)


def matrix_to_array(linear) -> np.ndarray:
    """A vtkLinearTransform as a 4x4 matrix in LPS mm."""
    return FLIP @ slicer.util.arrayFromVTKMatrix(linear.GetMatrix()) @ FLIP


def flipped_points(points) -> np.ndarray:
    """(N, 3) points of RAS in LPS, or the other way round."""
    return np.asarray(points, float).reshape(-1, 3) * np.diag(FLIP)[:3]


def linear_matrix(pull):
    """The vtkMatrix4x4 of a general transform that is linear throughout, else None."""
    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, pull)
    if not all(parts.GetItemAsObject(n).IsA("vtkLinearTransform") for n in range(parts.GetNumberOfItems())):
        return None
    origin = np.array(pull.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([np.array(pull.TransformPoint(axis)) - origin for axis in np.eye(3)], axis=1)
    matrix[:3, 3] = origin
    return slicer.util.vtkMatrixFromArray(matrix)


def into_own_coordinates(pull, parent):
    """``pull`` continued from moving world points to the moving volume's own coordinates, below ``parent``.

    The result can then be the only transform of the moving volume, in place of ``parent``.
    """
    if parent is None:
        return pull
    if not parent.IsTransformToWorldLinear():
        return chained(pull, *_copied_parts(parent))
    linear = vtk.vtkTransform()
    linear.SetMatrix(slicer.util.vtkMatrixFromArray(np.linalg.inv(_linear_to_world(parent))))
    return chained(pull, linear)


def chained(*parts):
    """The vtkGeneralTransform that applies ``parts`` one after the other; it follows later changes of them."""
    result = vtk.vtkGeneralTransform()
    result.PostMultiply()
    for part in parts:
        result.Concatenate(part)
    return result


def displacement_through(parent, lattice: ImageArray, to_world: bool = False) -> ImageArray:
    """Where the points of ``lattice`` lie in the coordinates of a volume below ``parent``, as a displacement field; or,
    ``to_world``, the other way round.

    The array is (D, H, W, 3) float32, LPS mm, over the same corners and of at most :data:`MOST_SAMPLES` points.
    """
    shape = np.array(lattice.array.shape[:3])
    stride = max(1.0, (shape.prod() / MOST_SAMPLES) ** (1.0 / np.count_nonzero(shape > 1)))
    counts = np.where(shape > 1, np.maximum((shape / stride).astype(int), 2), 1)
    steps = (shape - 1) / np.maximum(counts - 1, 1)
    matrix = lattice.index_to_world @ np.diag([*np.where(counts > 1, steps, 1.0)[::-1], 1.0])
    through, chain, sampled = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform(), vtk.vtkTransformToGrid()
    (parent.GetTransformToWorld if to_world else parent.GetTransformFromWorld)(through)
    chain.PostMultiply()
    chain.Concatenate(slicer.util.vtkMatrixFromArray(FLIP @ matrix))
    chain.Concatenate(through)
    sampled.SetInput(chain)
    sampled.SetGridExtent(0, int(counts[2]) - 1, 0, int(counts[1]) - 1, 0, int(counts[0]) - 1)
    sampled.SetGridScalarTypeToDouble()
    sampled.Update()
    moved = numpy_support.vtk_to_numpy(sampled.GetOutput().GetPointData().GetScalars()).reshape(*counts, 3)
    index = np.stack(np.indices(counts)[::-1], axis=-1)
    points = index @ matrix[:3, :3].T + matrix[:3, 3]
    return ImageArray(((moved + index) * np.diag(FLIP)[:3] - points).astype(np.float32), matrix)


def set_volume(volume, array, index_to_world) -> None:
    """Give a volume node an array (D, H, W), or (D, H, W, C), and its place in the world (LPS mm)."""
    slicer.util.updateVolumeFromArray(volume, array)
    volume.SetIJKToRASMatrix(array_to_place(index_to_world))


def _ijk_to_ras(volume) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _linear_to_world(parent) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    if parent is not None:
        parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _copied_parts(parent):
    """Copies of the simple transforms from world to below ``parent``: later changes of it do not reach them."""
    from_world, parts = vtk.vtkGeneralTransform(), vtk.vtkCollection()
    parent.GetTransformFromWorld(from_world)
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, from_world)
    for index in range(parts.GetNumberOfItems()):
        part = parts.GetItemAsObject(index)
        copy = part.NewInstance()
        copy.DeepCopy(part)
        yield copy


def _image_to_numpy(image) -> np.ndarray:
    """A copy, (D, H, W), of a one-component vtkImageData."""
    shape = tuple(reversed(image.GetDimensions()))
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape).copy()


def _resampled_through(volume, parent):
    """The volume resampled in the world, on a grid with its own axes and spacing that holds all of the warped one."""
    to_ras = _ijk_to_ras(volume)
    low, high = _warped_bounds(volume, parent, to_ras)
    grid_to_ras = to_ras.copy()
    grid_to_ras[:3, 3] = (to_ras @ [*low, 1.0])[:3]
    sampling, from_world = vtk.vtkGeneralTransform(), vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(from_world)
    sampling.PostMultiply()
    sampling.Concatenate(slicer.util.vtkMatrixFromArray(grid_to_ras))
    sampling.Concatenate(from_world)
    sampling.Concatenate(slicer.util.vtkMatrixFromArray(np.linalg.inv(to_ras)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(volume.GetImageData())
    reslice.SetResliceTransform(sampling)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    size = (high - low).astype(int)
    reslice.SetOutputExtent(0, int(size[0]), 0, int(size[1]), 0, int(size[2]))
    reslice.SetBackgroundLevel(volume.GetImageData().GetScalarRange()[0])
    reslice.Update()
    return reslice.GetOutput(), grid_to_ras


def _warped_bounds(volume, parent, to_ras, samples: int = 9):
    """Lowest and highest (i, j, k), as whole numbers, that the warped volume reaches, along the volume's own axes."""
    size = np.array(volume.GetImageData().GetDimensions(), float)
    axes = [np.linspace(-0.5, n - 0.5, samples if n > 1 else 2) for n in size]
    ijk = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    to_world, back = vtk.vtkGeneralTransform(), np.linalg.inv(to_ras)
    parent.GetTransformToWorld(to_world)
    world = np.array([to_world.TransformPoint(*(to_ras @ [*point, 1.0])[:3]) for point in ijk])
    warped = world @ back[:3, :3].T + back[:3, 3]
    low, high = np.floor(warped.min(axis=0)), np.ceil(warped.max(axis=0))
    return low, np.where(size == 1, low, high)  # a single slice stays a single slice
