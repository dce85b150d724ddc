"""The worker that a panel starts ahead: one, quietly, and only where it could work."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from test_worker_client import FAKE


@pytest.fixture
def client(warming, monkeypatch, slicer_host):
    """``client(command)``: panels opened from now on start that worker; ``client.started`` are the processes."""
    from RegNetLib import worker_client
    from RegNetLib.worker_process import WorkerProcess

    made = []

    def use(command=None):
        def make():
            process = WorkerProcess(command or [sys.executable, str(FAKE), "shift"])
            found.started.append(process)
            return process

        found = worker_client.WorkerClient(make)
        found.started = []
        monkeypatch.setattr(worker_client, "_shared", found)
        made.append(found)
        return found

    yield use
    for one in made:
        one.stop()


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """What the worker is sent."""
    from RegNetLib.worker_process import WorkerProcess

    kept, send = [], WorkerProcess.send
    monkeypatch.setattr(WorkerProcess, "send", lambda self, message: kept.append(message) or send(self, message))
    return kept


@pytest.mark.parametrize(("module", "model"), [("RegNetMASR", "masr"), ("RegNetPropagation", "avsm")])
def test_opening_a_panel_starts_a_worker_for_its_model(client, asked, widget_factory, process_events, module, model):
    one = client()
    widget = widget_factory(module)
    assert one.started == [] and widget.client is one  # the window comes first
    assert process_events(until=one.is_warm, timeout=20)
    assert [(message["command"], message["model"]) for message in asked] == [("warm", model)]
    widget.exit()
    widget.enter()
    process_events(timeout=0.5)
    assert len(one.started) == 1 and len(asked) == 1
    assert one.state.value == "idle" and not one._timer.isActive()


def test_another_panel_warms_its_own_model_in_the_same_worker(client, asked, widget_factory, process_events):
    one = client()
    widget_factory("RegNetAVSM")
    assert process_events(until=one.is_warm, timeout=20)
    widget_factory("RegNetMASR")
    assert process_events(until=one.is_warm, timeout=20)
    assert [message["model"] for message in asked] == ["avsm", "masr"] and len(one.started) == 1


def test_a_review_needs_no_worker_until_it_is_asked_something(client, widget_factory, process_events):
    one = client()
    widget_factory("RegNetReview")
    process_events(timeout=0.6)
    assert one.started == []


@pytest.mark.parametrize("lacking", ["torch", "a package"])
def test_nothing_is_started_where_something_is_not_installed(
    client, widget_factory, process_events, monkeypatch, lacking
):
    from RegNetLib import dependencies

    if lacking == "torch":
        monkeypatch.setattr(dependencies, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(dependencies, "missing_requirements", lambda: ["pydantic>=2"])
    one = client()
    widget_factory("RegNetAVSM")
    process_events(timeout=0.6)
    assert one.started == [] and one.process_id() == 0


def test_a_worker_that_cannot_start_is_nobodys_trouble_until_a_run(client, widget_factory, process_events, messages):
    one = client([sys.executable, "-c", "raise SystemExit(3)"])
    widget = widget_factory("RegNetAVSM")
    assert process_events(until=lambda: one.started and one.process_id() == 0 and one._process is None, timeout=20)
    widget.enter()
    process_events(timeout=0.6)
    assert len(one.started) == 1  # it would only end again
    assert widget.ui.statusLabel.text == "" and not messages.errors and not one._timer.isActive()


def test_a_worker_that_was_killed_is_started_again(client, widget_factory, process_events):
    one = client()
    widget = widget_factory("RegNetAVSM")
    assert process_events(until=one.is_warm, timeout=20)
    os.kill(one.process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
    assert process_events(until=lambda: one.process_id() == 0, timeout=10)
    widget.enter()
    assert process_events(until=one.is_warm, timeout=20)
    assert len(one.started) == 2 and widget.ui.statusLabel.text == ""


def test_a_run_takes_the_worker_that_is_being_started(client, widget_factory, process_events):
    from volumes import GEOMETRIES, add_volume, pattern

    one = client()
    widget = widget_factory("RegNetAVSM")
    widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    widget.ui.movingSelector.setCurrentNode(add_volume("atlas", pattern(shift=(1, 2, 3)), GEOMETRIES["oblique"]))
    assert process_events(until=lambda: one.started, timeout=20)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not one.is_busy(), timeout=20)
    assert widget.ui.statusLabel.text.startswith("Done") and len(one.started) == 1
    process_events(timeout=0.5)
    assert len(one.started) == 1


def test_a_scene_that_is_closed_in_a_run_ends_with_a_warm_worker(client, widget_factory, process_events, scene):
    from volumes import add_volume, pattern

    one = client([sys.executable, str(FAKE), "slow"])
    widget = widget_factory("RegNetAVSM")
    widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    widget.ui.movingSelector.setCurrentNode(add_volume("atlas", pattern(shift=(1, 2, 3))))
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 50, timeout=20)
    scene.Clear(0)
    assert not one.is_busy()
    assert process_events(until=one.is_warm, timeout=20)
    assert len(one.started) == 2
