"""The history of registrations, by the panel's buttons: entries, going back, Revert, deletion, saving, two panels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from traces import nodes
from volumes import GEOMETRIES, add_linear, add_volume, pattern, rigid

KINDS = ("Volume", "Transform", "TransformDisplay", "VolumeDisplay", "ScriptedModule", "Storage", "Table")
POINTS = [(5.0, -7.0, 9.0), (30.0, 15.0, 25.0), (45.0, 20.0, 40.0)]


def count(scene) -> dict[str, int]:
    return {kind: scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in KINDS}


def mapped(transform) -> np.ndarray:
    """Where a result takes some points of the fixed volume."""
    return np.array([transform.GetTransformFromParent().TransformPoint(point) for point in POINTS])


def rows(widget) -> list[list[str]]:
    shown = widget.history.ui.historyList
    return [shown.item(n).text().split("\n") for n in range(shown.count)]


def choose(widget, *numbers) -> None:
    """Choose rows, counted from the top, and no others."""
    shown = widget.history.ui.historyList
    for n in range(shown.count):
        shown.item(n).setSelected(n in numbers)


def transforms() -> list:
    import slicer

    return slicer.util.getNodesByClass("vtkMRMLTransformNode")


@pytest.fixture
def run(apply, process_events):
    """``run(panel, seed, keep=False)``: a run whose transform is another for each seed; ``keep`` makes a new node."""

    def press(widget, seed=0, keep=False):
        widget.ui.seedSpinBox.value = seed
        if keep:
            widget.ui.transformSelector.setCurrentNode(None)
        apply(widget)
        process_events(timeout=0.0)
        return widget.parameters.resultTransform

    return press


def test_each_run_becomes_an_entry(open_pair, run, scene):
    widget = open_pair()
    ui = widget.history.ui
    assert not widget.history.widget.isVisibleTo(widget.parent)
    run(widget)
    assert widget.history.widget.isVisibleTo(widget.parent)
    first, pair, numbers = rows(widget)[0]
    assert first.startswith("Run 1 · AVSM · ") and first.endswith(" · shown") and pair == "atlas → patient"
    assert numbers == "1.5 s · similarity 0.500 → 0.900 · folds 0 %"
    run(widget, 3)
    assert [row[0].split(" · ")[0] for row in rows(widget)] == ["Run 2", "Run 1"]
    assert rows(widget)[0][0].endswith("shown") and not rows(widget)[1][0].endswith("shown")
    assert "seed: 3" in ui.historyList.item(0).toolTip() and "iterations: 30" in ui.historyList.item(0).toolTip()
    assert not ui.historyList.item(0).icon().isNull()
    layout = widget.ui.resultSection.parent().layout()
    assert layout.indexOf(widget.history.widget) > layout.indexOf(widget.ui.resultSection)


def test_an_overwritten_result_is_kept(open_pair, run, scene):
    """The second run writes into the chosen transform; the first one's is a transform of its own from then on."""
    widget = open_pair()
    first = run(widget, 0)
    before = mapped(first)
    assert run(widget, 7) is first and np.abs(mapped(first) - before).max() > 6
    assert nodes(scene, "vtkMRMLTransformNode")[-2:] == ["atlas to patient (AVSM)", "atlas to patient (AVSM), run 1"]
    choose(widget, 1)
    widget.history.ui.useButton.click()
    moving, result = widget.parameters.movingVolume, widget.parameters.resultTransform
    assert result.GetName() == "atlas to patient (AVSM), run 1" and moving.GetTransformNodeID() == result.GetID()
    np.testing.assert_allclose(mapped(result), before, atol=1e-6)
    assert rows(widget)[1][0].endswith("shown") and widget.ui.transformSelector.currentNode() is result
    assert widget.ui.numbersTable.rowCount > 5  # the table shows that run's numbers


