"""What was found when a result of the history was judged."""

from __future__ import annotations

from types import SimpleNamespace

from .history import Entry
from .judge_light import WORDS
from .judge_state import judgement_of
from .review_subject import TransformSubject


def told_verdict(entry: Entry) -> str:
    """The verdict in a few words; empty where the result was not judged, or was changed since."""
    if entry.what_is_gone():
        return ""
    pair = SimpleNamespace(
        fixedVolume=entry.fixed, movingVolume=entry.moving, resultTransform=entry.transform, createVolume=False
    )
    judgement = judgement_of(TransformSubject(lambda: pair))
    return WORDS.get(judgement.get("verdict"), WORDS["unknown"]) if judgement is not None else ""
