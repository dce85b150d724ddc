"""The picture in which a network shows both images of a pair, as a volume node that says what it is."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import conversion

FUSED = "RegNet.Fused"
"""Attribute that marks a volume as made by a network, and says from what."""
OUTDATED = "RegNet.FusedOutdated"
"""Attribute of a fused volume whose pair was registered again since, and not fused."""
FUSED_FIXED, FUSED_MOVING, FUSED_TRANSFORM = "RegNetFusedFixed", "RegNetFusedMoving", "RegNetFusedTransform"
"""Node references from a fused volume to what it was made of."""


def fused_of(parameters):
    """The fused volume of the panel's present pair, None where there is none or it shows an earlier registration."""
    node = _of_pair(parameters, parameters.fixedVolume, parameters.movingVolume)
    return None if node is None or node.GetAttribute(OUTDATED) else node


def read_fused(result: dict, folder):
    """The fused image that the worker sent, (D, H, W) float32 or (D, H, W, 3) uint8, and its place; None without one.

    Raises:
        ValueError: it is not such an image.
    """
    sent = result.get("fused")
    if not sent:
        return None
    array = folder.load(sent["file"])
    if array.ndim != 4 or len(array) not in (1, 3):
        raise ValueError(_("the fused image has the shape {shape}").format(shape=array.shape))
    image = array[0].astype(np.float32) if len(array) == 1 else np.moveaxis(array, 0, -1).astype(np.uint8)
    return image, sent["index_to_world"]


def fill_fused(parameters, fused, fixed, moving, model_title: str, added: list):
    """Put what :func:`read_fused` gave into the pair's fused volume, a new one (then in ``added``) if it has none."""
    image, place = fused
    kind = "vtkMRMLVectorVolumeNode" if image.ndim == 4 else "vtkMRMLScalarVolumeNode"
    node = _earlier(parameters, kind, fixed, moving)
    names = {"moving": moving.GetName(), "fixed": fixed.GetName(), "model": model_title}
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(_("{moving} fused with {fixed} ({model})").format(**names))
        node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
        added.append(node)
    node.SetAndObserveTransformNodeID(None)
    conversion.set_volume(node, np.ascontiguousarray(image), place)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        in_colour = image.ndim == 4
        node.GetDisplayNode().SetAutoWindowLevel(not in_colour)
        if in_colour:  # as they are
            node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    node.SetNodeReferenceID(FUSED_FIXED, fixed.GetID())
    node.SetNodeReferenceID(FUSED_MOVING, moving.GetID())
    node.SetAttribute(OUTDATED, None)
    node.SetAttribute(FUSED, "{moving} and {fixed} fused by {model}; not acquired".format(**names))
    text = _(
        "Fused image: {moving} and {fixed} in one picture by {model}. Not acquired; for looking at, not for diagnosis."
    )
    node.SetDescription(text.format(**names))
    return node


def keep_fused(parameters, node, transform) -> None:
    """Make ``node`` the panel's fused volume, as seen through ``transform`` (None for none)."""
    node.SetNodeReferenceID(FUSED_TRANSFORM, transform.GetID() if transform is not None else None)
    parameters.fusedVolume = node


def outdate_fused(parameters, fixed, moving) -> None:
    """The pair has been registered and not fused: an earlier fused volume stays, but does not show this result."""
    node = _of_pair(parameters, fixed, moving)
    if node is not None:
        node.SetAttribute(OUTDATED, "1")


def tell_fusion(report: dict) -> str:
    """How the images were fused, and why so, of ``report["fusion"]``."""
    how = {"plane": _("as a plane"), "volume": _("as a volume"), "slices": _("slice by slice")}
    mode = report.get("mode")
    text = _("{how}: {reason} (weights {weights})")
    return text.format(how=how.get(mode, mode), reason=report.get("reason"), weights=report.get("weights"))


class FusionImporter:
    """Turns a fusion of its own into a volume. Made when it starts, so that it knows what it was about.

    Args:
        parameters: the panel's parameter node.
        transform: the transform node through which the moving volume is seen, None for none.
    """

    def __init__(self, parameters, transform, model_title: str) -> None:
        self._parameters, self._title = parameters, model_title
        self._volume_ids = [volume.GetID() for volume in (parameters.fixedVolume, parameters.movingVolume)]
        self._transform_id = transform.GetID() if transform is not None else ""
        self._transform_name = transform.GetName() if transform is not None else ""

    def what_is_gone(self) -> str:
        """What of the fusion was removed since it started, as the beginning of a sentence; empty if nothing was."""
        if any(slicer.mrmlScene.GetNodeByID(identity) is None for identity in self._volume_ids):
            return _("the fixed or the moving volume was removed meanwhile")
        if self._transform_id and slicer.mrmlScene.GetNodeByID(self._transform_id) is None:
            return _("the transform “{name}” was removed meanwhile").format(name=self._transform_name)
        return ""

    def load(self, result: dict, folder):
        """Take over what the worker sent and return the volume node.

        Raises:
            ValueError: there is no image, or the inputs are gone; with one sentence for the user.
        """
        gone = self.what_is_gone()
        if gone:
            raise ValueError(gone)
        fused = read_fused(result, folder)
        if fused is None:
            raise ValueError(_("the worker sent no image"))
        added = []
        try:
            volumes = [slicer.mrmlScene.GetNodeByID(identity) for identity in self._volume_ids]
            node = fill_fused(self._parameters, fused, *volumes, self._title, added)
        except Exception:
            for node in added:
                slicer.mrmlScene.RemoveNode(node)  # and its display node
            raise
        transform = slicer.mrmlScene.GetNodeByID(self._transform_id) if self._transform_id else None
        keep_fused(self._parameters, node, transform)
        return node


def _of_pair(parameters, fixed, moving):
    """The panel's fused volume if it is of these two volumes."""
    node = parameters.fusedVolume
    if node is None or not node.GetAttribute(FUSED) or fixed is None or moving is None:
        return None
    own = node.GetNodeReference(FUSED_FIXED) is fixed and node.GetNodeReference(FUSED_MOVING) is moving
    return node if own else None


def _earlier(parameters, kind: str, fixed, moving):
    """The fused volume of an earlier run of the same pair, unless it is of another kind or has another part now."""
    node = _of_pair(parameters, fixed, moving)
    if node is None or node.GetClassName() != kind:
        return None
    taken = [fixed, moving, parameters.outputVolume if parameters.createVolume else None]
    return None if any(node is other for other in taken) else node
