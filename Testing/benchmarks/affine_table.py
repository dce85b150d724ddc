"""The tables of the affine benchmark, ``AFFINE.md``, and the JSON beside them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import machine
from affine_cases import DATASETS, NAMES, REAL, WARPED
from table import Layout, load

FOUND_MM = 2.0
REFERENCE = "regnet-search"
INTRODUCTION = """\
# Affine registration, side by side with other programs

Fifty random affine warps are dealt out to real scans. A warp turns up to 30 degrees about each axis of the fixed image,
scales by up to 15 % along each, and shifts by up to 20 % of the image's extent along each, all about the image's
middle. The moving image is the scan, or another contrast of it that shares its space, resampled once through the warp
(linear) onto a fresh grid of its spacing that holds the scan's own box and all that it shows, moved; then with a gamma
between 0.8 and 1.25 and noise of 2 % of its range where it shows something. The fixed image is the scan as it is. All
programs get the same two files, each registration in a process of its own; threads: {threads}.

The error is the mean distance, over the eight corners of a box, between where the found and the true transform lead.
The box holds the fixed image's content: the largest connected part above a tenth of the range of values (of their 0.1
to 99.9 percentiles). *Found* is the share of registrations with an error below {found:.0f} mm; one that failed is not
found, and left out of the other columns. Two subjects have no true transform: there it is the mean Dice of the
labels that both have, carried over by nearest neighbour through the affine alone.

*Time* is the median from the images in memory to the transform, measured inside the process: importing libraries and
reading files are outside, loading a network's weights is inside. *CPU* is the median processor time of all threads over
the same span. *Process* is the median wall time of the whole process, from the image files to a transform on disk. The
last column divides times by those of {reference}, summed over the cases that both managed: below 1 is faster.

No scan here was used to train DDIM; the IXI heads chose its best state. AVSM's networks, for brains of one contrast,
were trained on OpenMS and C-STAR, too, so those rows flatter it; elsewhere than on brains it is out of its depth.
"""


def layout(methods: tuple[str, ...]) -> Layout:
    """Only the order of the results, for :func:`table.load`."""
    return Layout(INTRODUCTION, (), DATASETS, NAMES, methods, (REFERENCE,))


def write(out: Path, target: Path, about: dict, methods: dict[str, str]) -> None:
    """Write ``target`` (Markdown) from all results below ``out``, and the file of the same name with ``.json``.

    Args:
        about: ``command``, ``threads``, ``machine`` (a dictionary of texts).
        methods: descriptions by name, in the order of rows.
    """
    results = load(out, layout(tuple(methods)))
    if not results:
        raise SystemExit(f"There are no results in {out}.")
    target.write_text(text(results, about, methods), encoding="utf-8")
    whole = json.dumps({"about": about, "results": results}, indent=1) + "\n"
    target.with_suffix(".json").write_text(whole, encoding="utf-8")


def text(results: list[dict], about: dict, methods: dict[str, str]) -> str:
    introduction = INTRODUCTION.format(threads=about["threads"], found=FOUND_MM, reference=REFERENCE)
    parts = [introduction, f"    {about['command']}\n", machine.measured(results, about["machine"])]
    used = list(dict.fromkeys(result["method"] for result in results))
    parts.append("".join(f"- **{name}**: {methods.get(name) or _command(results, name)}\n" for name in used))
    warped = [result for result in results if result["dataset"] in WARPED]
    if len({result["dataset"] for result in warped}) > 1:
        parts += [f"## All warps\n\n{_count(warped)} warps.\n", _table(warped, _errors)]
    for dataset, title in DATASETS.items():
        own = [result for result in results if result["dataset"] == dataset]
        if own:
            noun = "pair" if dataset in REAL else "warp"
            count = _count(own)
            parts += [f"## {title}\n", f"{count} {noun}{'s' * (count != 1)}.\n"]
            parts.append(_table(own, _overlaps if dataset in REAL else _errors))
    return "\n".join(parts)


def _table(results: list[dict], figures) -> str:
    """Rows of methods; ``figures(good, total)`` gives the columns of results that are no times, by title."""
    total, rows, titles = _count(results), [], []
    for method in dict.fromkeys(result["method"] for result in results):
        mine = [result for result in results if result["method"] == method]
        good = [result for result in mine if result["ok"]]
        name = method if len(good) == total else f"{method} ({len(good)} of {total})"
        if good:
            cells = {**figures(good, len(mine)), **_times(results, good)}
            titles = list(cells)
            rows.append([name, *cells.values()])
        else:
            rows.append([method, "failed: " + mine[0]["error"].replace("|", "/").strip()[:200]])
    titles = titles or ["result"]
    lines = [f"| method | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    lines += [f"| {' | '.join(row)} |" + " |" * (len(titles) + 1 - len(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _errors(good: list[dict], total: int) -> dict[str, str]:
    errors = [result["score"]["error_mm"] for result in good]
    return {
        "mean mm": f"{statistics.fmean(errors):.2f}",
        "median mm": f"{statistics.median(errors):.2f}",
        "worst mm": f"{max(errors):.2f}",
        "found": f"{100 * sum(error < FOUND_MM for error in errors) / total:.0f} %",
    }


def _overlaps(good: list[dict], total: int) -> dict[str, str]:
    dice = [result["score"]["dice"] for result in good]
    return {"mean Dice": f"{statistics.fmean(dice):.3f}", "lowest Dice": f"{min(dice):.3f}"}


def _times(results: list[dict], good: list[dict]) -> dict[str, str]:
    inside = {result["pair"]: result["score"]["seconds"] for result in good}
    reference = {r["pair"]: r["score"]["seconds"] for r in results if r["ok"] and r["method"] == REFERENCE}
    common = inside.keys() & reference.keys()
    ratio = sum(inside[pair] for pair in common) / sum(reference[pair] for pair in common) if common else None
    return {
        "time s": f"{statistics.median(inside.values()):.2f}",
        "CPU s": f"{statistics.median(result['score']['cpu_seconds'] for result in good):.2f}",
        "process s": f"{statistics.median(result['cost']['wall_s'] for result in good):.1f}",
        f"time ÷ {REFERENCE}": "" if ratio is None else f"{ratio:.2f}",
    }


def _count(results: list[dict]) -> int:
    return len({result["pair"] for result in results})


def _command(results: list[dict], method: str) -> str:
    return next(f"`{' '.join(result['peer'])}`" for result in results if result["method"] == method)
