"""Arguments and options that several commands have, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FixedImage = Annotated[Path, typer.Argument(metavar="FIXED", help="Image to register to: a file or a DICOM folder.")]
MovingImage = Annotated[Path, typer.Argument(metavar="MOVING", help="Image to bring onto the fixed one.")]
Model = Annotated[str, typer.Option(help="Registration model; `regnet models` lists them.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
FixedMask = Annotated[Path | None, typer.Option(help="Where the fixed image may be compared (non-zero).")]
MovingMask = Annotated[Path | None, typer.Option(help="Where the moving image may be compared (non-zero).")]
Region = Annotated[
    Path | None,
    typer.Option(
        metavar="R",
        help="Deform only where this is non-zero, an image in the world of FIXED; beyond the taper the result is the "
        "alignment.",
    ),
]
Taper = Annotated[float, typer.Option(metavar="MM", help="Over how far around the region the deformation fades.")]
Align = Annotated[
    str,
    typer.Option(
        help="Initial alignment: auto (what the model asks for), none, centres, moments, nearest, rigid, affine, ddim."
    ),
]
Refine = Annotated[str, typer.Option(help="Improve the result on this pair: auto, off or N steps.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameters", "-p", metavar="KEY=VALUE", help="A parameter of the model.")
]
Descriptor = Annotated[str | None, typer.Option(help="What masr compares: dsir, or mind, which needs no weights.")]
Memory = Annotated[float | None, typer.Option(metavar="MB", help="Memory to stay within, in MB.")]
