"""What a result has replaced: kept when it is overwritten, and brought back by Revert.

A result's transform node refers to the result before it and to what the moving volume was under, so that runs can be
undone one after the other. Where a run overwrites a transform node, a copy of it stands for what it was.
"""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import conversion, history
from .fused_volume import outdate_fused
from .result_nodes import FIXED, MOVING, REPORT, RESULT_PARENT, fill_transform, is_own_result

BEFORE, BEFORE_PARENT = "RegNetResultBefore", "RegNetMovingParentBefore"
"""Node references from a result to the panel's result before it, and to what the moving volume was under then."""


def keep_apart(node):
    """A copy of a transform node that is about to be overwritten; None where nothing is lost.

    The fields of a dense transform are shared, not copied: what overwrites it puts a new one in its place.
    """
    pull = node.GetTransformFromParent()
    if pull is None:
        return None
    matrix = conversion.linear_matrix(pull)
    is_empty = matrix is not None and np.allclose(slicer.util.arrayFromVTKMatrix(matrix), np.eye(4))
    if is_empty and not node.GetAttribute(REPORT):
        return None
    entry = history.entry_of(node)
    text = _("{name}, earlier") if entry is None else _("{name}, run {number}")
    name = text.format(name=node.GetName(), number=entry.number if entry is not None else 0)
    copy = slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), slicer.mrmlScene.GenerateUniqueName(name))
    copy_content(node, copy)
    copy.CreateDefaultDisplayNodes()
    return copy


def copy_content(source, target) -> None:
    """Make a transform node what another one is, but for its name. A field is shared."""
    fill_transform(target, source.GetTransformFromParent())
    for role in (FIXED, MOVING, RESULT_PARENT, BEFORE, BEFORE_PARENT):
        target.SetNodeReferenceID(role, source.GetNodeReferenceID(role))
    for attribute in {*source.GetAttributeNames(), *target.GetAttributeNames()}:
        target.SetAttribute(attribute, source.GetAttribute(attribute))


def note_what_was(result, previous, earlier, moving) -> None:
    """Let a new result know what it has replaced.

    Args:
        previous: the panel's result until now, None for none.
        earlier: what :meth:`keep_apart` gave, if the new result has overwritten its node.
        moving: the moving volume, still under what it was under.
    """
    parent = moving.GetParentTransformNode()
    if previous is None and parent is not None and is_own_result(parent, moving):
        previous = parent
    for role, node in ((BEFORE, previous), (BEFORE_PARENT, parent)):
        kept = earlier if node is result else node
        result.SetNodeReferenceID(role, kept.GetID() if kept is not None else None)
    if earlier is None:
        return
    for other in slicer.util.getNodesByClass("vtkMRMLTransformNode"):
        for role in (BEFORE, BEFORE_PARENT):
            if other is not earlier and other.GetNodeReference(role) is result:
                other.SetNodeReferenceID(role, earlier.GetID())
    history.hand_over(result, earlier)


def can_revert(parameters) -> bool:
    """Whether the panel shows the result of a run, which can be undone."""
    result = parameters.resultTransform
    moving = parameters.movingVolume
    return result is not None and moving is not None and is_own_result(result, moving)


def revert(parameters) -> None:
    """Undo the run whose result the panel shows: the result before it, and the moving volume's transform, are back."""
    result, moving = parameters.resultTransform, parameters.movingVolume
    before = result.GetNodeReference(BEFORE)
    place = result.GetNodeReference(BEFORE_PARENT) or result.GetNodeReference(RESULT_PARENT)
    if moving.GetParentTransformNode() in (result, result.GetNodeReference(RESULT_PARENT)):
        move_along(result, moving, place)
    parameters.resultTransform = before
    outdate_fused(parameters, parameters.fixedVolume, moving)


def use_result(parameters, fixed, moving, transform) -> None:
    """Make an earlier result the panel's again, and put the moving volume under it."""
    shown = parameters.resultTransform
    with slicer.util.NodeModify(parameters):
        parameters.fixedVolume, parameters.movingVolume = fixed, moving
        parameters.resultTransform = transform
    move_along(shown, moving, transform)
    outdate_fused(parameters, fixed, moving)


def move_along(old, moving, new) -> None:
    """Put ``moving`` under ``new`` (None for none), and with it whatever else was under its result ``old``."""
    followers = [moving]
    if old is not None and moving.GetParentTransformNode() is old:
        nodes = slicer.util.getNodesByClass("vtkMRMLTransformableNode")
        followers += [node for node in nodes if node.GetParentTransformNode() is old and node is not new]
    for node in followers:
        node.SetAndObserveTransformNodeID(new.GetID() if new is not None else None)


def remove_result(transform) -> bool:
    """Remove a transform node that nothing uses any more; whether it was."""
    if _is_used(transform):
        return False
    for other in slicer.util.getNodesByClass("vtkMRMLTransformNode"):
        for role in (BEFORE, BEFORE_PARENT):
            if other.GetNodeReference(role) is transform:
                other.SetNodeReferenceID(role, transform.GetNodeReferenceID(role))
    slicer.mrmlScene.RemoveNode(transform)  # and its display and storage nodes
    return True


def _is_used(transform) -> bool:
    """Whether a node refers to ``transform`` for something else than to undo what came after it."""
    nodes = slicer.mrmlScene.GetNodes()
    for index in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(index)
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            continue  # lists everything
        roles: list[str] = []
        node.GetNodeReferenceRoles(roles)
        for role in roles:
            if role not in (BEFORE, BEFORE_PARENT) and node.HasNodeReferenceID(role, transform.GetID()):
                return True
    return False
