"""What is loaded ahead never stands in anybody's way."""

from __future__ import annotations

import threading

import pytest
from regnet.errors import Cancelled, ModelError
from regnet.warming import warm_up
from worker_host import quick, request_for, result_of, waiting


def test_a_warm_worker_has_run_the_model_once(start):
    asked = []

    def run(fixed, moving, *, model, events, **options):
        asked.append((model, fixed.ndim, fixed.data.shape))
        return result_of(fixed, moving)

    host = start(run)
    host.send(id="w", command="warm", model="masr")
    assert host.next() == {"event": "warm", "id": "w", "complete": True}  # and not a word of progress before
    assert [(model, dims) for model, dims, _shape in asked] == [("masr", 3)]


def test_a_registration_does_not_wait_for_it(start, tmp_path):
    started, calls = threading.Event(), []

    def run(fixed, moving, **options):
        calls.append(options["model"])
        return (waiting(started) if len(calls) == 1 else quick)(fixed, moving, **options)

    host = start(run)
    host.send(id="w", command="warm", model="ddim")
    assert started.wait(20)
    host.send(**request_for(tmp_path, "job"))
    assert host.next() == {"event": "warm", "id": "w", "complete": False}
    assert host.until("done")["id"] == "job" and calls == ["ddim", "avsm"]


def test_it_ends_with_the_worker(start):
    started = threading.Event()
    host = start(waiting(started))
    host.send(id="w", command="warm")
    assert started.wait(20)
    host.send(command="cancel", target="w")
    assert host.until("warm")["complete"] is False
    started.clear()
    host.send(id="again", command="warm")
    assert started.wait(20)
    host.send(command="shutdown")
    host.thread.join(timeout=20)
    assert not host.thread.is_alive()


@pytest.mark.parametrize("error", [ModelError("no weights"), ValueError("a bug"), MemoryError(), Cancelled()])
def test_what_fails_in_it_is_left_to_the_first_registration(start, tmp_path, error):
    def run(fixed, moving, **options):
        if options.get("seed") == 5:
            return result_of(fixed, moving)
        raise error

    host = start(run)
    host.send(id="w", command="warm")
    assert host.next() == {"event": "warm", "id": "w", "complete": False}
    host.send(**request_for(tmp_path, seed=5))
    assert host.until("done")["id"] == "1"


@pytest.mark.parametrize("model", ["avsm", "ddim"])
def test_its_volumes_can_be_registered(model):
    from regnet.register import register

    assert warm_up(model, register, lambda: False)
    assert not warm_up(model, register, lambda: True)
