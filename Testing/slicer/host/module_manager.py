"""slicer.modules and slicer.app.moduleManager(): loads scripted modules from their files, as developer mode does."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from .errors import record
from .mrml_widgets import qMRMLWidget
from .native_property import stored
from .qt_adapter import wrap


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The C++ side of a panel: owns the Python widget (`self()`)."""

    def __init__(self, module):
        super().__init__()
        self._module, self._python = module, None
        self._entered = False
        self.setObjectName(f"{module._name}ModuleWidget")

    def _build(self) -> None:
        import slicer

        self.setLayout(QtWidgets.QVBoxLayout())
        self.setMRMLScene(slicer.mrmlScene)
        python_module = sys.modules[self._module._name]
        widget_class = getattr(python_module, self._module._name + "Widget")
        # Slicer prints what the constructor and setup raise and shows an empty panel; a test must see it.
        self._python = widget_class(wrap(self))
        setattr(slicer.modules, self._module._name + "Widget", self._python)
        self._python.setup()

    def self(self):
        return self._python

    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def enter(self) -> None:
        if not self._entered:
            self._entered = True
            self.show()
            self._call("enter")

    def exit(self) -> None:
        if self._entered:
            self._entered = False
            self._call("exit")
            self.hide()

    def _call(self, name: str) -> None:
        method = getattr(self._python, name, None)
        if method is not None:
            try:
                method()
            except Exception as error:
                record(error)


class qSlicerScriptedLoadableModule(QtCore.QObject):
    """The C++ side of a module: what the Python class writes its metadata onto."""

    title = stored(str, "", "title")
    categories = stored("QStringList", [], "categories")
    dependencies = stored("QStringList", [], "dependencies")
    contributors = stored("QStringList", [], "contributors")
    helpText = stored(str, "", "helpText")
    acknowledgementText = stored(str, "", "acknowledgementText")
    icon = stored(QtGui.QIcon, QtGui.QIcon(), "icon")
    hidden = stored(bool, False, "hidden")
    index = stored(int, -1, "index")
    widgetRepresentationCreationEnabled = stored(bool, True, "widgetRepresentationCreationEnabled")

    def __init__(self, name: str, path: str):
        super().__init__()
        self._name, self._path, self._widget, self._logic = name, path, None, None

    name = QtCore.Property(str, lambda self: self._name)
    path = QtCore.Property(str, lambda self: self._path)

    def createNewWidgetRepresentation(self):
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget._build()
        return widget

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def logic(self):
        """The C++ logic of a scripted module does nothing."""
        import slicer

        if self._logic is None:
            self._logic = slicer.vtkSlicerScriptedLoadableModuleLogic()
            self._logic.SetMRMLScene(slicer.mrmlScene)
        return self._logic

    def _close_widget(self) -> None:
        """exit(), cleanup(), and the panel is gone."""
        if self._widget is None:
            return
        widget, self._widget = self._widget, None
        widget.exit()
        self.parent().moduleAboutToBeUnloaded.emit(self._name)
        widget.close()
        widget.deleteLater()


class _CoreModule(QtCore.QObject):
    """A C++ module: only its logic."""

    def __init__(self, name: str, logic):
        super().__init__()
        self._name, self._core_logic = name, logic

    name = QtCore.Property(str, lambda self: self._name)

    def logic(self):
        return self._core_logic

    def widgetRepresentation(self):
        return None


class _FactoryManager(QtCore.QObject):
    def __init__(self, manager):
        super().__init__(manager)
        self._manager = manager

    def loadedModuleNames(self) -> list[str]:
        return sorted(self._manager._modules)

    def isLoaded(self, name: str) -> bool:
        return name in self._manager._modules


class qSlicerModuleManager(QtCore.QObject):
    """Knows the loaded modules."""

    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleUnloaded = QtCore.Signal(str)
    modulesLoaded = QtCore.Signal("QStringList")
    host_signals = {"modulesLoaded(QStringList)": "modulesLoaded"}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._modules: dict[str, QtCore.QObject] = {}
        self._factory = _FactoryManager(self)
        self._python: dict[str, object] = {}

    def factoryManager(self):
        return self._factory

    def module(self, name: str):
        return self._modules.get(name)

    def add_core_module(self, name: str, logic) -> None:
        self._add(name, _CoreModule(name, logic))

    def load_scripted(self, name: str, path: Path):
        """Import the file under the module's name and instantiate the module class."""
        import slicer

        if name in self._modules:
            return self._modules[name]
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        specification = importlib.util.spec_from_file_location(name, path)
        python_module = importlib.util.module_from_spec(specification)
        sys.modules[name] = python_module
        try:
            specification.loader.exec_module(python_module)
            module = qSlicerScriptedLoadableModule(name, str(path))
            module.setParent(self)
            instance = getattr(python_module, name)(wrap(module))
        except BaseException:
            del sys.modules[name]
            raise
        self._python[name] = instance
        setattr(slicer.modules, name + "Instance", instance)
        self._add(name, module)
        return module

    def _add(self, name: str, module) -> None:
        import slicer

        module.setParent(self)
        self._modules[name] = module
        setattr(slicer.modules, name.lower(), wrap(module))
        self.moduleLoaded.emit(name)


def make_modules_namespace() -> types.ModuleType:
    """`slicer.modules`."""
    return types.ModuleType("slicer.modules", "Loaded modules by their lower case name")
