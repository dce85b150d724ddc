"""The module `qt`: every class of Qt's modules under one name, wrapped when first asked for."""

from __future__ import annotations

import types

from PySide6 import QtCore, QtGui, QtNetwork, QtPrintSupport, QtSvg, QtUiTools, QtWidgets, QtXml

from .qt_adapter import wrapper_class

_MODULES = (QtWidgets, QtGui, QtCore, QtNetwork, QtSvg, QtPrintSupport, QtXml, QtUiTools)
# PySide6 has these, PythonQt's `qt` module has not: code that uses them fails in Slicer.
_ABSENT = {"Slot", "Property", "Signal", "SIGNAL", "SLOT", "QEnum", "QFlag", "ClassInfo", "Shiboken", "Qt_"}


class QtModule(types.ModuleType):
    """Classes are made on demand and kept."""

    def __getattr__(self, name: str):
        if not name.startswith("_") and name not in _ABSENT:
            for module in _MODULES:
                value = getattr(module, name, None)
                if value is None:
                    continue
                value = wrapper_class(value) if isinstance(value, type) else value
                setattr(self, name, value)
                return value
        raise AttributeError(f"module 'qt' has no attribute '{name}'")


def make_module() -> QtModule:
    """The `qt` module, with the loader that knows the host's own widgets."""
    from .ui_loader import QUiLoader

    module = QtModule("qt", "Qt as PythonQt shows it inside Slicer")
    module.QUiLoader = wrapper_class(QUiLoader)
    module.QSettings = wrapper_class(QtCore.QSettings)
    return module
