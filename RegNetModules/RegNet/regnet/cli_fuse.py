"""The command ``regnet fuse``. Nothing that takes long to import is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_console import guarded, print_json, progress
from .models.bsafusion import FUSION_MODES, PLANES

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff")


@guarded
def fuse(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="Image whose lattice the result has, an MR say.")],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="Image to fuse with it: CT, PET, SPECT or MR.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="File for the fused image.")],
    transform: Annotated[
        Path | None,
        typer.Option("--transform", "-t", metavar="T", help="Fixed to moving points; without, by their headers."),
    ] = None,
    weights: Annotated[str, typer.Option(help=f"Trained for: {', '.join(PLANES)}.")] = PLANES[0],
    mode: Annotated[str, typer.Option(help=f"{', '.join(FUSION_MODES)}: see `regnet models`.")] = "auto",
    colour_map: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show the moving image in colour: inferno, hot, …")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    memory: Annotated[float | None, typer.Option(metavar="MB", help="Memory to stay within, in MB.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Show FIXED and MOVING, which are registered, in one picture by BSAFusion's network."""
    from . import cli_work as work
    from .outputs import check_output

    check_output(output, ENDINGS)
    with progress(quiet) as events:
        report = work.fuse_files(
            fixed,
            moving,
            output,
            transform_path=transform,
            colour_map=colour_map,
            weights=weights,
            mode=mode,
            device=device,
            memory_mb=memory,
            events=events,
        )
    if json:
        print_json({"output": str(output), **report})
    else:
        typer.echo(f"Written: {output} ({report['mode']}: {report['reason']}; weights {report['weights']})")
