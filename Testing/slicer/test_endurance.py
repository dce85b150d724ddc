"""Registrations without end: whatever disturbs them, nothing is left, nothing grows, and the next one is right.

``REGNET_ENDURANCE_SEED`` and ``REGNET_ENDURANCE_RUNS`` choose another long day.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from endurance import traces
from endurance.jobs import Apply, Compare, Judge
from endurance.session import Session

MODULES = (
    "RegNetReview", "RegNetPropagation", "RegNetAVSM", "RegNetMASR", "RegNetDeformGAN", "RegNetDDIM", "RegNetBSAFusion",
    "RegNet",
)  # fmt: skip
QUICK_MODULES, QUICK_MODELS = ("RegNetReview", "RegNetAVSM", "RegNetDDIM", "RegNet"), ("avsm", "ddim")
QUICK = (
    (Apply, "cancel"), (Apply, "kill"), (Apply, "delete moving"), (Apply, "stop"), (Apply, "close scene"),
    (Judge, "none"),
)  # fmt: skip
SEED = int(os.environ.get("REGNET_ENDURANCE_SEED", "1"))
RUNS = int(os.environ.get("REGNET_ENDURANCE_RUNS", "50"))
REST_EVERY, SAME_RUNS = 10, 12
START_MB, RUN_MB = 80.0, 0.5
"""By which the host may grow at first, with code and with the first use of every part of VTK, and then by each run.

Measured were 54 MB and 0.15 MB. A run that is kept by mistake is some 2 MB: two images of 0.2 MB, a field of 0.6 MB,
the same in double, the resampled image.
"""
WORKER_MB = 100.0
"""By which a worker that has seen all models may exceed one that has seen one: 65 MB of networks and libraries."""
SAME_RUN_MB = 0.3
"""By which either process may grow with each of many equal runs: measured was less than 0.05 MB; a field is 0.6 MB."""


@pytest.fixture
def own_folder(monkeypatch, tmp_path):
    """A temporary folder of this test's own, for this process and for the worker."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def client(monkeypatch, own_folder):
    """The client of all panels, with a real worker; it keeps workers' tracebacks."""
    from RegNetLib import worker_client
    from RegNetLib.worker_process import WorkerProcess

    tracebacks: list[str] = []

    class Watched(WorkerProcess):
        def receive(self):
            messages = super().receive()
            text = self._errors.decode("utf-8", "replace")
            if "Traceback" in text:
                tracebacks.append(text)
            return messages

    made = worker_client.WorkerClient(Watched)
    made.tracebacks = tracebacks
    monkeypatch.setattr(worker_client, "_shared", made)
    yield made
    made.stop()
    assert not traces.children() and not traces.private_folders()


@pytest.fixture
def day(client, widget_factory, process_events, scene, tmp_path):
    """``day(seed, modules, models)``: a :class:`Session` with the panels of these modules."""
    return lambda seed, modules, models: Session(
        seed, widget_factory, process_events, client, modules, models, tmp_path
    )


def test_a_short_day(day):
    """Each of the common disturbances once, in random order."""
    it = day(SEED, QUICK_MODULES, QUICK_MODELS)
    with it.recorded(SEED):
        before = it.rest()
        for kind, disturbance in it.draw.sample(QUICK, len(QUICK)):
            it.run(kind, disturbance)
        grown = traces.growth(before, it.rest())
        assert not grown, "\n".join(grown)


def test_the_books_see_every_leak(scene, own_folder, widget_factory):
    """One of each kind is noticed, by name."""
    import qt
    import slicer
    from RegNetLib.private_folder import PrivateFolder

    panel = widget_factory("RegNetAVSM")
    before = traces.census()
    tag = scene.AddObserver(scene.NodeAddedEvent, panel.on_scene_ready)
    panel.ui.applyButton.connect("clicked()", panel.on_swap)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "left behind")
    folder, timer, process = PrivateFolder(slicer.app.temporaryPath), qt.QTimer(), qt.QProcess()
    Path(tempfile.mkstemp()[1]).write_text("forgotten")
    timer.start(100_000)
    process.start(sys.executable, ["-c", "input()"])
    process.waitForStarted(5000)
    found = traces.growth(before, traces.census())
    scene.RemoveObserver(tag)
    panel.ui.applyButton.disconnect("clicked()", panel.on_swap)
    process.kill()
    process.waitForFinished(5000)
    folder.remove()
    names = {line.split(":")[0] for line in found}
    assert names >= {
        "observers of the scene",
        "method RegNetLib.scene_panel.ScenePanel.on_scene_ready",
        "connections",
        "method RegNetLib.panel.RegistrationPanel.on_swap",
        "node vtkMRMLLinearTransformNode",
        "private folders",
        "other files",
        "object RegNetLib.private_folder.PrivateFolder",
        "running timers",
        "processes",
        "descriptors",
    }, found


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_long_day(day, warming):
    """Everything at random, with a rest now and then, and in the end the same run again and again."""
    from regnet.models import MODEL_NAMES

    it = day(SEED, MODULES, MODEL_NAMES)
    with it.recorded(SEED):
        it.run(Compare, "none")  # makes slice views, which the application keeps
        before = it.rest()
        for n in range(1, RUNS + 1):
            it.run()
            if n % REST_EVERY == 0:
                grown = traces.growth(before, it.rest())
                assert not grown, "\n".join(grown)
        print("Memory at rest, host and worker:", [[round(mb) for mb in one] for one in (it.host_mb, it.worker_mb)])
        assert it.host_mb[-1] < it.host_mb[0] + START_MB + RUNS * RUN_MB
        assert max(it.worker_mb) < min(it.worker_mb) + WORKER_MB
        for _ in range(SAME_RUNS):
            it.rest()
        for mb in (it.host_mb, it.worker_mb):
            same = mb[-SAME_RUNS:]
            print("The same run again and again:", [round(one, 1) for one in same])
            assert same[-1] < same[SAME_RUNS // 3] + (SAME_RUNS - SAME_RUNS // 3) * SAME_RUN_MB
