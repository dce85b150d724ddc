"""The command line: ``regnet register | correct | align | warp | propagate | fuse | judge | evaluate | models | train |
demo``.

Whatever takes long to import is imported inside the commands, so that ``regnet --help`` answers at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ._version import __version__
from .allocator import keep_freed_memory
from .cli_console import guarded, leave, print_json, print_table, progress, report_rows
from .cli_correct import correct
from .cli_fuse import fuse
from .cli_judge import judge
from .cli_options import (
    Align,
    Descriptor,
    Device,
    FixedImage,
    FixedMask,
    Json,
    Memory,
    Model,
    MovingImage,
    MovingMask,
    Parameters,
    Quiet,
    Refine,
    Region,
    Seed,
    Taper,
)
from .cli_propagate import propagate
from .cli_train import train

app = typer.Typer(
    name="regnet",
    help="Register medical images: find the transform that brings a moving image onto a fixed one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".tif", ".tiff")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"regnet {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
@guarded
def register(
    fixed: FixedImage,
    moving: MovingImage,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUTDIR", help="Folder for the results.")],
    model: Model = "avsm",
    align: Align = "auto",
    refine: Refine = "auto",
    fixed_mask: FixedMask = None,
    moving_mask: MovingMask = None,
    region: Region = None,
    taper: Taper = 10.0,
    parameters: Parameters = None,
    descriptor: Descriptor = None,
    memory: Memory = None,
    colour_map: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the moving image in what bsafusion fuses: inferno, hot, …")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    report_page: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, the page with the pictures.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Register MOVING to FIXED; writes transform.h5, warped.nii.gz, report.json and report.html to OUTDIR, and
    synthetic.nii.gz where the model was asked to translate MOVING to another contrast, fused.nii.gz where it fuses."""
    from . import cli_work as work
    from .outputs import staged_folder

    options = work.registration_options(model, align, refine, parameters, descriptor, device, seed, memory)
    with staged_folder(output, work.RESULT_FILES) as folder, progress(quiet) as events:
        report = work.register_files(
            folder,
            fixed,
            moving,
            page=report_page,
            events=events,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            region=region,
            taper=taper,
            colour_map=colour_map,
            **options,
        )
    if json:
        print_json({"output": str(output), **report})
    else:
        print_table(f"{moving.name} → {fixed.name}", report_rows(report))
        written = [name for name in work.RESULT_FILES if (output / name).is_file()]
        typer.echo(f"Written to {output}: {', '.join(written)}")