@pytest.mark.parametrize("keep", [False, True])
def test_revert_goes_back_run_by_run(open_pair, run, scene, keep):
    widget = open_pair()
    ui, moving = widget.history.ui, widget.parameters.movingVolume
    table = add_linear("table", rigid((0, 0, 10), (1, 2, 3)))
    moving.SetAndObserveTransformNodeID(table.GetID())
    before = []
    for seed in (0, 4, 9):
        before.append(mapped(run(widget, seed, keep)))
    for expected in (before[1], before[0]):
        assert ui.revertButton.enabled
        ui.revertButton.click()
        result = widget.parameters.resultTransform
        np.testing.assert_allclose(mapped(result), expected, atol=1e-6)
        assert moving.GetTransformNodeID() == result.GetID()
    ui.revertButton.click()
    assert widget.parameters.resultTransform is None and moving.GetTransformNodeID() == table.GetID()
    assert not ui.revertButton.enabled and len(rows(widget)) == 3
    assert ui.historyStatusLabel.text == "Run 1 · AVSM is undone."


def test_revert_leaves_a_volume_that_was_put_elsewhere(open_pair, run):
    widget = open_pair()
    moving = widget.parameters.movingVolume
    run(widget)
    other = add_linear("other", rigid((5, 0, 0)))
    moving.SetAndObserveTransformNodeID(other.GetID())
    widget.history.ui.revertButton.click()
    assert widget.parameters.resultTransform is None and moving.GetTransformNodeID() == other.GetID()


def test_what_hangs_on_the_result_comes_along(open_pair, run):
    """Labels under the result follow the moving volume: to an earlier result, and back to where it was."""
    widget = open_pair()
    moving, ui = widget.parameters.movingVolume, widget.history.ui
    labels = add_volume("labels", (pattern() > 50).astype(np.uint8))
    labels.SetAndObserveTransformNodeID(run(widget).GetID())
    run(widget, 5)
    for row in (1, 0):
        choose(widget, row)
        ui.useButton.click()
        assert labels.GetTransformNodeID() == moving.GetTransformNodeID() == widget.parameters.resultTransform.GetID()
    ui.revertButton.click()
    ui.revertButton.click()
    assert labels.GetTransformNodeID() is None and moving.GetTransformNodeID() is None


def test_a_transform_that_was_there_before_is_back_after_revert(open_pair, run):
    """Whatever transform was chosen as the output: what it held is not lost."""
    widget = open_pair()
    own = add_linear("my work", rigid((3, 4, 5), (6, 7, 8)))
    expected = mapped(own)
    generic = widget.parameters.parameterNode.GetScene().AddNewNodeByClass("vtkMRMLTransformNode", "bend")
    generic.SetAndObserveTransformFromParent(own.GetTransformFromParent())
    widget.ui.transformSelector.setCurrentNode(generic)
    assert run(widget) is generic and np.abs(mapped(generic) - expected).max() > 1
    widget.history.ui.revertButton.click()
    assert widget.parameters.resultTransform.GetName() == "bend, earlier"
    np.testing.assert_allclose(mapped(widget.parameters.resultTransform), expected, atol=1e-6)


def test_settings_come_back(open_pair, run, scene):
    widget = open_pair(module="RegNet")
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    mask.CopyContent(add_volume("inside", (pattern() > 50).astype(np.uint8)))
    widget.ui.modelComboBox.currentText = "MASR-Net"
    widget.ui.alignmentComboBox.currentText = "Rigid"
    widget.ui.refinementComboBox.currentText = "Number of steps"
    widget.ui.refineStepsSpinBox.value = 12
    widget.ui.fixedMaskSelector.setCurrentNode(mask)
    widget.form._fields["detail"]._widget.value = 2.5
    run(widget, 6)
    widget.ui.modelComboBox.currentText = "AVSM"
    widget.ui.alignmentComboBox.currentText = "Automatic"
    widget.ui.refinementComboBox.currentText = "Off"
    widget.ui.fixedMaskSelector.setCurrentNode(None)
    widget.ui.seedSpinBox.value = 0
    kept = json.loads(widget.parameters.modelParameters)
    widget.parameters.modelParameters = json.dumps({**kept, "masr": {}})
    choose(widget, 0)
    widget.history.ui.settingsButton.click()
    assert (widget.ui.modelComboBox.currentText, widget.ui.alignmentComboBox.currentText) == ("MASR-Net", "Rigid")
    assert (widget.parameters.refine_option(), widget.ui.seedSpinBox.value) == (12, 6)
    assert widget.form.values()["detail"] == 2.5 and widget.ui.fixedMaskSelector.currentNode() is mask


