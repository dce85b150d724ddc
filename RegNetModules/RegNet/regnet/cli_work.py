"""What the commands do between reading and printing: options into values, results into folders, scores."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_console import uninterrupted
from .errors import InputError

if TYPE_CHECKING:
    from .image import Image
    from .register import Registration
    from .transform import Transform

RESULT_FILES = ("transform.h5", "warped.nii.gz", "report.json", "report.html")


def parse_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """``["iterations=20", "similarity=lncc"]`` as a dictionary; numbers and booleans are read as JSON.

    >>> parse_parameters(["iterations=20", "similarity=lncc"])
    {'iterations': 20, 'similarity': 'lncc'}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name.strip():
            raise InputError(f"The parameter {pair!r} is not of the form KEY=VALUE.")
        try:
            values[name.strip()] = json.loads(text)
        except ValueError:
            values[name.strip()] = text.strip()
    return values


def parse_refine(text: str) -> str | int:
    """``auto``, ``off`` or a number of steps."""
    if text in ("auto", "off"):
        return text
    if text.isdigit():
        return int(text)
    raise InputError(f"--refine is {text!r}; give auto, off or a number of steps.")


@contextmanager
def staged_folder(target: Path, names: Iterable[str]) -> Iterator[Path]:
    """A hidden folder inside ``target`` whose files move into ``target`` together once the work is done.

    If the work fails or is cancelled nothing of it stays, not even folders that were made for it, and files of an
    earlier run are as they were.

    Raises:
        InputError: ``target`` cannot be made or written, or one of ``names`` in it is a folder.
    """
    made = _make_folders(target)
    done = False
    staging: Path | None = None
    try:
        for name in names:
            if (target / name).is_dir():
                raise InputError(f"{str(target / name)!r} is a folder; choose another output folder with -o.")
        try:
            staging = Path(tempfile.mkdtemp(prefix=".regnet-", dir=target))
        except OSError as error:
            raise _cannot_write(target, error) from None
        yield staging
        with uninterrupted():
            for file in sorted(staging.iterdir()):
                file.replace(target / file.name)
            done = True
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if not done:
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()


def _make_folders(target: Path) -> list[Path]:
    """Make ``target`` and its parents; returns those that were not there, the outermost first."""
    missing = [folder for folder in (target, *target.parents) if not folder.exists()][::-1]
    made: list[Path] = []
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
            made.append(folder)
        if not target.is_dir():
            raise NotADirectoryError(0, "it is a file")
    except OSError as error:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise _cannot_write(target, error) from None
    return made


def _cannot_write(target: Path, error: OSError) -> InputError:
    reason = error.strerror or type(error).__name__
    return InputError(f"The output folder {str(target)!r} cannot be written ({reason}); choose another one with -o.")


def check_output(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output file before the work rather than after it.

    Raises:
        InputError: an unknown ending, a folder that does not exist, or a folder of that name.
    """
    if not path.name.lower().endswith(endings):
        raise InputError(f"The output {path.name!r} has no known ending; use one of {', '.join(endings)}.")
    if path.is_dir():
        raise InputError(f"The output {str(path)!r} is a folder; give a file name.")
    if not path.parent.is_dir():
        raise InputError(f"The folder {str(path.parent)!r} of the output does not exist; make it first.")


def read_labels(path: Path) -> Image:
    """A label image.

    Raises:
        InputError: it cannot be read, or its values are not whole numbers.
    """
    import numpy as np
    import SimpleITK as sitk

    from .files import read_sitk
    from .image import Image

    image = read_sitk(path)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{str(path)!r} has several values per voxel; give a label image with one.")
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        values = sitk.GetArrayViewFromImage(image)
        if not np.array_equal(values, np.rint(values)):
            raise InputError(f"{str(path)!r} has values that are not whole numbers, so it is not a label image.")
    return Image.from_sitk(image, labels=True)


def require_same_dimension(**things: Any) -> None:
    """Raise an :class:`InputError` unless all ``things`` (images or transforms) are 2D, or all 3D."""
    if len({thing.ndim for thing in things.values()}) > 1:
        listed = ", ".join(f"the {name.replace('_', ' ')} is {thing.ndim}D" for name, thing in things.items())
        raise InputError(f"{listed[0].upper()}{listed[1:]}; all must have the same dimension.")


def write_results(
    folder: Path, result: Registration, fixed: Image, moving: Image, extra: dict[str, Any], labels: Image | None = None
) -> dict[str, Any]:
    """Write the files of a registration into ``folder``; returns the report with ``extra`` entries added."""
    from .report import write_report_html, write_report_json

    report = {**extra, "created": datetime.now().astimezone().isoformat(timespec="seconds"), **result.report}
    result.transform.write(folder / "transform.h5")
    result.warped.write(folder / "warped.nii.gz")
    if result.fused is not None:
        result.fused.write(folder / "fused.nii.gz")
    if labels is not None:
        labels.write(folder / "labels.nii.gz")
    before = moving.resample(fixed.grid)
    write_report_html(folder / "report.html", fixed, before, result.warped, result.transform, report, labels)
    write_report_json(report, folder / "report.json")
    return report


def evaluate(fixed: Image, moving: Image, transform: Transform) -> dict[str, Any]:
    """Scores of the labels of ``moving``, taken through ``transform``, against those of ``fixed``.

    Labels that both images have before the warp are scored, so one that the warp loses counts with Dice 0.

    Raises:
        InputError: the images share no label, or their dimensions differ.
    """
    from . import metrics

    require_same_dimension(fixed_label_image=fixed, moving_label_image=moving, transform=transform)
    shape = (slice(None),) * 3 if fixed.ndim == 3 else (0,)
    a = fixed.data[0].numpy()[shape]
    ids = metrics.shared_labels(a, moving.data[0].numpy())
    if not ids:
        raise InputError("The two label images have no label in common; check that they use the same ids.")
    b = moving.resample(fixed.grid, transform, labels=True).data[0].numpy()[shape]
    overlap = metrics.dice(a, b, ids)
    distance = metrics.hd95(a, b, fixed.spacing[: fixed.ndim][::-1], ids)
    determinant = transform.jacobian_determinant(fixed.grid)
    finite = [value for value in distance.values() if math.isfinite(value)]
    return {
        "labels": {str(i): {"dice": overlap[i], "hd95_mm": distance[i]} for i in ids},
        "mean": {
            "dice": sum(overlap.values()) / len(ids),
            "hd95_mm": sum(finite) / len(finite) if finite else float("nan"),
        },
        "labels_lost": len(ids) - len(finite),
        "folding_percent": metrics.folding_percent(determinant),
        "sdlogj": metrics.sdlogj(determinant),
    }


def describe_models() -> list[dict[str, Any]]:
    """What ``regnet models`` tells of each model. Does not import torch."""
    from dataclasses import asdict

    from .models import MODEL_NAMES, get_info, get_parameters
    from .zoo import list_weights

    return [
        {
            **asdict(get_info(name)),
            "weights": [record.describe() for record in list_weights(name)],
            "parameters": get_parameters(name).describe(),
        }
        for name in MODEL_NAMES
    ]
