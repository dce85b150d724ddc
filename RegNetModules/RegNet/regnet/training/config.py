"""The training configuration: what a ``train.yaml`` may say, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InputError


class Strict(BaseModel):
    """Base of all parts: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) not in (2, 3) or min(shape) < 8:
        raise ValueError(f"must be 2 or 3 sizes of at least 8 voxels, not {list(shape)}")
    return shape


class Source(Strict):
    """One kind of training pair: a maker of ``regnet.synth.pairs``, how often it is drawn, and from which subjects.

    ``schemes`` limits it to subjects of these label schemes; ``subjects`` to these ids; both empty: all that fit.
    ``fixed`` names the manifest's column that the fixed image is of, where there is a choice; the moving one is of
    another, if there is one. Empty: both are drawn. Of subjects in 3D a training in 2D sees slices; ``transaxial`` is
    how often these lie across the body's axis rather than across one of the other two, ``mirrored`` whether they are
    mirrored at random: nothing tells which way up a picture is.
    """

    maker: str
    weight: float = Field(1.0, gt=0)
    schemes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    fixed: str = ""
    transaxial: float = Field(1 / 3, ge=0, le=1)
    mirrored: bool = False
    settings: dict[str, Any] = {}


class Stage(Strict):
    """A part of the training with its own pairs, learning rate and losses.

    ``steps`` are optimiser steps of ``batch * accumulate`` pairs on each device. The learning rate rises over
    ``warmup`` steps to ``lr`` and falls by half a cosine to ``lr * final_lr``. ``options`` are the model's own.
    ``validation_affine`` is the range of random affine misalignment of the validation pairs, or None for none.
    ``shape`` is the grid of this stage's pairs, None for the network's: coarse ones learn the most in a given time.
    """

    name: str
    steps: int = Field(gt=0)
    lr: float = Field(1e-4, gt=0)
    warmup: int = Field(100, ge=0)
    final_lr: float = Field(0.05, ge=0, le=1)
    batch: int = Field(1, gt=0)
    accumulate: int = Field(1, gt=0)
    clip: float = Field(1.0, gt=0)
    sources: tuple[Source, ...] = Field(min_length=1)
    options: dict[str, Any] = {}
    validation_affine: dict[str, float] | None = None
    shape: tuple[int, ...] | None = None

    @field_validator("shape")
    @classmethod
    def _shape_is_2d_or_3d(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if value is None else _grid(value)


class Data(Strict):
    """The subjects and the space they are prepared in.

    ``manifest`` is a CSV file, relative to the configuration. ``template`` is the image onto which everything is
    aligned, relative to the data folder; None for the atlas of the demonstration. ``shape`` and ``spacing`` (mm) are
    of the grid, around the template's middle, on which the subjects are kept.
    """

    manifest: str
    template: str | None = None
    spacing: float = Field(2.0, gt=0)
    shape: tuple[int, ...] = (104, 120, 104)


class Validation(Strict):
    """``pairs`` of the manifest's ``val`` subjects, as they are and, with ``stripped``, also without what has no label;
    and ``synthetic`` pairs of the stage's own sources, always the same ones."""

    pairs: int = Field(6, ge=0)
    stripped: bool = True
    synthetic: int = Field(4, ge=0)


class TrainConfig(Strict):
    """A whole training. ``shape`` is the network's grid; ``network`` goes to the model's own configuration.

    ``initial`` names installed weights of the model to begin with: whatever parts of the network they hold.
    ``average`` is the decay of an exponential moving average of the weights, which then is validated and exported;
    0 for none. ``precision``: ``auto`` is 16 bit (bfloat16 where the device has it) on a GPU and 32 on a CPU.
    """

    model: str
    variant: str = "brain"
    seed: int = 0
    shape: tuple[int, ...]
    network: dict[str, Any] = {}
    initial: str = ""
    stages: tuple[Stage, ...] = Field(min_length=1)
    data: Data | None = None
    validation: Validation = Validation()
    steps_per_epoch: int = Field(200, gt=0)
    validate_every: int = Field(1, gt=0)
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    channels_last: bool = False
    average: float = Field(0.0, ge=0, lt=1)
    workers: int = Field(0, ge=0)

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("shape")
    @classmethod
    def _shape_is_2d_or_3d(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _grid(value)

    @model_validator(mode="after")
    def _one_dimension(self) -> TrainConfig:
        for number, stage in enumerate(self.stages):
            if len(self.shape_of(number)) != len(self.shape):
                raise ValueError(f"stage {stage.name!r} has a grid of another dimension than the network")
        return self

    def shape_of(self, stage: int) -> tuple[int, ...]:
        """The grid of a stage's pairs."""
        return self.stages[stage].shape or self.shape

    def fingerprint(self) -> str:
        """Equal for configurations under which a run may go on; changes with anything that decides the result."""
        values = self.model_dump(mode="json", exclude={"workers", "validation", "validate_every", "variant"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def read_config(path: Path, changes: list[str] | tuple[str, ...] = (), steps: int | None = None) -> TrainConfig:
    """The configuration in a YAML file, with ``changes`` like ``stages.0.lr=1e-4`` and ``steps`` for every stage.

    Raises:
        InputError: no such file, not YAML, an unknown key or a value that cannot be; the sentence names the key.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The configuration {str(path)!r} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"The configuration {str(path)!r} is not valid YAML.") from None
    if not isinstance(values, dict):
        raise InputError(f"The configuration {str(path)!r} holds no keys; see Models/avsm/train.yaml for an example.")
    for change in changes:
        _apply(values, change)
    if steps is not None:
        for number in range(len(values.get("stages") or [])):
            _apply(values, f"stages.{number}.steps={steps}")
    return make_config(values)


def make_config(values: dict[str, Any]) -> TrainConfig:
    """Checked configuration from plain values."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(error, "The training configuration")) from None


def check_options(cls: type[BaseModel], values: dict[str, Any], what: str) -> Any:
    """``cls`` from plain values; ``what`` names them in the error."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise InputError(_sentence(error, what)) from None


def _sentence(error: ValidationError, what: str) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{what} has an unknown key {where!r}; check its spelling."
    if first["type"] == "missing":
        return f"{what} lacks the key {where!r}."
    reason = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"{what} does not fit together: {reason}."
    return f"{what}: {where!r} is {first['input']!r}; {reason[0].lower()}{reason[1:]}."


def _apply(values: dict[str, Any], change: str) -> None:
    """Set one dotted key in place; the value is read as YAML."""
    import yaml

    name, separator, text = change.partition("=")
    if not separator or not name.strip():
        raise InputError(f"The change {change!r} is not of the form KEY=VALUE.")
    *folders, last = name.strip().split(".")
    target: Any = values
    try:
        value = yaml.safe_load(text)
        for part in folders:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value
    except (yaml.YAMLError, ValueError, IndexError, TypeError, AttributeError):
        raise InputError(
            f"The change {change!r} does not fit the configuration; check the key and the value."
        ) from None
