"""The fused image of a model that fuses: a volume of its own, marked as what it is."""

from __future__ import annotations

import json

import fake_worker
import numpy as np
import pytest
from traces import leftovers, nodes
from volumes import GEOMETRIES, SHAPE, add_linear, add_volume, pattern, rigid

NAME = "atlas fused with patient (BSAFusion)"
MARK = "atlas and patient fused by BSAFusion; not acquired"


@pytest.fixture
def panel(open_pair):
    """BSAFusion's panel on the stand-in worker; the fixed grid is off-axis."""
    import slicer

    widget = open_pair(module="RegNetBSAFusion")
    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["oblique"])
    widget.parameters.fixedVolume.SetIJKToRASMatrix(matrix)
    return widget


def colour(volume, table: str = "vtkMRMLPETProceduralColorNodePET-Heat") -> None:
    volume.GetDisplayNode().SetAndObserveColorNodeID(table)


@pytest.mark.parametrize("in_colour", [False, True])
def test_it_becomes_a_volume_of_its_own(panel, apply, scene, sent, in_colour):
    import slicer
    from RegNetLib.conversion import volume_to_array

    fixed, moving = panel.parameters.fixedVolume, panel.parameters.movingVolume
    if in_colour:
        colour(moving)
    apply(panel)
    volume, array = panel.parameters.fusedVolume, slicer.util.arrayFromVolume(panel.parameters.fusedVolume)
    fixed_array = slicer.util.arrayFromVolume(fixed)
    assert volume.GetName() == NAME and volume.GetAttribute("RegNet.Fused") == MARK
    if in_colour:
        assert volume.GetClassName() == "vtkMRMLVectorVolumeNode"
        assert array.dtype == np.uint8 and array.shape == (*SHAPE, 3)
        expected = np.moveaxis(fake_worker.fused(fixed_array, sent[0]["colours"]), 0, -1)
    else:
        assert volume.GetClassName() == "vtkMRMLScalarVolumeNode" and sent[0]["colours"] is None
        assert array.dtype == np.float32
        expected = fake_worker.fused(fixed_array, None)[0]
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_allclose(volume_to_array(volume).index_to_world, volume_to_array(fixed).index_to_world, atol=1e-6)
    for part in ("Fused", "atlas", "patient", "BSAFusion", "Not acquired", "not for diagnosis"):
        assert part in volume.GetDescription()
    references = {
        "RegNetFusedFixed": fixed,
        "RegNetFusedMoving": moving,
        "RegNetFusedTransform": panel.parameters.resultTransform,
    }
    assert all(volume.GetNodeReference(role) is node for role, node in references.items())
    assert moving.GetTransformNodeID() == panel.parameters.resultTransform.GetID()
    assert volume.GetTransformNodeID() is None and leftovers() == []
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas", NAME]
    assert panel.ui.statusLabel.text.splitlines() == [
        "Done in 1.5 s.", f"The fused image is the volume “{NAME}”.", "A test warning.",
    ]  # fmt: skip


def test_the_result_says_how_it_was_fused_and_why(panel, apply):
    apply(panel)
    table = panel.ui.numbersTable
    rows = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}
    assert rows["Fusion"] == "slice by slice: the volume would need 299 MB (weights ct-mri)"


def test_its_window_is_its_own(panel, apply):
    atlas = panel.parameters.movingVolume.GetDisplayNode()
    atlas.SetAutoWindowLevel(False)
    atlas.SetWindowLevelMinMax(-900, -800)
    apply(panel)
    display = panel.parameters.fusedVolume.GetDisplayNode()
    low, high = np.percentile(0.5 * pattern() + 7.0, (0.1, 99.9))
    assert display.GetAutoWindowLevel()
    np.testing.assert_allclose((display.GetWindowLevelMin(), display.GetWindowLevelMax()), (low, high), atol=3.0)


def test_a_model_that_was_not_asked_makes_none(panel, apply, scene):
    panel.form._fields["fusion"]._widget.currentText = "Off"
    apply(panel)
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas"]
    assert panel.parameters.fusedVolume is None and "fused" not in panel.ui.statusLabel.text


def test_the_next_run_fills_the_same_volume(panel, apply, scene):
    import slicer

    apply(panel)
    volume = panel.parameters.fusedVolume
    volume.SetName("my own name")
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(25, 50)
    volume.SetAndObserveTransformNodeID(add_linear("table", rigid((0, 0, 10))).GetID())
    smaller = pattern(seed=9)[:-7, :-5, :-3]
    slicer.util.updateVolumeFromArray(panel.parameters.fixedVolume, smaller)
    count = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    apply(panel)
    assert panel.parameters.fusedVolume is volume
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == count
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), fake_worker.fused(smaller, None)[0])
    assert volume.GetTransformNodeID() is None
    assert volume.GetName() == "my own name" and volume.GetDisplayNode().GetWindowLevelMax() == 50


def test_colours_need_a_volume_of_another_kind(panel, apply):
    """What is in greys is kept: it cannot hold them."""
    import slicer

    apply(panel)
    grey = panel.parameters.fusedVolume
    before = slicer.util.arrayFromVolume(grey).copy()
    colour(panel.parameters.movingVolume)
    apply(panel)
    first = panel.parameters.fusedVolume
    assert first is not grey and first.GetName() == f"{NAME}_1"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(grey), before)
    apply(panel)
    assert panel.parameters.fusedVolume is first