@app.command()
@guarded
def align(
    fixed: FixedImage,
    moving: MovingImage,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Transform file: .h5, .tfm or .mat.")],
    method: Annotated[str, typer.Option(help="none, centres, moments, nearest, rigid, affine or ddim.")] = "affine",
    similarity: Annotated[
        str, typer.Option(help="What rigid and affine end with: nmi, or a descriptor, dsir or mind.")
    ] = "nmi",
    fixed_mask: FixedMask = None,
    moving_mask: MovingMask = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Align MOVING to FIXED linearly; writes one ITK transform, fixed to moving points in LPS millimetres."""
    from .cli_work import align_files
    from .outputs import check_output

    check_output(output, (".h5", ".tfm", ".mat", ".txt"))
    with progress(quiet) as events:
        transform = align_files(
            fixed,
            moving,
            method,
            similarity=similarity,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            seed=seed,
            events=events,
        )
        transform.write(output)
    if json:
        print_json({"output": str(output), "method": method, "matrix": transform.matrix})
    else:
        typer.echo(f"Written: {output}")


@app.command()
@guarded
def warp(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image or label image to resample.")],
    reference: Annotated[Path, typer.Option(metavar="R", help="Image whose grid the result gets.")],
    transform: Annotated[Path, typer.Option(metavar="T", help="Transform, from points of R to points of IMAGE.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Image file to write.")],
    labels: Annotated[bool, typer.Option("--labels", help="Keep label values: take the nearest voxel.")] = False,
    inverse: Annotated[bool, typer.Option("--inverse", help="Invert the transform first.")] = False,
    default: Annotated[float, typer.Option(help="Value outside of IMAGE.")] = 0.0,
    json: Json = False,
) -> None:
    """Resample IMAGE onto the grid of R through a transform."""
    from . import cli_work as work
    from .image import Image
    from .outputs import check_output
    from .transform import read_transform

    check_output(output, IMAGE_ENDINGS)
    source = work.read_labels(image) if labels else work.read_image(image)
    grid = Image.read(reference).grid
    mapping = read_transform(transform)
    work.require_same_dimension(image=source, reference=grid, transform=mapping)
    mapping = mapping.inverse() if inverse else mapping
    work.write_image(source.resample(grid, mapping, labels=labels, default=default), output)
    if json:
        print_json({"output": str(output), "shape": grid.shape, "spacing": grid.spacing})
    else:
        typer.echo(f"Written: {output}")


@app.command()
@guarded
def evaluate(
    fixed_labels: Annotated[Path, typer.Option(metavar="F", help="Label image of the fixed image.")],
    moving_labels: Annotated[Path, typer.Option(metavar="M", help="Label image of the moving image.")],
    transform: Annotated[Path, typer.Option(metavar="T", help="Transform, fixed to moving points.")],
    json: Json = False,
) -> None:
    """Score a transform by label images: Dice and HD95 per label and mean, folding, SDlogJ."""
    from . import cli_work as work
    from .report_numbers import number
    from .transform import read_transform

    scores = work.evaluate(work.read_labels(fixed_labels), work.read_labels(moving_labels), read_transform(transform))
    if json:
        print_json(scores)
        return
    rows = [(label, number(s["dice"]), number(s["hd95_mm"])) for label, s in scores["labels"].items()]
    rows.append(("mean", number(scores["mean"]["dice"]), number(scores["mean"]["hd95_mm"])))
    print_table("Labels", rows, ("label", "Dice", "HD95 [mm]"))
    if scores["labels_lost"]:
        typer.echo(f"{scores['labels_lost']} label(s) vanish under the transform; they count in Dice, not in HD95.")
    typer.echo(f"Folding {number(scores['folding_percent'])} %   SDlogJ {number(scores['sdlogj'])}")


@app.command()
@guarded
def models(json: Json = False) -> None:
    """List the registration models, their papers and their weights."""
    from .cli_models import describe_models, weights_rows

    found = describe_models()
    if json:
        print_json(found)
        return
    for entry in found:
        held = ", ".join(weights["variant"] for weights in entry["weights"]) or "none; optimises on each pair"
        print_table(
            f"{entry['name']}: {entry['title']}",
            [
                ("paper", entry["paper"]),
                ("dimensions", ", ".join(f"{n}D" for n in entry["dimensions"])),
                ("modalities", entry["modalities"]),
                ("transform", entry["transform_kind"]),
                ("fuses", "yes" if entry["fuses"] else "no"),
                ("translates", "yes" if entry["translates"] else "no"),
                ("weights", held),
            ],
            justify="left",
        )
        for weights in entry["weights"]:
            print_table(f"Weights {weights['variant']!r} of {entry['name']}", weights_rows(weights), justify="left")


@app.command()
@guarded
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUTDIR", help="Folder for the results.")] = Path(
        "demo-output"
    ),
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder with the demo images.")] = None,
    model: Model = "avsm",
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Carry an atlas' labels onto a patient's brain with the images that come with RegNet."""
    from .demo import RESULT_FILES, run_demo

    with progress(quiet) as events:
        report = run_demo(output, data=data, model=model, seed=seed, device=device, events=events)
    if json:
        print_json({"output": str(output), **report})
    else:
        print_table("Atlas → patient", report_rows(report))
        typer.echo(f"Written to {output}: {', '.join(RESULT_FILES)}")
        typer.echo(f"Look at {output / 'report.html'}")


app.command()(correct)
app.command()(propagate)
app.command()(fuse)
app.command()(judge)
app.command()(train)


def main() -> None:
    """Entry point of the ``regnet`` command."""
    # Before torch loads: threads that wait by spinning make a busy machine many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    code: int | str | None = 0
    try:
        app(prog_name="regnet")
    except SystemExit as end:
        code = end.code
    leave(code)


if __name__ == "__main__":
    main()
