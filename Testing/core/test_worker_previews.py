"""Previews and stops on their way between host and worker."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from helpers import random_affine
from regnet import worker_files
from regnet.image import Grid
from regnet.pair import Pair
from regnet.protocol import parse_request
from regnet.transform import Affine, Composite, DisplacementField
from worker_host import GRID, entry, quick, request_for, result_of

PAIR = Pair(torch.zeros(1, 1, *GRID.shape), torch.zeros(1, 1, *GRID.shape), GRID)
ALIGNMENT = random_affine(2)


def state(number: int) -> torch.Tensor:
    """(1, 3, *shape) in voxels: constant, so that its reduction is known."""
    values = torch.tensor([0.5, -1.0, 2.0]) * (number + 1)
    return values.view(1, 3, 1, 1, 1).expand(1, 3, *GRID.shape).clone()


def optimising(count: int):
    """A registration that offers so many states, all of which are sent."""

    def run(fixed, moving, *, events, **options):
        events.previews._interval, events.previews._share = 0.0, float("inf")
        events.previews.alignment = ALIGNMENT
        with events.stage("refine 1x", 0.0, 1.0, can_stop=True):
            for number in range(count):
                events.preview(state(number), PAIR)
        return result_of(fixed, moving)

    return run


def test_previews_are_what_the_model_offered(start, tmp_path):
    host = start(optimising(5))
    host.send(**request_for(tmp_path, "job", preview=True))
    told, event = [], host.next()
    while event["event"] != "done":
        if event["event"] == "preview":
            told.append(event)
        event = host.next()
    assert [one["displacement"]["file"] for one in told] == [f"preview-{number}.npy" for number in range(5)]
    assert {one["id"] for one in told} == {"job"} and {one["stage"] for one in told} == {"refine 1x"}
    np.testing.assert_allclose(told[0]["affine"], ALIGNMENT.matrix, atol=1e-12)
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy", "warped.npy"}


def test_a_preview_can_be_read_when_it_is_told_of(start, tmp_path):
    """The registration waits until the host has read; then the transform is rebuilt from what came."""
    read = threading.Event()

    def run(fixed, moving, *, events, **options):
        result = optimising(1)(fixed, moving, events=events)
        assert read.wait(20)
        return result

    host = start(run)
    host.send(**request_for(tmp_path, preview=True))
    told = host.until("preview")
    field = np.load(tmp_path / told["displacement"]["file"], allow_pickle=False)
    grid = Grid(field.shape[:3], np.array(told["displacement"]["index_to_world"]))
    read.set()
    host.until("done")
    assert field.dtype == np.float32
    found = Composite((DisplacementField(field, grid), Affine(np.array(told["affine"]))))
    points = GRID.points().reshape(-1, 3)
    shift = GRID.index_to_world[:3, :3] @ np.array([2.0, -1.0, 0.5])  # of i, j, k
    np.testing.assert_allclose(found(points), ALIGNMENT(points + shift), atol=1e-4)


def test_old_previews_do_not_pile_up(start, tmp_path):
    most = []

    def run(fixed, moving, *, events, **options):
        send = events.previews._send

        def watched(preview):
            send(preview)
            most.append(len(list(tmp_path.glob("preview-*"))))

        events.previews._send = watched
        return optimising(6)(fixed, moving, events=events)

    host = start(run)
    host.send(**request_for(tmp_path, preview=True))
    host.until("done")
    assert len(most) == 6 and max(most) == worker_files.KEPT_PREVIEWS == 2


def test_who_asks_for_none_gets_none(start, tmp_path):
    seen = []

    def run(fixed, moving, *, events, **options):
        seen.append(events.previews)
        return result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path))
    assert host.until("done") and seen == [None]


def test_a_cancel_leaves_no_preview(start, tmp_path):
    def run(fixed, moving, *, events, **options):
        optimising(3)(fixed, moving, events=events)
        while True:
            events.progress(0.5)
            time.sleep(0.01)

    host = start(run)
    host.send(**request_for(tmp_path, preview=True))
    host.until("preview")
    host.send(command="cancel", target="1")
    assert host.until("failed")["kind"] == "cancelled"
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy"}


def test_a_full_disk_ends_the_previews_and_nothing_else(start, tmp_path, monkeypatch):
    save = worker_files._save

    def full(path, array):
        if path.name == "preview-1.npy":
            path.write_bytes(b"half")
            path.unlink()
            raise OSError(28, "No space left on device")
        save(path, array)

    monkeypatch.setattr(worker_files, "_save", full)
    host = start(optimising(4))
    host.send(**request_for(tmp_path, preview=True))
    assert host.until("preview")["displacement"]["file"] == "preview-0.npy"
    while (event := host.next())["event"] != "done":
        assert event["event"] == "progress"
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy", "warped.npy"}


def test_an_input_must_not_have_the_name_of_a_preview(start, tmp_path):
    host = start(quick)
    np.save(tmp_path / "preview-3.npy", np.zeros(GRID.shape))
    host.send(**request_for(tmp_path, moving=entry("preview-3.npy")))
    assert "kept for results" in host.until("failed")["text"]


def test_stop_ends_the_optimisation_with_a_result(start, tmp_path):
    started = threading.Event()

    def run(fixed, moving, *, events, **options):
        with events.stage("refine 1x", 0.0, 0.9, can_stop=True):
            while not events.stops():
                started.set()
                events.progress(0.3)
                time.sleep(0.01)
        with events.stage("export", 0.9, 1.0):
            return result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path))
    assert started.wait(20)
    assert host.until("progress", stage="refine 1x")["can_stop"] is True
    host.send(command="stop", id="s", target="1")
    assert "Stopped early" in host.until("message", level="warning")["text"]
    assert host.until("progress", stage="export")["can_stop"] is False
    assert host.until("done")["id"] == "1"
    # The next request with the same id is not stopped.
    asked = []

    def again(fixed, moving, *, events, **options):
        asked.append(events.stops())
        return result_of(fixed, moving)

    host.worker.register = again
    host.send(**request_for(tmp_path))
    assert host.until("done") and asked == [False]


def test_a_stop_of_something_else_is_harmless(start, tmp_path):
    host = start(quick)
    host.send(command="stop", target="nobody")
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"
    with pytest.raises(ValueError, match=r"stop\.target"):
        parse_request('{"command": "stop"}')