@pytest.mark.parametrize("part", ["fixed", "output", "another moving"])
def test_a_fused_volume_with_another_part_in_the_run_is_not_overwritten(panel, apply, part):
    import slicer

    apply(panel)
    first = panel.parameters.fusedVolume
    before = slicer.util.arrayFromVolume(first).copy()
    name = f"{NAME}_1"
    if part == "fixed":
        panel.ui.fixedSelector.setCurrentNode(first)
        name = f"atlas fused with {NAME} (BSAFusion)"
    elif part == "output":
        panel.ui.createVolumeCheckBox.click()
        panel.ui.outputVolumeSelector.setCurrentNode(first)
    else:
        panel.ui.movingSelector.setCurrentNode(add_volume("follow-up", pattern(shift=(2, 0, 1))))
        panel.parameters.resultTransform = None
        name = "follow-up fused with patient (BSAFusion)"
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("Done")
    second = panel.parameters.fusedVolume
    assert second is not first and second.GetName() == name and second.GetAttribute("RegNet.Fused")
    if part == "output":  # it holds the acquired image now
        assert first.GetAttribute("RegNet.Fused") is None and not first.GetDescription()
    else:
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(first), before)
        assert first.GetAttribute("RegNet.Fused") == MARK


@pytest.mark.parametrize("again", [False, True])
def test_a_failed_import_leaves_no_node(panel, apply, scene, monkeypatch, again):
    from RegNetLib.result_import import ResultImporter

    if again:
        apply(panel)
    parameters = panel.parameters
    count, volume, transform = scene.GetNumberOfNodes(), parameters.fusedVolume, parameters.resultTransform

    def fail(self, *arguments):
        raise MemoryError("not enough memory")

    monkeypatch.setattr(ResultImporter, "_fill_transform", fail)
    apply(panel)
    assert panel.ui.statusLabel.text == "The result could not be loaded: not enough memory"
    assert scene.GetNumberOfNodes() == count and leftovers() == []
    assert parameters.fusedVolume is volume and parameters.resultTransform is transform


@pytest.mark.parametrize("damage", ["missing", "channels"])
def test_a_fused_image_that_cannot_be_read_touches_nothing(panel, apply, scene, monkeypatch, damage):
    from RegNetLib.private_folder import PrivateFolder

    apply(panel)
    volume, transform = panel.parameters.fusedVolume, panel.parameters.resultTransform
    modified, count = (volume.GetMTime(), transform.GetMTime()), scene.GetNumberOfNodes()
    load = PrivateFolder.load

    def damaged(self, name):
        if name != "fused.npy":
            return load(self, name)
        if damage == "missing":
            raise FileNotFoundError(2, "No such file or directory", name)
        return np.zeros((2, *SHAPE), np.float32)

    monkeypatch.setattr(PrivateFolder, "load", damaged)
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("The result could not be loaded")
    assert (volume.GetMTime(), transform.GetMTime()) == modified and scene.GetNumberOfNodes() == count


@pytest.mark.parametrize("in_colour", [False, True])
def test_the_mark_survives_saving_the_scene(panel, apply, scene, tmp_path, process_events, in_colour):
    import slicer

    panel.parameters.fixedVolume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(GEOMETRIES["flipped"]))
    panel.parameters.movingVolume.SetName('PET; "A": 50%')
    if in_colour:
        colour(panel.parameters.movingVolume)
    apply(panel)
    volume = panel.parameters.fusedVolume
    said = volume.GetName(), volume.GetAttribute("RegNet.Fused"), volume.GetDescription(), volume.GetClassName()
    before = slicer.util.arrayFromVolume(volume).copy()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    scene.Clear(0)
    slicer.util.loadScene(str(path))
    process_events()
    again = panel.parameters.fusedVolume
    assert (again.GetName(), again.GetAttribute("RegNet.Fused"), again.GetDescription(), again.GetClassName()) == said
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again), before)
    assert again.GetNodeReference("RegNetFusedTransform") is panel.parameters.resultTransform
    assert panel.ui.fusedButton.isVisibleTo(panel.parent)
    apply(panel)
    assert panel.parameters.fusedVolume is again


def test_its_parameters_are_remembered(panel):
    fields = {name: field._widget for name, field in panel.form._fields.items()}
    assert list(fields) == ["weights", "fusion", "refine_with", "regularization"]
    fields["weights"].currentText = "PET with MR"
    fields["fusion"].currentText = "Slice by slice"
    fields["refine_with"].currentText = "Edges (no trained weights, quickest)"
    fields["regularization"].value = 2.5
    kept = {"weights": "pet-mri", "fusion": "slices", "refine_with": "edges", "regularization": 2.5}
    assert json.loads(panel.parameters.modelParameters)["bsafusion"] == kept == panel.form.values()
    panel.ui.restoreDefaultsButton.click()
    defaults = {"weights": "ct-mri", "fusion": "auto", "refine_with": "auto", "regularization": 1.0}
    assert panel.form.values() == defaults
