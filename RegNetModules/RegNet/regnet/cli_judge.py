"""The command ``regnet judge``. Nothing that takes long to import is imported before it runs."""

from __future__ import annotations

import json as json_module
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_console import guarded, print_json, print_table, progress
from .cli_options import FixedImage, Json, MovingImage, Quiet
from .errors import InputError

if TYPE_CHECKING:
    from .events import Events
    from .image import Image
    from .transform import Transform

MAP_NAMES = ("jacobian", "displacement", "inverse_consistency", "misfit")


@guarded
def judge(
    fixed: FixedImage,
    moving: MovingImage,
    transform: Annotated[
        Path | None,
        typer.Option("--transform", "-t", metavar="T", help="Fixed to moving points; without, by their headers."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="JSON", help="report.json of the run: it may not have converged.")
    ] = None,
    fixed_labels: Annotated[Path | None, typer.Option(metavar="F", help="Label image of FIXED, for Dice.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(metavar="M", help="Label image of MOVING, for Dice.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the page with the pictures.")] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help=f"Write {', '.join(MAP_NAMES)} as .nii.gz there.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a registration, whoever made it: green, amber, red or unknown, with the reasons in plain words."""
    from .outputs import check_output, staged_folder

    if (fixed_labels is None) != (moving_labels is None):
        raise InputError("Dice needs the label images of both sides; give --fixed-labels and --moving-labels.")
    if report is not None:
        check_output(report, (".html", ".htm"))
    with ExitStack() as stack:
        events = stack.enter_context(progress(quiet))
        names = [f"{name}.nii.gz" for name in MAP_NAMES]
        folder = stack.enter_context(staged_folder(maps, names)) if maps is not None else None
        paths = {"fixed": fixed, "moving": moving, "transform": transform, "run": run}
        found = _judged(paths, (fixed_labels, moving_labels), report, folder, events)
    if json:
        print_json(found)
        return
    _print(found, moving, fixed)
    written = [str(path) for path in (report, maps) if path is not None]
    if written:
        typer.echo(f"Written: {', '.join(written)}")


def _judged(
    paths: dict[str, Path | None],
    labels: tuple[Path | None, Path | None],
    page: Path | None,
    folder: Path | None,
    events: Events,
) -> dict[str, Any]:
    from . import cli_work as work
    from .judge import judge as judge_images
    from .judge_report import described, write_page
    from .transform import Affine, read_transform

    fixed, moving = work.read_image(paths["fixed"]), work.read_image(paths["moving"])
    transform = read_transform(paths["transform"]) if paths["transform"] else Affine.identity(fixed.ndim)
    work.require_same_dimension(fixed_image=fixed, moving_image=moving, transform=transform)
    judgement = judge_images(fixed, moving, transform, run=_run(paths["run"]), events=events.share(0.0, 0.9))
    found = described(judgement)
    if labels[0] is not None:
        found["segments"] = _scores(*(work.read_labels(path) for path in labels), transform)
    if folder is not None:
        for name, image in judgement.maps.items():
            work.write_image(image, folder / f"{name}.nii.gz")
    if page is not None:
        write_page(page, fixed, moving, transform, found, (paths["fixed"].name, paths["moving"].name))
    events.progress(1.0)
    return found


def _run(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = json_module.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} is not the report.json of a run; give one, or leave --run out.")
    return found


def _scores(fixed: Image, moving: Image, transform: Transform) -> list[dict[str, Any]]:
    from .cli_work import evaluate

    return [{"name": label, **scores} for label, scores in evaluate(fixed, moving, transform)["labels"].items()]


def _print(found: dict[str, Any], moving: Path, fixed: Path) -> None:
    from .judge_report import WORDS, rows

    table = [(label, " ".join(filter(None, (value, unit)))) for label, value, unit in rows(found)[1:]]
    print_table(f"{moving.name} → {fixed.name}", table)
    typer.echo(f"{found['verdict'].upper()}: {WORDS[found['verdict']]}.")
    for sentence in found["reasons"]:
        typer.echo(f"- {sentence}")
