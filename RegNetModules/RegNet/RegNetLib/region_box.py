"""A box of Slicer's markups as a region of interest: made around what is shown, and as voxels of a volume."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import conversion
from .conversion import ImageArray
from .slice_views import slice_views

SHARE, LEAST_VOXELS = 0.4, 10
"""Of the volume's extent that a new box has along each axis, and the voxels that it has at least."""
FILL = 0.1
"""Opacity of a new box's inside."""


def is_box(node) -> bool:
    return node.IsA("vtkMRMLMarkupsROINode")


def box_size(roi) -> np.ndarray:
    """Of a vtkMRMLMarkupsROINode along its own axes in mm; nothing where it has not been placed."""
    return np.array(roi.GetSize()) if roi.GetNumberOfDefinedControlPoints() else np.zeros(3)


def add_box(volume):
    """A new vtkMRMLMarkupsROINode along the axes of ``volume``, around the place that the slice views show, or around
    the middle of the volume where they show something else."""
    shape, index_to_world = conversion.lattice_in_world(volume)
    size, spacing = np.array(shape[::-1]), np.linalg.norm(index_to_world[:3, :3], axis=0)
    shown = _shown_place()
    index = (size - 1) / 2.0
    if shown is not None:
        place = (np.linalg.inv(index_to_world) @ [*shown, 1.0])[:3]
        place = np.where(size == 1, 0.0, place)
        index = place if ((place >= 0) & (place <= size - 1)).all() else index
    matrix = np.eye(4)
    matrix[:3, :3] = index_to_world[:3, :3] / spacing
    matrix[:3, 2] *= np.sign(np.linalg.det(matrix[:3, :3]))  # a box has right-handed axes
    matrix[:3, 3] = (index_to_world @ [*index, 1.0])[:3]
    name = slicer.mrmlScene.GenerateUniqueName(_("Region of interest"))
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    roi.SetAndObserveObjectToNodeMatrix(conversion.array_to_place(matrix))
    roi.SetSize(*(float(length) for length in np.maximum(SHARE * size, LEAST_VOXELS) * spacing))
    roi.CreateDefaultDisplayNodes()
    display = roi.GetDisplayNode()
    display.SetFillOpacity(FILL)  # what it is about stays visible
    display.SetPropertiesLabelVisibility(False)
    return roi


def box_array(roi, volume) -> ImageArray | None:
    """The part of the lattice of ``volume`` that holds a box, 1 inside it; None where they do not meet.

    In a volume of a single slice the box counts in the plane, however far above or below it lies.
    """
    shape, index_to_world = conversion.lattice_in_world(volume)
    to_box = np.linalg.inv(_place(roi)) @ index_to_world
    half = 0.5 * box_size(roi)
    axes = list(range(3))
    if shape[0] == 1:
        axes.remove(int(np.abs(to_box[:3, 2] / np.linalg.norm(to_box[:3, 2])).argmax()))
        # The plane through the middle of the box: what the box is across it does not matter.
        to_box[:3, 3] -= to_box[:3, 2] * (np.linalg.solve(to_box[:3, :3], to_box[:3, 3])[2])
    corners = np.stack(np.meshgrid(*[(-end, end) for end in half], indexing="ij"), axis=-1).reshape(-1, 3)
    index = (corners - to_box[:3, 3]) @ np.linalg.inv(to_box[:3, :3]).T
    low = np.clip(np.floor(index.min(axis=0)), 0, None).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, shape[::-1])
    if shape[0] == 1:
        low[2], high[2] = 0, 1
    if (high <= low).any():
        return None
    i, j, k = (np.arange(first, last) for first, last in zip(low, high, strict=True))
    inside = np.ones((len(k), len(j), len(i)), dtype=bool)
    for axis in axes:
        a, b, c, shift = to_box[axis]
        inside &= np.abs((c * k)[:, None, None] + (b * j)[:, None] + (a * i + shift)) <= half[axis] + 1e-6
    if not inside.any():
        return None
    place = index_to_world.copy()
    place[:3, 3] = (index_to_world @ [*low, 1.0])[:3]
    return ImageArray(inside.astype(np.uint8), place)


def _place(roi) -> np.ndarray:
    """From coordinates about a box's middle, along its axes, to the world, 4x4 in LPS mm."""
    own = conversion.place_to_array(roi.GetObjectToNodeMatrix())
    return conversion.world_matrix(roi.GetParentTransformNode()) @ own


def _shown_place() -> np.ndarray | None:
    """Where the planes of the slice views meet, in LPS mm; None where they do not meet in one point."""
    planes = [slicer.util.arrayFromVTKMatrix(view.slice_node.GetSliceToRAS()) for view in slice_views()]
    normals = np.array([plane[:3, 2] for plane in planes]).reshape(-1, 3)
    if np.linalg.matrix_rank(normals, tol=1e-3) < 3:
        return None
    offsets = np.array([plane[:3, 2] @ plane[:3, 3] for plane in planes])
    return conversion.flipped_points(np.linalg.lstsq(normals, offsets, rcond=None)[0])[0]
