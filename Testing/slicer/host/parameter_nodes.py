"""slicer.parameterNodeWrapper: typed, persistent, observable access to a module's parameter node."""

from __future__ import annotations

import types
import typing

from . import parameter_types
from .parameter_gui import GuiConnector, create_gui_connector
from .parameter_serializers import make_serializer
from .parameter_types import Default, findFirstAnnotation, splitAnnotations

PROPERTY = "SlicerParameterName"
_PUBLIC = (
    "Choice", "Decimals", "Default", "Exclude", "FloatRange", "IsInstance", "Maximum", "Minimum", "NotNone",
    "RangeBounds", "SingleStep", "Validator", "WithinRange",
    "findFirstAnnotation", "splitAnnotations", "unannotatedType",
)  # fmt: skip


class _Parameter:
    """One annotated member: a data descriptor over the parameter node."""

    def __init__(self, owner: type, name: str, annotated):
        self.name, self.annotated = name, annotated
        self.serializer = make_serializer(annotated)
        if name in owner.__dict__:
            self.default = Default(owner.__dict__[name])
        else:
            self.default = findFirstAnnotation(splitAnnotations(annotated)[1], Default) or Default(
                generator=self.serializer.default
            )

    def __get__(self, instance, owner=None):
        return self if instance is None else self.serializer.read(instance.parameterNode, self.name)

    def __set__(self, instance, value) -> None:
        import slicer

        self.serializer.validate(value)
        with slicer.util.NodeModify(instance.parameterNode):
            self.serializer.write(instance.parameterNode, self.name, value)


class _Wrapped:
    """The methods that Slicer adds to a decorated class."""

    def __init__(self, parameterNode, prefix=None):
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, GuiConnector]] = {}
        self._next_tag = 0
        self._updating = False
        self._observers: dict[int, int] = {}
        for parameter in self.allParameters.values():
            if not parameter.serializer.isIn(parameterNode, parameter.name):
                setattr(self, parameter.name, parameter.default.value)

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(
                f"Cannot find a param with the given name: {name}; there are {', '.join(self.allParameters)}"
            )
        return self.allParameters[name]

    def default(self, name: str):
        return self._parameter(name).default

    def dataType(self, name: str):
        return self._parameter(name).annotated

    def isCached(self, name: str) -> bool:
        self._parameter(name)
        return True

    def getValue(self, name: str):
        self._parameter(name)
        return getattr(self, name)

    def setValue(self, name: str, value) -> None:
        self._parameter(name)
        setattr(self, name, value)

    def connectGui(self, gui) -> int:
        """Bind every widget that carries the property; `gui` is a widget or what childWidgetVariables made."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(gui.__dict__.values())
        named = {widget.property(PROPERTY): widget for widget in widgets if widget.property(PROPERTY)}
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping) -> int:
        import vtk

        connectors = {
            name: value if isinstance(value, GuiConnector) else create_gui_connector(value, self.dataType(name))
            for name, value in mapping.items()
        }
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(lambda name=name, connector=connector: self._gui_changed(name, connector))
        self._observers[tag] = self.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda _caller, _event: self._update_gui()
        )
        return tag

    def disconnectGui(self, tag: int) -> None:
        for connector in self._guis.pop(tag, {}).values():
            connector.onChanged(None)
        if tag in self._observers:
            self.RemoveObserver(self._observers.pop(tag))

    def _gui_changed(self, name: str, connector: GuiConnector) -> None:
        if not self._updating:
            self.setValue(name, connector.read())

    def _update_gui(self) -> None:
        import slicer

        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                for connectors in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, was_modifying):
        return self.parameterNode.EndModify(was_modifying)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        return self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        return self.parameterNode.Modified()


def _process(cls: type) -> type:
    hints = typing.get_type_hints(cls, include_extras=True)
    for name in hints:
        if hasattr(_Wrapped, name) or name == "parameterNode":
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    parameters = {name: _Parameter(cls, name, annotated) for name, annotated in hints.items()}
    for name, value in vars(_Wrapped).items():
        if isinstance(value, types.FunctionType):
            setattr(cls, name, value)
    for name, parameter in parameters.items():
        setattr(cls, name, parameter)
    cls.allParameters = parameters
    cls._is_parameter_node_wrapper = True
    return cls


def parameterNodeWrapper(cls=None):
    """Class decorator, with or without parentheses."""
    return _process if cls is None else _process(cls)


def isParameterNodeWrapper(thing) -> bool:
    return getattr(thing, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter: str):
    """The child widget bound to a parameter."""
    import qt

    return next((child for child in widget.findChildren(qt.QWidget) if child.property(PROPERTY) == parameter), None)


def make_module() -> types.ModuleType:
    """slicer.parameterNodeWrapper."""
    module = types.ModuleType("slicer.parameterNodeWrapper", "Typed parameter nodes")
    for name in _PUBLIC:
        setattr(module, name, getattr(parameter_types, name))
    module.SlicerParameterNamePropertyName = PROPERTY
    for function in (parameterNodeWrapper, isParameterNodeWrapper, findChildWidgetForParameter):
        setattr(module, function.__name__, function)
    module.createGuiConnector, module.GuiConnector = create_gui_connector, GuiConnector
    return module
