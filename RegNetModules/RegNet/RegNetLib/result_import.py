"""A finished registration becomes nodes: one transform, and a resampled, a synthetic or a fused volume where it was
asked for.

Everything that can fail is done before the first node is touched; if the rest fails, the scene is put back as it was.
"""

from __future__ import annotations

import json

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from . import conversion
from .fused_volume import FUSED, fill_fused, keep_fused, outdate_fused, read_fused
from .history_undo import copy_content, keep_apart, note_what_was
from .result_nodes import FIXED, MOVING, REPORT, RESULT_PARENT, fill_transform

SYNTHETIC = "RegNet.Synthetic"
"""Attribute that marks a volume as made up by a network, and says from what and by which model."""
SOURCE = "RegNetSyntheticSource"
"""Node reference from a synthetic volume to the volume that it was translated from."""


class ResultImporter:
    """Turns the result of one run into nodes. Made when the run starts, so that it knows what the run was about.

    ``synthetic`` and ``fused`` are, after :meth:`load`, the volume nodes of the translated and of the fused image, None
    where the model made none.
    """

    def __init__(self, parameters, moving_parent, model_title: str) -> None:
        self._parameters = parameters
        self._fixed_id = parameters.fixedVolume.GetID()
        self._moving_id = parameters.movingVolume.GetID()
        self._parent_id = moving_parent.GetID() if moving_parent is not None else ""
        # As it is now: it may be moved or removed before the result is there.
        self._below = conversion.into_own_coordinates(vtk.vtkGeneralTransform(), moving_parent)
        self._title = model_title
        self._earlier = None
        self.synthetic = self.fused = None

    def load(self, result: dict, folder):
        """Take over what the worker sent and return the transform node.

        Raises:
            ValueError: the inputs are gone, with one sentence for the user.
        """
        fixed, moving = self._node(self._fixed_id), self._node(self._moving_id)
        if fixed is None or moving is None:
            raise ValueError(_("the fixed or the moving volume was removed meanwhile"))
        pull = _pull(result, folder)
        pull = conversion.chained(pull, self._below) if self._parent_id else pull
        warped = self._warped(result, folder, moving) if self._parameters.createVolume else None
        synthetic, fused = _synthetic(result, folder), read_fused(result, folder)
        added, previous, self._earlier = [], self._parameters.resultTransform, None
        try:
            # The volumes first: they can be too large, and a transform of an earlier run is to be kept then.
            marked = self._fill_synthetic(synthetic, fixed, moving, added) if synthetic is not None else None
            volume = self._fill_volume(warped, fixed, moving, added) if warped is not None else None
            both = fill_fused(self._parameters, fused, fixed, moving, self._title, added) if fused is not None else None
            transform = self._fill_transform(pull, result, fixed, moving, added)
            note_what_was(transform, previous, self._earlier, moving)
        except Exception:
            if self._earlier is not None:
                copy_content(self._earlier, previous)
            for node in added:
                slicer.mrmlScene.RemoveNode(node)  # and its display node
            raise
        self._parameters.resultTransform = transform
        if volume is not None:
            self._parameters.outputVolume = volume
        if marked is not None:
            self._parameters.syntheticVolume = self.synthetic = marked
        if both is not None:
            keep_fused(self._parameters, both, transform)
            self.fused = both
        else:
            outdate_fused(self._parameters, fixed, moving)
        if self._parameters.applyToMoving:
            moving.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    def _node(self, identity: str):
        return slicer.mrmlScene.GetNodeByID(identity) if identity else None

    def _fill_transform(self, pull, result: dict, fixed, moving, added: list):
        node, matrix = self._parameters.resultTransform, conversion.linear_matrix(pull)
        if node is not None and matrix is None and node.IsA("vtkMRMLLinearTransformNode"):
            node = None  # such a node holds a matrix and nothing else
        if node is None:
            kind = "vtkMRMLTransformNode" if matrix is None else "vtkMRMLLinearTransformNode"
            name = _("{moving} to {fixed} ({model})").format(
                moving=moving.GetName(), fixed=fixed.GetName(), model=self._title
            )
            node = slicer.mrmlScene.AddNewNodeByClass(kind, slicer.mrmlScene.GenerateUniqueName(name))
            added.append(node)
        else:
            self._earlier = keep_apart(node)
            added += [self._earlier] if self._earlier is not None else []
        node.SetAndObserveTransformNodeID(None)  # the result speaks of the world
        fill_transform(node, pull)
        node.SetNodeReferenceID(FIXED, fixed.GetID())
        node.SetNodeReferenceID(MOVING, moving.GetID())
        parent = self._node(self._parent_id)
        node.SetNodeReferenceID(RESULT_PARENT, parent.GetID() if parent is not None else None)
        node.SetAttribute(REPORT, json.dumps(result.get("report", {})))
        node.CreateDefaultDisplayNodes()
        return node

    def _warped(self, result: dict, folder, moving):
        """The resampled image, in the moving volume's own type of number."""
        array = folder.load(result["warped"]["file"])
        kind = slicer.util.arrayFromVolume(moving).dtype
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(kind)
            array = np.clip(np.rint(array), limits.min, limits.max)
        return array.reshape(array.shape[-3:]).astype(kind), result["warped"]["index_to_world"]

    def _fill_volume(self, warped, fixed, moving, added: list):
        node = self._parameters.outputVolume
        if node is None:
            name = _("{moving} on {fixed}").format(moving=moving.GetName(), fixed=fixed.GetName())
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name)
            )
            added.append(node)
        node.SetAndObserveTransformNodeID(None)
        conversion.set_volume(node, *warped)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        if moving.GetDisplayNode() is not None:
            node.GetDisplayNode().CopyContent(moving.GetDisplayNode())
        for mark in (SYNTHETIC, FUSED):
            if node.GetAttribute(mark) != moving.GetAttribute(mark):  # resampling makes no network's picture acquired
                node.SetAttribute(mark, moving.GetAttribute(mark))
                node.SetDescription(moving.GetDescription())
        return node

    def _fill_synthetic(self, synthetic, fixed, moving, added: list):
        """A volume that says of itself, wherever it is looked at, that nobody acquired it."""
        node = self._earlier_synthetic(fixed, moving)
        if node is None:
            name = _("{moving} as T1, synthetic ({model})").format(moving=moving.GetName(), model=self._title)
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(name)
            )
            added.append(node)
        node.SetAndObserveTransformNodeID(None)
        conversion.set_volume(node, *synthetic)
        if node.GetDisplayNode() is None:
            # Its own window and level: its intensities are in [0, 1] and have nothing to do with the moving volume's.
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetAutoWindowLevel(True)
        node.SetNodeReferenceID(SOURCE, moving.GetID())
        node.SetAttribute(SYNTHETIC, f"translated from {moving.GetName()} by {self._title}; not acquired")
        text = _(
            "Synthetic image: {moving} translated to T1 by {model} and registered to {fixed}. Not acquired; for "
            "looking at, not for diagnosis."
        )
        node.SetDescription(text.format(moving=moving.GetName(), fixed=fixed.GetName(), model=self._title))
        return node

    def _earlier_synthetic(self, fixed, moving):
        """The synthetic volume of an earlier run of the same moving volume, unless it has another part in this run."""
        node = self._parameters.syntheticVolume
        if node is None or not node.GetAttribute(SYNTHETIC) or node.GetNodeReference(SOURCE) is not moving:
            return None
        taken = [fixed, self._parameters.outputVolume if self._parameters.createVolume else None]
        return None if any(node is other for other in taken) else node


def _pull(result: dict, folder):
    field = result.get("displacement")
    if not field:
        return conversion.pull_transform(result["affine"])
    return conversion.pull_transform(result["affine"], folder.load(field["file"]), field["index_to_world"])


def _synthetic(result: dict, folder):
    """The translated image, float32 (D, H, W), and its place; None where the model made none."""
    sent = result.get("synthetic")
    if not sent:
        return None
    array = folder.load(sent["file"])
    return array.reshape(array.shape[-3:]).astype(np.float32), sent["index_to_world"]
