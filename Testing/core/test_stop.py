"""A stop keeps what an optimisation has reached; it ends there, and the run goes on to its normal end."""

from __future__ import annotations

import numpy as np
import pytest
from regnet.events import Events, Progress
from regnet.register import register
from test_previews import METHODS, inside, world_pair

HOW = {"align": "rigid", "device": "cpu"}


STOPS = {
    "avsm, refined": ("refine 2x", 5),
    "avsm alone": ("momentum 2", 2),
    "avsm, refined by a descriptor": ("optimise 1", 15),
    "masr": ("optimise 2", 3),
}
"""Where each is stopped: well within the last optimiser, after so many iterations of that stage, with more to come."""


class Stopper:
    """Asks for a stop when so many iterations of ``stage`` have been reported; keeps the stages of all."""

    def __init__(self, stage: str, after: int) -> None:
        self.stage, self.after, self.seen = stage, after, []

    def __call__(self, event: object) -> None:
        if isinstance(event, Progress) and event.can_stop and event.text:
            self.seen.append(event.stage)

    def is_stopped(self) -> bool:
        return self.seen.count(self.stage) >= self.after


def run(method: str, stage: str, after: int):
    """The result, and the stages of the iterations that were made."""
    model, parameters, refine = METHODS[method]
    fixed, moving, _ = world_pair()
    stopper = Stopper(stage, after)
    events = Events(emit=stopper, is_stopped=stopper.is_stopped)
    result = register(fixed, moving, model, refine=refine, parameters=parameters, events=events, **HOW)
    return result, stopper.seen


def error(transform) -> float:
    truth, points = world_pair()[2], inside()
    return float(np.linalg.norm(transform(points) - truth(points), axis=1).mean())


@pytest.mark.parametrize("method", METHODS)
def test_a_stop_keeps_what_was_reached(method):
    stage, after = STOPS[method]
    result, iterations = run(method, stage, after)
    assert iterations.count(stage) == after and iterations[-1] == stage
    assert error(result.transform) < 0.95 * error(result.alignment)
    report = result.report
    assert report["similarity_after"] > report["similarity_before"] and report["folding_percent"] == 0
    assert report["stopped_in"] == stage
    assert [line for line in report["warnings"] if line.startswith(f"Stopped early, as asked, in {stage}: ")]
    assert result.warped.grid.same_as(world_pair()[0].grid)


def test_a_stop_of_the_model_leaves_the_refinement_out():
    result, iterations = run("avsm, refined", "momentum 1", 2)
    assert iterations == ["momentum 1"] * 2
    assert result.report["stopped_in"] == "momentum 1"
    assert error(result.transform) < error(result.alignment)
    assert len([line for line in result.report["warnings"] if line.startswith("Stopped")]) == 1


def test_a_stop_that_comes_too_late_changes_nothing():
    model, parameters, _ = METHODS["avsm alone"]
    fixed, moving, _ = world_pair()
    stages: list[str] = []

    def emit(event: object) -> None:
        if isinstance(event, Progress):
            stages.append(event.stage)

    options = {"parameters": parameters, "refine": "off", **HOW}
    late = Events(emit=emit, is_stopped=lambda: "export" in stages)
    result = register(fixed, moving, model, events=late, **options)
    assert result.report["stopped_in"] is None and result.report["warnings"] == []
    assert error(result.transform) == error(register(fixed, moving, model, **options).transform)


def test_only_optimisations_can_be_stopped():
    """What a host reads to enable its button."""
    seen: dict[str, set[bool]] = {}

    def emit(event: object) -> None:
        if isinstance(event, Progress):
            seen.setdefault(event.stage.split()[0], set()).add(event.can_stop)

    fixed, moving, _ = world_pair()
    parameters = {"weights": "none", "iterations": 2}
    register(fixed, moving, refine=2, parameters=parameters, events=Events(emit=emit), **HOW)
    assert seen["momentum"] == {True}
    assert all(seen[stage] == {False} for stage in ("read", "align", "model", "affine", "field", "export"))
    assert seen["refine"] == {True, False}  # "refine 2x" within "refine"
