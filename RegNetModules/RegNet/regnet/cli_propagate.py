"""The command ``regnet propagate``. Nothing that takes long to import is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_console import guarded, print_json, print_table, progress
from .cli_options import Align, Descriptor, Device, Json, Memory, Model, Parameters, Quiet, Refine, Seed

MOST_ROWS = 40
"""Segments that a table shows."""


@guarded
def propagate(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan with a segmentation; a 4D file is a sequence.")],
    segmentation: Annotated[
        Path, typer.Argument(metavar="SEGMENTATION", help="Label map, or .seg.nrrd with its segments.")
    ],
    targets: Annotated[
        list[Path] | None, typer.Argument(metavar="TARGET", help="Scans to carry it to; none for a 4D SCAN.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUTDIR", help="Folder for the results.")] = ...,
    segment: Annotated[
        list[str] | None,
        typer.Option(
            "--segment", "-s", metavar="NAME", help="Carry only this one, by name or label value; repeatable."
        ),
    ] = None,
    along: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="SCAN and TARGETs are frames in time: reference registers each to the segmented frame, chain to the "
            "frame next to it.",
        ),
    ] = None,
    frame: Annotated[
        int, typer.Option(metavar="N", help="Frame of the sequence that is segmented, counted from 0.")
    ] = 0,
    transform: Annotated[
        list[Path] | None,
        typer.Option(
            "--transform",
            "-t",
            metavar="T",
            help="Instead of registering: from points of a TARGET to points of SCAN; one per target, in order.",
        ),
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Invert the given transforms first.")] = False,
    reference: Annotated[
        list[Path] | None,
        typer.Option(metavar="R", help="Segmentation of a TARGET to score the result by; one per target, in order."),
    ] = None,
    interpolation: Annotated[str, typer.Option(help="smooth, or nearest, which leaves stairs.")] = "smooth",
    output_format: Annotated[
        str, typer.Option("--format", help="nii.gz, seg.nrrd, or auto: as much as SEGMENTATION tells.")
    ] = "auto",
    model: Model = "avsm",
    align: Align = "auto",
    refine: Refine = "auto",
    scan_mask: Annotated[Path | None, typer.Option(help="Where SCAN may be compared (non-zero).")] = None,
    target_mask: Annotated[Path | None, typer.Option(help="Where the only TARGET may be compared (non-zero).")] = None,
    parameters: Parameters = None,
    descriptor: Descriptor = None,
    memory: Memory = None,
    seed: Seed = 0,
    device: Device = "auto",
    transforms: Annotated[
        bool, typer.Option("--transforms/--no-transforms", help="Write the transforms that were found.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Carry SEGMENTATION of SCAN to each TARGET, or along a sequence; writes a segmentation on each target's grid, the
    transforms, from points of the target to points of SCAN, and report.json to OUTDIR."""
    from . import cli_work as work

    options = work.registration_options(model, align, refine, parameters, descriptor, device, seed, memory)
    with progress(quiet) as events:
        events.progress(0.0, "loading libraries")
        from .propagate_files import Request, propagate_files

        request = Request(
            scan,
            segmentation,
            tuple(targets or ()),
            segments=tuple(segment or ()),
            along=along,
            frame=frame,
            transforms=tuple(transform or ()),
            inverse=inverse,
            references=tuple(reference or ()),
            scan_mask=scan_mask,
            target_mask=target_mask,
            interpolation=interpolation,
            format=output_format,
            keep_transforms=transforms,
            registration=options,
        )
        report = propagate_files(request, output, events)
    if json:
        print_json({"output": str(output), **report})
        return
    entries = report["targets"]
    if len(entries) == 1:
        _print_segments(entries[0])
    else:
        _print_targets(
            f"{report['segmentation']} → {len(entries)} {'frames' if report['along'] else 'targets'}", entries
        )
    written = dict.fromkeys(entry["file"] for entry in entries)
    typer.echo(f"Written to {output}: {', '.join(written)}, report.json")


def _print_segments(entry: dict[str, Any]) -> None:
    from .report_numbers import number

    columns = ["segment", "volume before [ml]", "after [ml]", "in view"]
    scored = "mean" in entry
    rows = []
    for row in entry["segments"][:MOST_ROWS]:
        cells = [row["name"], number(row["source_volume_ml"]), number(row["volume_ml"]), _percent(row["share_in_view"])]
        rows.append(cells + ([number(row["dice"]), number(row["hd95_mm"])] if scored else []))
    if scored:
        columns += ["Dice", "HD95 [mm]"]
        rows.append(["mean", "", "", "", number(entry["mean"]["dice"]), number(entry["mean"]["hd95_mm"])])
    print_table(f"Segments on {entry['target']}", rows, columns)
    if len(entry["segments"]) > MOST_ROWS:
        typer.echo(f"{len(entry['segments']) - MOST_ROWS} more segments are in report.json.")


def _print_targets(title: str, entries: list[dict[str, Any]]) -> None:
    from .report_numbers import number

    columns = ["target", "segments", "time [s]"]
    scored = any("mean" in entry for entry in entries)
    rows = []
    for entry in entries:
        arrived = sum(row["voxels"] > 0 for row in entry["segments"])
        cells = [entry["target"], f"{arrived} of {len(entry['segments'])}", number(entry["time_s"])]
        mean = entry.get("mean", {})
        rows.append(cells + ([number(mean.get("dice")), number(mean.get("hd95_mm"))] if scored else []))
    print_table(title, rows, columns + (["Dice", "HD95 [mm]"] if scored else []))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else "–"
