"""The live preview and "Stop here": the slices move while a run goes on, and nothing is left of it at any end."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import SimpleITK as sitk
from fake_worker import preview_fields
from traces import leftovers, nodes
from volumes import GEOMETRIES, add_bend, add_linear, as_itk, rigid, through, to_lps

PREVIEW = "Live preview"


def all_nodes(scene) -> set[str]:
    """By ID and name. Storage nodes are made by the act of saving."""
    everything = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return {f"{node.GetID()} {node.GetName()}" for node in everything if not node.IsA("vtkMRMLStorageNode")}


def is_shown(widget) -> bool:
    volume = widget.parameters.movingVolume if widget.parameters is not None else None
    parent = volume.GetParentTransformNode() if volume is not None else None
    return parent is not None and parent.GetName() == PREVIEW


@pytest.fixture
def running(open_pair, process_events):
    """``running(parent)``: the panel in the middle of a run with a preview shown; ``parent`` placed the volume."""

    def begin(make_parent=None):
        widget = open_pair("improve")
        parent = make_parent() if make_parent else None
        widget.parameters.movingVolume.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
        widget.ui.showPairButton.click()
        process_events()
        begin.nodes, begin.parent = all_nodes(widget.parameters.movingVolume.GetScene()), parent
        widget.ui.applyButton.click()
        assert process_events(until=lambda: is_shown(widget), timeout=20)
        return widget

    return begin


def table():
    return add_linear("table", rigid((0, 0, 10), (1, 2, 3)), add_linear("room", rigid((5, 0, 0), (-4, 0, 2))))


def bend():
    return add_bend("bend")


def wait_for_end(widget, process_events) -> None:
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)


def cancel(widget, process_events):
    widget.ui.applyButton.click()
    assert not is_shown(widget)  # at once, not when the worker has obeyed
    wait_for_end(widget, process_events)
    assert widget.ui.statusLabel.text == "Cancelled; nothing was changed."


def kill(widget, process_events):
    os.kill(widget.client.process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
    wait_for_end(widget, process_events)
    assert "stopped unexpectedly" in widget.ui.statusLabel.text


def fail_to_load(widget, process_events):
    def fail(result, folder):
        assert not is_shown(widget)
        raise ValueError("no")

    widget.run._importer.load = fail
    widget.ui.stopButton.click()
    wait_for_end(widget, process_events)
    assert widget.ui.statusLabel.text == "The result could not be loaded: no"


def close_panel(widget, process_events):
    widget.cleanup()
    process_events()


@pytest.mark.parametrize("end", [cancel, kill, fail_to_load, close_panel])
@pytest.mark.parametrize("make_parent", [None, table, bend])
def test_without_a_result_everything_is_as_before(running, process_events, scene, end, make_parent):
    widget = running(make_parent)
    volume = widget.parameters.movingVolume
    end(widget, process_events)
    assert volume.GetParentTransformNode() is running.parent
    assert all_nodes(scene) == running.nodes and leftovers() == []
    assert volume.GetAttribute("RegNet.Previewed") is None
    assert volume.GetNumberOfNodeReferences("RegNetPreviewedParent") == 0


@pytest.mark.parametrize("make_parent", [None, table])
def test_stop_here_keeps_a_result(running, process_events, scene, make_parent):
    widget = running(make_parent)
    assert widget.ui.stopButton.isVisibleTo(widget.parent) and widget.ui.stopButton.enabled
    widget.ui.stopButton.click()
    assert not widget.ui.stopButton.enabled and widget.ui.statusLabel.text == "Stopping here…"
    wait_for_end(widget, process_events)
    assert widget.ui.statusLabel.text.startswith("Done") and "Stopped early" in widget.ui.statusLabel.text
    result, moving = widget.parameters.resultTransform, widget.parameters.movingVolume
    assert moving.GetParentTransformNode() is result and PREVIEW not in nodes(scene, "vtkMRMLTransformNode")
    assert result.GetNodeReference("RegNetMovingParent") is running.parent
    new = {name.split(" ", 1)[1] for name in all_nodes(scene) - running.nodes}
    assert {name for name in new if "isplay" not in name} == {"atlas to patient (AVSM)", "RegNet run 1"}
    assert leftovers() == [] and not widget.ui.stopButton.isVisibleTo(widget.parent)
    widget.ui.afterCheckBox.click()
    assert moving.GetParentTransformNode() is running.parent  # what it was before is not lost


def test_only_what_can_be_stopped_is(open_pair, process_events):
    """Neither before, nor at a stage that knows no stop, nor a second time."""
    widget = open_pair("slow")
    assert not widget.ui.stopButton.isVisibleTo(widget.parent)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    assert widget.ui.stopButton.isVisibleTo(widget.parent) and not widget.ui.stopButton.enabled
    widget.client.stop_here()
    assert widget.client.state.value == "running"
    cancel(widget, process_events)


def test_the_slices_move_while_the_run_goes_on(running, process_events, grab_slice):
    widget = running()
    moving = widget.parameters.movingVolume
    node, pictures = moving.GetParentTransformNode(), []
    for _ in range(3):
        pictures.append(grab_slice("Red", size=(160, 140)).astype(int))
        seen = node.GetTransformFromParent().GetMTime()
        assert process_events(until=lambda was=seen: node.GetTransformFromParent().GetMTime() > was, timeout=10)
    changes = [np.abs(first - second).max() for first, second in zip(pictures, pictures[1:], strict=False)]
    assert min(changes) > 3
    cancel(widget, process_events)
    assert np.abs(grab_slice("Red", size=(160, 140)).astype(int) - pictures[-1]).max() > 3


@pytest.mark.parametrize("make_parent", [None, table, bend])
def test_the_volume_is_where_the_preview_says(running, process_events, monkeypatch, make_parent):
    """Against SimpleITK: world to moving world points, and from there into the volume's own coordinates."""
    import vtk
    from RegNetLib.live_preview import LivePreview

    told, show = [], LivePreview.show

    def listen(self, preview, folder):
        told.append(preview)
        return show(self, preview, folder)

    monkeypatch.setattr(LivePreview, "show", listen)
    widget = running(make_parent)
    moving, fixed = widget.parameters.movingVolume, widget.parameters.fixedVolume
    shape = fixed.GetImageData().GetDimensions()[::-1]
    number = int(told[-1]["displacement"]["file"].split("-")[1].split(".")[0])
    from_world = vtk.vtkGeneralTransform()
    moving.GetParentTransformNode().GetTransformFromWorld(from_world)
    array, steps = preview_fields(shape)
    field = sitk.GetImageFromArray((array * (0.1 + number / 100)).astype(float), isVector=True)
    field.CopyInformation(as_itk(array[..., 0], np.diag([-1, -1, 1, 1]) @ GEOMETRIES["plain"] @ steps))
    linear = sitk.AffineTransform(3)
    linear.SetMatrix(np.array(told[-1]["affine"])[:3, :3].ravel().tolist())
    linear.SetTranslation(np.array(told[-1]["affine"])[:3, 3].tolist())
    expected = sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])
    ijk = np.random.default_rng(0).uniform(2, np.array(shape[::-1]) - 3, (50, 3))
    ras = ijk @ GEOMETRIES["plain"][:3, :3].T + GEOMETRIES["plain"][:3, 3]
    own = through(from_world, ras)
    to_world = vtk.vtkGeneralTransform()
    if running.parent is not None:
        running.parent.GetTransformToWorld(to_world)
    np.testing.assert_allclose(to_lps(through(to_world, own)), through(expected, to_lps(ras)), atol=0.05)
    cancel(widget, process_events)


