"""Everything that can stop a correction, before it starts and while it runs: one sentence, and nothing is lost."""

from __future__ import annotations

import pytest
from segmentations import add_segmentation
from traces import leftovers, nodes
from volumes import add_bend, add_volume

PLACE = (30.0, 15.0, 30.0)


@pytest.fixture
def add_pair(process_events):
    import vtk

    def add(panel):
        panel.ui.addPairButton.click()
        panel.parameters.correctFixedPoints.AddControlPointWorld(vtk.vtkVector3d(*PLACE), "F")
        process_events(timeout=0.0)

    return add


@pytest.fixture
def begin(worker, add_pair, process_events):
    """A correction that takes three seconds, some way in."""

    def start(panel, mode="slow"):
        add_pair(panel)
        worker(mode)
        panel.ui.correctButton.click()
        assert panel.ui.correctButton.text == "Cancel"
        assert process_events(until=lambda: panel.ui.correctProgressBar.value > 50, timeout=20)

    return start


def test_why_nothing_can_be_corrected_is_in_the_tooltip(open_pair, apply, add_pair):
    panel = open_pair()
    button = panel.ui.correctButton
    assert not button.enabled and button.toolTip.startswith("There is no result to correct; register first")
    assert not panel.ui.addPairButton.enabled
    apply(panel)
    assert panel.ui.addPairButton.enabled and button.toolTip.startswith("Add a pair of points, or choose a region")
    empty = add_segmentation("painted", {})
    panel.ui.correctSegmentationSelector.setCurrentNode(empty)
    assert "“painted” has no segment" in button.toolTip
    drawn = add_segmentation("drawn")
    drawn.SetAndObserveTransformNodeID(add_bend("bend").GetID())
    panel.ui.correctSegmentationSelector.setCurrentNode(drawn)
    assert "non-linear transform “bend”" in button.toolTip
    panel.ui.correctSegmentationSelector.setCurrentNode(None)
    add_pair(panel)
    assert button.enabled and "stays as it is" in button.toolTip
    panel.ui.movingSelector.setCurrentNode(None)
    assert not button.enabled and button.toolTip == "Choose a moving volume."


def test_an_empty_segment_is_refused_when_it_is_read(panel, process_events):
    import numpy as np

    node = add_segmentation("painted", {"nothing": np.zeros((18, 20, 22), bool)})
    panel.ui.correctSegmentationSelector.setCurrentNode(node)
    panel.ui.correctButton.click()
    assert "“painted” is empty" in panel.ui.correctStatusLabel.text
    assert not panel.client.is_busy() and leftovers() == []


def test_progress_and_cancel(panel, begin, process_events, scene):
    before, ui = panel.parameters.resultTransform, panel.ui
    begin(panel)
    count = scene.GetNumberOfNodes()
    assert ui.correctProgressBar.isVisibleTo(ui.correctFrame) and not ui.addPairButton.enabled
    assert not ui.applyButton.enabled and ui.applyButton.text == "A correction is running"
    ui.correctButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=5)
    assert ui.correctStatusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodes() == count and leftovers() == []
    assert panel.parameters.resultTransform is before and ui.correctButton.text == "Refine"
    assert not ui.correctProgressBar.isVisibleTo(ui.correctFrame) and ui.addPairButton.enabled


@pytest.mark.parametrize("what", ["fixed", "moving", "result", "points"])
def test_something_removed_meanwhile(panel, begin, process_events, scene, what):
    begin(panel)
    parameters = panel.parameters
    before = parameters.resultTransform
    removed = {
        "fixed": parameters.fixedVolume, "moving": parameters.movingVolume, "result": before,
        "points": parameters.correctFixedPoints,
    }  # fmt: skip
    scene.RemoveNode(removed[what])
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=10)
    assert leftovers() == []
    corrected = [name for name in nodes(scene, "vtkMRMLTransformNode") if "corrected" in name]
    if what == "points":  # the correction has them already
        assert len(corrected) == 1 and panel.ui.correctStatusLabel.text.startswith("Corrected")
        return
    name = "the result" if what == "result" else "the fixed or the moving volume"
    assert panel.ui.correctStatusLabel.text == f"Nothing was corrected: {name} was removed meanwhile."
    assert corrected == []


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_failure_is_one_sentence_and_keeps_what_there_is(panel, add_pair, worker, process_events, scene, mode):
    add_pair(panel)
    before, moving = panel.parameters.resultTransform, panel.parameters.movingVolume
    count, modified = scene.GetNumberOfNodes(), before.GetMTime()
    worker(mode)
    panel.ui.correctButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=20)
    sentences = {"crash": "The registration worker stopped unexpectedly", "refuse": "The images do not overlap; move"}
    assert panel.ui.correctStatusLabel.text.startswith(sentences[mode])
    assert (scene.GetNumberOfNodes(), before.GetMTime()) == (count, modified) and leftovers() == []
    assert panel.parameters.resultTransform is before and moving.GetTransformNodeID() == before.GetID()


def test_a_failed_import_leaves_no_node(panel, add_pair, process_events, scene, monkeypatch):
    from RegNetLib import correct_import

    add_pair(panel)
    before, count = panel.parameters.resultTransform, scene.GetNumberOfNodes()

    def fail(*_arguments):
        raise MemoryError("not enough memory")

    monkeypatch.setattr(correct_import, "note_what_was", fail)
    panel.ui.correctButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=20)
    assert panel.ui.correctStatusLabel.text == "The result could not be loaded: not enough memory"
    assert scene.GetNumberOfNodes() == count and panel.parameters.resultTransform is before and leftovers() == []


def test_closing_the_scene_or_the_panel_meanwhile(panel, apply, begin, worker, process_events, scene):
    begin(panel)
    scene.Clear(0)
    process_events(timeout=0.3)
    assert not panel.client.is_busy() and panel.client.process_id() == 0 and leftovers() == []
    worker("shift")
    panel.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    panel.ui.movingSelector.setCurrentNode(add_volume("atlas"))
    apply(panel)
    begin(panel)
    panel.cleanup()
    process_events(timeout=0.3)
    assert not panel.client.is_busy() and leftovers() == []
    assert not [name for name in nodes(scene, "vtkMRMLTransformNode") if "corrected" in name]


@pytest.mark.parametrize("leave", ["module", "scene"])
def test_leaving_ends_the_placing(panel, process_events, scene, leave):
    import slicer

    panel.ui.addPairButton.click()
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    if leave == "module":
        panel.exit()
    else:
        scene.Clear(0)
        process_events()
    assert interaction.GetCurrentInteractionMode() != interaction.Place
