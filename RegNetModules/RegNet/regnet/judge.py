"""Is a registration right? Numbers, maps and a verdict of any transform between two images, whoever made it.

Nothing is asked of the images but that they show the same anatomy: similarity is judged by local descriptors that look
alike in all modalities. What the verdict means and where its limits lie says :mod:`regnet.judge_verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .checks import check_image
from .errors import InputError
from .events import Events
from .image import Image
from .judge_agreement import SETTLED, Fit, Looker, agreement, foreground, look
from .judge_regularity import regularity
from .judge_verdict import Verdict, verdict
from .transform import Transform

MAPS = ("jacobian", "displacement", "inverse_consistency", "misfit")
"""Determinant of the Jacobian; mm moved; mm between a point and itself after the transform and its numerical inverse;
mm between where a neighbourhood is put and where it fits best."""


@dataclass(frozen=True)
class Judgement:
    """``maps`` are those of :data:`MAPS` that could be made, of one channel, on the fixed lattice or coarser ones over
    the box of the fixed foreground. Positions in ``numbers`` are (x, y, z) in LPS mm; None is what could not be told.
    """

    verdict: Verdict
    numbers: dict[str, Any]
    maps: dict[str, Image]


@torch.inference_mode()
def judge(
    fixed: Image,
    moving: Image,
    transform: Transform,
    *,
    before: Transform | None = None,
    run: dict[str, Any] | None = None,
    events: Events | None = None,
) -> Judgement:
    """Judge ``transform``, from points of ``fixed`` to points of ``moving``.

    Args:
        fixed, moving: of one channel, or in red, green and blue.
        before: where the moving image lay before; None for where its header puts it.
        run: the report of the run that made the transform, if there is one: it may say that it did not converge.

    Raises:
        InputError: an image or the transform cannot be used. Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    fixed, moving = fixed.luminance(), moving.luminance()
    for role, image in (("fixed", fixed), ("moving", moving)):
        check_image(image, role)
    if not fixed.ndim == moving.ndim == transform.ndim:
        raise InputError(
            f"The fixed image is {fixed.ndim}D, the moving image {moving.ndim}D and the transform {transform.ndim}D; "
            f"all must have the same dimension."
        )
    with events.stage("judge", 0.0, 1.0):
        events.progress(0.0)
        content = foreground(fixed)
        regular = regularity(fixed, moving, content, transform, events.share(0.02, 0.4))
        looker = Looker(fixed, moving, content)
        with events.stage("similarity", 0.4, 0.9):
            fit = look(looker, transform, events)
        with events.stage("similarity", 0.9, 1.0):
            start = agreement(looker, before, events)
    numbers = {**regular.numbers, **_told(fit), "agreement_before": start[0], "nmi_before": start[1]}
    maps = {**regular.maps, **({"misfit": fit.misfit} if fit.misfit is not None else {})}
    return Judgement(verdict(numbers, run), numbers, {name: maps[name] for name in MAPS if name in maps})


def _told(fit: Fit) -> dict[str, Any]:
    shift = fit.better_shift
    return {
        "nmi_after": fit.nmi,
        "agreement_after": fit.agreement,
        "compared_percent": 100.0 * fit.compared,
        "settled_percent": None if fit.settled is None else 100.0 * fit.settled,
        "settled_mm": SETTLED * fit.spacing,
        "better_gain": fit.better_gain,
        "better_shift": list(shift) if shift else None,
        "better_shift_mm": sum(step * step for step in shift) ** 0.5 if shift else None,
        "mirrored_gain": fit.mirrored_gain,
    }
