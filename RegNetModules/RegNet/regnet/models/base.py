"""What every registration model says of itself. Importable without torch, so that panels open without it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class ModelInfo:
    """A model's passport, read by the command line, the worker and the panels.

    ``dimensions`` are the image dimensions it accepts; ``transform_kind`` is ``"dense"`` or ``"linear"``; ``fuses``
    says whether it also gives a fused image, ``translates`` whether it can give the moving image in another contrast;
    ``variants`` name the weights it can load, the default first, and
    ``without_weights`` ends the sentence "the registration does ..." for when there are none. ``alignment`` is what
    should go ahead of it, a name from :data:`regnet.align.ALIGNMENTS`, in planes ``planar_alignment`` if it has one.
    """

    name: str
    title: str
    summary: str
    paper: str
    citation: str
    dimensions: tuple[int, ...]
    modalities: str
    transform_kind: str
    fuses: bool
    translates: bool = False
    variants: tuple[str, ...] = ()
    without_weights: str = "without them"
    alignment: str = "affine"
    planar_alignment: str = ""

    def alignment_of(self, dims: int) -> str:
        """What should go ahead of the model for images of ``dims`` axes."""
        return self.planar_alignment if dims == 2 and self.planar_alignment else self.alignment


def parameter(
    default: Any,
    label: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
    choices: tuple[str, ...] = (),
    advanced: bool = False,
) -> Any:
    """A dataclass field that knows its range, unit and help text."""
    metadata = {
        "label": label,
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "unit": unit,
        "choices": choices,
        "advanced": advanced,
    }
    return dataclasses.field(default=default, metadata=metadata)


def stiffness() -> Any:
    """The parameter ``regularization``, the same for every model that optimises a deformation."""
    return parameter(
        1.0,
        "Stiffness",
        "How stiff the deformation is, a factor. Raise it when anatomy looks wobbly, lower it when details stay apart.",
        minimum=0.1,
        maximum=10.0,
    )


@dataclass(frozen=True)
class ParametersBase:
    """Base of each model's ``Parameters``: a frozen dataclass that validates itself."""

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            object.__setattr__(self, entry.name, _checked(entry, getattr(self, entry.name)))

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> ParametersBase:
        """Build from plain values, as they come from a file, the command line or a panel.

        Raises:
            InputError: an unknown name, a wrong type or a value outside its range.
        """
        known = [entry.name for entry in dataclasses.fields(cls)]
        for name in values or {}:
            if name not in known:
                raise InputError(f"There is no parameter named {name!r}; choose from {', '.join(known)}.")
        return cls(**(values or {}))

    def wanted_weights(self, dims: int) -> str:
        """The variant of trained weights that these values call for with images of ``dims`` axes, or ``"none"``."""
        return getattr(self, "weights", "none")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """One plain dictionary per parameter: name, type, default and the metadata given to :func:`parameter`."""
        return [
            {"name": entry.name, "type": type(entry.default).__name__, "default": entry.default, **entry.metadata}
            for entry in dataclasses.fields(cls)
        ]


def for_planes(variant: str, dims: int) -> str:
    """The name of a variant's weights for images of ``dims`` axes, of a model that has some for each."""
    return variant if dims == 3 or variant == "none" else f"{variant}-2d"


def _checked(entry: dataclasses.Field, value: Any) -> Any:
    """The value in the type of the field's default, or an :class:`InputError` that says what is allowed."""
    meta, wanted = entry.metadata, type(entry.default)
    try:
        if wanted is bool and not isinstance(value, (bool, int)):
            raise ValueError
        if wanted is int and float(value) != int(float(value)):
            raise ValueError
        value = wanted(value)
    except (TypeError, ValueError):
        raise InputError(f"Parameter {entry.name!r} must be a {wanted.__name__}, not {value!r}.") from None
    if meta["choices"] and value not in meta["choices"]:
        raise InputError(f"Parameter {entry.name!r} is {value!r}; choose one of {', '.join(meta['choices'])}.")
    low, high = meta["minimum"], meta["maximum"]
    if low is not None and not value >= low or high is not None and not value <= high:
        raise InputError(f"Parameter {entry.name!r} is {value}; it must lie between {low} and {high}.")
    return value
