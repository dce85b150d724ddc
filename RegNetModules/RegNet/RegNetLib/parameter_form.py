"""A model's own parameters as widgets: those of the module's .ui file, else made from their description.

Ranges, defaults and choices always come from the model's ``Parameters`` class, so that they are written down once.
"""

from __future__ import annotations

import ctk
import qt
from slicer.i18n import tr as _

from .connections import Connections

WIDE_RANGE = 50.0
"""From here on a number goes in steps of one, below in tenths."""


class ParameterForm:
    """Reads and shows the values of one model's parameters.

    Args:
        descriptions: one dictionary per parameter, from ``Parameters.describe()``.
        widgets: parameter name -> widget, from a .ui file; None makes the widgets.
        on_changed: called without arguments when the user changes a value.
    """

    def __init__(self, descriptions: list[dict], widgets: dict | None, on_changed) -> None:
        self._fields = {}
        self._on_changed = on_changed
        self._showing = False
        self._connections = Connections()
        self.widget = None
        if widgets is None:
            self.widget, widgets = _made_widgets(descriptions)
        for description in descriptions:
            widget = widgets[description["name"]]
            field = _field(widget, description)
            self._connections.add(widget, field.signal, self._changed)
            self._fields[description["name"]] = field

    def values(self) -> dict:
        return {name: field.read() for name, field in self._fields.items()}

    def show(self, values: dict) -> None:
        """Show ``values``; a parameter that is not among them gets its default."""
        self._showing = True
        try:
            for name, field in self._fields.items():
                field.write(values.get(name, field.default))
        finally:
            self._showing = False

    def defaults(self) -> dict:
        return {name: field.default for name, field in self._fields.items()}

    def close(self) -> None:
        """Let go of the widgets, and of those that were made here for good."""
        self._connections.close()
        if self.widget is not None:
            self.widget.visible = False  # at once; the deletion comes with the next round of the event loop
            self.widget.deleteLater()
            self.widget = None

    def _changed(self, *_arguments) -> None:
        if not self._showing:
            self._on_changed()


class _NumberField:
    """A spin box or slider. Whole numbers stay whole."""

    def __init__(self, widget, description: dict) -> None:
        self._widget, self.default, self._type = widget, description["default"], type(description["default"])
        self.signal = "valueChanged(int)" if widget.className() == "QSpinBox" else "valueChanged(double)"
        low, high = description["minimum"], description["maximum"]
        if self._type is float:
            wide = low is not None and high is not None and high - low > WIDE_RANGE
            widget.decimals, widget.singleStep = (1, 1.0) if wide else (2, 0.1)
        widget.minimum = self._type(low if low is not None else 0)
        widget.maximum = self._type(high if high is not None else 100_000)
        widget.value = self.default

    def read(self):
        return self._type(self._widget.value)

    def write(self, value) -> None:
        self._widget.value = self._type(value)


class _ChoiceField:
    signal = "currentIndexChanged(int)"

    def __init__(self, widget, description: dict) -> None:
        self._widget, self.default = widget, description["default"]
        self._choices = list(description["choices"])
        shown = [widget.itemText(index) for index in range(widget.count)]
        if len(shown) != len(self._choices):  # a .ui file may give friendlier words, in the same order
            widget.clear()
            widget.addItems(self._choices)
        self.write(self.default)

    def read(self) -> str:
        return self._choices[self._widget.currentIndex]

    def write(self, value: str) -> None:
        self._widget.currentIndex = self._choices.index(value) if value in self._choices else 0


class _SwitchField:
    signal = "toggled(bool)"

    def __init__(self, widget, description: dict) -> None:
        self._widget, self.default = widget, description["default"]
        widget.checked = self.default

    def read(self) -> bool:
        return bool(self._widget.checked)

    def write(self, value) -> None:
        self._widget.checked = bool(value)


class _TextField:
    signal = "textChanged(QString)"

    def __init__(self, widget, description: dict) -> None:
        self._widget, self.default = widget, description["default"]
        widget.text = self.default

    def read(self) -> str:
        return self._widget.text

    def write(self, value) -> None:
        self._widget.text = str(value)


def _field(widget, description: dict):
    if description["choices"]:
        return _ChoiceField(widget, description)
    return {"bool": _SwitchField, "int": _NumberField, "float": _NumberField}.get(description["type"], _TextField)(
        widget, description
    )


def _made_widgets(descriptions: list[dict]):
    """A widget with a form, advanced parameters folded, and the widgets by parameter name."""
    outer = qt.QWidget()
    form = qt.QFormLayout(outer)
    form.setContentsMargins(0, 0, 0, 0)
    advanced = ctk.ctkCollapsibleButton()
    advanced.text = _("Advanced")
    advanced.collapsed = True
    advanced_form = qt.QFormLayout(advanced)
    widgets = {}
    for description in descriptions:
        widget = _made_widget(description)
        widget.toolTip = _tool_tip(description)
        widgets[description["name"]] = widget
        (advanced_form if description["advanced"] else form).addRow(_row_label(description), widget)
    if any(description["advanced"] for description in descriptions):
        form.addRow(advanced)
    else:
        advanced.deleteLater()
    return outer, widgets


def _made_widget(description: dict):
    if description["choices"]:
        return qt.QComboBox()
    if description["type"] == "bool":
        return qt.QCheckBox()
    if description["type"] == "int":
        return qt.QSpinBox()
    if description["type"] == "float":
        return ctk.ctkSliderWidget()
    return qt.QLineEdit()


def _row_label(description: dict) -> str:
    unit = description["unit"]
    return f"{description['label']} ({unit}):" if unit else f"{description['label']}:"


def _tool_tip(description: dict) -> str:
    return _("{help} Default: {default}.").format(
        help=description["help"], default=" ".join(filter(None, [str(description["default"]), description["unit"]]))
    )
