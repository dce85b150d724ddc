"""The words and numbers of a report: plain values for JSON; tiles, tables and warnings for HTML, escaped."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np

NOTHING = "–"
MAIN_STAGES = ("load", "read", "align", "model", "refine", "export", "write")
"""The stages that together make up a registration; others that a report has are parts of these."""


def plain(value: Any) -> Any:
    """``value`` in types that JSON has: arrays become lists, NaN and infinities ``None``.

    >>> plain({"a": np.float32("nan"), "b": np.arange(2)})
    {'a': None, 'b': [0, 1]}
    """
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def number(value: Any, digits: int = 3) -> str:
    """A number for people: ``digits`` significant figures without an exponent, or a dash.

    >>> number(0.12345), number(None), number(1234.5), number(0.00001234)
    ('0.123', '–', '1 230', '0.0000123')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return NOTHING
    if value == 0 or isinstance(value, int):
        return f"{value:,}".replace(",", " ") if isinstance(value, int) else "0"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace(",", " ")


def header(report: dict) -> str:
    """The two images and when, with which model and where they were registered."""
    fixed = escape(str(report.get("fixed") or "fixed image"))
    moving = escape(str(report.get("moving") or "moving image"))
    facts = [str(report.get("model", "")).upper(), report.get("device"), report.get("created")]
    line = " · ".join(escape(str(fact)) for fact in facts if fact)
    return (
        f'<h1><span class="role">moving</span> {moving} <span class="arrow" aria-label="onto">→</span> '
        f'<span class="role">fixed</span> {fixed}</h1><p class="facts">{line}</p>'
    )


def warnings_box(report: dict) -> str:
    sentences = report.get("warnings") or []
    if not sentences:
        return ""
    entries = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences)
    title = "1 warning" if len(sentences) == 1 else f"{len(sentences)} warnings"
    return f'<aside class="warn" role="note"><strong>{title}</strong><ul>{entries}</ul></aside>'


def verdict_box(report: dict) -> str:
    """The traffic light of a judged registration, as (level, words, reasons); empty where there is none."""
    if not report.get("verdict"):
        return ""
    level, words, reasons = report["verdict"]
    entries = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in reasons)
    return (
        f'<aside class="verdict {escape(level)}" role="note"><i aria-hidden="true"></i><div>'
        f"<strong>{escape(level.title())}: {escape(words)}</strong><ul>{entries}</ul></div></aside>"
    )


def tiles(report: dict) -> str:
    """The five numbers that a reader looks for first, of a run or, where it was ``judged``, of a judgement."""
    before, after = report.get("similarity_before"), report.get("similarity_after")
    metric = str(report.get("similarity_metric") or "higher is better")
    folding = report.get("folding_percent")
    total = (report.get("time_s") or {}).get("total")
    memory = report.get("peak_memory_mb")
    change, tone = "", ""
    if _finite(before) and _finite(after):
        change = f"{after - before:+.3f}"
        tone = "good" if after > before else "bad"
    fold_tone = "" if not _finite(folding) else "good" if folding <= 0.001 else "bad" if folding > 0.1 else "fair"
    fold_word = {"good": "invertible", "fair": "a few folds", "bad": "look at the map", "": ""}[fold_tone]
    megabytes = number(round(memory)) if _finite(memory) else NOTHING
    similarity = f"{_fixed(before)} <em>→</em> {_fixed(after)}"
    shown = [
        _tile("Similarity", similarity, f"{change} · {metric}".strip(" ·"), tone),
        _tile("Folding", f"{number(folding)} <em>%</em>", fold_word, fold_tone),
        _tile("SDlogJ", number(report.get("sdlogj")), "spread of local volume change"),
    ]
    if "judged" in report:
        within = f"of the neighbourhoods fit best within {number(report.get('settled_mm'))} mm of where they are put"
        shown.append(_tile("Settled", f"{number(report.get('settled_percent'))} <em>%</em>", within))
        outside = "of the fixed foreground is outside the moving image"
        shown.append(_tile("Out of view", f"{number(report.get('outside_percent'))} <em>%</em>", outside))
    else:
        shown.append(_tile("Time", f"{number(total)} <em>s</em>", str(report.get("device") or "")))
        shown.append(_tile("Peak memory", f"{megabytes} <em>MB</em>", _grid_text(report)))
    return "".join(shown)


