"""Everything that can go wrong during a run: nothing is lost, nothing is left, and the next run works."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from traces import kept_images, leftovers, nodes
from volumes import add_bend, add_linear, rigid, through


def test_cancel_leaves_nothing(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.createVolumeCheckBox.click()
    count = scene.GetNumberOfNodes()
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)
    assert scene.GetNumberOfNodes() == count and leftovers() == []
    assert widget.parameters.movingVolume.GetTransformNodeID() is None
    assert widget.ui.statusLabel.text == "Cancelled; nothing was changed."
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_failure_keeps_the_previous_result(open_pair, apply, scene, worker, mode):
    widget = open_pair()
    apply(widget)
    transform, count = widget.parameters.resultTransform, scene.GetNumberOfNodes()
    point = transform.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0))
    worker(mode)
    apply(widget)
    sentences = {"crash": "The registration worker stopped unexpectedly", "refuse": "The images do not overlap; move"}
    assert widget.ui.statusLabel.text.startswith(sentences[mode])
    assert widget.parameters.resultTransform is transform and scene.GetNumberOfNodes() == count
    assert transform.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0)) == point
    assert widget.parameters.movingVolume.GetTransformNodeID() == transform.GetID()
    assert leftovers() == []
    worker("shift")
    apply(widget)
    assert widget.ui.statusLabel.text.startswith("Done")


def test_killing_the_worker_and_trying_again(open_pair, apply, process_events):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    os.kill(widget.client.process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=10)
    assert "stopped unexpectedly" in widget.ui.statusLabel.text and widget.parameters.resultTransform is None
    apply(widget)
    assert widget.parameters.resultTransform is not None


def test_removing_an_input_during_a_run(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    scene.RemoveNode(widget.parameters.movingVolume)
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    assert "was removed meanwhile" in widget.ui.statusLabel.text
    assert widget.parameters.resultTransform is None and leftovers() == []


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("change", ["moved", "removed"])
def test_what_placed_the_moving_volume_changes_during_a_run(open_pair, apply, process_events, scene, change, linear):
    """The result is about where the volume was at the start."""
    import slicer
    import vtk

    widget = open_pair()
    moving = widget.parameters.movingVolume
    parent = add_linear("table", rigid((5, 0, 10), (20, -30, 40))) if linear else add_bend("table")
    points = np.array([(10.0, 20.0, 30.0), (-5.0, 0.0, 60.0)])

    def place():
        moving.SetAndObserveTransformNodeID(parent.GetID())
        widget.parameters.resultTransform = None

    def mapped():
        from_world = vtk.vtkGeneralTransform()
        widget.parameters.resultTransform.GetTransformFromWorld(from_world)
        return through(from_world, points)

    place()
    apply(widget)
    expected = mapped()
    place()
    widget.ui.applyButton.click()
    if change == "removed":
        scene.RemoveNode(parent)
    else:
        parent.ApplyTransformMatrix(slicer.util.vtkMatrixFromArray(rigid((0, 0, 25), (50, 0, 0))))
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    np.testing.assert_allclose(mapped(), expected, atol=1e-3)
    kept = widget.parameters.resultTransform.GetNodeReference("RegNetMovingParent")
    assert kept is (None if change == "removed" else parent)


def test_a_job_that_is_over_keeps_nothing_alive(open_pair, apply, process_events, scene):
    """What the panels kept for an answer can be large: fields, volumes, whole earlier results."""
    widget = open_pair()
    apply(widget)
    assert widget.run._importer is None
    widget.ui.applyButton.click()
    assert widget.run._importer is not None
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=10) and widget.run._importer is None
    widget.ui.applyButton.click()
    scene.Clear(0)
    assert widget.run._importer is None


def test_closing_the_scene_during_a_run(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    scene.Clear(0)
    process_events(timeout=0.5)
    assert not widget.client.is_busy() and widget.client.process_id() == 0 and leftovers() == []
    assert not [name for name in nodes(scene, "vtkMRMLTransformNode") if "atlas" in name]
    assert widget.ui.applyButton.text == "Choose a fixed volume"
    assert not widget.ui.progressBar.isVisibleTo(widget.parent)


def test_closing_the_module_during_a_run(open_pair, process_events):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    client = widget.client
    widget.cleanup()
    assert not client.is_busy() and client.process_id() == 0 and leftovers() == []


def test_an_empty_mask_is_one_sentence(open_pair, scene):
    widget = open_pair()
    widget.ui.movingMaskSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn"))
    widget.ui.applyButton.click()
    assert widget.ui.statusLabel.text == "Mask “drawn” is empty; choose another one or none."
    assert not widget.client.is_busy() and leftovers() == []
    assert widget.ui.applyButton.text == "Apply"


def test_a_full_disk_is_one_sentence(open_pair, monkeypatch, process_events):
    from RegNetLib.private_folder import PrivateFolder

    def full(self, name, array):
        (self.path / "half.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    widget = open_pair()
    monkeypatch.setattr(PrivateFolder, "save", full)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    assert widget.ui.statusLabel.text.startswith("The images could not be handed to the worker (No space left")
    assert leftovers() == [] and kept_images() == []
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled


def test_two_panels_share_one_worker(open_pair, widget_factory, process_events):
    widget = open_pair("slow")
    other = widget_factory("RegNet")
    other.ui.fixedSelector.setCurrentNode(widget.parameters.fixedVolume)
    other.ui.movingSelector.setCurrentNode(widget.parameters.movingVolume)
    widget.ui.applyButton.click()
    other.enter()
    assert other.ui.applyButton.text == "A registration is running"
    assert not other.ui.applyButton.enabled
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)
    other.enter()
    assert other.ui.applyButton.enabled
