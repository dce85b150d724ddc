"""Wraps PySide6 objects so that they behave as PythonQt shows Qt inside Slicer.

A wrapper holds one native object and finds properties, signals and methods through its QMetaObject: no class is listed
by hand. As in PythonQt: properties are attributes; wrapper classes do not inherit from each other
(`isinstance(button, qt.QWidget)` is False); a bare wrapper takes no new attribute, a Python subclass does; `exec` is
`exec_`; Qt methods take no keyword arguments.
"""

from __future__ import annotations

import enum
import functools
import pathlib
import types
import weakref

import shiboken6
from PySide6 import QtCore
from shiboken6 import Shiboken

from . import qt_calls, qt_signals
from .qt_properties import has_dynamic_property, meta_property, read_property, write_property
from .qt_shells import CACHE, shell_class

_classes: dict[type, type] = {}
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
_OPERATORS = [
    "__add__", "__sub__", "__mul__", "__truediv__", "__neg__", "__and__", "__or__", "__xor__", "__len__", "__getitem__",
    "__setitem__", "__contains__", "__lt__", "__le__", "__gt__", "__ge__", "__int__", "__iter__",
]  # fmt: skip


class EnumType:
    """An enum's type: callable with an int, without members: PythonQt's enums are unscoped (`qt.Qt.AlignLeft`)."""

    def __init__(self, native: type[enum.Enum], owner: str):
        self._native = native
        self._owner = owner

    def __call__(self, value: int):
        return self._native(int(value))

    def __getattr__(self, name: str):
        raise AttributeError(f"PythonQt's enums are unscoped: write qt.{self._owner}.{name}")


class Method:
    """A bound native method: unwraps what goes in, wraps what comes out."""

    __slots__ = ("_function", "_name", "_owner")

    def __init__(self, owner, name: str, function):
        self._owner, self._name, self._function = owner, name, function

    def __call__(self, *args, **kwargs):
        if kwargs:
            raise TypeError(f"{self._name}() takes no keyword arguments in PythonQt (got {', '.join(kwargs)})")
        check_alive(self._owner)
        return call_native(self._owner, self._name, self._function, args)

    def __eq__(self, other):
        return isinstance(other, Method) and other._owner is self._owner and other._name == self._name

    def __hash__(self):
        return hash((id(self._owner), self._name))


def call_native(owner, name: str, function, args):
    """Call `function`, unless it would open a modal dialog: then take the prepared answer."""
    answered, answer = qt_calls.modal_answer(owner, name, wrap)
    if answered:
        return answer
    return wrap(qt_calls.without_out_parameters(name, function(*[unwrap(value) for value in args])))


class WrapperMeta(type):
    """Class attributes (enums, static methods, unbound methods) come from the native class."""

    def __getattr__(cls, name: str):
        native = cls.__dict__.get("_native_class") or next(
            (k._native_class for k in cls.__mro__ if "_native_class" in k.__dict__), None
        )
        if native is None or name.startswith("_") or not hasattr(native, name):
            raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
        value = getattr(native, name)
        if isinstance(value, type) and issubclass(value, enum.Enum):
            return EnumType(value, native.__name__)
        if isinstance(value, type):
            return wrapper_class(value)
        if isinstance(value, QtCore.Signal | QtCore.Property):
            return value
        if callable(value):
            return lambda *args: call_native(native, name, value, args)
        return value

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        if "_native_class" in namespace or not bases:
            return
        # A Python subclass: let `super().closeEvent(event)` reach the native implementation.
        base = next(k for k in cls.__mro__ if "_native_class" in k.__dict__)
        for key, value in namespace.items():
            if isinstance(value, types.FunctionType) and not key.startswith("_") and hasattr(base._native_class, key):
                type.__setattr__(base, key, _native_method(base._native_class, key))


def _native_method(native_class: type, name: str):
    def method(self, *args):
        return wrap(getattr(native_class, name)(unwrap(self), *[unwrap(value) for value in args]))

    return method


