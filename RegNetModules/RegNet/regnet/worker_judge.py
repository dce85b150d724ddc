"""The worker's command ``judge``: arrays of the request in, maps, numbers and a page out."""

from __future__ import annotations

import os

import numpy as np

from . import worker_files as files
from .events import Events
from .image import Image
from .judge import judge
from .judge_report import described, write_page
from .propagate import carry
from .protocol import JudgedResult, JudgeRequest
from .report_numbers import plain
from .transform import Affine, Transform

PAGE = "report.html"


def judge_request(job: JudgeRequest, events: Events) -> JudgedResult:
    """What :func:`regnet.judge.judge` says of the images and transforms of a request.

    Raises:
        InputError: something of the request cannot be used. Cancelled: ``events`` asked to stop.
    """
    folder = files.private_folder(job.folder)
    fixed, moving = (files.read_array(folder, entry) for entry in (job.fixed, job.moving))
    transform = files.read_steps(folder, job.transforms, fixed.grid)
    before = None if job.before is None else Affine(np.array(job.before), fixed.ndim)
    scored = job.fixed_labels is not None and job.moving_labels is not None
    end = 0.6 if scored else 0.9
    found = judge(fixed, moving, transform, before=before, run=job.run, events=events.share(0.0, end))
    report = described(found)
    if scored:
        report["segments"] = _overlaps(job, folder, fixed, transform, events.share(end, 0.9))
    events.check()
    if job.page:
        write_page(folder / PAGE, fixed, moving, transform, report, tuple(job.names), before)
    events.check()
    arrays = {f"map-{name}.npy": image.data[0].numpy() for name, image in found.maps.items()}
    files.save_all(folder, arrays)
    return JudgedResult(
        maps={name: files.placed(f"map-{name}.npy", image.grid) for name, image in found.maps.items()},
        page=PAGE if job.page else None,
        report=plain(report),
    )


def _overlaps(
    job: JudgeRequest, folder: os.PathLike, fixed: Image, transform: Transform, events: Events
) -> list[dict[str, object]]:
    """Dice and HD95 of the segments that both sides have."""
    assert job.moving_labels is not None and job.fixed_labels is not None
    moving = files.read_segmentation(folder, job.moving_labels, job.moving_segments)
    reference = files.read_segmentation(folder, job.fixed_labels, job.fixed_segments)
    carried = carry(moving, fixed.grid, transform, reference, name="the fixed volume", events=events)
    rows = carried.report["segments"]
    return [{name: row[name] for name in ("name", "dice", "hd95_mm")} for row in rows if row["dice"] is not None]
