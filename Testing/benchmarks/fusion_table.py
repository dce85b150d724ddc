"""The tables of the fusion benchmark, ``FUSION.md``, and the JSON beside them."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

import machine
from fusion_cases import MODALITIES
from fusion_peers import MODELS, PEERS
from fusion_rules import DESCRIPTIONS as RULES
from fusion_warps import KINDS

DESCRIPTIONS = {**PEERS, **MODELS}
REFERENCE = "ants"
SAME = 0.005  # pixels: smaller differences of two errors do not show in the tables
KIND_TITLES = {
    "published": f"deformed as published, {KINDS['published'].rms:.1f} px",
    "larger": f"larger deformations, {KINDS['larger'].rms:.1f} px and an affine part",
}
METRICS = {"qabf": "QAB/F ↑", "qcv": "QCV ↓", "vif": "VIF ↑", "mi": "MI ↑", "qs": "Qs ↑", "ssim": "SSIM ↑"}
FORMS = {"qcv": "{:.1f}"}  # else three decimals
INTRODUCTION = """\
# Registration and fusion of two modalities in the plane, side by side

Slices of heads, 256 × 256, whose two images lie on each other, until the moving one is deformed: resampled once
(linear) through a stored random displacement. *Published* is the kind on which BSAFusion was published, a translation
of up to {published.shift:.0f} px along each axis plus uniform noise under a Gaussian of 16 px, together
{published.rms:.1f} px (root mean square); *larger* is the same at {larger.rms:.1f} px, turned by up to
{larger.degrees:.0f} degrees and scaled by up to {percent:.0f} % along each axis. The slices are of the {split} cases,
split by case number; the peers' settings were chosen on slices of tuning cases, as were BSAFusion's grid, how often it
looks, and how long its decoder learned.
Nothing here was trained on any slice of this set. How well its pairs lie on each other is not known exactly: on six
tuning slices as they are, not deformed, SimpleITK moved the head by 1.1 to 4.2 px and ANTs by 1.0 to 1.9 px.

The error of a registration is the distance, in pixels, of where it takes a pixel of the fixed image to where the true
displacement does. It is taken over the head in the fixed image, as far as the deformation has left it in the picture;
*both* over the part of it where the moving image shows something, too: elsewhere there is nothing to go by. Mean and
95th percentile are over the pixels of a slice and then means over slices; *before* is the mean without registration.
*Worse* counts the slices on which the error was smaller before. Folding is the share of the head's pixels where the
determinant of the mapping, by central differences, is not positive.

The peers compare Mattes' mutual information in 32 bins, over the head in the moving image alone, and start from the
images as they lie: a rigid stage, then a free one. So they erred least on a few tuning slices; without the mask, with
an affine stage, with finer splines or less stiff they erred more.

Times are of the registration alone, inside a process that has done one before, from images in memory to a transform,
with {threads} thread{s}: importing libraries, building a network for the first time and fusing are outside. They are
medians; the last column divides the processor time by that of {reference}, summed over the
slices that both managed: below 1 is faster.
"""
FUSION = """\
## Fusion

Every row fuses the same two images: the fixed one, and the moving one as the method above the table registered it. The
metrics see both in [0, 1] and are means over the slices. ↑: higher is better; ↓: lower is.
"""


def write(out: Path, target: Path, about: dict) -> None:
    """Write ``target`` (Markdown) from all results below ``out``, and the file of the same name with ``.json``.

    Args:
        about: ``command``, ``threads``, ``split``, ``machine`` (a dictionary of texts).
    """
    results = load(out, "*/*/result.json", about["split"])
    if not results:
        raise SystemExit(f"There are no results of {about['split']} cases in {out}.")
    fusions = load(out, "*/fusion.json", about["split"])
    whole = {"about": about, "results": results, "fusions": fusions}
    _replace(target, text(results, fusions, about))
    _replace(target.with_suffix(".json"), json.dumps(whole, indent=1) + "\n")


def load(out: Path, pattern: str, split: str) -> list[dict]:
    """The results of a split in files below ``out``, in the order of modalities, kinds, slices and methods."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob(pattern))]

    def place(result: dict) -> tuple:
        known = list(DESCRIPTIONS)
        method = known.index(result["method"]) if result.get("method") in known else len(known)
        return list(MODALITIES).index(result["modality"]), list(KINDS).index(result["kind"]), result["name"], method

    return sorted((result for result in found if result["split"] == split), key=place)