class Wrapper(metaclass=WrapperMeta):
    """Base of every Qt class that `qt` and `ctk` offer, and of the MRML widgets."""

    __slots__ = ("__weakref__", "_native")

    def __init__(self, *args, **kwargs):
        if kwargs:
            raise TypeError(f"{type(self).__name__}() takes no keyword arguments in PythonQt (got {', '.join(kwargs)})")
        native = shell_class(type(self))(*[unwrap(value) for value in args])
        _bind(self, native)

    def __getattr__(self, name: str):
        if name.startswith("__") or name in ("_native", "_native_class"):
            raise AttributeError(name)
        native = check_alive(self)
        found = meta_property(native, name)
        if found is not None:
            return wrap(read_property(native, found))
        if qt_signals.has_signal(native, name):
            return qt_signals.SignalProxy(native, name)
        value = getattr(native, {"exec_": "exec"}.get(name, name), None) if name != "exec" else None
        if value is not None and not name.startswith("_"):
            if callable(value) and not isinstance(value, enum.Enum):
                return Method(native, name, value)
            return EnumType(value, type(self).__name__) if isinstance(value, type) else value
        return self._dynamic_or_child(native, name)

    def _dynamic_or_child(self, native, name: str):
        if has_dynamic_property(native, name):
            return wrap(native.property(name))
        children = native.children() if isinstance(native, QtCore.QObject) else []
        for child in children:
            if child.objectName() == name:
                return wrap(child)
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __setattr__(self, name: str, value):
        native = check_alive(self)
        found = meta_property(native, name)
        if found is not None:
            plain = list(value) if isinstance(value, tuple) else value
            write_property(native, found, unwrap(plain), type(self).__name__)
        elif qt_signals.has_signal(native, name) or (hasattr(native, name) and not name.startswith("_")):
            raise AttributeError(f"'{name}' can not be overwritten on {type(self).__name__} object")
        elif has_dynamic_property(native, name):
            native.setProperty(name, unwrap(value))
        elif "_native_class" in type(self).__dict__:
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} "
                "and creating new attributes on C++ objects is not allowed"
            )
        else:
            object.__setattr__(self, name, value)

    def __eq__(self, other):
        if other is None:
            return not shiboken6.isValid(self._native)
        if not isinstance(other, Wrapper):
            return NotImplemented
        return self._native is other._native or (
            not isinstance(self._native, QtCore.QObject) and bool(self._native == other._native)
        )

    def __hash__(self):
        return hash(self._native)

    def __bool__(self):
        return shiboken6.isValid(self._native)

    def __repr__(self):
        return f"{type(self).__name__} ({self._native!r})"

    def connect(self, *args) -> bool:
        """`connect(signature, callable)` or `connect(signature, receiver, slot)`; a misspelt signature raises."""
        return qt_signals.connect(check_alive(self), *args)

    def disconnect(self, *args) -> bool:
        """Undo `connect` with the same arguments, or every connection of a signature."""
        return qt_signals.disconnect(check_alive(self), *args)

    def className(self) -> str:
        return type(self).__name__

    def inherits(self, class_name: str) -> bool:
        native = check_alive(self)
        return native.inherits(class_name) or class_name in [k.__name__ for k in type(native).__mro__]

    def delete(self) -> None:
        shiboken6.delete(check_alive(self))

    def findChildren(self, kind, name: str = "") -> list:
        """All descendants of a class (a wrapper class or a class name)."""
        wanted = kind if isinstance(kind, str) else kind._native_class.__name__
        found = check_alive(self).findChildren(QtCore.QObject)
        return [w for w in map(wrap, found) if w.inherits(wanted) and (not name or w.objectName == name)]

    def findChild(self, kind, name: str = ""):
        """The first descendant of a class, or None."""
        return next(iter(self.findChildren(kind, name)), None)


def check_alive(owner):
    """The native object behind `owner`; a deleted one raises what PythonQt raises."""
    native = owner._native if isinstance(owner, Wrapper) else owner
    if isinstance(native, Shiboken.Object) and not shiboken6.isValid(native):
        raise ValueError(f"Trying to use a destroyed {type(native).__name__} object")
    return native


def wrapper_class(native_class: type) -> type:
    """The wrapper class of a PySide6 class, made when first asked for."""
    if native_class not in _classes:
        namespace = {"__slots__": (), "_native_class": native_class, "__doc__": native_class.__doc__}
        if not issubclass(native_class, QtCore.QObject):
            namespace.update({name: _operator(name) for name in _OPERATORS if hasattr(native_class, name)})
        if native_class is QtCore.QByteArray:
            namespace["__bytes__"] = lambda self: bytes(self._native.data())
            namespace["__str__"] = lambda self: bytes(self._native.data()).decode()
        _classes[native_class] = WrapperMeta(native_class.__name__, (Wrapper,), namespace)
    return _classes[native_class]


def _operator(name: str):
    def method(self, *args):
        return wrap(getattr(self._native, name)(*[unwrap(value) for value in args]))

    return method


def wrap(value):
    """A native object as its wrapper; containers element by element; anything else as it is."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(wrap(item) for item in value)
    if isinstance(value, dict):
        return {key: wrap(item) for key, item in value.items()}
    if not isinstance(value, Shiboken.Object) or isinstance(value, QtCore.QMetaObject.Connection):
        return value
    cached = value.__dict__.get(CACHE)
    found = cached() if isinstance(cached, weakref.ref) else cached
    if found is None:
        # Shell classes and private classes stand behind their nearest offered class.
        native_class = next(k for k in type(value).__mro__ if not k.__dict__.get("_host_shell", False))
        found = object.__new__(wrapper_class(native_class))
        _bind(found, value)
    return found


def _bind(wrapper: Wrapper, native) -> None:
    object.__setattr__(wrapper, "_native", native)
    # Python subclasses carry state, so they live as long as the native object; bare wrappers can be made again.
    native.__dict__[CACHE] = weakref.ref(wrapper) if "_native_class" in type(wrapper).__dict__ else wrapper


def unwrap(value):
    """What PySide6 is given in place of a Python argument."""
    if isinstance(value, Wrapper):
        return check_alive(value)
    if isinstance(value, type) and issubclass(value, Wrapper):
        return value._native_class
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(unwrap(item) for item in value)
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    if isinstance(value, (*_FUNCTIONS, Method)):
        return qt_signals.guarded(value, wrap)
    if isinstance(value, pathlib.PurePath):
        raise TypeError(f"PythonQt does not convert a Path ({value}): pass str(path)")
    return value
