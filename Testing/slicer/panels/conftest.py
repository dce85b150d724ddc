"""Fixtures of the panels' tests: a panel on the stand-in worker, with a pair chosen, and its Apply button."""

from __future__ import annotations

import sys
from pathlib import Path

import fake_worker
import numpy as np
import pytest
from volumes import GEOMETRIES, add_volume, pattern

FAKE = Path(fake_worker.__file__)


@pytest.fixture
def worker(scene, monkeypatch):
    """``worker(mode)``: panels opened from now on use the stand-in worker in that mode."""
    from RegNetLib import worker_client
    from RegNetLib.worker_process import WorkerProcess

    def use(mode: str):
        make = lambda: WorkerProcess([sys.executable, str(FAKE), use.mode])  # noqa: E731
        use.mode = mode
        if use.client is None:
            use.client = worker_client.WorkerClient(make)
            monkeypatch.setattr(worker_client, "_shared", use.client)
        else:
            use.client.stop()  # the next run starts a worker of the new mode
        return use.client

    use.client = None
    yield use
    if use.client is not None:
        use.client.stop()


@pytest.fixture
def open_pair(worker, widget_factory):
    """The panel with a fixed and a moving volume chosen, and the stand-in worker in ``mode``."""

    def make(mode: str = "shift", module: str = "RegNetAVSM"):
        worker(mode)
        widget = widget_factory(module)
        widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
        moving = pattern(shift=(1, 2, 3)).astype(np.int16)
        widget.ui.movingSelector.setCurrentNode(add_volume("atlas", moving, GEOMETRIES["oblique"]))
        return widget

    return make


@pytest.fixture
def apply(process_events):
    """Press Apply and wait for the end of the run."""

    def press(widget, timeout=30.0):
        assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled
        widget.ui.applyButton.click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=timeout)

    return press
