"""Turns the results of single runs into ``RESULTS.md`` and the JSON beside it."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from methods import DESCRIPTIONS, METHODS, REFERENCES
from pairs import DATASETS, PAIRS

COLUMNS = (
    # title, where it is in a result, format
    ("Dice", ("score", "dice"), "{:.3f}"),
    ("HD95 mm", ("score", "hd95_mm"), "{:.2f}"),
    ("folding %", ("score", "folding_percent"), "{:.4f}"),
    ("in labels", ("score", "folding_percent_inside"), "{:.4f}"),
    ("SDlogJ", ("score", "sdlogj_inside"), "{:.3f}"),
    ("wall s", ("cost", "wall_s"), "{:.1f}"),
    ("CPU s", ("cost", "cpu_s"), "{:.1f}"),
    ("peak MB", ("cost", "peak_mb"), "{:.0f}"),
)

INTRODUCTION = """\
# Side by side with other registration programs

Every method registers the same pairs of native-space images, in a process of its own, with {threads} threads. Wall and
CPU time cover everything from the image files to a transform on disk, with starting the program; resampling labels and
scoring are outside. CPU time is user and system time of all threads; memory is the peak resident size.

Dice and HD95 are means over the labels that both subjects have, for the moving labels resampled once, by nearest
neighbour, through the whole transform. HD95 is the larger of the two directed 95th percentiles between surfaces.
Folding is the share of voxels where the determinant of the whole mapping, by central differences, is not positive: over
every voxel of the fixed image, and over its labels. SDlogJ is over its labels, too. The same code scores all of them.
The last columns divide a method's time by that of {references}: below 1 is faster.
"""


def load(out: Path) -> list[dict]:
    """All results below the folder ``out``, in the order of pairs and methods."""
    results = [json.loads(file.read_text()) for file in sorted(out.glob("*/*/result.json"))]
    pairs, methods = [pair.name for pair in PAIRS], list(METHODS)
    return sorted(results, key=lambda r: (_place(pairs, r["pair"]), _place(methods, r["method"]), r["method"]))


def write(results: list[dict], target: Path, about: dict) -> None:
    """Write ``target`` (Markdown) and the file of the same name with ``.json``.

    Args:
        results: as :func:`load` gives them.
        about: ``command``, ``threads``, ``machine`` (a dictionary of texts).
    """
    newest = max(results, key=lambda result: result["date"])
    machine = {**about["machine"], "versions": ", ".join(f"{k} {v}" for k, v in newest["versions"].items())}
    days, loads = [r["date"] for r in results], [r["cost"]["load"] for r in results if "cost" in r]
    when = min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"
    parts = [INTRODUCTION.format(threads=about["threads"], references=" and ".join(REFERENCES))]
    parts.append(f"    {about['command']}\n")
    parts.append("".join(f"- {key}: {value}\n" for key, value in machine.items()) + f"- measured: {when}")
    if loads:
        parts[-1] += f"; load of the machine before a run: {statistics.median(loads):.1f} (median)"
        parts[-1] += f", at most {max(loads):.1f}"
    parts[-1] += "\n"
    used = list(dict.fromkeys(r["method"] for r in results))
    parts.append("".join(f"- **{name}**: {DESCRIPTIONS.get(name) or _command(results, name)}\n" for name in used))
    present = [name for name in DATASETS if any(r["dataset"] == name for r in results)]
    for dataset in (*present, None) if len(present) > 1 else present:
        parts.extend(_dataset(results, dataset))
    _replace(target, "\n".join(parts))
    _replace(target.with_suffix(".json"), json.dumps({"about": about, "results": results}, indent=1) + "\n")


def _dataset(results: list[dict], dataset: str | None) -> list[str]:
    """The sections of one data set: means over its pairs, then each pair. ``None``: means over all pairs."""
    own = [r for r in results if dataset in (None, r["dataset"])]
    titles = dict.fromkeys((r["pair"], r["title"]) for r in own)
    heading = f"## {DATASETS[dataset]}" if dataset else "## All pairs"
    parts = [f"{heading}\n", f"Means over {len(titles)} pair{'s' * (len(titles) != 1)}.\n", _table(own, len(titles))]
    if dataset and len(titles) > 1:
        for pair, title in titles:
            parts += [f"### {title} (moving → fixed)\n", _table([r for r in own if r["pair"] == pair], 1)]
    return parts


def _table(results: list[dict], pairs: int) -> str:
    titles = [title for title, _, _ in COLUMNS]
    titles += [f"{kind} ÷ {name}" for kind in ("wall", "CPU") for name in REFERENCES]
    rows = [f"| method | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for method in dict.fromkeys(r["method"] for r in results):
        mine = [r for r in results if r["method"] == method]
        good = {r["pair"]: r for r in mine if r["ok"]}
        if not good:
            rows.append(f"| {method} | failed: {_clean(mine[0]['error'])} |" + " |" * (len(titles) - 1))
            continue
        cells = [form.format(_mean(good.values(), *where)) for _, where, form in COLUMNS]
        cells += [_ratio(results, good, key, name) for key in ("wall_s", "cpu_s") for name in REFERENCES]
        name = method if len(good) == pairs else f"{method} ({len(good)} of {pairs} pairs)"
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _mean(results, part: str, key: str) -> float:
    return statistics.fmean(r[part][key] for r in results)


def _ratio(results: list[dict], good: dict[str, dict], key: str, reference: str) -> str:
    """Time of a method over that of the reference, both summed over the pairs that both managed."""
    other = {r["pair"]: r for r in results if r["method"] == reference and r["ok"]}
    common = good.keys() & other.keys()
    if not common:
        return ""
    return f"{sum(good[p]['cost'][key] for p in common) / sum(other[p]['cost'][key] for p in common):.2f}"


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _command(results: list[dict], method: str) -> str:
    return next(f"`{' '.join(r['peer'])}`" for r in results if r["method"] == method)


def _clean(sentence: str) -> str:
    return sentence.replace("|", "/").strip()[:200]


def _replace(target: Path, text: str) -> None:
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
