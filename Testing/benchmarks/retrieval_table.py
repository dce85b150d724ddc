"""The retrieval benchmark's tables, and the gate: whether the learned descriptor wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from retrieval_cases import KINDS, NEW

NAMES = {
    "dsir": "DSIR",
    "mind": "MIND-SSC",
    "mind-ssd": "MIND-SSC, SSD",
    "value": "intensity",
    "patch": "raw patch",
    "chance": "blind guess",
}
WHAT = {
    "dsir": "the learned descriptor of MASR-Net",
    "mind": "MIND-SSC as vectors of unit length, as the registration uses it",
    "mind-ssd": "MIND-SSC compared by the sum of squared differences",
    "value": "the normalised intensity of the voxel",
    "patch": "the 3 × 3 × 3 intensities around it, of zero mean and unit length",
    "chance": "expected for a random candidate",
}
Row = dict[str, Any]


def mean(rows: Sequence[Row], method: str, figure: str) -> float:
    return sum(row["scores"][method][figure] for row in rows) / len(rows)


def losses(rows: Sequence[Row]) -> list[str]:
    """One sentence for every kind of pairs in which the learned descriptor does not win over all others."""
    sentences = []
    for kind, title in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if not own:
            continue
        hits = {method: mean(own, method, "hits") for method in own[0]["scores"] if method not in ("dsir", "chance")}
        best, learned = max(hits, key=lambda method: hits[method]), mean(own, "dsir", "hits")
        if not learned > hits[best]:
            sentences.append(
                f"The learned descriptor does not win in {title!r}: it hits {100 * learned:.1f} % of the voxels, "
                f"{NAMES[best]} {100 * hits[best]:.1f} %."
            )
    return sentences


def markdown(rows: Sequence[Row], weights: str, described: str) -> str:
    """The whole report; ``described`` is the docstring of the program."""
    title, command, *rest = described.strip().split("\n\n")
    shown = [method for method in NAMES if method in rows[0]["scores"]]
    lines = [f"# {title}", "", command, "", *"\n\n".join(rest).replace("``", "`").splitlines(), ""]
    lines += [f"Weights: {weights}. Of a subject its training may have used other files (*trained on*), or judged by"]
    lines += ["them which of its states is kept (*chosen on*); *new* are those it knew nothing of.", ""]
    lines += [f"- **{NAMES[method]}**: {WHAT[method]}" for method in shown]
    lines += ["", "## Means", ""]
    for heading, figure, unit in (
        ("Hits among all voxels, %", "hits", 100.0),
        ("Hits among the voxels within 20 mm of the true place, %", "near", 100.0),
        ("Median distance of the best match among all voxels, mm (mean over the pairs)", "median_mm", 1.0),
    ):
        lines += [f"{heading}:", "", *_means(rows, [m for m in shown if figure in rows[0]["scores"][m]], figure, unit)]
    lines += ["## Pairs", "", "Hits among all voxels % / within 20 mm % / median distance mm.", ""]
    for kind, heading in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if own:
            lines += [f"### {heading[0].upper()}{heading[1:]}", "", *_pairs(own, shown)]
    return "\n".join(lines)


def _means(rows: Sequence[Row], shown: Sequence[str], figure: str, unit: float) -> list[str]:
    lines = _head(["kind", "pairs"], shown)
    subsets: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("", lambda row: True),
        (", new subjects", lambda row: row["seen"] == NEW),
    )
    for kind, title in KINDS.items():
        for suffix, wanted in subsets:
            own = [row for row in rows if row["kind"] == kind and wanted(row)]
            if own:
                values = [unit * mean(own, method, figure) for method in shown]
                lines.append(_line([title + suffix, str(len(own)), *(f"{value:.1f}" for value in values)]))
    return [*lines, ""]


def _pairs(rows: Sequence[Row], shown: Sequence[str]) -> list[str]:
    lines = _head(["pair", "subject", "voxels mm", "candidates"], shown)
    for row in rows:
        spacing = " × ".join(f"{step:.1f}".removesuffix(".0") for step in reversed(row["spacing"]))
        cells = [_cell(row["scores"][method]) for method in shown]
        lines.append(_line([row["pair"], row["seen"], spacing, str(row["candidates"]), *cells]))
    return [*lines, ""]


def _cell(score: dict[str, float]) -> str:
    shares = f"{100 * score['hits']:.1f} / {100 * score['near']:.1f}"
    return f"{shares} / {score['median_mm']:.1f}" if "median_mm" in score else shares


def _head(first: Sequence[str], shown: Sequence[str]) -> list[str]:
    return [_line([*first, *(NAMES[method] for method in shown)]), "|" + "---|" * len(first) + "---:|" * len(shown)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
