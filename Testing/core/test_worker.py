"""The worker: one protocol on its output, and nothing that a host sends ends it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from helpers import random_affine, smooth_field
from regnet.errors import InputError, MemoryError_, ModelError
from regnet.transform import Affine, Composite, DisplacementField
from worker_host import GRID, entry, quick, request_for, result_of, waiting


def test_a_registration_from_request_to_files(start, tmp_path):
    seen = {}
    transform = Composite((smooth_field(GRID, 3.0), random_affine(1)))

    def run(fixed, moving, *, events, **options):
        seen.update(options, fixed=fixed, moving=moving)
        events.warn("Working at 2 mm.")
        with events.stage("align", 0.0, 1.0):
            events.progress(0.5, "half")
        return result_of(fixed, moving, transform)

    host = start(run)
    np.save(tmp_path / "mask.npy", np.ones(GRID.shape, np.uint8))
    changes = {"parameters": {"iterations": 5}, "seed": 3, "align": "rigid", "fixed_mask": entry("mask.npy")}
    changes |= {"region": entry("mask.npy"), "taper": 4.5}
    host.send(**request_for(tmp_path, "job", **changes))
    assert host.until("message", id="job") == {
        "event": "message", "id": "job", "level": "warning", "text": "Working at 2 mm.",
    }  # fmt: skip
    fractions = []
    while (event := host.next())["event"] == "progress":
        assert event["id"] == "job" and event["stage"] == "align"
        fractions.append(event["fraction"])
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert event["event"] == "done" and event["id"] == "job"

    assert seen["parameters"] == {"iterations": 5} and seen["seed"] == 3 and seen["align"] == "rigid"
    assert seen["model"] == "avsm" and seen["device"] == "auto" and seen["refine"] == "auto"
    assert "moving_mask" not in seen and int(seen["fixed_mask"].data.sum()) == np.prod(GRID.shape)
    assert seen["taper"] == 4.5 and seen["region"].data.dtype == seen["fixed_mask"].data.dtype
    np.testing.assert_array_equal(seen["fixed"].index_to_world, GRID.index_to_world)
    np.testing.assert_array_equal(seen["moving"].data[0].numpy(), np.load(tmp_path / "moving.npy"))

    result = event["result"]
    assert result["report"] == {"sdlogj": None, "n": 1} and result["fused"] is None
    assert result["synthetic"] is None
    field = result["displacement"]
    grid = type(GRID)(np.load(tmp_path / field["file"]).shape[:3], np.array(field["index_to_world"]))
    rebuilt = Composite(
        (DisplacementField(np.load(tmp_path / field["file"]), grid), Affine(np.array(result["affine"])))
    )
    points = GRID.points().reshape(-1, 3)
    np.testing.assert_allclose(rebuilt(points), transform(points), atol=1e-4)
    warped = np.load(tmp_path / result["warped"]["file"])
    assert warped.shape == (1, *GRID.shape) and warped.dtype == np.float32
    np.testing.assert_array_equal(np.array(result["warped"]["index_to_world"]), GRID.index_to_world)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"fixed.npy", "moving.npy", "mask.npy", "displacement.npy", "warped.npy"}


def test_ping_is_answered_while_work_runs_and_cancel_stops_it(start, tmp_path):
    started = threading.Event()
    host = start(waiting(started))
    host.send(**request_for(tmp_path))
    assert started.wait(10)
    host.send(command="ping", id="p")
    host.until("pong", id="p")
    before = time.monotonic()
    host.send(id="c", command="cancel", target="1")
    failed = host.until("failed")
    assert time.monotonic() - before < 2.0
    assert failed["id"] == "1" and failed["kind"] == "cancelled"
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy"}
    # The worker is as good as before, also for the same id.
    host.worker.register = quick
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


def test_a_waiting_request_can_be_cancelled(start, tmp_path):
    started = threading.Event()
    ran = []

    def run(fixed, moving, *, events, seed, **options):
        ran.append(seed)
        return waiting(started)(fixed, moving, events=events) if seed == 0 else result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path, "first", seed=0))
    assert started.wait(10)
    host.send(**request_for(tmp_path, "second", seed=1))
    host.send(**request_for(tmp_path, "third", seed=2))
    host.send(command="cancel", target="second")
    host.send(command="cancel", target="first")
    assert host.until("failed")["id"] == "first"
    assert host.until("failed") == {
        "event": "failed", "id": "second", "kind": "cancelled", "text": "Cancelled; nothing was changed.",
    }  # fmt: skip
    assert host.until("done")["id"] == "third"
    assert ran == [0, 2]


def test_cancel_of_an_unknown_request_is_harmless(start, tmp_path):
    host = start(quick)
    host.send(command="cancel", target="nobody")
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


def test_same_id_twice_is_refused(start, tmp_path):
    started = threading.Event()
    host = start(waiting(started))
    host.send(**request_for(tmp_path))
    assert started.wait(10)
    host.send(**request_for(tmp_path))
    failed = host.until("failed")
    assert failed["kind"] == "input" and "'1'" in failed["text"]


@pytest.mark.parametrize(
    ("line", "id_", "says"),
    [
        ("this is not JSON", "", "not valid"),
        ("[1, 2]", "", "not valid"),
        ('{"id": "7", "command": "explode"}', "7", "explode"),
        ('{"id": "7"}', "7", "not valid"),
        ('{"id": "7", "command": "register"}', "7", "register.folder"),
        ('{"id": "7", "command": "cancel"}', "7", "cancel.target"),
        ('{"id": 7, "command": "ping"}', "", "ping.id"),
        ('{"id": "7", "command": "ping", "extra": 1}', "7", "extra"),
    ],
)
def test_broken_requests_are_answered_and_survived(start, tmp_path, line, id_, says):
    host = start(quick)
    host.send_line(line)
    failed = host.next()
    assert failed["event"] == "failed" and failed["kind"] == "input" and failed["id"] == id_
    assert says in failed["text"] and "\n" not in failed["text"]
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (InputError("The fixed image is empty."), "input", "The fixed image is empty."),
        (ModelError("No model."), "model", "No model."),
        (MemoryError_("Too large."), "memory", "Too large."),
        (MemoryError(), "memory", "does not fit in memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory", "does not fit in memory"),
        (ValueError("first line\nsecond line"), "error", "ValueError: first line;"),
        (KeyError(), "error", "KeyError"),
    ],
)
def test_every_failure_is_one_sentence_and_survived(start, tmp_path, error, kind, says):
    def run(*images, **options):
        raise error

    host = start(run)
    host.send(**request_for(tmp_path))
    failed = host.until("failed")
    assert failed["kind"] == kind and says in failed["text"] and "\n" not in failed["text"]
    host.worker.register = quick
    host.send(**request_for(tmp_path, "again"))
    assert host.until("done")["id"] == "again"


def test_progress_is_thinned_but_never_loses_the_end(start, tmp_path):
    def run(fixed, moving, *, events, **options):
        for name, low, high in (("align", 0.0, 0.5), ("refine", 0.5, 1.0)):
            with events.stage(name, low, high):
                for step in range(2000):
                    events.progress(step / 2000)
        return result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path))
    seen = []
    while (event := host.next())["event"] == "progress":
        seen.append(event)
    assert len(seen) < 500
    assert {event["stage"] for event in seen} == {"align", "refine"} and seen[-1]["fraction"] == 1.0
