"""The module `ctk`: the widgets that this host has."""

from __future__ import annotations

import types

from . import ctk_buttons, ctk_inputs  # noqa: F401  (registers the widgets)
from .errors import HostGapError
from .qt_adapter import wrapper_class
from .ui_loader import custom_widgets


class CtkModule(types.ModuleType):
    """Classes are wrapped when first asked for."""

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(f"module 'ctk' has no attribute '{name}'")
        native = ctk_buttons.ctkWidgetsUtils if name == "ctkWidgetsUtils" else custom_widgets.get(name)
        if native is None or not name.startswith("ctk"):
            raise HostGapError(
                f"The host has no {name}: add it to ctk_buttons.py or ctk_inputs.py if CTK really has it"
            )
        setattr(self, name, wrapper_class(native))
        return getattr(self, name)


def make_module() -> CtkModule:
    return CtkModule("ctk", "CTK's widgets")
