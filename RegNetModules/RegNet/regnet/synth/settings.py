"""What a maker of training pairs is told: plain values, as they stand in a training configuration."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .artefacts import ArtefactSettings
from .contrast import ContrastSettings
from .schemes import Scheme, get_scheme
from .views import ViewSettings

SHARES = {
    "strip",
    "strip_one",
    "strip_moving",
    "different_contrast",
    "remap",
    "invert",
    "typical_share",
    "mr_share",
    "background",
}
SHARES |= {"ct_share", "pet_share"}
SHARES |= {"thick_share", "crop_share", "crop", "lesion_share", "inverted", "any_curve", "plain", "dark"}
"""Entries that say how often or what part, from 0 to 1."""


@dataclass(frozen=True)
class ShapeSettings:
    """See :func:`~regnet.synth.shapes.random_shapes`."""

    count: int = 16
    spacing: tuple[float, float] = (0.1, 0.3)
    rim: float = 0.12


@dataclass(frozen=True)
class LookSettings:
    """Of the makers in :mod:`regnet.synth.looks`.

    Attributes:
        zoom, stretch: input voxels per voxel of the crop: a factor for all axes, and one more for each.
        degrees: greatest turn about each axis; ``mirror``: permute and mirror the axes, too.
        inverted: how often an intensity transform is inverted.
        any_curve: how often it is any piecewise linear curve instead, which may map two tissues to one intensity.
        plain: how often a look keeps its intensities.
        dark: how often what is outside the anatomy stays dark in both looks, as air does.
    """

    zoom: tuple[float, float] = (0.6, 1.3)
    stretch: tuple[float, float] = (0.85, 1.2)
    degrees: float = 15.0
    mirror: int = 1
    inverted: float = 0.5
    any_curve: float = 0.25
    plain: float = 0.2
    dark: float = 0.8


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made; every maker uses what concerns it.

    Attributes:
        shape: of the pair's grid; None for the input's own.
        scheme: what the ids of the label maps mean, a name in :mod:`regnet.synth.schemes`. It gives ``not_brain``,
            ``fluid`` and the contrast's ``classes`` and ``typical`` where these are empty.
        not_brain: label ids above 0 that stripping removes.
        fluid: those of them that stay in an image, though not in its labels, when stripping is generous.
        strip, strip_one, strip_moving: how often both images are stripped of what is not brain, how often one of them,
            and how often the moving one.
        different_contrast: how often the two contrasts are drawn independently; else they are the same.
        typical_fixed: whether every painted fixed image is of the typical contrast, and every real one keeps its own,
            while the moving one's is drawn.
        moving_contrast, moving_artefacts: of the moving side where they differ from ``contrast`` and ``artefacts``; one
            modality onto another.
        remap, invert: how often a real image's intensities pass through a random curve, and how many of these curves
            are inversions.
    """

    shape: tuple[int, ...] | None = None
    scheme: str = ""
    not_brain: tuple[int, ...] = ()
    fluid: tuple[int, ...] = ()
    strip: float = 0.5
    strip_one: float = 0.0
    strip_moving: float = 0.0
    different_contrast: float = 0.5
    typical_fixed: int = 0
    remap: float = 0.0
    invert: float = 0.3
    views: ViewSettings = ViewSettings()
    contrast: ContrastSettings = ContrastSettings()
    artefacts: ArtefactSettings = ArtefactSettings()
    moving_contrast: ContrastSettings | None = None
    moving_artefacts: ArtefactSettings | None = None
    shapes: ShapeSettings = ShapeSettings()
    looks: LookSettings = LookSettings()

    def __post_init__(self) -> None:
        if not self.scheme:
            return
        scheme: Scheme = get_scheme(self.scheme)
        if not self.not_brain:
            object.__setattr__(self, "not_brain", scheme.not_brain)
            object.__setattr__(self, "fluid", scheme.fluid)
        known = {"classes": scheme.classes(), "typical": scheme.typical()}
        known |= {name: scheme.intensities(name) for name in ("ct", "pet")}
        for side in ("contrast", "moving_contrast"):
            contrast = getattr(self, side)
            if contrast is not None and not contrast.classes and not contrast.typical:
                object.__setattr__(self, side, dataclasses.replace(contrast, **known))

    def artefacts_of(self, side: int) -> ArtefactSettings:
        """Of the fixed side, 0, or the moving one, 1."""
        return self.moving_artefacts or self.artefacts if side else self.artefacts

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PairSettings:
        """From nested plain values.

        >>> PairSettings.from_dict({"shape": [64, 80, 64], "views": {"largest": [2, 8]}}).views.largest
        (2.0, 8.0)

        Raises:
            InputError: an unknown entry, or a value of the wrong kind or out of its range.
        """
        return _build(cls, values, "The settings of a training pair")


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where} must be named values, not {values!r}.")
    kinds = typing.get_type_hints(cls)
    for name in values:
        if name not in kinds:
            raise InputError(f"{where} have no entry {name!r}; there are {', '.join(kinds)}.")
    made = {name: _convert(kinds[name], value, f"{where}, {name!r},") for name, value in values.items()}
    for name in SHARES & set(made):
        if not 0 <= made[name] <= 1:
            raise InputError(f"{where}, {name!r}, must be between 0 and 1, not {made[name]!r}.")
    return cls(**made)


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` as the annotated ``kind``: a dataclass, number, text, or tuple of numbers."""
    if typing.get_origin(kind) is types.UnionType:
        if value is None:
            return None
        (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where} must be a list of numbers, not {value!r}.")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(kinds) != len(value):
            raise InputError(f"{where} must be {len(kinds)} numbers, not {value!r}.")
        converted = tuple(_convert(part, one, where) for part, one in zip(kinds, value, strict=True))
        if parts[-1] is not Ellipsis and converted[0] > converted[1]:
            raise InputError(f"{where} must be the least and the greatest value, in this order, not {value!r}.")
        return converted
    return _scalar(kind, value, where)


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        name = {float: "a number", int: "a whole number", str: "text"}[kind]
        raise InputError(f"{where} must be {name}, not {value!r}.")
    return value
