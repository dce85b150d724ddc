"""The command ``regnet train``. Nothing that takes long to import is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_console import guarded


@guarded
def train(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model to train; `regnet models` lists them.")],
    config: Annotated[Path, typer.Option(metavar="FILE", help="Training configuration, YAML.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", envvar="REGNET_DATA", help="Folder of the images that the manifest names."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Folder for checkpoints and logs; default runs/<model>-<variant>."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the prepared images; default RUN/cache.")
    ] = None,
    devices: Annotated[str, typer.Option(metavar="N", help="Devices per node, or auto.")] = "auto",
    num_nodes: Annotated[int, typer.Option(metavar="N", min=1, help="Nodes of the cluster.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--fresh", help="Go on from the last checkpoint, or start afresh; default: go on."),
    ] = None,
    overfit: Annotated[
        bool, typer.Option("--overfit", help="Train on one pair, to see whether the loss falls.")
    ] = False,
    steps: Annotated[int | None, typer.Option(metavar="N", min=1, help="Steps of every stage.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M", min=0, help="Stop before this much time is over; run again to go on. 0: no training."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the configuration, e.g. stages.0.lr=1e-4."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the best weights to FOLDER/<model>/ at the end.")
    ] = None,
    join: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="When exporting, take the parts of the network that RUN trained from there."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train MODEL as FILE says; run the same command again to go on after a stop or a crash."""
    from .errors import InputError
    from .models import get_info
    from .training.config import read_config

    get_info(model)
    settings = read_config(config, changes or [], steps)
    if settings.model != model:
        raise InputError(f"The configuration {str(config)!r} is for {settings.model!r}, not for {model!r}.")
    from .training.run import Devices, Where, train

    if join is not None and export is None:
        raise InputError("--join says what to export; give the folder for it with --export.")
    if data is not None and not data.is_dir():
        raise InputError(f"There is no folder {str(data)!r}; give the folder of the images with --data.")
    where = Where(config.parent, out or Path("runs") / f"{model}-{settings.variant}", data, cache)
    checkpoint = train(
        settings,
        where,
        Devices(accelerator, devices, num_nodes),
        resume=resume,
        overfit=overfit,
        minutes=minutes,
        quiet=quiet,
        command=_command(model, config, steps, changes or []),
    )
    typer.echo(f"Trained: {checkpoint}")
    if export is not None:
        from .training.checkpoints import best_checkpoint
        from .training.export import export as write

        joined = None if join is None else best_checkpoint(join)
        typer.echo(f"Written: {write(checkpoint, export, joined=joined)}")


def _command(model: str, config: Path, steps: int | None, changes: list[str]) -> str:
    """What decides the result, for the record; no folders of this machine."""
    parts = ["regnet train", model, "--config", config.name if config.is_absolute() else config.as_posix()]
    parts += [] if steps is None else ["--steps", str(steps)]
    return " ".join([*parts, *(f"--set {change}" for change in changes)])