def text(results: list[dict], fusions: list[dict], about: dict) -> str:
    threads = about["threads"]
    introduction = INTRODUCTION.format(
        **KINDS,
        percent=100 * KINDS["larger"].scale,
        split=about["split"],
        threads=threads,
        s="s" * (threads != 1),
        reference=REFERENCE,
    )
    parts = [introduction, f"    {about['command']}\n", machine.measured(results, about["machine"])]
    used = [name for name in DESCRIPTIONS if any(result["method"] == name for result in results)]
    parts += ["".join(f"- **{name}**: {DESCRIPTIONS[name]}\n" for name in used), "## Registration\n"]
    for title, own in _groups(results):
        parts += [f"### {title}\n", f"{_slices(own)}.\n", _registrations(own)]
    if fusions:
        rules = [name for name in RULES if any(name in fusion["scores"] for fusion in fusions)]
        parts += [FUSION, "".join(f"- **{name}**: {RULES[name]}\n" for name in rules)]
    for by in dict.fromkeys(fusion["by"] for fusion in fusions):
        for title, own in _groups([fusion for fusion in fusions if fusion["by"] == by], kinds=False):
            how = "the true displacement" if by == "truth" else by
            parts += [f"### {title}, registered by {how}\n", f"{_slices(own)}.\n", _fusions(own)]
    return "\n".join(parts)


def _groups(results: list[dict], kinds: bool = True) -> list[tuple[str, list[dict]]]:
    """Titles and results of every modality, and of every kind of deformation if wanted; first of all of them."""
    groups = []
    present = [name for name in MODALITIES if any(result["modality"] == name for result in results)]
    for kind, ending in KIND_TITLES.items() if kinds else ((None, ""),):
        of_kind = [result for result in results if kind in (None, result["kind"])]
        for modality in (None, *present) if len(present) > 1 else present:
            own = [result for result in of_kind if modality in (None, result["modality"])]
            title = MODALITIES[modality] if modality else "All modalities"
            groups.append((f"{title}, {ending}" if ending else title, own))
    return [group for group in groups if group[1]]


def _registrations(results: list[dict]) -> str:
    total, rows = len({_key(result) for result in results}), []
    titles = [
        "mean px",
        "95 % px",
        "both px",
        "before px",
        "worse",
        "folding %",
        "time s",
        "CPU s",
        f"CPU ÷ {REFERENCE}",
    ]
    for method in dict.fromkeys(result["method"] for result in results):
        mine = [result for result in results if result["method"] == method]
        good = [result for result in mine if result["ok"]]
        name = method if len(good) == total else f"{method} ({len(good)} of {total})"
        if good:
            rows.append([name, *_figures(good), _ratio(results, good)])
        else:
            rows.append([method, "failed: " + mine[0]["error"].replace("|", "/").strip()[:200]])
    return _table(["method", *titles], rows)


def _figures(good: list[dict]) -> list[str]:
    scores, costs = [result["score"] for result in good], [result["cost"] for result in good]
    means = [statistics.fmean(s[key] for s in scores) for key in ("mean_px", "p95_px", "both_px", "before_px")]
    worse = sum(score["mean_px"] > score["before_px"] + SAME for score in scores)
    folding = statistics.fmean(score["folding_percent"] for score in scores)
    times = [statistics.median(cost[key] for cost in costs) for key in ("wall_s", "cpu_s")]
    return [*(f"{mean:.2f}" for mean in means), str(worse), f"{folding:.2f}", *(f"{time:.2f}" for time in times)]


def _ratio(results: list[dict], good: list[dict]) -> str:
    mine = {_key(result): result["cost"]["cpu_s"] for result in good}
    reference = {_key(r): r["cost"]["cpu_s"] for r in results if r["ok"] and r["method"] == REFERENCE}
    common = mine.keys() & reference.keys()
    return f"{sum(mine[key] for key in common) / sum(reference[key] for key in common):.2f}" if common else ""


def _fusions(fusions: list[dict]) -> str:
    rows = []
    for name in dict.fromkeys(name for fusion in fusions for name in fusion["scores"]):
        scores = [fusion["scores"][name] for fusion in fusions if name in fusion["scores"]]
        means = {key: statistics.fmean(score[key] for score in scores) for key in METRICS}
        title = name if len(scores) == len(fusions) else f"{name} ({len(scores)} of {len(fusions)})"
        rows.append([title, *(FORMS.get(key, "{:.3f}").format(mean) for key, mean in means.items())])
    return _table(["fused by", *METRICS.values()], rows)


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    lines += [f"| {' | '.join(row)} |" + " |" * (len(titles) - len(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _slices(results: list[dict]) -> str:
    """How many, of how many cases."""
    slices = len({_key(result) for result in results})
    heads = len({(result["modality"], result["number"]) for result in results})
    return f"{slices} slice{'s' * (slices != 1)} of {heads} case{'s' * (heads != 1)}"


def _key(result: dict) -> tuple[str, str]:
    return result["name"], result["kind"]


def _replace(target: Path, text: str) -> None:
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, target)
