"""Annotations of slicer.parameterNodeWrapper: defaults, validators, hints for widgets."""

from __future__ import annotations

import dataclasses
from typing import Annotated, get_args, get_origin


class Default:
    """The default of a parameter: a value, or a function that makes one."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator else self._value


@dataclasses.dataclass
class Decimals:
    value: int


@dataclasses.dataclass
class SingleStep:
    value: float


class Validator:
    """Refuses values by raising ValueError (or TypeError)."""

    def validate(self, value) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsNone(Validator):
    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")


class IsInstance(Validator):
    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'")


@dataclasses.dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclasses.dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclasses.dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclasses.dataclass
class Choice(Validator):
    choices: list

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


@dataclasses.dataclass
class Exclude(Validator):
    excludedValues: list

    def validate(self, value) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be an excluded value: {self.excludedValues}")


@dataclasses.dataclass
class RangeBounds(Validator):
    minimum: float
    maximum: float

    def validate(self, value) -> None:
        if not (self.minimum <= value.minimum and value.maximum <= self.maximum):
            raise ValueError(
                f"Range must be within [{self.minimum}, {self.maximum}], is [{value.minimum}, {value.maximum}]"
            )


class FloatRange:
    """Two numbers in order."""

    def __init__(self, minimum: float = 0.0, maximum: float = 0.0):
        self.setRange(minimum, maximum)

    def setRange(self, minimum: float, maximum: float) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self.minimum, self.maximum = minimum, maximum

    def __eq__(self, other):
        return isinstance(other, FloatRange) and (self.minimum, self.maximum) == (other.minimum, other.maximum)

    __hash__ = None

    def __repr__(self) -> str:
        return f"FloatRange(minimum={self.minimum}, maximum={self.maximum})"


def splitAnnotations(annotated) -> tuple:
    """The plain type and the tuple of annotations."""
    if get_origin(annotated) is not Annotated:
        return annotated, ()
    arguments = get_args(annotated)
    return arguments[0], arguments[1:]


def unannotatedType(annotated):
    return splitAnnotations(annotated)[0]


def findFirstAnnotation(annotations, kind):
    return next((entry for entry in annotations if isinstance(entry, kind)), None)
