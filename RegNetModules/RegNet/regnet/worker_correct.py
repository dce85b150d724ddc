"""The worker's command ``correct``: images, transforms and points of the request in, transforms and numbers out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import worker_files as files
from .correct import correct
from .events import Events
from .local_change import in_a_row
from .protocol import CorrectedResult, CorrectRequest, Step
from .report_numbers import plain
from .transform import Affine, DisplacementField, Transform

RESULT_FILE = "corrected-{number}.npy"


def answer(job: CorrectRequest, events: Events) -> CorrectedResult:
    """What :func:`regnet.correct.correct` makes of a request.

    Raises:
        InputError: something of the request cannot be used. Cancelled: ``events`` asked to stop.
    """
    folder = files.private_folder(job.folder)
    fixed, moving = (files.read_array(folder, entry) for entry in (job.fixed, job.moving))
    result = correct(
        fixed,
        moving,
        _read_steps(folder, job.transforms, fixed.ndim),
        np.array(job.fixed_points, float).reshape(-1, 3),
        np.array(job.moving_points, float).reshape(-1, 3),
        region=job.region and files.read_array(folder, job.region, mask=True),
        mode=job.mode,
        reach=job.reach,
        images=job.images,
        similarity=job.similarity,
        device=job.device,
        events=events,
    )
    events.check()
    return CorrectedResult(transforms=_write_steps(folder, result.transform), report=plain(result.report))


def _read_steps(folder: Path, steps: list[Step], ndim: int) -> Transform:
    """The transforms in a row, each of their fields as it is: what does not change must stay the same to the bit."""
    parts: list[Affine | DisplacementField] = []
    for step in steps:
        field = files.read_displacement(folder, step.displacement)
        parts += [part for part in (field, Affine(np.array(step.affine), ndim)) if part is not None]
    return in_a_row(parts)


def _write_steps(folder: Path, transform: Transform) -> list[Step]:
    """One step for each field, and one for a linear transform that comes first."""
    steps: list[Step] = []
    arrays: dict[str, np.ndarray] = {}
    identity = np.eye(4).tolist()
    for part in transform.parts:
        if isinstance(part, DisplacementField):
            name = RESULT_FILE.format(number=len(steps))
            arrays[name] = part.displacement
            steps.append(Step(affine=identity, displacement=files.placed(name, part.grid)))
        elif steps:
            steps[-1].affine = (part.matrix @ np.array(steps[-1].affine)).tolist()
        else:
            steps.append(Step(affine=part.matrix.tolist()))
    files.save_all(folder, arrays)
    return steps
