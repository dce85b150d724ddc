"""Fixtures of the panels' tests: a panel on the stand-in worker, with a pair chosen, and its Apply button."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fake_worker
import numpy as np
import pytest
from propagations import TARGET_SHAPE, near, open_scan
from volumes import GEOMETRIES, add_linear, add_volume, pattern, rigid

FAKE = Path(fake_worker.__file__)


@pytest.fixture(autouse=True)
def a_new_scene(scene):
    """Every test begins with an empty scene, and leaves one."""


@pytest.fixture
def fusion_weights(tmp_path, monkeypatch):
    """``fusion_weights(*variants)``: BSAFusion's weights that the panel finds from now on; the first ones are all."""
    from regnet import zoo
    from regnet.models.bsafusion import info

    def install(*variants: str) -> None:
        folder = tmp_path / f"models-{'-'.join(variants)}"
        (folder / "bsafusion").mkdir(parents=True, exist_ok=True)
        for name in variants:
            (folder / "bsafusion" / f"{name}.safetensors").write_bytes(b"")
            (folder / "bsafusion" / f"{name}.json").write_text(json.dumps({"sha256": "0" * 64}))
        monkeypatch.setattr(zoo, "model_folders", lambda: [folder])

    install(*info.variants)
    return install


@pytest.fixture
def sent(monkeypatch) -> list[dict]:
    """What the worker is asked, and under ``arrays`` what lay in the folder."""
    from RegNetLib import worker_process

    kept, send = [], worker_process.WorkerProcess.send

    def watched(self, message):
        folder = Path(message.get("folder", ""))
        arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")} if "folder" in message else {}
        for name in ("fixed", "moving"):
            if message.get(name, {}).get("kept"):
                arrays[name] = np.load(fake_worker.file_of(message, name))
        kept.append({**message, "arrays": arrays})
        send(self, message)

    monkeypatch.setattr(worker_process.WorkerProcess, "send", watched)
    return kept


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


@pytest.fixture
def press_fuse(process_events):
    """Press the button and wait for the end of the fusion."""

    def press(widget, timeout=30.0):
        assert widget.ui.fuseButton.text == "Fuse with BSAFusion" and widget.ui.fuseButton.enabled, (
            widget.ui.fuseButton.toolTip
        )
        widget.ui.fuseButton.click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=timeout)
        return widget.parameters.fusedVolume

    return press


@pytest.fixture
def propagation(worker, widget_factory):
    """The propagation panel with a scan and its segmentation chosen."""
    return open_scan(worker, widget_factory)


@pytest.fixture
def slow_propagation(worker, widget_factory):
    """The same, on a worker that takes three seconds for each job."""
    return open_scan(worker, widget_factory, "slow")


@pytest.fixture
def tick(process_events):
    """Tick rows of a list by their text, as a user would; the others stay."""
    import qt

    def change(widget, *texts, ticked=True):
        process_events()
        rows = {widget.item(n).text(): widget.item(n) for n in range(widget.count)}
        for text in texts:
            rows[text].setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)

    return change


@pytest.fixture
def follow_up(propagation, tick):
    """Its single target, ticked."""
    volume = add_volume("follow-up", pattern(TARGET_SHAPE), near(TARGET_SHAPE))
    tick(propagation.ui.targetList, "follow-up")
    return volume


@pytest.fixture
def panel(open_pair, apply):
    """A panel with a result, and the section that corrects it open."""
    widget = open_pair()
    apply(widget)
    widget.ui.correctSection.collapsed = False
    return widget


@pytest.fixture
def place_pair(process_events):
    """``place_pair(panel, world)``: press the button and click, as far as the scene sees it."""
    import slicer
    import vtk

    def click(panel, world):
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        panel.ui.addPairButton.click()
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        points = panel.parameters.correctFixedPoints
        assert slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID() == points.GetID()
        points.AddControlPointWorld(vtk.vtkVector3d(*world), "F")
        assert interaction.GetCurrentInteractionMode() != interaction.Place
        process_events(timeout=0.0)

    return click


@pytest.fixture
def press_refine(process_events):
    """Press Refine and wait for the end of the correction."""

    def press(panel, timeout=30.0):
        assert panel.ui.correctButton.text == "Refine" and panel.ui.correctButton.enabled, (
            panel.ui.correctButton.toolTip
        )
        panel.ui.correctButton.click()
        assert process_events(until=lambda: not panel.client.is_busy(), timeout=timeout)
        process_events(timeout=0.0)

    return press


@pytest.fixture
def open_review(worker, widget_factory):
    """`open_review(mode, transform)`: the review module with a pair, whose transform any program may have made."""

    def make(mode: str = "shift", transform=None):
        worker(mode)
        widget = widget_factory("RegNetReview")
        widget.parameters.fixedVolume = add_volume("patient")
        moving = pattern(shift=(1, 2, 3)).astype(np.int16)
        widget.parameters.movingVolume = add_volume("atlas", moving, GEOMETRIES["oblique"])
        widget.parameters.resultTransform = transform or add_linear("result", rigid((3, -4, 5), (6, 0, -2)))
        return widget

    return make


@pytest.fixture
def press_judge(process_events):
    def press(widget, button="judgeButton"):
        assert widget.ui.judgeButton.text == "Judge" and widget.ui.judgeButton.enabled, widget.ui.judgeButton.toolTip
        getattr(widget.ui, button).click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=30)

    return press
