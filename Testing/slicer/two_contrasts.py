"""Pairs of one anatomy in two contrasts, one side moved by a known smooth map, for the tests of the modules.

The brain is the demo's patient in T2 and T1. The head is painted from the demo's atlas labels with layers of liquid,
bone and scalp around them: once as CT, where bone is bright, once as T1, where it is dark.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from volumes import rigid

DEMO = Path(__file__).resolve().parents[2] / "Resources" / "Demo"
WHITE_MATTER, VENTRICLES = (1, 2, 5), (3, 4)
LAYERS_MM = {"liquid": 4.0, "bone": 12.0, "scalp": 20.0}
"""How far from the brain each layer around it reaches: thick ones, to be seen in voxels of 4 mm."""
CT = {"air": -1000, "scalp": -40, "bone": 900, "liquid": 0, "grey": 60, "white": 30, "ventricles": 0}
MR = {"air": 0, "scalp": 190, "bone": 12, "liquid": 30, "grey": 105, "white": 160, "ventricles": 25}


@dataclass(frozen=True)
class Scan:
    """An array (k, j, i) and its matrix from IJK to RAS."""

    array: np.ndarray
    matrix: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        return self.matrix[:3, :3] @ ((np.array(self.array.shape[::-1]) - 1) / 2) + self.matrix[:3, 3]


@dataclass(frozen=True)
class Truth:
    """Points of the fixed anatomy, and where the same anatomy lies in the moving scan; RAS mm, (n, 3) each."""

    points: np.ndarray
    targets: np.ndarray

    def error(self, found: np.ndarray) -> float:
        """Mean distance in mm."""
        return float(np.linalg.norm(found - self.targets, axis=1).mean())

    def best_affine_error(self) -> float:
        """What the best of all affine transforms would leave."""
        rows = np.column_stack([self.points, np.ones(len(self.points))])
        return self.error(rows @ np.linalg.lstsq(rows, self.targets, rcond=None)[0])


def bend(points: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The known map, moving to fixed world: turned by 7 degrees, shifted by 9 mm, long waves of 8 mm."""
    turn = rigid((6, -2, 3), (5, -6, 4))
    x, y, z = 2 * np.pi * (points - middle).T / np.array([[210.0], [240.0], [200.0]])
    waves = 8 * np.column_stack([np.sin(y + 0.4) * np.cos(z), np.sin(z - 0.5) * np.cos(x), np.sin(x + 1.0) * np.cos(y)])
    return (points - middle) @ turn[:3, :3].T + middle + turn[:3, 3] + waves


def unbend(points: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The inverse of :func:`bend`, by iteration."""
    found = points.copy()
    for _ in range(40):
        found -= bend(found, middle) - points
    return found


def brain_pair() -> tuple[Scan, Scan, Truth]:
    """The patient's T2 (fixed) and T1 (moving, bent, on axes of its own)."""
    fixed, moving = _demo("patient_T2"), _demo("patient_T1")
    return _pair(fixed, moving, fixed.array > 0.15 * fixed.array.max(), spacing=3.0)


def head_pair() -> tuple[Scan, Scan, Truth]:
    """A painted CT (fixed) and a painted MR (moving, bent, on axes of its own) of one head."""
    tissues, matrix = _tissues()
    generator = np.random.default_rng(5)
    ct, mr = (_painted(tissues, values) for values in (CT, MR))
    ct += generator.normal(0, 3, ct.shape)
    mr += generator.normal(0, 4, mr.shape) * (mr > 5)
    head = (tissues["air"] == 0) & (tissues["scalp"] == 0)
    return _pair(Scan(ct, matrix), Scan(mr, matrix), head, spacing=4.0, outside=CT["air"])


def _pair(fixed: Scan, moving: Scan, inside: np.ndarray, spacing: float, outside: float = 0.0):
    middle = fixed.middle
    voxels = np.argwhere(inside)[:, ::-1]
    voxels = voxels[np.random.default_rng(2).choice(len(voxels), 3000, replace=False)]
    points = voxels @ fixed.matrix[:3, :3].T + fixed.matrix[:3, 3]
    axes = fixed.matrix[:3, :3] / np.linalg.norm(fixed.matrix[:3, :3], axis=0)
    other_axes = rigid((4, 10, -8))[:3, :3] @ np.diag([-1.0, -1.0, 1.0])
    seen = _seen(fixed, axes, spacing, outside)
    moved = _seen(moving, other_axes, spacing, 0.0, lambda points: bend(points, middle))
    return seen, moved, Truth(points, unbend(points, middle))


def _seen(scan: Scan, axes: np.ndarray, spacing: float, outside: float, warp=None) -> Scan:
    """The scan on a coarser lattice with other axes around the same middle, looked at through ``warp``."""
    own = np.linalg.norm(scan.matrix[:3, :3], axis=0)
    shape = tuple(int(n) for n in np.ceil(np.array(scan.array.shape) * own[::-1] / spacing))
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = scan.middle - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    points = np.indices(shape)[::-1].reshape(3, -1).T @ matrix[:3, :3].T + matrix[:3, 3]
    if warp is not None:
        points = warp(points)
    voxels = (points - scan.matrix[:3, 3]) @ np.linalg.inv(scan.matrix[:3, :3]).T
    smooth = ndimage.gaussian_filter(scan.array.astype(np.float32), 0.4 * spacing / own[::-1], mode="nearest")
    values = ndimage.map_coordinates(smooth, voxels.T[::-1], order=1, mode="constant", cval=outside)
    return Scan(values.reshape(shape).astype(np.float32), matrix)


@functools.cache
def _demo(name: str) -> Scan:
    image = sitk.ReadImage(str(DEMO / f"{name}.nii.gz"))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return Scan(sitk.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


def _tissues() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where each tissue is (it covers the voxels), and the matrix of the lattice, with room for the layers."""
    atlas = _demo("atlas_labels")
    room = 12
    labels = np.pad(atlas.array, room)
    matrix = atlas.matrix.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ np.full(3, room)
    brain = ndimage.binary_closing(labels > 0, iterations=2)
    distance = ndimage.distance_transform_edt(~brain, sampling=np.linalg.norm(matrix[:3, :3], axis=0))
    tissues = {"ventricles": np.isin(labels, VENTRICLES), "white": np.isin(labels, WHITE_MATTER)}
    tissues["grey"] = (labels > 0) & ~tissues["ventricles"] & ~tissues["white"]
    taken = labels > 0
    for name, reach in LAYERS_MM.items():
        tissues[name] = (distance < reach) & ~taken
        taken |= tissues[name]
    tissues["air"] = ~taken
    return tissues, matrix


def _painted(tissues: dict[str, np.ndarray], values: dict[str, float]) -> np.ndarray:
    image = np.zeros(tissues["air"].shape, np.float32)
    for name, inside in tissues.items():
        image[inside] = values[name]
    return image
