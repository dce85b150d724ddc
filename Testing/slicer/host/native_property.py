"""Qt properties for the host's own widgets, declared in one line."""

from __future__ import annotations

from PySide6 import QtCore


def stored(kind, default, name: str, changed: str = "") -> QtCore.Property:
    """A property that only keeps its value; `changed` names a signal emitted with the new value."""
    key = "_stored_" + name

    def read(self):
        return self.__dict__.get(key, default)

    def write(self, value) -> None:
        if value == read(self):
            return
        self.__dict__[key] = value
        if changed:
            getattr(self, changed).emit(value)

    return QtCore.Property(kind, read, write)


def forwarded(kind, part: str, getter: str, setter: str) -> QtCore.Property:
    """A property of an inner widget (attribute `part`), shown by the outer one."""

    def read(self):
        return getattr(getattr(self, part), getter)()

    def write(self, value) -> None:
        getattr(getattr(self, part), setter)(value)

    return QtCore.Property(kind, read, write)