def test_a_panel_of_another_model_cannot_take_the_settings(open_pair, run, widget_factory):
    widget = open_pair(module="RegNetMASR")
    run(widget)
    other = widget_factory("RegNetAVSM")
    choose(other, 0)
    button = other.history.ui.settingsButton
    assert not button.enabled and button.toolTip.startswith(
        "This panel does not offer MASR-Net; open the module RegNet"
    )
    assert other.history.ui.useButton.enabled


def test_two_panels_share_the_history(open_pair, run, widget_factory):
    first = open_pair()
    result = run(first)
    fixed, moving = first.parameters.fixedVolume, first.parameters.movingVolume
    second = widget_factory("RegNetMASR")
    assert rows(second)[0][1] == "atlas → patient" and not rows(second)[0][0].endswith("shown")
    second.parameters.fixedVolume, second.parameters.movingVolume = (
        moving,
        add_volume("third", pattern(shift=(2, 1, 0))),
    )
    run(second, 2)
    assert [row[1] for row in rows(second)] == ["third → atlas", "atlas → patient"]
    choose(second, 1)
    second.history.ui.useButton.click()
    assert second.parameters.resultTransform is result
    assert second.parameters.fixedVolume is fixed and second.parameters.movingVolume is moving
    back = widget_factory("RegNetAVSM")
    assert back is first and [row[0].split(" · ")[1] for row in rows(first)] == ["MASR-Net", "AVSM"]


def test_delete_removes_what_nothing_uses(open_pair, run, scene):
    widget = open_pair()
    ui = widget.history.ui
    empty = count(scene)
    for seed in (0, 4, 9):
        run(widget, seed)
    choose(widget, 1)  # the middle one
    ui.deleteButton.click()
    assert [row[0].split(" · ")[0] for row in rows(widget)] == ["Run 3", "Run 1"]
    assert "atlas to patient (AVSM), run 2" not in nodes(scene, "vtkMRMLTransformNode")
    first = mapped(next(n for n in transforms() if n.GetName().endswith("run 1")))
    ui.revertButton.click()  # over the gap, to the first
    np.testing.assert_allclose(mapped(widget.parameters.resultTransform), first)
    choose(widget, 0, 1)
    ui.deleteButton.click()
    assert rows(widget) == [] and not widget.history.widget.isVisibleTo(widget.parent)
    assert ui.historyStatusLabel.text == "Deleted. Still in use, and kept: “atlas to patient (AVSM), run 1”."
    ui.revertButton.click()
    scene.RemoveNode(next(n for n in transforms() if n.GetName().endswith("run 1")))
    assert count(scene) == empty


@pytest.mark.parametrize("what", ["transform", "volume"])
def test_an_entry_whose_nodes_were_deleted_can_only_be_deleted(open_pair, run, scene, process_events, what):
    widget = open_pair()
    ui = widget.history.ui
    result = run(widget)
    scene.RemoveNode(result if what == "transform" else widget.parameters.movingVolume)
    process_events()
    gone = "its transform" if what == "transform" else "a volume of its pair"
    assert rows(widget)[0][1:] == ["atlas → patient", f"Can only be deleted: {gone} was removed."]
    choose(widget, 0)
    assert ui.deleteButton.enabled
    assert not any(button.enabled for button in (ui.useButton, ui.sideBySideButton, ui.flickerButton, ui.revertButton))
    ui.deleteButton.click()
    assert rows(widget) == []


