"""What a transform node remembers of its last judgement, and whether that still holds."""

from __future__ import annotations

import json

from .judge_inputs import fingerprint, what_is_missing_to_judge

JUDGEMENT = "RegNet.Judgement"
"""Attribute of a transform node: the report of the worker, and ``fingerprint`` of what it was about."""


def keep_judgement(transform, report: dict, judged: str) -> None:
    """Remember ``report`` with the fingerprint ``judged`` of what it is about."""
    transform.SetAttribute(JUDGEMENT, json.dumps({**report, "fingerprint": judged}))


def last_judgement(subject) -> dict | None:
    """The last judgement of the subject's transform, whatever it was about; None where there is none."""
    transform = subject.transform()
    text = transform.GetAttribute(JUDGEMENT) if transform is not None else None
    try:
        report = json.loads(text) if text else None
    except ValueError:
        return None
    return report if isinstance(report, dict) and isinstance(report.get("numbers"), dict) else None


def judgement_of(subject) -> dict | None:
    """The judgement of the subject as it is now; None where there is none, or where something has changed since."""
    report = last_judgement(subject)
    if report is None or what_is_missing_to_judge(subject):
        return None
    return report if report.get("fingerprint") == fingerprint(subject) else None
