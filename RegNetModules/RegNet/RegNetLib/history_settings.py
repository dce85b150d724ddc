"""The settings of an earlier run, put back into a panel."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from .history import MASKS, PLAIN, Entry
from .parameter_node import Alignment, Device, Refinement


def problem_of_settings(entry: Entry, model_section) -> str:
    """Why a panel cannot take the settings of an entry; empty if it can."""
    model = entry.settings.get("model", "")
    if not model_section.offers(model):
        return _("This panel does not offer {model}; open the module RegNet, which has all models.").format(
            model=entry.title or model
        )
    return ""


def put_back(entry: Entry, parameters, model_section) -> None:
    """Make an entry's settings the panel's; those that it does not know, or cannot read, stay as they are."""
    settings = entry.settings
    with slicer.util.NodeModify(parameters):
        model_section.put_back(settings["model"], settings.get("values") or {})
        for name, kind in (("alignment", Alignment), ("refinement", Refinement), ("device", Device)):
            if settings.get(name) in [choice.value for choice in kind]:
                setattr(parameters, name, kind(settings[name]))
        for name in PLAIN:
            if isinstance(settings.get(name), type(getattr(parameters, name))):
                setattr(parameters, name, settings[name])
        for name, role in MASKS.items():
            setattr(parameters, name, entry.node.GetNodeReference(role))