def tables(report: dict) -> str:
    """Everything else: how the result was made, where the time went; or all that was ``judged``."""
    if "judged" in report:
        return _table([(label, " ".join(filter(None, (value, unit)))) for label, value, unit in report["judged"]])
    rows = [
        ("Model", report.get("model")),
        ("Weights", _weights(report.get("weights"))),
        ("Initial alignment", report.get("align")),
        ("Refinement", report.get("refine")),
        ("Region", region_text(report)),
        ("Working grid", _grid_text(report)),
        ("Device", report.get("device")),
        ("Seed", report.get("seed")),
        ("Parameters", _pairs(report.get("parameters"))),
        ("Similarity before", _fixed(report.get("similarity_before"), 4)),
        ("Similarity after", _fixed(report.get("similarity_after"), 4)),
        ("Folding", f"{number(report.get('folding_percent'))} %"),
        ("SDlogJ", number(report.get("sdlogj"), 4)),
        ("Version", report.get("version")),
    ]
    return _table([(name, value) for name, value in rows if value not in (None, "")]) + _times(report)


def _table(rows: list[tuple[str, Any]]) -> str:
    body = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f'<table class="numbers"><tbody>{body}</tbody></table>'


def stage_times(report: dict) -> dict[str, float]:
    """Seconds of the main stages in order, without the parts of a stage, and ``total``."""
    seconds = {name: value for name, value in (report.get("time_s") or {}).items() if _finite(value)}
    main = {name: seconds[name] for name in MAIN_STAGES if name in seconds}
    return {**main, "total": seconds["total"]} if main and "total" in seconds else seconds


def region_text(report: dict) -> str:
    """How large the region of interest is, and over how far the deformation fades; empty without one."""
    region = report.get("region") or {}
    if not region:
        return ""
    sizes = (("volume_ml", "ml"), ("area_mm2", "mm²"))
    size = next((f"{number(region[name])} {unit}" for name, unit in sizes if name in region), "")
    taper = region.get("taper_mm")
    return f"{size}, fading over {number(taper)} mm" if _finite(taper) else size


def _times(report: dict) -> str:
    seconds = stage_times(report)
    total = seconds.pop("total", None) or sum(seconds.values())
    if not seconds or not total:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>"
        f"<td class='meter'><i style='width:{100 * min(value / total, 1):.1f}%'></i></td>"
        f"<td>{number(value)} s</td></tr>"
        for name, value in seconds.items()
    )
    total_row = f"<tr class='total'><th scope='row'>total</th><td></td><td>{number(total)} s</td></tr>"
    return f'<table class="times"><caption>Time per stage</caption><tbody>{rows}{total_row}</tbody></table>'


def _tile(name: str, value: str, note: str, tone: str = "") -> str:
    return (
        f'<div class="tile {tone}"><span class="name">{escape(name)}</span><span class="value">{value}</span>'
        f'<span class="sub">{escape(note)}</span></div>'
    )


def _weights(weights: Any) -> str:
    if not weights:
        return "none; optimised on this pair"
    if isinstance(weights, dict):
        identity = str(weights.get("sha256") or "")[:12]
        return " · ".join(part for part in (str(weights.get("variant") or ""), identity) if part)
    return str(weights)


def _grid_text(report: dict) -> str:
    grid = report.get("working_grid") or {}
    if not grid.get("shape"):
        return ""
    shape = [int(n) for n in reversed(list(grid["shape"]))]
    axes = 2 if shape[-1] == 1 else 3
    size = " × ".join(str(n) for n in shape[:axes])
    steps = [f"{float(step):.3g}" for step in list(grid.get("spacing") or [])[:axes]]
    spacing = steps[0] if len(set(steps)) == 1 else " × ".join(steps)
    return f"{size} at {spacing} mm" if spacing else size


def _pairs(parameters: Any) -> str:
    if not isinstance(parameters, dict) or not parameters:
        return "defaults"
    return ", ".join(f"{name} = {value}" for name, value in parameters.items())


def _fixed(value: Any, decimals: int = 3) -> str:
    return f"{value:.{decimals}f}" if _finite(value) else NOTHING


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
