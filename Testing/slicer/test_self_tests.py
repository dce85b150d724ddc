"""Each module's own test, as Slicer's Reload and Test section runs it: right on the real worker, and able to fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

MODULES = (
    "RegNet", "RegNetAVSM", "RegNetBSAFusion", "RegNetDDIM", "RegNetDeformGAN", "RegNetMASR", "RegNetPropagation",
    "RegNetReview",
)  # fmt: skip
FAKE = Path(__file__).resolve().parent / "fake_worker.py"


def test_every_module_has_one():
    folder = Path(__file__).resolve().parents[2] / "RegNetModules"
    assert sorted(MODULES) == sorted(path.name for path in folder.iterdir() if (path / f"{path.name}.py").is_file())


@pytest.fixture
def self_test(monkeypatch):
    """``self_test(name)``: what the Test button does, without the pauses that are for the eye."""
    import slicer

    monkeypatch.setattr(slicer.util, "delayDisplay", lambda *_arguments, **_options: None)
    return lambda name: slicer.selfTests[name]()


@pytest.mark.parametrize("name", [pytest.param("RegNet", marks=pytest.mark.slow), *MODULES[1:]])
def test_it_passes(real_panel, self_test, name):
    real_panel(name)
    self_test(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RegNetAVSM", "leaves .* mm of 3.0 mm"),
        ("RegNetPropagation", "not greater than 0.9"),
        ("RegNetReview", "!="),
    ],
)
def test_it_fails_where_results_are_wrong(widget_factory, self_test, name, reason, monkeypatch):
    """On the stand-in worker, which answers everything without looking."""
    from RegNetLib import worker_client
    from RegNetLib.worker_process import WorkerProcess

    client = worker_client.WorkerClient(lambda: WorkerProcess([sys.executable, str(FAKE), "shift"]))
    monkeypatch.setattr(worker_client, "_shared", client)
    widget_factory(name)
    try:
        with pytest.raises(AssertionError, match=reason):
            self_test(name)
    finally:
        client.stop()
