"""The manifest: a CSV file that names the subjects, their files, the scheme of their labels, split and licence."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

SPLITS = ("train", "val")
ALIGNMENTS = ("affine", "rigid", "moments", "centres", "none", "native")
COLUMNS = ("id", "labels", "scheme", "split", "align", "source", "licence")


@dataclass(frozen=True)
class Subject:
    """A row. ``images`` are (column, path), the first one is what is aligned; ``align`` says how."""

    id: str
    images: tuple[tuple[str, Path], ...]
    labels: Path | None
    scheme: str
    split: str
    align: str
    source: str
    licence: str


def read_manifest(path: Path, folder: Path | None = None) -> list[Subject]:
    """The subjects of a manifest; its paths are relative to ``folder``, or to the manifest's own.

    Columns: ``id``, ``image`` and any further ``image_...`` (one per contrast, co-registered), ``labels``, ``scheme``
    (subjects of one scheme share the meaning of their labels), ``split`` (train or val), ``align``, ``source``,
    ``licence``. A row needs an image or labels.

    Raises:
        InputError: no such file, a missing or unknown column, or a row that cannot be used; the sentence names it.
    """
    base = folder or path.parent
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(f"The manifest {str(path)!r} cannot be read as a CSV file; check the path.") from None
    for name in columns:
        if name not in COLUMNS and not _is_image(name):
            raise InputError(f"The manifest {path.name!r} has an unknown column {name!r}; known are {_known()}.")
    for name in ("id", "split"):
        if name not in columns:
            raise InputError(f"The manifest {path.name!r} lacks the column {name!r}; it needs {_known()}.")
    subjects = [_subject(row, base, f"The manifest {path.name!r}, row {n}") for n, row in enumerate(rows, start=2)]
    seen: set[str] = set()
    for subject in subjects:
        if subject.id in seen:
            raise InputError(f"The manifest {path.name!r} names the subject {subject.id!r} twice.")
        seen.add(subject.id)
    return subjects


def provenance(subjects: Iterable[Subject]) -> list[dict[str, Any]]:
    """Sources with their licences and the number of subjects of each, for the record of the weights."""
    counts: dict[tuple[str, str], int] = {}
    for subject in subjects:
        key = (subject.source, subject.licence)
        counts[key] = counts.get(key, 0) + 1
    return [{"name": name, "licence": licence, "count": count} for (name, licence), count in counts.items()]


def _subject(row: dict[str, Any], base: Path, where: str) -> Subject:
    values = {name: (text or "").strip() for name, text in row.items() if name is not None}
    if None in row or not values.get("id"):
        raise InputError(f"{where}, has too many cells or no id.")
    name = values["id"]
    if not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise InputError(f"{where}: the id {name!r} may only hold letters, digits, '-', '_' and '.'.")
    if values["split"] not in SPLITS:
        raise InputError(f"{where}: the split of {name!r} is {values['split']!r}; it must be one of train, val.")
    align = values.get("align") or "affine"
    if align not in ALIGNMENTS:
        raise InputError(f"{where}: align of {name!r} is {align!r}; choose from {', '.join(ALIGNMENTS)}.")
    images = tuple((column, base / text) for column, text in values.items() if _is_image(column) and text)
    labels = base / values["labels"] if values.get("labels") else None
    if not images and labels is None:
        raise InputError(f"{where}: {name!r} has neither an image nor labels.")
    if labels is not None and not values.get("scheme"):
        raise InputError(f"{where}: {name!r} has labels but no scheme that says what they mean.")
    for path in [path for _, path in images] + ([labels] if labels else []):
        if not path.exists():
            raise InputError(f"{where}: there is no file {str(path)!r}; give the folder of the data with --data.")
    scheme = values.get("scheme", "")
    return Subject(name, images, labels, scheme, values["split"], align, *(values.get(c, "") for c in COLUMNS[-2:]))


def _is_image(column: str) -> bool:
    return column == "image" or column.startswith("image_")


def _known() -> str:
    return f"image, image_..., {', '.join(COLUMNS)}"
