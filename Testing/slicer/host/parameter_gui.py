"""Which widget can show which parameter type, and how (as slicer.parameterNodeWrapper's connectors do)."""

from __future__ import annotations

import enum
import pathlib
import typing

from .parameter_types import (
    Choice,
    Decimals,
    FloatRange,
    Maximum,
    Minimum,
    RangeBounds,
    SingleStep,
    WithinRange,
    findFirstAnnotation,
    splitAnnotations,
    unannotatedType,
)


class GuiConnector:
    """Reads and writes one widget; `changed` is the signal that tells of the user's change."""

    def __init__(self, widget, signal: str, read, write):
        self._widget, self._signal, self.read, self._write = widget, signal, read, write
        self._callback = None

    def widget(self):
        return self._widget

    def write(self, value) -> None:
        self._write(value)

    def onChanged(self, callback) -> None:
        if self._callback is not None:
            getattr(self._widget, self._signal).disconnect(self._changed)
        self._callback = callback
        if callback is not None:
            getattr(self._widget, self._signal).connect(self._changed)

    def _changed(self) -> None:
        if self._callback:
            self._callback()


def _attribute(widget, signal: str, name: str, convert=lambda value: value, show=lambda value: value) -> GuiConnector:
    return GuiConnector(
        widget, signal, lambda: convert(getattr(widget, name)), lambda value: setattr(widget, name, show(value))
    )


def _apply_hints(widget, annotations) -> None:
    for kind, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
        hint = findFirstAnnotation(annotations, kind)
        if hint is not None:
            setattr(widget, name, hint.value)


def _number(widget, annotations, bounded: bool, lowest, highest) -> GuiConnector:
    _apply_hints(widget, annotations)
    within = findFirstAnnotation(annotations, WithinRange)
    low, high = within or findFirstAnnotation(annotations, Minimum), within or findFirstAnnotation(annotations, Maximum)
    if bounded and (low is None or high is None):
        raise RuntimeError(
            f"Cannot connect {type(widget).__name__} '{widget.name}' to an unbounded number: add WithinRange"
        )
    widget.setRange(low.minimum if low else lowest, high.maximum if high else highest)
    return _attribute(widget, "valueChanged", "value")


def _choices(widget, values, labels) -> GuiConnector:
    widget.clear()
    widget.addItems(labels)

    def write(value) -> None:
        if value not in values:
            raise ValueError(f"Unable to find value {value} in choices {values}")
        widget.currentIndex = values.index(value)

    return GuiConnector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _combo(widget, kind, annotations) -> GuiConnector:
    if issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda entry: entry.name)
        return _choices(widget, list(kind), [label(entry) for entry in kind])
    choice = findFirstAnnotation(annotations, Choice)
    if choice is None:
        raise RuntimeError(f"A QComboBox can show a {kind.__name__} only with the Choice annotation")
    return _choices(widget, list(choice.choices), [str(entry) for entry in choice.choices])


def _range(widget, annotations) -> GuiConnector:
    _apply_hints(widget, annotations)
    bounds = findFirstAnnotation(annotations, RangeBounds)
    if bounds is None:
        raise RuntimeError(
            "Cannot have a connection to ctkRangeWidget where the float is unbounded. Add a RangeBounds annotation."
        )
    widget.setRange(bounds.minimum, bounds.maximum)
    read = lambda: FloatRange(widget.minimumValue, widget.maximumValue)  # noqa: E731
    return GuiConnector(widget, "valuesChanged", read, lambda value: widget.setValues(value.minimum, value.maximum))


def node_types(kind) -> list[str]:
    """The MRML class names of a node type or of a Union of node types; empty for anything else."""
    import slicer

    kinds = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else [kind]
    plain = [unannotatedType(entry) for entry in kinds]
    nodes = [entry for entry in plain if isinstance(entry, type) and issubclass(entry, slicer.vtkMRMLNode)]
    return [entry.__name__ for entry in nodes] if all(entry in nodes or entry is type(None) for entry in plain) else []


def _node(widget, kind) -> GuiConnector:
    widget.nodeTypes = node_types(kind)
    return GuiConnector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def create_gui_connector(widget, annotated) -> GuiConnector:
    """The connector for a widget and a (possibly annotated) type; RuntimeError where Slicer has none."""
    kind, notes = splitAnnotations(annotated)
    name = type(widget).__name__
    is_type = isinstance(kind, type)
    if name == "QCheckBox" and kind is bool:
        return _attribute(widget, "stateChanged", "checked")
    if name == "QPushButton" and kind is bool:
        widget.checkable = True
        return _attribute(widget, "toggled", "checked")
    if name in ("QSlider", "QSpinBox") and kind is int:
        return _number(widget, notes, name == "QSlider", -(2**31), 2**31 - 1)
    if name in ("QDoubleSpinBox", "ctkSliderWidget") and kind is float:
        return _number(widget, notes, name == "ctkSliderWidget", float("-inf"), float("inf"))
    if name == "QComboBox" and is_type and (kind in (int, float, str, bool) or issubclass(kind, enum.Enum)):
        return _combo(widget, kind, notes)
    if name == "QLineEdit" and kind is str:
        return _attribute(widget, "textChanged", "text")
    if name == "QTextEdit" and kind is str:
        return GuiConnector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if name == "QLabel" and kind is str:
        return GuiConnector(widget, "destroyed", lambda: widget.text, widget.setText)
    if name == "ctkRangeWidget" and kind is FloatRange:
        return _range(widget, notes)
    if name in ("ctkPathLineEdit", "ctkDirectoryButton") and is_type and issubclass(kind, pathlib.PurePath):
        signal, key = (
            ("currentPathChanged", "currentPath") if name == "ctkPathLineEdit" else ("directoryChanged", "directory")
        )
        return _attribute(widget, signal, key, kind, str)
    if name == "qMRMLNodeComboBox" and node_types(kind):
        return _node(widget, kind)
    raise RuntimeError(
        f"Unable to create GUI connector from datatype '{annotated}' to widget type '{name}' ('{widget.name}')"
    )
