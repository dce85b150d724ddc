"""A judgement in words: rows for tables, and the page of :mod:`regnet.report` with the verdict on it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .report_numbers import NOTHING, number

if TYPE_CHECKING:
    from .image import Image
    from .judge import Judgement
    from .transform import Transform

WORDS = {"green": "Looks right", "amber": "Look before you use it", "red": "Do not use it", "unknown": "Cannot tell"}
ROWS = (
    ("settled_percent", "Neighbourhoods that fit best where they are put", "%"),
    ("settled_mm", "… within", "mm"),
    ("agreement_before", "Descriptor agreement above chance, before", ""),
    ("agreement_after", "Descriptor agreement above chance, after", ""),
    ("nmi_before", "Normalised mutual information, before", ""),
    ("nmi_after", "Normalised mutual information, after", ""),
    ("better_shift_mm", "Best other place of the whole image", "mm away"),
    ("better_gain", "… won there, as a share of what there is to win", ""),
    ("mirrored_gain", "… won by mirroring", ""),
    ("compared_percent", "Fixed foreground that could be compared", "%"),
    ("outside_percent", "Fixed foreground outside the moving image", "%"),
    ("folded_percent", "Folded", "% of the fixed foreground"),
    ("smallest_determinant", "Smallest Jacobian determinant", ""),
    ("largest_determinant", "Largest Jacobian determinant", ""),
    ("smallest_determinant_at", "Smallest Jacobian determinant, at", "mm"),
    ("linear_scale", "Volume scale of the linear part", ""),
    ("sdlogj", "Standard deviation of log Jacobian", ""),
    ("displacement_mean_mm", "Displacement, mean", "mm"),
    ("displacement_p95_mm", "Displacement, 95th percentile", "mm"),
    ("displacement_max_mm", "Displacement, largest", "mm"),
    ("displacement_max_at", "Displacement, largest at", "mm"),
    ("inverse_error_mean_mm", "Inverse consistency error, mean", "mm"),
    ("inverse_error_p95_mm", "Inverse consistency error, 95th percentile", "mm"),
    ("inverse_error_max_mm", "Inverse consistency error, largest", "mm"),
    ("inverse_error_max_at", "Inverse consistency error, largest at", "mm"),
)
"""Names in ``Judgement.numbers``, what they are called, and their units."""


def described(judgement: Judgement) -> dict[str, Any]:
    """The judgement without its maps, as plain values."""
    found = judgement.verdict
    return {
        "verdict": found.level,
        "reasons": found.sentences,
        "problems": [{"kind": one.kind, "level": one.level, "text": one.text} for one in found.problems],
        "numbers": judgement.numbers,
    }


def rows(report: dict[str, Any], world: str = "LPS") -> list[tuple[str, str, str]]:
    """(label, value, unit) in the order of reading, of what :func:`described` gives; ``world`` names the directions of
    its positions. ``report["segments"]`` and ``report["tre"]`` are told, too, where they are there."""
    numbers = report.get("numbers") or {}
    found = [("Verdict", WORDS.get(report.get("verdict", ""), NOTHING), "")]
    for name, label, unit in ROWS:
        value = numbers.get(name)
        if isinstance(value, (list, tuple)):
            found.append((label, ", ".join(f"{step:.1f}" for step in value), f"{unit} ({world})"))
        else:
            found.append((label, number(value), unit))
    for segment in report.get("segments") or []:
        found.append((f"Dice of {segment['name']}", number(segment.get("dice")), ""))
        found.append((f"HD95 of {segment['name']}", number(segment.get("hd95_mm")), "mm"))
    errors = report.get("tre") or {}
    for name in ("mean", "median", "largest"):
        if name in errors:
            found.append((f"Target registration error, {name}", number(errors[name]), "mm"))
    return found


def write_page(
    path: str | os.PathLike,
    fixed: Image,
    moving: Image,
    transform: Transform,
    report: dict[str, Any],
    names: tuple[str, str],
    before: Transform | None = None,
) -> None:
    """Write the self-contained page of a judgement.

    Args:
        report: as :func:`described` gives it.
        names: of the fixed and of the moving image.
        before: where the moving image lay before.

    Raises:
        InputError: the place cannot be written.
    """
    from . import __version__
    from .report import write_report_html

    numbers = report["numbers"]
    fixed, moving = fixed.luminance(), moving.luminance()
    beyond = float(moving.data.min())
    shown = [moving.resample(fixed.grid, way, default=beyond) for way in (before, transform)]
    page = {
        "fixed": names[0],
        "moving": names[1],
        "created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": __version__,
        "similarity_metric": "descriptor agreement above chance",
        "similarity_before": numbers.get("agreement_before"),
        "similarity_after": numbers.get("agreement_after"),
        "folding_percent": numbers.get("folded_percent"),
        "sdlogj": numbers.get("sdlogj"),
        "verdict": (report["verdict"], WORDS[report["verdict"]], report["reasons"]),
        "judged": rows(report),
        "settled_percent": numbers.get("settled_percent"),
        "settled_mm": numbers.get("settled_mm"),
        "outside_percent": numbers.get("outside_percent"),
    }
    write_report_html(path, fixed, *shown, transform, page)
