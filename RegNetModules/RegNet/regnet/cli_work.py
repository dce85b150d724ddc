"""What the commands do between reading and printing: options into values, results into folders, scores."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .events import Events
from .nifti import is_complete, is_nifti, read_checked
from .report_numbers import MAIN_STAGES

if TYPE_CHECKING:
    from .colour_table import ColourTable
    from .image import Image
    from .transform import Affine, Transform

RESULT_FILES = ("transform.h5", "warped.nii.gz", "fused.nii.gz", "synthetic.nii.gz", "report.json", "report.html")
"""What a registration can write; a fused one or one of another contrast only where the model makes it."""


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


def registration_options(
    model: str,
    align: str,
    refine: str,
    parameters: Iterable[str] | None,
    descriptor: str | None,
    device: str,
    seed: int,
    memory: float | None,
) -> dict[str, Any]:
    """What the options of the command line ask :func:`regnet.register` for, checked before any image is read."""
    from .models import get_info, get_parameters

    values = parse_parameters(parameters or [])
    if descriptor is not None:
        values["descriptor"] = descriptor
    steps = parse_refine(refine)
    get_info(model)
    get_parameters(model).from_dict(values)
    return {
        "model": model,
        "align": align,
        "refine": steps,
        "parameters": values,
        "device": device,
        "seed": seed,
        "memory_mb": memory,
    }


def read_image(path: Path) -> Image:
    """An image, with the checks of NIfTI files that ITK leaves out.

    Raises:
        InputError: it is missing, damaged, or holds more than one volume or values that are not finite.
    """
    from .image import Image

    return read_checked(path, lambda: Image.read(path))


def read_labels(path: Path) -> Image:
    """A label image or a mask.

    Raises:
        InputError: it cannot be read, or its values are not whole numbers.
    """
    from .files import read_sitk, require_whole_numbers
    from .image import Image

    image = read_checked(path, lambda: read_sitk(path))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{str(path)!r} has several values per voxel; give a label image with one.")
    require_whole_numbers(image, path)
    return Image.from_sitk(image, labels=True)


def write_image(image: Image, path: Path) -> None:
    """Write an image so that it appears whole or not at all.

    Raises:
        InputError: the place cannot be written, or the disk is full.
    """
    from .files import replacing

    with replacing(path) as temporary:
        image.write(temporary)
        if is_nifti(temporary) and not is_complete(temporary):
            raise OSError(errno.ENOSPC, "the file was cut short, the disk may be full")


def require_same_dimension(**things: Any) -> None:
    """Raise an :class:`InputError` unless all ``things`` (images or transforms) are 2D, or all 3D."""
    if len({thing.ndim for thing in things.values()}) > 1:
        listed = ", ".join(f"the {name.replace('_', ' ')} is {thing.ndim}D" for name, thing in things.items())
        raise InputError(f"{listed[0].upper()}{listed[1:]}; all must have the same dimension.")


def register_files(
    folder: Path,
    fixed_path: Path,
    moving_path: Path,
    *,
    labels_path: Path | None = None,
    fixed_mask: Path | None = None,
    moving_mask: Path | None = None,
    region: Path | None = None,
    page: bool = True,
    colour_map: str | None = None,
    events: Events | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Read two images, register them with ``options`` and write the result's files into ``folder``.

    With ``labels_path``, labels on the moving image are carried over to ``labels.nii.gz``. A model that was asked to
    translate the moving image adds ``synthetic.nii.gz``, one that fuses ``fused.nii.gz``, with ``colour_map`` for the
    moving image. Without ``page`` there is no ``report.html``.

    Returns:
        The report, as it was written; its total time includes reading and writing the images.
    """
    events = events or Events()
    events.progress(0.0, "loading libraries")
    from .register import register

    with events.stage("load", 0.01, 0.04):
        fixed, moving = read_image(fixed_path), read_image(moving_path)
        labels, *masks = (path and read_labels(path) for path in (labels_path, fixed_mask, moving_mask, region))
    result = register(
        fixed,
        moving,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        region=masks[2],
        colours=colours_for(moving, colour_map),
        events=events.share(0.04, 0.92),
        **options,
    )
    with events.stage("write", 0.92, 0.97):
        files: list[Callable[[], None]] = [
            lambda: result.transform.write(folder / "transform.h5"),
            lambda: write_image(result.warped, folder / "warped.nii.gz"),
        ]
        if result.fused is not None:
            files.append(lambda: write_image(result.fused, folder / "fused.nii.gz"))
        if result.synthetic is not None:
            files.append(lambda: write_image(result.synthetic, folder / "synthetic.nii.gz"))
        if labels is not None:
            labels = labels.resample(fixed.grid, result.transform, labels=True)
            files.append(lambda: write_image(labels, folder / "labels.nii.gz"))
        # Compressing keeps one core busy, so several files at a time.
        with ThreadPoolExecutor() as pool:
            for written in [pool.submit(write) for write in files]:
                written.result()
    report = {
        "fixed": fixed_path.name,
        "moving": moving_path.name,
        "created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **result.report,
        "time_s": _with_files(result.report["time_s"], events.seconds),
    }
    with events.stage("report", 0.97, 1.0):
        from .report import write_report_html, write_report_json

        write_report_json(report, folder / "report.json")
        if page:
            shown = [image.luminance() for image in (fixed, moving.resample(fixed.grid), result.warped)]
            write_report_html(folder / "report.html", *shown, result.transform, report, labels)
    return report