def test_the_preview_is_hidden_and_not_saved(running, process_events, scene, tmp_path):
    """And a scene that is saved at that moment brings the volume back to where it was before."""
    import slicer

    widget = running(table)
    preview = widget.parameters.movingVolume.GetParentTransformNode()
    assert preview.GetHideFromEditors() and not preview.GetSaveWithScene()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    cancel(widget, process_events)
    scene.Clear(0)
    process_events()
    slicer.util.loadScene(str(path))
    process_events()
    volume = slicer.util.getNode("atlas")
    assert volume.GetParentTransformNode() is slicer.util.getNode("table")
    assert PREVIEW not in nodes(scene, "vtkMRMLTransformNode") and volume.GetAttribute("RegNet.Previewed") is None


def test_another_module_sees_the_volume_where_it_was(running, process_events, widget_factory, scene):
    widget = running(table)
    volume = widget.parameters.movingVolume
    other = widget_factory("RegNetMASR")
    assert volume.GetParentTransformNode() is running.parent
    assert PREVIEW not in nodes(scene, "vtkMRMLTransformNode")
    process_events(timeout=0.5)
    assert volume.GetParentTransformNode() is running.parent and widget.client.is_busy()
    assert not other.ui.applyButton.enabled and not other.ui.stopButton.isVisibleTo(other.parent)
    widget_factory("RegNetAVSM")
    assert process_events(until=lambda: is_shown(widget), timeout=10)
    cancel(widget, process_events)
    assert volume.GetParentTransformNode() is running.parent


def test_closing_the_scene(running, process_events, scene):
    widget = running(table)
    scene.Clear(0)
    process_events(timeout=0.5)
    assert not widget.client.is_busy() and leftovers() == []
    assert PREVIEW not in nodes(scene, "vtkMRMLTransformNode")


def test_the_box_switches_it_off_and_on(running, process_events, scene):
    widget = running(table)
    volume = widget.parameters.movingVolume
    widget.ui.livePreviewCheckBox.click()
    assert volume.GetParentTransformNode() is running.parent
    process_events(timeout=0.4)
    assert volume.GetParentTransformNode() is running.parent
    widget.ui.livePreviewCheckBox.click()
    assert process_events(until=lambda: is_shown(widget), timeout=10)
    cancel(widget, process_events)


