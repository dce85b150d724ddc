"""How typed parameters are kept in a vtkMRMLScriptedModuleNode: as text, nodes as node references."""

from __future__ import annotations

import collections.abc
import enum
import pathlib
import typing

from .parameter_types import FloatRange, IsInstance, NotNone, Validator, splitAnnotations


class Serializer:
    """Writes, reads and removes one parameter; the base keeps it as text under its name."""

    validators: typing.Sequence[Validator] = ()

    def default(self):
        raise NotImplementedError

    def text(self, value) -> str:
        return str(value)

    def value(self, text: str):
        raise NotImplementedError

    def isIn(self, node, name: str) -> bool:
        return bool(node.HasParameter(name))

    def validate(self, value) -> None:
        for validator in self.validators:
            validator.validate(value)

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, self.text(value))

    def read(self, node, name: str):
        return self.value(node.GetParameter(name))

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)


class _Plain(Serializer):
    """int, float, str and paths."""

    def __init__(self, kind):
        self._kind = kind
        self.validators = (NotNone(), IsInstance((int, float) if kind is float else kind))

    def default(self):
        return self._kind()

    def value(self, text: str):
        return self._kind(text)


class _Bool(Serializer):
    validators = (NotNone(), IsInstance(bool))

    def default(self) -> bool:
        return False

    def value(self, text: str) -> bool:
        return text == "True"


class _Enum(Serializer):
    def __init__(self, kind):
        self._kind, self.validators = kind, (NotNone(), IsInstance(kind))

    def default(self):
        return next(iter(self._kind))

    def text(self, value) -> str:
        return value.name

    def value(self, text: str):
        try:
            return self._kind[text]
        except KeyError as error:
            raise ValueError(f"Found {text!r} in parameter node but it is not a name in {self._kind!r}") from error


class _Range(Serializer):
    validators = (NotNone(), IsInstance(FloatRange))

    def default(self) -> FloatRange:
        return FloatRange()

    def text(self, value) -> str:
        return f"{value.minimum} {value.maximum}"

    def value(self, text: str) -> FloatRange:
        return FloatRange(*[float(part) for part in text.split()])


class _Node(Serializer):
    """A reference, so that it survives saving, loading and the node's removal."""

    def __init__(self, kind):
        self.validators = (IsInstance(kind),)

    def default(self) -> None:
        return None

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _None(Serializer):
    def default(self) -> None:
        return None

    def value(self, text: str) -> None:
        return None


class _Optional(Serializer):
    """typing.Union of several types: the value is kept under the index of the first type that takes it."""

    def __init__(self, kinds):
        self._kinds = kinds
        self._parts = [make_serializer(kind) for kind in kinds]

    def default(self):
        return None if isinstance(self._parts[-1], _None) else self._parts[0].default()

    def _names(self, name: str):
        return [(part, f"{name}.{index}") for index, part in enumerate(self._parts)]

    def isIn(self, node, name: str) -> bool:
        return any(part.isIn(node, key) for part, key in self._names(name))

    def _index(self, value) -> int:
        for index, (part, kind) in enumerate(zip(self._parts, self._kinds, strict=True)):
            plain = splitAnnotations(kind)[0]
            origin = typing.get_origin(plain) or plain
            if isinstance(value, origin):
                part.validate(value)
                return index
        raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def write(self, node, name: str, value) -> None:
        index = self._index(value)
        self.remove(node, name)
        part, key = self._names(name)[index]
        part.write(node, key, value)

    def read(self, node, name: str):
        return next(part.read(node, key) for part, key in self._names(name) if part.isIn(node, key))

    def remove(self, node, name: str) -> None:
        for part, key in self._names(name):
            part.remove(node, key)


class ObservedList(collections.abc.MutableSequence):
    """Changes go to the parameter node."""

    def __init__(self, values, save):
        self._values, self._save = list(values), save

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value):
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index):
        del self._values[index]
        self._save(self._values)

    def __len__(self):
        return len(self._values)

    def insert(self, index, value):
        self._values.insert(index, value)
        self._save(self._values)

    def __eq__(self, other):
        return self._values == (other._values if isinstance(other, ObservedList) else other)

    __hash__ = None

    def __repr__(self):
        return f"ObservedList({self._values})"


class _List(Serializer):
    def __init__(self, kind):
        self._part = make_serializer(kind)

    def default(self) -> list:
        return []

    def isIn(self, node, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node, name: str, value) -> None:
        values = list(value)
        for entry in values:
            self._part.validate(entry)
        self.remove(node, name)
        for index, entry in enumerate(values):
            self._part.write(node, f"{name}.{index}", entry)
        node.SetParameter(f"{name}.len", str(len(values)))

    def read(self, node, name: str):
        count = int(node.GetParameter(f"{name}.len") or 0)
        values = [self._part.read(node, f"{name}.{index}") for index in range(count)]
        return ObservedList(values, lambda changed: self.write(node, name, changed))

    def remove(self, node, name: str) -> None:
        for index in range(int(node.GetParameter(f"{name}.len") or 0)):
            self._part.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")


class _Tuple(Serializer):
    def __init__(self, kinds):
        self._parts = [make_serializer(kind) for kind in kinds]

    def default(self) -> tuple:
        return tuple(part.default() for part in self._parts)

    def isIn(self, node, name: str) -> bool:
        return self._parts[0].isIn(node, f"{name}.0")

    def write(self, node, name: str, value) -> None:
        for index, (part, entry) in enumerate(zip(self._parts, value, strict=True)):
            part.validate(entry)
            part.write(node, f"{name}.{index}", entry)

    def read(self, node, name: str) -> tuple:
        return tuple(part.read(node, f"{name}.{index}") for index, part in enumerate(self._parts))

    def remove(self, node, name: str) -> None:
        for index, part in enumerate(self._parts):
            part.remove(node, f"{name}.{index}")


def make_serializer(annotated) -> Serializer:
    """The serializer of a type, with its annotations' validators; TypeError for what Slicer cannot keep either."""
    import slicer

    kind, annotations = splitAnnotations(annotated)
    origin = typing.get_origin(kind)
    if kind in (int, float, str) or (isinstance(kind, type) and issubclass(kind, pathlib.PurePath)):
        found: Serializer = _Plain(kind)
    elif kind is bool:
        found = _Bool()
    elif kind is type(None):
        found = _None()
    elif kind is FloatRange:
        found = _Range()
    elif origin is list:
        found = _List(typing.get_args(kind)[0])
    elif origin is tuple:
        found = _Tuple(typing.get_args(kind))
    elif origin is typing.Union:
        found = _Optional(typing.get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        found = _Enum(kind)
    elif isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        found = _Node(kind)
    else:
        # `A | None` is not typing.Union in Python 3.12, so Slicer 5.10's wrapper refuses it too: write Optional[A].
        raise TypeError(f"Unable to create serializer for type: {kind}")
    found.validators = [*found.validators, *[entry for entry in annotations if isinstance(entry, Validator)]]
    return found
