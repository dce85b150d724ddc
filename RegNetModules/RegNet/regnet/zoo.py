"""Trained weights: where they are, whether they are intact, and their tensors. Safetensors only, never pickle.

A model's weights are ``<folder>/<model>/<variant>.safetensors`` and, beside it, their record ``<variant>.json``::

    {"model": "avsm", "variant": "brain", "sha256": "…", "config": {…}, "version": "0.1.0",
     "data": [{"name": "…", "licence": "…", "count": 30}], "seed": 1, "command": "regnet train …",
     "minutes": 90.0, "device": "…", "steps": 15000, "figures": {"dice": 0.6}}

Only ``sha256`` must be there; the rest says how the network is built and where the weights come from. ``joined`` lists
further trainings, of the ``parts`` of the network that it names. ``shares``, ``{"variant": "…", "sha256": "…"}``, names
weights beside these that hold the tensors that this file lacks.

Folders are searched in this order: those in ``$REGNET_MODELS`` (separated as in ``$PATH``), ``Models`` beside the
installed package (the Slicer extension), ``Models`` at the root of a checkout, and what pip installs below its prefix.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from .events import Events
    from .models.base import ModelInfo, ParametersBase

ENVIRONMENT_VARIABLE = "REGNET_MODELS"
ORIGIN: dict[str, type | tuple[type, ...]] = {
    "version": str,
    "data": list,
    "seed": int,
    "command": str,
    "minutes": (int, float),
    "device": str,
    "steps": int,
    "figures": dict,
    "joined": list,
}
"""Entries of a record about the training, and their types; others, and those of another type, are passed over."""
KEPT = 8
"""Files of weights whose tensors stay in memory, so that the next job need not read and check them again."""


@dataclass(frozen=True)
class WeightsRecord:
    """What is known of one weights file. ``config`` are the network's own settings, as it was trained; ``origin`` is
    what the record says of the training, see :data:`ORIGIN`; ``shares`` are path and sha256 of the file that holds the
    tensors that this one lacks, None if it holds all."""

    model: str
    variant: str
    path: Path
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    shares: tuple[Path, str] | None = None

    def describe(self) -> dict[str, Any]:
        """The identity that goes into reports: variant, sha256 and file name, no local folders."""
        return {"variant": self.variant, "sha256": self.sha256, "file": self.path.name}

    def tell(self) -> dict[str, Any]:
        """The identity, the size in bytes and the origin, for ``regnet models``."""
        return {**self.describe(), "bytes": self.path.stat().st_size, **self.origin}


def model_folders() -> list[Path]:
    """The folders that are searched, existing or not, the first one first."""
    named = [Path(entry) for entry in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if entry]
    package = Path(__file__).resolve().parent
    installed = Path(sys.prefix) / "share" / "regnet" / "Models"
    return [*named, package.parent / "Models", package.parents[2] / "Models", installed]


def find_weights(model: str, variant: str | None = None) -> WeightsRecord | None:
    """The record of a model's weights; without ``variant`` the first in alphabetical order; ``None`` if there are none.

    Raises:
        ModelError: there are weights, but their record is missing or damaged.
    """
    for folder in model_folders():
        for path in sorted((folder / model).glob("*.safetensors")):
            if variant in (None, path.stem):
                return _read_record(model, path)
    return None


def list_weights(model: str) -> list[WeightsRecord]:
    """All records of a model; a variant that is in several folders is named once, as :func:`find_weights` finds it."""
    found: dict[str, WeightsRecord] = {}
    for folder in model_folders():
        for path in sorted((folder / model).glob("*.safetensors")):
            if path.stem not in found:
                found[path.stem] = _read_record(model, path)
    return list(found.values())


def weights_for(
    info: ModelInfo, module: Any, parameters: ParametersBase, dims: int, events: Events
) -> WeightsRecord | None:
    """The weights that ``parameters`` ask for, for images of ``dims`` axes. Without them the pair is registered all the
    same, and the user is told so.

    Args:
        module: the model's, which knows what images the weights take.
    """
    variant = parameters.wanted_weights(dims)
    if variant == "none":
        return None
    found, lacking = find_weights(info.name, variant), "not installed"
    if found is not None and module.dimension_of(found.config or {}) != dims:
        found, lacking = None, f"not for {dims}D images"
    if found is None:
        events.warn(
            f"The trained weights {variant!r} of {info.title} are {lacking}; the registration does "
            f"{info.without_weights}."
        )
    return found


def load_state(record: WeightsRecord) -> dict[str, Tensor]:
    """The tensors, after the file's sha256 was checked. As long as the file stays as it is, these are the same tensors
    each time, for everybody: not to be written to.

    Raises:
        ModelError: a byte differs from the record, or the file cannot be read.
    """
    files = [(record.path, record.sha256)] if record.shares is None else [record.shares, (record.path, record.sha256)]
    try:
        abouts = [path.stat() for path, _ in files]
        return _loaded(
            tuple((*file, about.st_mtime_ns, about.st_size) for file, about in zip(files, abouts, strict=True))
        )
    except OSError as error:
        raise ModelError(f"The weights {str(error.filename)!r} cannot be read: {error.strerror}.") from None


@functools.lru_cache(maxsize=KEPT)
def _loaded(files: tuple[tuple[Path, str, int, int], ...]) -> dict[str, Tensor]:
    """Those of files of this sha256, changed at that time and of that size; where two have one, the last file's."""
    return {name: tensor for path, sha256, *_ in files for name, tensor in _checked(path, sha256).items()}


def _checked(path: Path, sha256: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"The weights {str(path)!r} are damaged or were changed: their sha256 begins with {found[:12]}, "
            f"not {sha256[:12]}; install them again."
        )
    try:
        # From the very bytes that were checked: the file cannot change in between.
        return load(data)
    except SafetensorError as error:
        raise ModelError(f"The weights {str(path)!r} are not a safetensors file: {error}.") from None


def _read_record(model: str, path: Path) -> WeightsRecord:
    beside = path.with_suffix(".json")
    try:
        entries = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = f"The weights {str(path)!r} have no record {beside.name!r} beside them; install them again."
        raise ModelError(text) from None
    except (OSError, ValueError):
        entries = None
    digest = entries.get("sha256") if isinstance(entries, dict) else None
    shares = entries.get("shares") if isinstance(entries, dict) else None
    other, whose = (shares.get("variant"), shares.get("sha256")) if isinstance(shares, dict) else ("none", digest)
    if not (_is_digest(digest) and _is_digest(whose) and isinstance(other, str) and re.fullmatch(r"[\w-]+", other)):
        raise ModelError(f"The record {str(beside)!r} is damaged; install the weights again.")
    config = entries.get("config") or {}
    origin = {name: entries[name] for name, kind in ORIGIN.items() if isinstance(entries.get(name), kind)}
    rest = (path.with_name(f"{other}.safetensors"), whose) if isinstance(shares, dict) else None
    return WeightsRecord(model, path.stem, path, digest, config if isinstance(config, dict) else {}, origin, rest)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
