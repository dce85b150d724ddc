"""Everything that can go wrong while segments are carried: nothing is lost, nothing is left."""

from __future__ import annotations

import json

import numpy as np
import pytest
from propagations import (
    TARGET_SHAPE,
    add_targets,
    near,
    open_scan,
    open_sequence,
    result_of,
)
from segmentations import SMALL, add_segmentation, mask_of, names_of
from traces import leftovers, nodes
from volumes import add_volume, pattern


@pytest.fixture
def panel(propagation):
    return propagation


@pytest.fixture
def slow_panel(slow_propagation):
    return slow_propagation


def start(panel, process_events, value=20):
    panel.ui.applyButton.click()
    assert process_events(until=lambda: panel.ui.progressBar.value > value, timeout=20)


def ended(panel, process_events, timeout=5):
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=timeout)
    assert not panel.run.is_running() and leftovers() == [] and panel.ui.inputsSection.enabled


def test_cancel_leaves_nothing(slow_panel, tick, process_events, scene):
    panel = slow_panel
    add_targets(tick, panel)
    count = scene.GetNumberOfNodes()
    start(panel, process_events)
    assert panel.ui.applyButton.text == "Cancel" and not panel.ui.inputsSection.enabled
    assert panel.ui.statusLabel.text.startswith("1 of 3, patient 0: ")
    panel.ui.applyButton.click()
    ended(panel, process_events)
    assert panel.ui.statusLabel.text == "Cancelled; nothing was changed." and scene.GetNumberOfNodes() == count


def test_a_cancel_keeps_the_targets_that_are_done(panel, tick, process_events):
    targets = add_targets(tick, panel)
    panel.ui.applyButton.click()
    assert process_events(until=lambda: panel.ui.statusLabel.text.startswith("2 of 3"), timeout=20)
    panel.ui.applyButton.click()
    ended(panel, process_events)
    assert [result_of(panel, target) is not None for target in targets] == [True, False, False]
    lines = panel.ui.statusLabel.text.splitlines()
    assert lines[:2] == ["Cancelled.", "Done and kept: “organs on patient 0”."]


def test_a_cancelled_sequence_is_as_it_was(panel, apply, worker, process_events, scene):
    sequence, _browser = open_sequence(panel)
    apply(panel)
    result = result_of(panel, sequence, "vtkMRMLSequenceNode")
    before, count = [result.GetNthDataNode(n).GetMTime() for n in range(4)], scene.GetNumberOfNodes()
    worker("slow")
    start(panel, process_events)
    panel.ui.applyButton.click()
    ended(panel, process_events)
    assert panel.ui.statusLabel.text == "Cancelled; nothing was changed."
    assert [result.GetNthDataNode(n).GetMTime() for n in range(4)] == before and scene.GetNumberOfNodes() == count


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_failure_is_one_sentence_and_keeps_what_there_is(panel, follow_up, apply, worker, scene, mode):
    apply(panel)
    result, count = result_of(panel, follow_up), scene.GetNumberOfNodes()
    before = mask_of(result, "liver", follow_up)
    worker(mode)
    apply(panel)
    sentences = {"crash": "The registration worker stopped unexpectedly", "refuse": "The images do not overlap; move"}
    assert panel.ui.statusLabel.text.startswith(sentences[mode]) and scene.GetNumberOfNodes() == count
    np.testing.assert_array_equal(mask_of(result, "liver", follow_up), before)
    assert leftovers() == []
    worker("shift")
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("Done")


@pytest.mark.parametrize("what", ["baseline", "organs", "follow-up"])
def test_something_removed_meanwhile(slow_panel, tick, process_events, scene, what):
    panel = slow_panel
    add_volume("follow-up", pattern(TARGET_SHAPE), near(TARGET_SHAPE))
    tick(panel.ui.targetList, "follow-up")
    start(panel, process_events)
    scene.RemoveNode(scene.GetFirstNodeByName(what))
    count = scene.GetNumberOfNodes()
    ended(panel, process_events)
    assert panel.ui.statusLabel.text == f"“{what}” was removed meanwhile.\nNothing was changed."
    assert scene.GetNumberOfNodes() == count