@pytest.mark.parametrize("suffix", ["mrb", "mrml"])
def test_the_history_is_saved_with_the_scene(open_pair, run, scene, tmp_path, process_events, suffix):
    """Loaded beside another volume, so that all identities change."""
    import slicer

    widget = open_pair()
    first = mapped(run(widget, 0))
    second = mapped(run(widget, 8))
    texts = rows(widget)
    pictures = [entry.picture() for entry in _entries()]
    for transform in transforms():
        if transform.GetName().startswith("atlas") and suffix == "mrml":
            slicer.util.saveNode(transform, str(tmp_path / f"{transform.GetID()}.h5"))
    if suffix == "mrml":
        for volume in (widget.parameters.fixedVolume, widget.parameters.movingVolume):
            slicer.util.saveNode(volume, str(tmp_path / f"{volume.GetName()}.nrrd"))
    path = str(tmp_path / f"scene.{suffix}")
    assert slicer.util.saveScene(path)
    scene.Clear(0)
    process_events()
    assert rows(widget) == [] and not widget.history.widget.isVisibleTo(widget.parent)
    for name in ("one", "two"):
        add_volume(name)
        add_linear(name, rigid((1, 0, 0)))
    slicer.util.loadScene(path)
    process_events()
    assert rows(widget) == texts and [entry.picture() for entry in _entries()] == pictures
    choose(widget, 1)
    widget.history.ui.useButton.click()
    np.testing.assert_allclose(mapped(widget.parameters.resultTransform), first, atol=0.05)
    assert slicer.util.getNode("atlas").GetParentTransformNode() is widget.parameters.resultTransform
    choose(widget, 0)
    widget.history.ui.useButton.click()
    widget.history.ui.revertButton.click()
    np.testing.assert_allclose(mapped(widget.parameters.resultTransform), first, atol=0.05)
    assert np.abs(first - second).max() > 7


def _entries():
    from RegNetLib.history import entries

    return entries()


def test_unreadable_entries_are_no_harm(open_pair, run, scene, process_events):
    widget = open_pair()
    run(widget)
    for text in ("not JSON", "[1, 2]", "{}"):
        node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "odd")
        node.SetAttribute("RegNet.HistoryEntry", text)
        node.SetAttribute("RegNet.HistoryPicture", "not base 64!")
    process_events()
    assert len(rows(widget)) == 4
    run(widget, 2)
    assert rows(widget)[0][0].startswith("Run 2 ")


def test_a_failed_or_cancelled_run_leaves_the_history_alone(open_pair, run, worker, process_events, scene):
    widget = open_pair()
    result = mapped(run(widget))
    before, texts = count(scene), rows(widget)
    for mode in ("refuse", "crash", "slow"):
        worker(mode)
        widget.ui.applyButton.click()
        if mode == "slow":
            assert process_events(until=lambda: widget.ui.progressBar.value > 20, timeout=20)
            assert not widget.history.ui.revertButton.enabled
            widget.ui.applyButton.click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
        assert rows(widget) == texts and count(scene) == before
        np.testing.assert_array_equal(mapped(widget.parameters.resultTransform), result)
    assert widget.history.ui.revertButton.enabled


def test_a_result_that_cannot_be_loaded_keeps_the_one_before(open_pair, run, monkeypatch, scene, apply):
    """Where there is no memory for both, nothing is overwritten."""
    from RegNetLib import result_import

    widget = open_pair()
    result = run(widget)
    before, points = count(scene), mapped(result)

    def refuse(*_arguments):
        raise RuntimeError("no memory")

    monkeypatch.setattr(result_import, "keep_apart", refuse)
    widget.ui.seedSpinBox.value = 9
    apply(widget)
    assert widget.ui.statusLabel.text.startswith("The result could not be loaded")
    assert count(scene) == before and len(rows(widget)) == 1
    assert _entries()[0].transform is result
    np.testing.assert_array_equal(mapped(result), points)


def test_the_scene_can_be_closed_with_a_history(open_pair, run, scene, process_events):
    widget = open_pair()
    run(widget)
    run(widget, 3, keep=True)
    choose(widget, 0, 1)
    widget.history.ui.flickerButton.click()
    scene.Clear(0)
    process_events()
    assert rows(widget) == [] and not widget.history.ui.flickerButton.checked
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    moving = add_volume("atlas", pattern(shift=(1, 2, 3)), GEOMETRIES["oblique"])
    widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    widget.ui.movingSelector.setCurrentNode(moving)
    run(widget)
    assert rows(widget)[0][0].startswith("Run 1 ")
