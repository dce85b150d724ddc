"""What ``regnet models`` tells of the models and of their trained weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


def describe_models() -> list[dict[str, Any]]:
    """What ``regnet models`` tells of each model. Does not import torch."""
    from .models import MODEL_NAMES, get_info, get_parameters
    from .zoo import list_weights

    return [
        {
            **asdict(get_info(name)),
            "weights": [record.tell() for record in list_weights(name)],
            "parameters": get_parameters(name).describe(),
        }
        for name in MODEL_NAMES
    ]


def weights_rows(weights: dict[str, Any]) -> list[tuple[str, str]]:
    """What a table says of one of a model's weights, see :meth:`regnet.zoo.WeightsRecord.tell`."""
    rows = [("file", f"{weights['file']}, {weights['bytes'] / 1e6:.1f} MB"), ("sha256", weights["sha256"])]
    if "version" in weights:
        rows.append(("made with", f"RegNet {weights['version']}"))
    rows += _training_rows(weights)
    for run in weights.get("joined", []):
        if isinstance(run, dict):
            parts = ", ".join(map(str, run.get("parts", [])))
            rows += [(f"{parts}: {name}", text) for name, text in _training_rows(run)]
    return rows


def _training_rows(run: dict[str, Any]) -> list[tuple[str, str]]:
    from .report_numbers import number

    rows = []
    sources = [entry for entry in run.get("data", []) if isinstance(entry, dict)]
    told = [f"{entry.get('count', '?')} of {entry.get('name', '?')} ({entry.get('licence', '?')})" for entry in sources]
    if told:
        rows.append(("trained on", "; ".join(told)))
    effort = [f"{run['steps']} steps"] if "steps" in run else []
    effort += [f"{run['minutes']:.0f} minutes"] if "minutes" in run else []
    effort += [f"on {run['device']}"] if "device" in run else []
    if effort:
        rows.append(("training", " ".join(effort)))
    if run.get("figures"):
        rows.append(("figures", ", ".join(f"{name} {number(value)}" for name, value in run["figures"].items())))
    return rows
