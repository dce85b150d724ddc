"""Running a command that must be refused, and small images to run it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers import blob_image, oblique_grid
from regnet.cli import app
from regnet.image import Grid, Image
from typer.testing import CliRunner

GRID = oblique_grid((24, 28, 32), (2.0, 1.5, 1.5), (5, 10, -5))


def write(path: Path, array: np.ndarray | None = None, grid: Grid = GRID) -> Path:
    values = blob_image(grid).data[0].numpy() if array is None else array
    Image.from_numpy(values, grid.index_to_world, grid.ndim).write(path)
    return path


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments, code: int = 3) -> str:
    """Run a command that must fail; returns its sentence."""
    found, out, err = run(*arguments)
    assert found == code, (found, out, err)
    assert out == ""
    sentences = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1 and err.splitlines()[-1] == sentences[0], err
    sentence = sentences[0].removeprefix("Error: ")
    assert sentence.endswith(".") and "Traceback" not in err and "unexpectedly" not in sentence
    return sentence
