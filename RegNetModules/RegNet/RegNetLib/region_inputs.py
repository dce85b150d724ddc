"""The region of interest and the masks of a registration: what is wrong with them, and the arrays that are sent."""

from __future__ import annotations

import numpy as np
from slicer.i18n import tr as _

from . import conversion
from .conversion import ImageArray
from .propagation_labels import read_labels
from .propagation_placing import problem_of_place
from .region_box import box_array, box_size, is_box
from .segment_choice import present_segment, segment_identities


def problem_of_region(parameters) -> str:
    """One sentence that says why the chosen region is none; empty if it is one, or none is chosen. Cheap."""
    node = parameters.region
    if node is None:
        return ""
    if node.IsA("vtkMRMLSegmentationNode") and not segment_identities(node):
        text = _("Segmentation “{name}” has no segment; paint one, or choose another region or none.")
        return text.format(name=node.GetName())
    if is_box(node) and min(box_size(node)) <= 0.0:
        text = _("Box “{name}” has no size yet; place it in the slice views, or choose another region or none.")
        return text.format(name=node.GetName())
    return problem_of_place(node, node.GetParentTransformNode())


def region_array(parameters) -> ImageArray | None:
    """The chosen region, non-zero inside, in the world; None without one.

    Raises:
        ValueError: it is empty, or outside of the fixed volume; with one sentence for the user.
    """
    node, fixed = parameters.region, parameters.fixedVolume
    if node is None:
        return None
    if not is_box(node):
        return marked_array(node, parameters.regionSegment, fixed, _("Region"))
    found = box_array(node, fixed)
    if found is None:
        text = _("Region “{name}” lies outside of the fixed volume; move it, or choose another one or none.")
        raise ValueError(text.format(name=node.GetName()))
    return found


def marked_array(node, segment: str, volume, what: str) -> ImageArray:
    """A label volume, a segmentation or its ``segment``: non-zero inside, in the world.

    Args:
        volume: gives the lattice where a segment is only known as a surface.
        what: the node is to the user.

    Raises:
        ValueError: it holds no voxels; with one sentence for the user.
    """
    if present_segment(node, segment):
        labels = read_labels(node, [segment], volume)
        place = conversion.world_matrix(node.GetParentTransformNode()) @ labels.index_to_world
        return ImageArray((labels.array[0] > 0).astype(np.uint8), place)
    labels = conversion.labels_to_array(node)
    if labels is None or not labels.array.any():
        text = _("{what} “{name}” is empty; choose another one or none.")
        raise ValueError(text.format(what=what, name=node.GetName()))
    return ImageArray((labels.array > 0).astype(np.uint8), labels.index_to_world)
