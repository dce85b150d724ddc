"""Everything that can stop a fusion, before it starts and while it runs: one sentence, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from traces import leftovers, nodes
from volumes import add_linear, add_volume, pattern, rigid

NAME = "atlas fused with patient (BSAFusion)"
FUSE = "Fuse with BSAFusion"


@pytest.fixture
def panel(open_pair, fusion_weights):
    return open_pair()


def test_why_it_cannot_fuse_is_in_the_tooltip(panel, fusion_weights, monkeypatch):
    from RegNetLib import fuse_inputs

    button, weights = panel.ui.fuseButton, panel.ui.fuseWeightsComboBox
    assert button.enabled and "not for diagnosis" in button.toolTip
    moving = panel.parameters.movingVolume
    panel.ui.movingSelector.setCurrentNode(None)
    assert not button.enabled and button.toolTip == "Choose a moving volume."
    panel.ui.movingSelector.setCurrentNode(panel.parameters.fixedVolume)
    assert not button.enabled and "are the same" in button.toolTip
    panel.ui.movingSelector.setCurrentNode(moving)
    fusion_weights("pet-mri")
    panel.enter()
    assert not button.enabled and "needs the trained weights “ct-mri” of BSAFusion" in button.toolTip
    weights.currentText = "PET with MR"
    assert button.enabled
    monkeypatch.setattr(fuse_inputs, "find_spec", lambda name: None)
    panel.enter()
    assert not button.enabled and "needs PyTorch" in button.toolTip and button.text == FUSE


def test_a_damaged_record_is_one_sentence(panel, fusion_weights):
    from regnet import zoo

    (zoo.model_folders()[0] / "bsafusion" / "ct-mri.json").write_text("{")
    panel.enter()
    assert not panel.ui.fuseButton.enabled and "is damaged" in panel.ui.fuseButton.toolTip


def test_single_slices_need_the_weights_for_planes(panel, fusion_weights):
    fusion_weights("volumes")
    for selector in (panel.ui.fixedSelector, panel.ui.movingSelector):
        selector.setCurrentNode(add_volume("slice", pattern((3, 64, 56))[1:2]))
    assert not panel.ui.fuseButton.enabled and "“ct-mri”" in panel.ui.fuseButton.toolTip


def test_progress_and_cancel(open_pair, fusion_weights, process_events, scene):
    panel = open_pair("slow")
    count, shown = scene.GetNumberOfNodes(), panel.review.mode()
    assert not panel.ui.fuseProgressBar.isVisibleTo(panel.parent)
    panel.ui.fuseButton.click()
    assert panel.ui.fuseButton.text == "Cancel fusion" and not panel.ui.fuseWeightsComboBox.enabled
    assert not panel.ui.applyButton.enabled and panel.ui.applyButton.text == "A fusion is running"
    assert process_events(until=lambda: panel.ui.fuseProgressBar.value > 100, timeout=20)
    assert panel.ui.fuseProgressBar.isVisibleTo(panel.parent) and panel.ui.fuseStatusLabel.text == "Fusion"
    assert not panel.ui.progressBar.isVisibleTo(panel.parent)
    panel.ui.movingSelector.setCurrentNode(None)  # it can be cancelled all the same
    assert panel.ui.fuseButton.isEnabledTo(panel.parent)
    panel.ui.fuseButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=5)
    assert panel.ui.fuseStatusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodes() == count and leftovers() == [] and panel.parameters.fusedVolume is None
    assert panel.review.mode() == shown and not panel.ui.fuseProgressBar.isVisibleTo(panel.parent)


def test_the_bar_moves_without_a_number_until_there_is_one(panel):
    """A volume is fused in one pass of the network, which tells nothing on the way."""
    from RegNetLib.worker_client import Job, State

    bar = panel.ui.fuseProgressBar
    panel.fuse._job = Job({"command": "fuse"}, None, panel.fuse)
    panel.fuse.on_state(State.RUNNING)
    panel.fuse.on_progress(0.0, "fuse", "")
    assert (bar.minimum, bar.maximum) == (0, 0) and panel.ui.fuseStatusLabel.text == "Fusion"
    panel.fuse.on_progress(0.25, "fuse", "")
    assert (bar.maximum, bar.value) == (1000, 250)
    panel.fuse._job = None


def test_a_registration_and_a_fusion_take_turns(open_pair, fusion_weights, process_events):
    panel = open_pair("slow")
    panel.ui.applyButton.click()
    assert not panel.ui.fuseButton.enabled and panel.ui.fuseButton.toolTip.startswith("A registration is running;")
    panel.ui.applyButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=5)
    assert panel.ui.fuseButton.enabled and panel.ui.applyButton.enabled


@pytest.mark.parametrize("what", ["moving", "fixed", "transform"])
def test_something_removed_meanwhile(open_pair, fusion_weights, apply, worker, process_events, scene, what):
    """One sentence, no orphan, and what an earlier fusion made is as it was."""
    import slicer

    panel = open_pair()
    apply(panel)
    panel.ui.fuseButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=30)
    volume, transform = panel.parameters.fusedVolume, panel.parameters.resultTransform
    before = slicer.util.arrayFromVolume(volume).copy()
    worker("slow")
    panel.ui.fuseButton.click()
    assert process_events(until=lambda: panel.ui.fuseProgressBar.value > 100, timeout=20)
    removed = {"fixed": panel.parameters.fixedVolume, "moving": panel.parameters.movingVolume, "transform": transform}
    names = {"transform": f"the transform “{transform.GetName()}”"}
    scene.RemoveNode(removed[what])
    count = scene.GetNumberOfNodes()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=2)  # at once
    name = names.get(what, "the fixed or the moving volume")
    assert panel.ui.fuseStatusLabel.text == f"Nothing was fused: {name} was removed meanwhile."
    assert scene.GetNumberOfNodes() == count and leftovers() == [] and scene.IsNodePresent(volume)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), before)


def test_a_transform_removed_at_the_last_moment(panel, press_fuse, scene, monkeypatch):
    """The image is there already, and is not taken."""
    from RegNetLib.fused_volume import FusionImporter

    table = add_linear("table", rigid((0, 0, 10)))
    panel.parameters.movingVolume.SetAndObserveTransformNodeID(table.GetID())
    load = FusionImporter.load

    def removed(self, *arguments):
        scene.RemoveNode(table)
        return load(self, *arguments)

    monkeypatch.setattr(FusionImporter, "load", removed)
    assert press_fuse(panel) is None
    text = "Nothing was fused: the transform “table” was removed meanwhile."
    assert panel.ui.fuseStatusLabel.text == text and NAME not in nodes(scene, "vtkMRMLScalarVolumeNode")


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_failure_is_one_sentence_and_keeps_what_there_is(panel, press_fuse, worker, scene, mode):
    volume = press_fuse(panel)
    count, modified = scene.GetNumberOfNodes(), volume.GetMTime()
    worker(mode)
    assert press_fuse(panel) is volume
    sentences = {"crash": "The registration worker stopped unexpectedly", "refuse": "The images do not overlap; move"}
    assert panel.ui.fuseStatusLabel.text.startswith(sentences[mode])
    assert (scene.GetNumberOfNodes(), volume.GetMTime()) == (count, modified) and leftovers() == []
    worker("shift")
    press_fuse(panel)
    assert panel.ui.fuseStatusLabel.text.startswith("Fused")


def test_a_failed_import_leaves_no_node(panel, press_fuse, scene, monkeypatch):
    from RegNetLib import conversion

    count = scene.GetNumberOfNodes()

    def fail(*arguments):
        raise MemoryError("not enough memory")

    monkeypatch.setattr(conversion, "set_volume", fail)
    assert press_fuse(panel) is None
    assert panel.ui.fuseStatusLabel.text == "The result could not be loaded: not enough memory"
    assert scene.GetNumberOfNodes() == count and leftovers() == []


def test_closing_the_scene_or_the_panel_meanwhile(open_pair, fusion_weights, process_events, scene):
    panel = open_pair("slow")
    for close in (lambda: scene.Clear(0), panel.cleanup):
        panel.ui.fixedSelector.setCurrentNode(add_volume("patient"))
        panel.ui.movingSelector.setCurrentNode(add_volume("atlas"))
        panel.ui.fuseButton.click()
        assert process_events(until=lambda: panel.ui.fuseProgressBar.value > 50, timeout=20)
        close()
        process_events(timeout=0.3)
        assert not panel.client.is_busy() and panel.client.process_id() == 0 and leftovers() == []
        assert not [name for name in nodes(scene, "vtkMRMLScalarVolumeNode") if "fused" in name]
