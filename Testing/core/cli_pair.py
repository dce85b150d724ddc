"""A pair with a known transform as files, and the command line to use it with."""

from __future__ import annotations

from pathlib import Path

import regnet
import regnet.register
from helpers import blob_image, oblique_grid, random_affine, smooth_field
from regnet.cli import app
from regnet.image import Image
from regnet.transform import Affine, Composite
from typer.testing import CliRunner

ROOT = Path(regnet.__file__).resolve().parents[1]
FIXED = oblique_grid((24, 28, 32), (2.0, 1.5, 1.5), (5, 10, -5), flip=(1, -1, 1))
MOVING = oblique_grid((30, 26, 28), (1.5, 1.6, 1.7), (0, -10, 20))
TRUTH = Composite((smooth_field(FIXED, 2.0, seed=2), random_affine(3, degrees=5, shift=2)))
RESULTS = {"transform.h5", "warped.nii.gz", "report.json", "report.html"}


def run(*arguments, code: int = 0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def write_pair(folder: Path) -> Path:
    """A pair with a known transform, labels on both sides, and the transform as a file."""
    blob_image(FIXED, 1, moved_by=TRUTH).write(folder / "fixed.nii.gz")
    moving = blob_image(MOVING, 1)
    moving.write(folder / "moving.nrrd")
    labels = Image((moving.data > 0.3).int() * 5 + (moving.data > 0.8).int() * 4, moving.index_to_world)
    labels.write(folder / "moving_labels.nii.gz")
    labels.resample(FIXED, TRUTH, labels=True).write(folder / "fixed_labels.nii.gz")
    TRUTH.write(folder / "truth.h5")
    return folder


def done_at_once(asked: dict, synthetic: Image | None = None):
    """A registration that only notes what it was ``asked``, and knows the answer; it makes the ``synthetic`` image."""

    def register(fixed, moving, *, events, **options):
        asked.update(options, fixed=fixed, moving=moving)
        with events.stage("align", 0.0, 1.0):
            events.warn("Working at 2 mm.")
        warped = moving.resample(fixed.grid, TRUTH)
        report = {"model": "avsm", "time_s": {"align": 0.25, "total": 0.5}, "warnings": ["Working at 2 mm."]}
        return regnet.register.Registration(TRUTH, warped, report, Affine.identity(), synthetic=synthetic)

    return register