def test_switched_off_nothing_is_asked_for(open_pair, process_events, sent):
    widget = open_pair("improve")
    assert widget.ui.livePreviewCheckBox.checked and widget.parameters.livePreview
    widget.ui.livePreviewCheckBox.click()
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.stopButton.enabled, timeout=20)
    process_events(timeout=0.4)
    assert sent[0]["preview"] is False and not is_shown(widget)
    widget.ui.stopButton.click()
    wait_for_end(widget, process_events)
    assert widget.parameters.resultTransform is not None
    assert [message["command"] for message in sent] == ["register", "stop"] and sent[1]["target"] == sent[0]["id"]


def test_where_the_user_puts_the_volume_meanwhile_it_stays(running, process_events, scene):
    widget = running(table)
    volume = widget.parameters.movingVolume
    other = add_linear("other", rigid((0, 0, 5)))
    volume.SetAndObserveTransformNodeID(other.GetID())
    assert process_events(until=lambda: PREVIEW not in nodes(scene, "vtkMRMLTransformNode"), timeout=10)
    process_events(timeout=0.3)
    assert volume.GetParentTransformNode() is other
    cancel(widget, process_events)
    assert volume.GetParentTransformNode() is other


def test_removing_the_volume(running, process_events, scene):
    widget = running()
    scene.RemoveNode(widget.parameters.movingVolume)
    assert process_events(until=lambda: PREVIEW not in nodes(scene, "vtkMRMLTransformNode"), timeout=10)
    cancel(widget, process_events)


def test_an_open_dialog_sees_the_volume_where_it_was(running, process_events):
    """It may be the one that saves the scene."""
    import qt

    widget = running(table)
    volume = widget.parameters.movingVolume
    dialog = qt.QDialog()
    dialog.modal = True
    dialog.show()
    assert process_events(until=lambda: volume.GetParentTransformNode() is running.parent, timeout=5)
    process_events(timeout=0.4)
    assert volume.GetParentTransformNode() is running.parent
    dialog.close()
    assert process_events(until=lambda: is_shown(widget), timeout=10)
    cancel(widget, process_events)


def test_views_that_show_something_else_are_given_the_pair(open_pair, process_events, scene):
    import slicer

    widget = open_pair("improve")
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode").SetForegroundVolumeID(None)
        scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode").SetBackgroundVolumeID(None)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: is_shown(widget), timeout=20)
    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    composite = logic.GetSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == widget.parameters.movingVolume.GetID()
    assert composite.GetBackgroundVolumeID() == widget.parameters.fixedVolume.GetID()
    composite.SetForegroundOpacity(0.2)
    process_events(timeout=0.3)
    assert composite.GetForegroundOpacity() == pytest.approx(0.2)  # and then left alone
    cancel(widget, process_events)


def test_a_preview_over_an_earlier_result(open_pair, apply, worker, process_events, scene):
    """The volume wears the first result: previews start from where it was before that, and a cancel puts it back."""
    widget = open_pair()
    apply(widget)
    first = widget.parameters.resultTransform
    before = all_nodes(scene)
    worker("improve")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: is_shown(widget), timeout=20)
    widget.parameters.seed = 3  # anything that makes the panel look at its nodes
    assert widget.ui.afterCheckBox.checked
    cancel(widget, process_events)
    assert widget.parameters.movingVolume.GetParentTransformNode() is first and widget.ui.afterCheckBox.checked
    assert all_nodes(scene) == before


def test_where_drawing_is_slow_previews_are_left_out(running, process_events, monkeypatch):
    """Ten come a second. Each keeps the window busy for 0.3 s, a moment after it was put on the volume."""
    import qt
    from RegNetLib.live_preview import LivePreview

    widget = running()
    told, shown, show = [], [], LivePreview.show

    def listen(self, preview, folder):
        told.append(preview)
        if show(self, preview, folder):
            shown.append(time.monotonic())
            qt.QTimer.singleShot(5, lambda: time.sleep(0.3))

    monkeypatch.setattr(LivePreview, "show", listen)
    assert process_events(until=lambda: len(shown) > 3, timeout=9)
    assert min(np.diff(shown)) > 0.5  # twice 0.3 s, less what the timer does not see
    assert len(told) > len(shown)
    cancel(widget, process_events)


def test_only_the_newest_preview_is_shown():
    from RegNetLib.worker_client import without_old_previews

    def message(event, number=0):
        return {"event": event, "number": number}

    first, second = message("preview", 1), message("preview", 2)
    progress, done = message("progress"), message("done")
    assert without_old_previews([first, progress, second]) == [progress, second]
    assert without_old_previews([first, progress, done]) == [progress, done]
    assert without_old_previews([progress, second, progress]) == [progress, second, progress]


def test_on_a_busy_computer_previews_go_on(running, process_events, monkeypatch):
    """Where whatever runs runs late, all the time, that is not the previews' doing."""
    import qt
    from RegNetLib.live_preview import LivePreview

    widget = running()
    shown, show = [], LivePreview.show

    def listen(self, preview, folder):
        if show(self, preview, folder):
            shown.append(time.monotonic())

    monkeypatch.setattr(LivePreview, "show", listen)
    load = qt.QTimer()
    load.connect("timeout()", lambda: time.sleep(0.08))
    load.start(0)
    assert process_events(until=lambda: len(shown) > 3, timeout=15)
    load.stop()
    cancel(widget, process_events)
