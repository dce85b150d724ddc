"""The command ``regnet correct``. Nothing that takes long to import is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_console import guarded, print_json, print_table, progress
from .cli_options import Device, FixedImage, Json, MovingImage, Quiet

ENDINGS = (".h5", ".tfm", ".nii.gz", ".nii", ".nrrd", ".mha")
LINEAR_ENDINGS = (".h5", ".tfm")


@guarded
def correct(
    fixed: FixedImage,
    moving: MovingImage,
    transform: Annotated[
        Path, typer.Option("--transform", "-t", metavar="T", help="Present result: from points of FIXED to MOVING.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Transform file: .h5, .tfm, .nii.gz.")],
    points: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="P",
            help="Pairs: a CSV file with x, y, z of the fixed and of the moving point in each row, LPS mm; or given "
            "twice, .mrk.json files of the fixed and of the moving points.",
        ),
    ] = None,
    region: Annotated[
        Path | None, typer.Option(metavar="R", help="Label image on FIXED: where the images must be made to agree.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact/--soft", help="Meet every point, or allow each a little error.")
    ] = False,
    reach: Annotated[
        float | None, typer.Option(metavar="MM", help="Beyond it nothing changes; by default as the errors ask for.")
    ] = None,
    images: Annotated[
        bool | None,
        typer.Option("--images/--no-images", help="Let the images agree around the points, too. With a region: on."),
    ] = None,
    similarity: Annotated[str, typer.Option(help="What the images are compared by: mind, dsir or lncc.")] = "mind",
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Correct a registration of MOVING to FIXED where it is wrong, and leave the rest as it is."""
    from .outputs import check_output

    check_output(output, ENDINGS)
    with progress(quiet) as events:
        events.progress(0.0, "loading libraries")
        names, report = _correct_files(
            fixed,
            moving,
            transform,
            output,
            points or [],
            region,
            events,
            mode="exact" if exact else "soft",
            reach=reach,
            images=images,
            similarity=similarity,
            device=device,
        )
    for name, row in zip(names, report["points"], strict=True):
        row["name"] = name
    if json:
        print_json({"output": str(output), **report})
        return
    if names:
        rows = [(row["name"], f"{row['before_mm']:.2f}", f"{row['after_mm']:.2f}") for row in report["points"]]
        print_table("Points", rows, ("point", "error before [mm]", "after [mm]"))
    typer.echo(f"Reach {report['reach_mm']:.1f} mm, largest change {report['largest_change_mm']:.1f} mm")
    typer.echo(f"Written: {output}")


def _correct_files(
    fixed: Path,
    moving: Path,
    transform: Path,
    output: Path,
    points: list[Path],
    region: Path | None,
    events: Any,
    **options: Any,
) -> tuple[list[str], dict[str, Any]]:
    """Names of the pairs, and the report."""
    from . import cli_work as work
    from .correct import correct as correct_transform
    from .point_files import read_pairs
    from .transform import Affine, read_transform

    names, there, here = read_pairs(points) if points else ([], None, None)
    with events.stage("read", 0.0, 0.1):
        present, first = read_transform(transform), work.read_image(fixed)
        second, mask = work.read_image(moving), region and work.read_labels(region)
        work.require_same_dimension(fixed_image=first, moving_image=second, transform=present)
    result = correct_transform(
        first, second, present, there, here, region=mask, events=events.share(0.1, 0.95), **options
    )
    changed = result.transform
    if isinstance(present, Affine) and not output.name.lower().endswith(LINEAR_ENDINGS):
        changed = changed.to_field(first.grid)  # the change's own lattice is too small for the linear part
    with events.stage("write", 0.95, 1.0):
        changed.write(output)
    return names, result.report