def colours_for(image: Image, colour_map: str | None) -> ColourTable | None:
    """The named colour map over the bulk of the image's values; None without a name.

    Raises:
        InputError: there is no such map, or the image is in colour already.
    """
    from .colour_table import ColourTable
    from .image import percentiles

    if colour_map is None:
        return None
    if image.data.shape[0] != 1:
        raise InputError("The moving image is in colour already; leave the colour map out.")
    low, high = percentiles(image.data.float(), (0.1, 99.9))
    return ColourTable.named(colour_map, low, high if high > low else low + 1.0)


def fuse_files(
    fixed_path: Path,
    moving_path: Path,
    output: Path,
    *,
    transform_path: Path | None = None,
    colour_map: str | None = None,
    events: Events,
    **options: Any,
) -> dict[str, Any]:
    """Fuse two image files as :func:`regnet.fusing.fuse` does with ``options``; how it was done, for the user."""
    from .fusing import fuse
    from .transform import read_transform

    fixed, moving = read_image(fixed_path), read_image(moving_path)
    transform = transform_path and read_transform(transform_path)
    if transform is not None:
        require_same_dimension(fixed_image=fixed, transform=transform)
    with events.stage("fuse", 0.0, 0.95):
        fusion = fuse(fixed, moving, transform, colours=colours_for(moving, colour_map), events=events, **options)
    write_image(fusion.image, output)
    return fusion.report


def align_files(
    fixed_path: Path,
    moving_path: Path,
    method: str,
    *,
    similarity: str = "nmi",
    fixed_mask: Path | None,
    moving_mask: Path | None,
    seed: int,
    events: Events,
) -> Affine:
    """The linear transform between two image files, after the checks that :func:`regnet.register` makes."""
    from .align import align
    from .checks import check_image, check_mask

    images = {"fixed": read_image(fixed_path), "moving": read_image(moving_path)}
    masks: dict[str, Image | None] = {}
    for role, path in (("fixed", fixed_mask), ("moving", moving_mask)):
        check_image(images[role], role)
        masks[role] = path and read_labels(path)
        if masks[role] is not None:
            check_mask(masks[role], images[role], role)
    require_same_dimension(fixed_image=images["fixed"], moving_image=images["moving"])
    with events.stage("align", 0.0, 1.0):
        return align(
            images["fixed"],
            images["moving"],
            method,
            similarity=similarity,
            fixed_mask=masks["fixed"],
            moving_mask=masks["moving"],
            events=events,
            seed=seed,
        )


def _with_files(seconds: dict[str, float], files: dict[str, float]) -> dict[str, float]:
    """Time per stage with reading and writing around it, and the total of both."""
    load, write = (round(files.get(name, 0.0), 3) for name in ("load", "write"))
    stages = {name: value for name, value in seconds.items() if name != "total"}
    # A report is made during the last stage, so that one's time is what is missing from the total.
    known = sum(stages.get(name, 0.0) for name in MAIN_STAGES)
    stages.setdefault("export", round(max(seconds["total"] - known, 0.0), 3))
    return {"load": load, **stages, "write": write, "total": round(seconds["total"] + load + write, 3)}


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