def test_a_target_removed_before_its_turn(panel, tick, process_events, scene):
    targets = add_targets(tick, panel)
    done = panel.run.on_done

    def watched(*arguments):
        done(*arguments)
        if scene.IsNodePresent(targets[1]):
            scene.RemoveNode(targets[1])

    panel.run.on_done = watched
    panel.ui.applyButton.click()
    ended(panel, process_events, timeout=20)
    assert result_of(panel, targets[0]) is not None and result_of(panel, targets[2]) is not None
    lines = panel.ui.statusLabel.text.splitlines()
    assert lines[0] == "2 of 3, patient 1: “patient 1” was removed meanwhile."
    assert lines[1] == "Done and kept: “organs on patient 0”, “organs on patient 2”."


def test_a_result_that_cannot_be_made_leaves_no_node(panel, follow_up, apply, scene, monkeypatch):
    from RegNetLib import conversion

    count = scene.GetNumberOfNodes()

    def fail(*arguments):
        raise MemoryError("not enough memory")

    monkeypatch.setattr(conversion, "array_to_oriented", fail)
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("The result could not be loaded: not enough memory")
    assert scene.GetNumberOfNodes() == count and leftovers() == []


def test_a_full_disk_is_one_sentence(panel, follow_up, monkeypatch):
    from RegNetLib.private_folder import PrivateFolder

    def full(self, name, array):
        (self.path / "half.npy").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PrivateFolder, "save", full)
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text.startswith("The images could not be handed to the worker (No space left")
    assert not panel.client.is_busy() and leftovers() == [] and panel.ui.applyButton.text == "Apply"


def test_an_empty_segmentation_is_one_sentence(panel, follow_up):
    bare = add_segmentation("bare", {"nothing": np.zeros(SMALL, bool)})
    panel.ui.segmentationSelector.setCurrentNode(bare)
    panel.ui.applyButton.click()
    assert panel.ui.statusLabel.text == "Segmentation “bare” is empty: none of the ticked segments has a voxel."
    assert not panel.client.is_busy() and leftovers() == []


def test_closing_the_scene_or_the_panel_meanwhile(slow_panel, tick, process_events, scene):
    panel = slow_panel
    for close in (lambda: scene.Clear(0), panel.cleanup):
        if panel.parameters.scan is None:
            panel.ui.scanSelector.setCurrentNode(add_volume("baseline", pattern(SMALL)))
            panel.ui.segmentationSelector.setCurrentNode(add_segmentation("organs"))
        add_volume("follow-up", pattern(TARGET_SHAPE), near(TARGET_SHAPE))
        tick(panel.ui.targetList, "follow-up")
        start(panel, process_events)
        close()
        process_events(timeout=0.3)
        assert not panel.client.is_busy() and panel.client.process_id() == 0 and leftovers() == []
        assert "organs on follow-up" not in nodes(scene, "vtkMRMLSegmentationNode")


def test_it_waits_for_other_panels_and_they_for_it(slow_panel, widget_factory, tick, process_events):
    panel = slow_panel
    add_volume("follow-up", pattern((20, 18, 24)), near(TARGET_SHAPE))
    tick(panel.ui.targetList, "follow-up")
    other = widget_factory("RegNet")
    start(panel, process_events)
    other.enter()
    assert other.ui.applyButton.text == "A registration is running"
    panel.ui.applyButton.click()
    ended(panel, process_events)
    assert json.loads(panel.parameters.leftOut) == []


def test_a_frame_that_is_refused_keeps_those_before_it(worker, widget_factory, apply, process_events):
    """No frame is made up for those that are missing."""
    panel = open_scan(worker, widget_factory, "picky")
    sequence, browser = open_sequence(panel, bright=3)
    apply(panel)
    result = result_of(panel, sequence, "vtkMRMLSequenceNode")
    assert [result.GetNthIndexValue(n) for n in range(result.GetNumberOfDataNodes())] == ["0.5", "1.0"]
    assert panel.ui.statusLabel.text.splitlines()[:2] == [
        "3 of 4, frame 3 (1.5 s): The fixed image is too bright.", "Done and kept: “organs on heart”.",
    ]  # fmt: skip
    for number in (3, 2, 0):
        browser.SetSelectedItemNumber(number)
        process_events()
        assert len(names_of(browser.GetProxyNode(result))) == (3 if number == 2 else 0)
        assert result.GetNumberOfDataNodes() == 2
    apply(panel)  # an earlier result stays as it is
    assert panel.ui.statusLabel.text.splitlines()[1] == "Nothing was changed."
    assert result.GetNumberOfDataNodes() == 2 and leftovers() == []
