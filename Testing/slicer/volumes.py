"""Volume nodes for the tests: no two axes alike in size, spacing or direction."""

from __future__ import annotations

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
    generator = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    points = np.stack([grid - offset for grid, offset in zip(grids, shift, strict=True)], -1)
    size = np.array(shape, float)
    body = np.linalg.norm((points - size / 2) / (0.38 * size), axis=-1)
    image = 100.0 / (1.0 + np.exp((body - 1.0) * 14))
    for _ in range(14):
        centre = size * generator.uniform(0.28, 0.72, 3)
        radius = generator.uniform(2.0, 5.0)
        distance = np.linalg.norm(points - centre, axis=-1)
        image += generator.uniform(-60, 70) / (1.0 + np.exp((distance - radius) * 1.2))
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
    for x in (-60.0, 0.0, 80.0):
        for y in (-60.0, 10.0, 90.0):
            for z in (-60.0, 20.0, 110.0):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x + 60 + 0.08 * y, y + 6 * np.sin(x / 40), z - 0.0008 * x * x + 3)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(spline)
    return node


def through(transform, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) mapped by a VTK or an ITK transform, one by one."""
    return np.array([transform.TransformPoint(point) for point in points.tolist()])


def to_lps(points: np.ndarray) -> np.ndarray:
    return points * np.array([-1.0, -1.0, 1.0])
