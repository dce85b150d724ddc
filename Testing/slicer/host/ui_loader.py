"""QUiLoader with Slicer's custom widgets, which refuses what Slicer would let pass in silence."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import errors, qt_signals

# Class name → native class; ctk_widgets and mrml_widgets fill it.
custom_widgets: dict[str, type] = {}


def register(native_class: type) -> type:
    """Class decorator: a native widget class that .ui files may name."""
    custom_widgets[native_class.__name__] = native_class
    return native_class


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file; connections and enum properties of custom widgets are applied by the host itself."""

    def createWidget(self, class_name: str, parent=None, name: str = ""):
        if class_name in custom_widgets:
            widget = custom_widgets[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)

    def load(self, device, parent=None):
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        _check_classes(self, tree)
        late = _take_out_custom_enums(tree)
        connections = _take_out_connections(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree, encoding="utf-8"))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(f"The .ui file cannot be loaded: {self.errorString()}")
        _check_properties(tree, widget)
        for name, key, value in late:
            child = _find(widget, name)
            child.setProperty(key, value)
        for sender, signal, receiver, slot in connections:
            _connect(widget, sender, signal, receiver, slot)
        return widget


def _check_classes(loader, tree) -> None:
    known = set(loader.availableWidgets()) | set(custom_widgets) | {"Line"}
    for element in tree.iter("widget"):
        if element.get("class") not in known:
            raise errors.HostGapError(
                f"The .ui file names the widget class {element.get('class')}, which neither Qt nor this host has"
            )


def _take_out_connections(tree):
    found = tree.find("connections")
    if found is None:
        return []
    tree.remove(found)
    return [
        tuple(c.findtext(key) for key in ("sender", "signal", "receiver", "slot")) for c in found.iter("connection")
    ]


def _take_out_custom_enums(tree):
    """`<set>ctkPathLineEdit::Dirs</set>`: PySide6 cannot declare such enum types, so the names are kept as text."""
    late = []
    for element in tree.iter("widget"):
        if element.get("class") not in custom_widgets:
            continue
        own = custom_widgets[element.get("class")]
        for entry in list(element.findall("property")):
            value = next(iter(entry))
            if (
                value.tag in ("set", "enum")
                and not hasattr(QtWidgets.QFrame, entry.get("name"))
                and entry.get("name") in vars(own)
            ):
                element.remove(entry)
                late.append((element.get("name"), entry.get("name"), value.text))
    return late


def _find(root, name: str):
    if root.objectName() == name:
        return root
    found = root.findChild(QtCore.QObject, name)
    if found is None:
        raise ValueError(f"The .ui file connects '{name}', which it does not contain")
    return found


def _check_properties(tree, root) -> None:
    """A misspelt property would become a dynamic one without a word."""
    for element in tree.iter("widget"):
        widget = _find(root, element.get("name"))
        meta = type(widget).staticMetaObject
        for entry in element.findall("property"):
            dynamic = entry.get("stdset") == "0"
            if not dynamic and meta.indexOfProperty(entry.get("name")) < 0:
                raise errors.HostGapError(
                    f"{element.get('class')} '{element.get('name')}' has no property '{entry.get('name')}' in this host"
                )


def _connect(root, sender: str, signal: str, receiver: str, slot: str) -> None:
    from .qt_adapter import wrap

    target = wrap(_find(root, receiver))
    name = slot.split("(")[0]
    if not hasattr(target, name):
        raise errors.UnknownSignalError(
            f"The .ui file connects {signal} of {sender} to {receiver}.{slot}, which {receiver} does not have"
        )
    qt_signals.connect(_find(root, sender), signal, getattr(target, name))
