"""The history of a scene's registrations: one node per result, which says what it is of and how it was made.

All modules of RegNet share it. An entry is a hidden node with references to the result's transform and to its volumes,
so that it is saved with the scene and finds them again under other identities; the rest is JSON in an attribute.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time

import slicer
from regnet.errors import ModelError
from regnet.models import get_info
from slicer.i18n import tr as _

from .history_picture import make_picture
from .result_nodes import FIXED, MOVING, report_of

ENTRY, PICTURE = "RegNet.HistoryEntry", "RegNet.HistoryPicture"
"""Attributes of an entry: JSON, and a PNG file in base 64."""
TRANSFORM, FIXED_VOLUME, MOVING_VOLUME = "RegNetHistoryTransform", "RegNetHistoryFixed", "RegNetHistoryMoving"
MASKS = {
    "fixedMask": "RegNetHistoryFixedMask",
    "movingMask": "RegNetHistoryMovingMask",
    "region": "RegNetHistoryRegion",
}
"""Parameters that are nodes -> role of the entry's reference to them."""
PLAIN = ("refineSteps", "seed", "fixedMaskSegment", "movingMaskSegment", "regionSegment", "regionTaper")
"""Parameters that are numbers or names."""
"""Settings that are nodes, and the node references that keep them."""
NUMBERS = ("similarity_metric", "similarity_before", "similarity_after", "folding_percent", "sdlogj")


class Entry:
    """One result of the history. What an unreadable node does not say is empty."""

    def __init__(self, node) -> None:
        self.node = node
        try:
            kept = json.loads(node.GetAttribute(ENTRY) or "{}")
        except ValueError:
            kept = {}
        self._kept = kept if isinstance(kept, dict) else {}

    @property
    def number(self) -> int:
        """Counts the scene's runs from 1 on."""
        return int(self._kept.get("number", 0))

    @property
    def time(self) -> float:
        """When it was made, in seconds since the epoch."""
        return float(self._kept.get("time", 0.0))

    @property
    def title(self) -> str:
        """What the model is called."""
        return str(self._kept.get("title", ""))

    @property
    def settings(self) -> dict:
        """What :func:`settings_of` gave."""
        return self._kept.get("settings") or {}

    @property
    def seconds(self) -> float | None:
        return self._kept.get("seconds")

    @property
    def numbers(self) -> dict:
        """Those of :data:`NUMBERS` that the run reported."""
        return self._kept.get("numbers") or {}

    @property
    def transform(self):
        return self.node.GetNodeReference(TRANSFORM)

    @property
    def fixed(self):
        return self.node.GetNodeReference(FIXED_VOLUME)

    @property
    def moving(self):
        return self.node.GetNodeReference(MOVING_VOLUME)

    def pair(self) -> tuple[str, str]:
        """Names of the moving and of the fixed volume, as they are called now or, once gone, were called then."""
        names = self._kept.get("names") or ["", ""]
        moving, fixed = self.moving, self.fixed
        return (moving.GetName() if moving else names[0]), (fixed.GetName() if fixed else names[1])

    def picture(self) -> bytes:
        """The thumbnail as a PNG file; empty for none."""
        try:
            return base64.b64decode(self.node.GetAttribute(PICTURE) or "", validate=True)
        except binascii.Error:
            return b""

    def what_is_gone(self) -> str:
        """What of it was removed from the scene; empty if all is there."""
        if self.transform is None:
            return _("its transform was removed")
        if self.fixed is None or self.moving is None:
            return _("a volume of its pair was removed")
        return ""


def entries() -> list[Entry]:
    """The scene's history, the oldest entry first."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return sorted((Entry(node) for node in nodes if node.GetAttribute(ENTRY)), key=lambda entry: entry.time)


def entry_of(transform) -> Entry | None:
    """The entry of a transform node, the last one if several have it."""
    return next((entry for entry in reversed(entries()) if entry.transform is transform), None)


def settings_of(parameters, model: str, values: dict) -> dict:
    """How a run is asked for, without the pair: as :func:`add_entry` keeps it.

    Args:
        parameters: a panel's parameter node, or what stands for one.
        values: the model's own parameters.
    """
    return {
        "model": model,
        "values": values,
        "alignment": parameters.alignment.value,
        "refinement": parameters.refinement.value,
        "device": parameters.device.value,
        **{name: getattr(parameters, name) for name in PLAIN},
        **{name: node.GetID() for name in MASKS if (node := getattr(parameters, name)) is not None},
    }


def add_entry(transform, settings: dict) -> Entry:
    """A new entry for a result.

    Args:
        transform: its node, which knows its volumes and carries the report.
        settings: what :func:`settings_of` gave.
    """
    report, picture = report_of(transform), _picture(transform)
    fixed, moving = transform.GetNodeReference(FIXED), transform.GetNodeReference(MOVING)
    number = 1 + max((entry.number for entry in entries()), default=0)
    kept = {
        "number": number,
        "time": time.time(),
        "title": _title(str(report.get("model") or settings["model"])),
        "settings": {name: value for name, value in settings.items() if name not in MASKS},
        "seconds": (report.get("time_s") or {}).get("total"),
        "numbers": {name: report[name] for name in NUMBERS if report.get(name) is not None},
        "names": [moving.GetName(), fixed.GetName()],
    }
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
    node.SetName(_("RegNet run {number}").format(number=number))
    node.SetHideFromEditors(True)
    node.SetAttribute(ENTRY, json.dumps(kept))
    if picture:
        node.SetAttribute(PICTURE, base64.b64encode(picture).decode("ascii"))
    slicer.mrmlScene.AddNode(node)
    node.UnRegister(None)
    for role, other in ((TRANSFORM, transform), (FIXED_VOLUME, fixed), (MOVING_VOLUME, moving)):
        node.SetNodeReferenceID(role, other.GetID())
    for name, role in MASKS.items():
        node.SetNodeReferenceID(role, settings.get(name))
    return Entry(node)


def hand_over(old, new) -> None:
    """The entries of transform node ``old`` are ``new``'s from now on."""
    for entry in entries():
        if entry.transform is old:
            entry.node.SetNodeReferenceID(TRANSFORM, new.GetID())


def _picture(transform) -> bytes:
    try:
        return make_picture(transform.GetNodeReference(FIXED), transform.GetNodeReference(MOVING), transform)
    except Exception:  # a result is not to be lost for want of its picture
        logging.exception("RegNet could not draw the thumbnail of a result")
        return b""


def _title(model: str) -> str:
    try:
        return get_info(model).title
    except ModelError:  # of another version of RegNet
        return model
