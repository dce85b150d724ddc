"""Volume nodes for the tests: no two axes alike in size, spacing or direction."""

from __future__ import annotations

import functools

import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (40, 48, 56)


def rigid(degrees=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def scaled(spacing, signs=(1, 1, 1)) -> np.ndarray:
    return np.diag([*np.multiply(spacing, signs), 1.0])


GEOMETRIES = {
    "plain": rigid((0, 0, 0), (5, -7, 9)) @ scaled((1, 1, 1)),
    "anisotropic": rigid((0, 0, 0), (-30, 12, 4)) @ scaled((0.9, 1.4, 3.1)),
    "flipped": rigid((0, 0, 0), (40, 50, -20)) @ scaled((1.1, 1.3, 1.7), (-1, -1, 1)),
    "left-handed": rigid((0, 0, 0), (40, -20, 30)) @ scaled((1.2, 1.5, 1.8), (-1, 1, 1)),
    "oblique": rigid((25, -15, 40), (10, 20, 30)) @ scaled((1.2, 0.8, 2.2), (1, -1, 1)),
}
"""IJK to RAS matrices."""


def pattern(shape=SHAPE, shift=(0.0, 0.0, 0.0), seed: int = 3) -> np.ndarray:
    """(D, H, W) float32: a soft body with structures inside, moved by ``shift`` voxels (k, j, i)."""
    return _pattern(tuple(shape), tuple(shift), seed).copy()


@functools.cache
def _pattern(shape, shift, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    points = np.stack([grid - offset for grid, offset in zip(grids, shift, strict=True)], -1)
    size = np.array(shape, float)
    body = np.linalg.norm((points - size / 2) / (0.38 * size), axis=-1)
    image = 100.0 / (1.0 + np.exp((body - 1.0) * 14))
    for _ in range(14):
        centre = size * generator.uniform(0.28, 0.72, 3)
        radius = generator.uniform(3.0, 7.0)
        distance = np.linalg.norm(points - centre, axis=-1)
        image += generator.uniform(-60, 70) / (1.0 + np.exp((distance - radius) * 0.9))
    return image.astype(np.float32)


def add_volume(name: str, array: np.ndarray | None = None, ijk_to_ras: np.ndarray | None = None):
    """A scalar volume node in the scene."""
    import slicer

    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["plain"] if ijk_to_ras is None else ijk_to_ras)
    return slicer.util.addVolumeFromArray(pattern() if array is None else array, ijkToRAS=matrix, name=name)


def add_linear(name: str, matrix: np.ndarray, parent=None):
    """A linear transform node, to parent = ``matrix``."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_bend(name: str):
    """A non-linear transform node: landmarks that shift by 60 mm and bend by some 10 mm."""
    import slicer
    import vtk

    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-60.0, 0.0, 80.0):  # few landmarks: every point of every picture sums over all of them
        for y in (-60.0, 90.0):
            for z in (-60.0, 110.0):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x + 60 + 0.08 * y, y + 6 * np.sin(x / 40), z - 0.0008 * x * x + 3)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(spline)
    return node


def pull(node):
    """World (RAS) points to the points that the transform ``node`` pulls from, a vtkGeneralTransform."""
    import vtk

    from_world = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(from_world)
    return from_world


def through(transform, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) mapped by a VTK or an ITK transform, one by one."""
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def to_lps(points: np.ndarray) -> np.ndarray:
    return points * np.array([-1.0, -1.0, 1.0])


def as_itk(array: np.ndarray, matrix: np.ndarray):
    """An array (D, H, W) and its index-to-world matrix as a SimpleITK image, in whichever world the matrix leads to."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def counterpart(array: np.ndarray, matrix: np.ndarray, axes: np.ndarray, shape=(44, 50, 52)):
    """The same body, turned by 8 degrees, shifted by some 7 mm and bent by 3 mm, seen by another scanner.

    ``axes`` gives the other scanner's voxel axes (a matrix without its translation); both see the same region.
    Returns (array, index to world).
    """
    import SimpleITK as sitk

    seen = axes.copy()
    middle = (matrix @ [*(np.array(array.shape[::-1]) - 1) / 2, 1.0])[:3]
    seen[:3, 3] = middle - axes[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    move = rigid((5, -3, 6), (4, -5, 3))
    turn = sitk.AffineTransform(3)
    turn.SetCenter(middle.tolist())
    turn.SetMatrix(move[:3, :3].ravel().tolist())
    turn.SetTranslation(move[:3, 3].tolist())
    z, y, x = np.meshgrid(*(np.linspace(0, np.pi, n) for n in array.shape), indexing="ij")
    bump = 3 * np.sin(x) * np.sin(y) * np.sin(z)
    bend = sitk.GetImageFromArray(np.stack([bump, -0.7 * bump, 0.5 * bump], -1), isVector=True)
    bend.CopyInformation(as_itk(array, matrix))
    warp = sitk.CompositeTransform([turn, sitk.DisplacementFieldTransform(sitk.Cast(bend, sitk.sitkVectorFloat64))])
    grid = as_itk(np.zeros(shape, np.float32), seen)
    return sitk.GetArrayFromImage(sitk.Resample(as_itk(array, matrix), grid, warp, sitk.sitkLinear)), seen
