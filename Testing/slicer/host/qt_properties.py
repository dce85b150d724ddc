"""Qt's properties: found in the QMetaObject, read and written as PythonQt does."""

from __future__ import annotations

from PySide6 import QtCore


def meta_property(native, name: str):
    """The QMetaProperty of that name, or None."""
    if not isinstance(native, QtCore.QObject):
        return None
    # Not `native.metaObject()`: PySide6 ties its Python object to this one, and both die together.
    meta = type(native).staticMetaObject
    index = meta.indexOfProperty(name)
    if index < 0 and name == "name":  # PythonQt's short form
        index = meta.indexOfProperty("objectName")
    return meta.property(index) if index >= 0 else None


def read_property(native, found):
    """The native value."""
    try:
        return found.read(native)
    except RuntimeError:  # an enum that PySide6 has not registered yet
        name = found.name()
        getter = getattr(native, name, None) or getattr(native, "is" + name[0].upper() + name[1:])
        return getter()


def write_property(native, found, value, class_name: str) -> None:
    """Write a native value; AttributeError where PythonQt raises it."""
    name = f"Property '{found.name()}' of {class_name}"
    if not found.isWritable():
        raise AttributeError(f"{name} object is not writable")
    accepted = value is not None and found.write(native, value)
    if not accepted:
        raise AttributeError(
            f"{name} of type '{found.typeName()}' does not accept an object of type {type(value).__name__} ({value!r})"
        )


def has_dynamic_property(native, name: str) -> bool:
    """Whether the object was given a property of that name at run time."""
    if not isinstance(native, QtCore.QObject):
        return False
    return name.encode() in [bytes(key.data()) for key in native.dynamicPropertyNames()]
