"""What the worker does on request besides registering: fuse, propagate, judge, correct."""

from __future__ import annotations

from . import protocol
from . import worker_files as files
from .events import Events


def answer(job: protocol.Job, events: Events) -> protocol.Result:
    """The result of a request other than a registration.

    Raises:
        RegNetError: what is asked for cannot be done; the message says why.
        Cancelled: ``events`` asked to stop.
    """
    if isinstance(job, protocol.JudgeRequest):
        from .worker_judge import judge_request

        return judge_request(job, events)
    if isinstance(job, protocol.CorrectRequest):
        from .worker_correct import answer as corrected

        return corrected(job, events)
    return _fuse(job, events) if isinstance(job, protocol.FuseRequest) else _propagate(job, events)


def _fuse(job: protocol.FuseRequest, events: Events) -> protocol.FusedResult:
    from .fusing import fuse

    folder = files.private_folder(job.folder)
    images = [files.read_array(folder, entry) for entry in (job.fixed, job.moving)]
    with events.stage("fuse", 0.0, 1.0):
        fusion = fuse(
            *images,
            files.read_displacement(folder, job.displacement),
            colours=files.colour_table(job.colours),
            weights=job.weights,
            mode=job.mode,
            device=job.device,
            memory_mb=job.memory_mb,
            events=events,
        )
    return files.write_fusion(folder, fusion)


def _propagate(job: protocol.PropagateRequest, events: Events) -> protocol.PropagatedResult:
    from .propagate import carry

    folder = files.private_folder(job.folder)
    carried = carry(
        files.read_segmentation(folder, job.labels, job.segments),
        files.lattice(job.target),
        files.read_steps(folder, job.transforms, files.lattice(job.target)),
        reference=job.reference
        and files.read_segmentation(folder, job.reference, job.reference_segments or job.segments),
        interpolation=job.interpolation,
        events=events,
    )
    events.check()
    return files.write_labels(folder, carried)
