"""Turns the results of single runs into a Markdown table, ``RESULTS.md`` or another, and the JSON beside it."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from methods import DESCRIPTIONS, METHODS, REFERENCES
from pairs import DATASETS, PAIRS


class Column(NamedTuple):
    """``where`` a number is in a result, and how those of several pairs become one."""

    title: str
    where: tuple[str, str]
    form: str
    over: Callable[[Iterable[float]], float] = statistics.fmean


@dataclass(frozen=True)
class Layout:
    """What one benchmark's tables show, and in which order.

    ``own`` holds further columns of single data sets. Times are divided by those of ``references``, for each of the
    ``ratios``, keys of a result's cost without ``_s``.
    """

    introduction: str
    columns: tuple[Column, ...]
    datasets: dict[str, str]
    pairs: tuple[str, ...]
    methods: tuple[str, ...]
    references: tuple[str, ...]
    ratios: tuple[str, ...] = ("wall", "cpu")
    own: dict[str, tuple[Column, ...]] = field(default_factory=dict)
    noun: str = "pair"

    def columns_of(self, dataset: str | None) -> tuple[Column, ...]:
        return (*self.own.get(dataset or "", ()), *self.columns)


COSTS = (
    Column("wall s", ("cost", "wall_s"), "{:.1f}"),
    Column("CPU s", ("cost", "cpu_s"), "{:.1f}"),
    Column("peak MB", ("cost", "peak_mb"), "{:.0f}"),
)

LABELS = Layout(
    introduction="""\
# Side by side with other registration programs

Every method registers the same pairs of native-space images, in a process of its own, with {threads} threads. Wall and
CPU time cover everything from the image files to a transform on disk, with starting the program; resampling labels and
scoring are outside. CPU time is user and system time of all threads; memory is the peak resident size.

Dice and HD95 are means over the labels that both subjects have, for the moving labels resampled once, by nearest
neighbour, through the whole transform. HD95 is the larger of the two directed 95th percentiles between surfaces.
Folding is the share of voxels where the determinant of the whole mapping, by central differences, is not positive: over
every voxel of the fixed image, and over its labels. SDlogJ is over its labels, too. The same code scores all of them.
The last columns divide a method's time by that of {references}: below 1 is faster.
""",
    columns=(
        Column("Dice", ("score", "dice"), "{:.3f}"),
        Column("HD95 mm", ("score", "hd95_mm"), "{:.2f}"),
        Column("folding %", ("score", "folding_percent"), "{:.4f}"),
        Column("in labels", ("score", "folding_percent_inside"), "{:.4f}"),
        Column("SDlogJ", ("score", "sdlogj_inside"), "{:.3f}"),
        *COSTS,
    ),
    datasets=DATASETS,
    pairs=tuple(pair.name for pair in PAIRS),
    methods=tuple(METHODS),
    references=REFERENCES,
)


def load(out: Path, layout: Layout = LABELS) -> list[dict]:
    """All results below the folder ``out``, in the order of pairs and methods."""
    results = [json.loads(file.read_text()) for file in sorted(out.glob("*/*/result.json"))]

    def place(result: dict) -> tuple[int, int, str]:
        return _place(layout.pairs, result["pair"]), _place(layout.methods, result["method"]), result["method"]

    return sorted(results, key=place)


def write(results: list[dict], target: Path, about: dict, layout: Layout = LABELS) -> None:
    """Write ``target`` (Markdown) and the file of the same name with ``.json``.

    Args:
        results: as :func:`load` gives them.
        about: ``command``, ``threads``, ``machine`` (a dictionary of texts).
        layout: what the tables show.
    """
    newest = max(results, key=lambda result: result["date"])
    machine = {**about["machine"], "versions": ", ".join(f"{k} {v}" for k, v in newest["versions"].items())}
    days, loads = [r["date"] for r in results], [r["cost"]["load"] for r in results if "cost" in r]
    when = min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"
    parts = [layout.introduction.format(threads=about["threads"], references=" and ".join(layout.references))]
    parts.append(f"    {about['command']}\n")
    parts.append("".join(f"- {key}: {value}\n" for key, value in machine.items()) + f"- measured: {when}")
    if loads:
        parts[-1] += f"; load of the machine before a run: {statistics.median(loads):.1f} (median)"
        parts[-1] += f", at most {max(loads):.1f}"
    parts[-1] += "\n"
    used = list(dict.fromkeys(r["method"] for r in results))
    parts.append("".join(f"- **{name}**: {DESCRIPTIONS.get(name) or _command(results, name)}\n" for name in used))
    present = [name for name in layout.datasets if any(r["dataset"] == name for r in results)]
    for dataset in (*present, None) if len(present) > 1 else present:
        parts.extend(_dataset(results, dataset, layout))
    _replace(target, "\n".join(parts))
    _replace(target.with_suffix(".json"), json.dumps({"about": about, "results": results}, indent=1) + "\n")


def _dataset(results: list[dict], dataset: str | None, layout: Layout) -> list[str]:
    """The sections of one data set: means over its pairs, then each pair. ``None``: means over all pairs."""
    own = [r for r in results if dataset in (None, r["dataset"])]
    titles = dict.fromkeys((r["pair"], r["title"]) for r in own)
    heading = f"## {layout.datasets[dataset]}" if dataset else f"## All {layout.noun}s"
    means = f"Means over {len(titles)} {layout.noun}{'s' * (len(titles) != 1)}.\n"
    parts = [f"{heading}\n", means, _table(own, len(titles), dataset, layout)]
    if dataset and len(titles) > 1:
        for pair, title in titles:
            single = _table([r for r in own if r["pair"] == pair], 1, dataset, layout)
            parts += [f"### {title} (moving → fixed)\n", single]
    return parts


def _table(results: list[dict], pairs: int, dataset: str | None, layout: Layout) -> str:
    columns = layout.columns_of(dataset)
    ratios = [(kind, name) for kind in layout.ratios for name in layout.references]
    titles = [column.title for column in columns]
    titles += [f"{'CPU' if kind == 'cpu' else kind} ÷ {name}" for kind, name in ratios]
    rows = [f"| method | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for method in dict.fromkeys(r["method"] for r in results):
        mine = [r for r in results if r["method"] == method]
        good = {r["pair"]: r for r in mine if r["ok"]}
        if not good:
            rows.append(f"| {method} | failed: {_clean(mine[0]['error'])} |" + " |" * (len(titles) - 1))
            continue
        cells = [_cell(good.values(), column) for column in columns]
        cells += [_ratio(results, good, f"{kind}_s", name) for kind, name in ratios]
        name = method if len(good) == pairs else f"{method} ({len(good)} of {pairs} {layout.noun}s)"
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _cell(results: Iterable[dict], column: Column) -> str:
    """Empty where no result has such a number."""
    part, key = column.where
    values = [result[part][key] for result in results if key in result[part]]
    return column.form.format(column.over(values)) if values else ""


def _ratio(results: list[dict], good: dict[str, dict], key: str, reference: str) -> str:
    """Time of a method over that of the reference, both summed over the pairs that both managed."""
    other = {r["pair"]: r for r in results if r["method"] == reference and r["ok"]}
    common = good.keys() & other.keys()
    if not common:
        return ""
    return f"{sum(good[p]['cost'][key] for p in common) / sum(other[p]['cost'][key] for p in common):.2f}"


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _command(results: list[dict], method: str) -> str:
    return next(f"`{' '.join(r['peer'])}`" for r in results if r["method"] == method)


def _clean(sentence: str) -> str:
    return sentence.replace("|", "/").strip()[:200]


def _replace(target: Path, text: str) -> None:
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
