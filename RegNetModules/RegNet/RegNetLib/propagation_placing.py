"""Where the scan, its segmentation and a target lie: what the worker is told, and what cannot be told.

The worker knows the world at the time of the run. Results of RegNet that the scan wears are taken off for that, from
the segmentation as well: what was drawn on a scan stays with its voxels, whichever of the two wears the result.
"""

from __future__ import annotations

import numpy as np
from slicer.i18n import tr as _

from . import conversion
from .result_nodes import FIXED, MOVING, RESULT_PARENT, is_own_result


def placing(node, volume, transform=None):
    """The transform node that places ``node`` in the world, without results of ``volume`` and without ``transform``."""
    parent = node.GetParentTransformNode()
    while parent is not None and (parent is transform or is_own_result(parent, volume)):
        parent = parent.GetNodeReference(RESULT_PARENT)
    return parent


def target_parent(target):
    """What places a target: what it lies under, or, if that bends it, what it lay under before it was registered."""
    parent = target.GetParentTransformNode()
    return parent if is_linear(parent) else placing(target, target)


def is_linear(parent) -> bool:
    return parent is None or bool(parent.IsTransformToWorldLinear())


def problem_of_place(node, parent) -> str:
    """One sentence if ``parent`` bends ``node``; empty if not."""
    if is_linear(parent):
        return ""
    text = _("“{name}” lies under the non-linear transform “{transform}”; harden it in the Transforms module first.")
    return text.format(name=node.GetName(), transform=parent.GetName())


def problem_of_drawing(segmentation, volume, transform=None) -> str:
    """One sentence if nobody knows where ``segmentation`` lies on ``volume``; empty if it is known."""
    if segmentation.GetParentTransformNode() is volume.GetParentTransformNode():
        return ""
    sides = ((segmentation, placing(segmentation, volume, transform)), (volume, placing(volume, volume, transform)))
    return next(filter(None, (problem_of_place(*side) for side in sides)), "")


def drawing_matrix(segmentation, volume, transform=None) -> np.ndarray:
    """From the segmentation's own points to those of its volume, 4x4 in LPS mm."""
    if segmentation.GetParentTransformNode() is volume.GetParentTransformNode():
        return np.eye(4)
    inner = conversion.world_matrix(placing(segmentation, volume, transform))
    return np.linalg.inv(conversion.world_matrix(placing(volume, volume, transform))) @ inner


def world_place(volume, parent) -> np.ndarray:
    """From a volume's (i, j, k, 1) to the world below ``parent``, 4x4 in LPS mm."""
    return conversion.world_matrix(parent) @ conversion.own_place(volume)


def leads_backwards(transform, scan, targets) -> bool:
    """Whether a transform says of itself that it puts a target onto the scan, and not the scan onto a target."""
    fixed, moving = transform.GetNodeReference(FIXED), transform.GetNodeReference(MOVING)
    return fixed is scan and scan is not None and any(moving is target for target in targets)


def step_through(transform, scan, target, backwards: bool):
    """The way from a target's points to the scan's own ones through a transform node.

    Returns:
        The place of the target's voxels in the world that the way starts from (4x4, LPS mm), the matrix that comes
        last, and before it a displacement field, or None where all is linear.
    """
    if backwards:  # what moves the target's own points to where the scan is seen
        leading = leading_transform(target, transform)
        place = conversion.own_place(target)
        last = np.linalg.inv(conversion.world_matrix(scan.GetParentTransformNode()))
    else:
        leading = leading_transform(scan, transform)
        place, last = world_place(target, target_parent(target)), np.eye(4)
    if is_linear(leading):
        matrix = conversion.world_matrix(leading)
        return place, last @ (matrix if backwards else np.linalg.inv(matrix)), None
    shape = target.GetImageData().GetDimensions()[::-1]
    lattice = conversion.ImageArray(np.broadcast_to(np.int8(0), shape), place)
    return place, last, conversion.displacement_through(leading, lattice, to_world=backwards)


def leading_transform(node, transform):
    """What ``node`` lies under if ``transform`` is part of that, else ``transform`` alone, as if it was applied."""
    parent = node.GetParentTransformNode()
    above = parent
    while above is not None and above is not transform:
        above = above.GetParentTransformNode()
    return parent if above is not None else transform
