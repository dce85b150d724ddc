"""The synthetic image of a model that translates: a volume of its own, marked as what it is."""

from __future__ import annotations

import json

import fake_worker
import numpy as np
import pytest
import SimpleITK as sitk
from traces import leftovers, nodes
from volumes import GEOMETRIES, SHAPE, add_linear, add_volume, pattern, rigid

NAME = "atlas as T1, synthetic (Deform-GAN)"
MARK = "translated from atlas by Deform-GAN; not acquired"


@pytest.fixture
def panel(open_pair):
    """Deform-GAN's panel on the stand-in worker, asked for the translated image; the fixed grid is off-axis."""
    import slicer

    widget = open_pair(module="RegNetDeformGAN")
    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["oblique"])
    widget.parameters.fixedVolume.SetIJKToRASMatrix(matrix)
    widget.form._fields["translation"]._widget.click()
    return widget


def ijk_to_ras(volume) -> np.ndarray:
    import slicer

    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_it_becomes_a_volume_of_its_own(panel, apply, scene):
    import slicer

    apply(panel)
    fixed, volume = panel.parameters.fixedVolume, panel.parameters.syntheticVolume
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas", NAME]  # without a resampled one
    assert volume.GetName() == NAME and not panel.parameters.createVolume
    assert volume.GetAttribute("RegNet.Synthetic") == MARK
    for part in ("Synthetic", "atlas", "patient", "Deform-GAN", "Not acquired"):
        assert part in volume.GetDescription()
    array = slicer.util.arrayFromVolume(volume)
    assert array.dtype == np.float32 and array.shape == SHAPE
    np.testing.assert_array_equal(array, fake_worker.translated(slicer.util.arrayFromVolume(fixed)))
    np.testing.assert_allclose(ijk_to_ras(volume), GEOMETRIES["oblique"], atol=1e-6)
    assert volume.GetTransformNodeID() is None and leftovers() == []
    assert panel.ui.statusLabel.text.splitlines() == [
        "Done in 1.5 s.", f"The translated image is the volume “{NAME}”.", "A test warning.",
    ]  # fmt: skip


def test_it_has_its_own_window(panel, apply):
    atlas = panel.parameters.movingVolume.GetDisplayNode()
    atlas.SetAutoWindowLevel(False)
    atlas.SetWindowLevelMinMax(40, 90)
    apply(panel)
    display = panel.parameters.syntheticVolume.GetDisplayNode()
    assert display is not None and display is not atlas and display.GetAutoWindowLevel()
    assert -0.5 < display.GetWindowLevelMin() < display.GetWindowLevelMax() < 1.5


def test_the_views_go_on_showing_what_was_acquired(panel, apply, scene):
    apply(panel)
    made = panel.parameters.syntheticVolume.GetID()
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    views = [scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode") for index in range(count)]
    assert len(views) >= 3
    for view in views:
        assert view.GetBackgroundVolumeID() == panel.parameters.fixedVolume.GetID() != made
        assert view.GetForegroundVolumeID() == panel.parameters.movingVolume.GetID() != made
    assert panel.ui.fixedSelector.currentNode().GetName() == "patient"
    assert panel.ui.movingSelector.currentNode().GetName() == "atlas"
    assert panel.ui.outputVolumeSelector.currentNode() is None


def test_a_model_that_was_not_asked_makes_none(panel, apply, scene):
    panel.form._fields["translation"]._widget.click()
    apply(panel)
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas"]
    assert panel.parameters.syntheticVolume is None and "translated" not in panel.ui.statusLabel.text


def test_the_next_run_fills_the_same_volume(panel, apply, scene):
    import slicer

    apply(panel)
    volume = panel.parameters.syntheticVolume
    volume.SetName("my own name, synthetic")
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0.25, 0.5)
    volume.SetAndObserveTransformNodeID(add_linear("table", rigid((0, 0, 10))).GetID())
    smaller = pattern(seed=9)[:-7, :-5, :-3]
    slicer.util.updateVolumeFromArray(panel.parameters.fixedVolume, smaller)
    count = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    apply(panel)
    assert panel.parameters.syntheticVolume is volume
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == count
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), fake_worker.translated(smaller))
    assert volume.GetTransformNodeID() is None
    assert volume.GetName() == "my own name, synthetic" and volume.GetDisplayNode().GetWindowLevelMax() == 0.5
    scene.RemoveNode(volume)
    apply(panel)
    again = panel.parameters.syntheticVolume
    assert again is not volume and again.GetName().startswith(NAME)


def test_another_moving_volume_gets_its_own(panel, apply):
    """What was made of one scan must not be replaced by another patient's under the old name."""
    import slicer

    apply(panel)
    first = panel.parameters.syntheticVolume
    before = slicer.util.arrayFromVolume(first).copy()
    panel.ui.movingSelector.setCurrentNode(add_volume("follow-up", pattern(shift=(2, 0, 1)), GEOMETRIES["flipped"]))
    panel.parameters.resultTransform = None
    slicer.util.updateVolumeFromArray(panel.parameters.fixedVolume, pattern(seed=9))
    apply(panel)
    second = panel.parameters.syntheticVolume
    assert second is not first and second.GetName() == "follow-up as T1, synthetic (Deform-GAN)"
    assert second.GetAttribute("RegNet.Synthetic").startswith("translated from follow-up")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(first), before)
    assert first.GetAttribute("RegNet.Synthetic") == MARK


@pytest.mark.parametrize("part", ["fixed", "output"])
def test_a_synthetic_volume_with_another_part_in_the_run_is_not_overwritten(panel, apply, part):
    """The user chose it as the fixed volume, or as the one that takes the resampled image."""
    import slicer

    apply(panel)
    first = panel.parameters.syntheticVolume
    before = slicer.util.arrayFromVolume(first).copy()
    if part == "fixed":
        panel.ui.fixedSelector.setCurrentNode(first)
    else:
        panel.ui.createVolumeCheckBox.click()
        panel.ui.outputVolumeSelector.setCurrentNode(first)
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("Done")
    second = panel.parameters.syntheticVolume
    assert second is not first and second.GetName() == f"{NAME}_1" and second.GetAttribute("RegNet.Synthetic") == MARK
    if part == "fixed":
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(first), before)
        assert first.GetAttribute("RegNet.Synthetic") == MARK
    else:  # it holds the acquired image now
        assert first.GetAttribute("RegNet.Synthetic") is None and not first.GetDescription()


def test_a_resampled_synthetic_volume_stays_marked(panel, apply):
    panel.form._fields["translation"]._widget.click()
    panel.parameters.movingVolume.SetAttribute("RegNet.Synthetic", "translated from a scan by Deform-GAN; not acquired")
    panel.ui.createVolumeCheckBox.click()
    apply(panel)
    output = panel.parameters.outputVolume
    assert output.GetAttribute("RegNet.Synthetic") == "translated from a scan by Deform-GAN; not acquired"


@pytest.mark.parametrize("again", [False, True])
def test_a_failed_import_leaves_no_node(panel, apply, scene, monkeypatch, again):
    """Neither a volume nor a transform nor their display nodes; what an earlier run made is as it was."""
    import slicer
    from RegNetLib.result_import import ResultImporter

    panel.ui.createVolumeCheckBox.click()
    if again:
        apply(panel)
    parameters = panel.parameters
    count, volume, transform = scene.GetNumberOfNodes(), parameters.syntheticVolume, parameters.resultTransform
    before = slicer.util.arrayFromVolume(volume).copy() if again else None
    panel.ui.seedSpinBox.value = 9  # another transform
    point = (30.0, 15.0, 25.0)
    place = transform.GetTransformFromParent().TransformPoint(point) if again else None
    seen, fill = [], ResultImporter._fill_transform

    def fail(self, *arguments):
        fill(self, *arguments)
        seen.append(scene.GetNumberOfNodes())
        raise MemoryError("not enough memory")

    monkeypatch.setattr(ResultImporter, "_fill_transform", fail)
    apply(panel)
    assert panel.ui.statusLabel.text == "The result could not be loaded: not enough memory"
    # Three nodes and their displays, or one for the transform that is overwritten.
    assert len(seen) == 1 and seen[0] == count + (2 if again else 6)
    assert scene.GetNumberOfNodes() == count and leftovers() == []
    assert parameters.syntheticVolume is volume and parameters.resultTransform is transform
    assert (parameters.outputVolume is not None) == again
    if again:
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), before)
        assert transform.GetTransformFromParent().TransformPoint(point) == place
        assert panel.history.ui.historyList.count == 1 and panel.history.ui.revertButton.enabled


@pytest.mark.parametrize("damage", ["missing", "channels"])
def test_a_synthetic_image_that_cannot_be_read_touches_nothing(panel, apply, scene, monkeypatch, damage):
    from RegNetLib.private_folder import PrivateFolder

    apply(panel)
    volume, transform = panel.parameters.syntheticVolume, panel.parameters.resultTransform
    modified, count = (volume.GetMTime(), transform.GetMTime()), scene.GetNumberOfNodes()
    load = PrivateFolder.load

    def damaged(self, name):
        if name != "synthetic.npy":
            return load(self, name)
        if damage == "missing":
            raise FileNotFoundError(2, "No such file or directory", name)
        return np.zeros((3, *SHAPE), np.float32)

    monkeypatch.setattr(PrivateFolder, "load", damaged)
    apply(panel)
    assert panel.ui.statusLabel.text.startswith("The result could not be loaded")
    assert (volume.GetMTime(), transform.GetMTime()) == modified and scene.GetNumberOfNodes() == count


@pytest.mark.parametrize("shape", [(17, 23, 29), (1, 31, 22)])
def test_it_lies_where_the_core_says(panel, scene, tmp_path, shape):
    """Sent on a grid that no volume of the scene has, in LPS: saved by Slicer, SimpleITK finds it there."""
    import slicer
    from RegNetLib.private_folder import PrivateFolder
    from RegNetLib.result_import import ResultImporter

    place = rigid((-20, 35, 12), (7.0, -31.0, 19.0)) @ np.diag([1.3, -0.7, 2.1, 1.0])
    values = np.random.default_rng(1).random((1, *shape)).astype(np.float32)
    folder = PrivateFolder(tmp_path)
    sent = {"file": folder.save("synthetic", values), "index_to_world": place.tolist(), "ndim": 3}
    importer = ResultImporter(panel.parameters, None, "Deform-GAN")
    importer.load({"affine": fake_worker.AFFINE, "displacement": None, "synthetic": sent}, folder)
    assert importer.synthetic is panel.parameters.syntheticVolume
    path = tmp_path / "synthetic.nrrd"
    assert slicer.util.saveNode(importer.synthetic, str(path))
    stored = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored), values[0])
    ends = [n - 1 for n in shape[::-1]]
    for index in ((0, 0, 0), (ends[0], 0, 0), (0, ends[1], 0), (0, 0, ends[2]), (3, 7, ends[2])):
        world = (place @ [*index, 1.0])[:3]
        np.testing.assert_allclose(stored.TransformIndexToPhysicalPoint(index), world, atol=1e-3)


def test_the_mark_survives_saving_the_scene(panel, apply, scene, tmp_path, process_events):
    import slicer

    panel.parameters.movingVolume.SetName('T2; "A": 50%')
    apply(panel)
    volume = panel.parameters.syntheticVolume
    name, mark, text = volume.GetName(), volume.GetAttribute("RegNet.Synthetic"), volume.GetDescription()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    scene.Clear(0)
    slicer.util.loadScene(str(path))
    process_events()
    again = panel.parameters.syntheticVolume
    assert again.GetName() == name and again.GetAttribute("RegNet.Synthetic") == mark
    assert again.GetDescription() == text and 'T2; "A": 50%' in text and 'T2; "A": 50%' in mark
    apply(panel)
    assert panel.parameters.syntheticVolume is again


def test_its_parameters_are_remembered(panel):
    fields = {name: field._widget for name, field in panel.form._fields.items()}
    assert list(fields) == ["refine_with", "regularization", "translation", "weights"] and fields["translation"].checked
    fields["refine_with"].currentText = "MIND-SSC (no trained weights)"
    fields["regularization"].value = 2.5
    fields["weights"].currentText = "None"
    kept = {"refine_with": "mind", "regularization": 2.5, "translation": True, "weights": "none"}
    assert json.loads(panel.parameters.modelParameters)["deformgan"] == kept == panel.form.values()
    panel.parameters.modelParameters = json.dumps({"deformgan": {**kept, "refine_with": "edges", "translation": False}})
    assert fields["refine_with"].currentText == "Edges (no trained weights, quickest)"
    assert not fields["translation"].checked
    panel.ui.restoreDefaultsButton.click()
    defaults = {"refine_with": "dsir", "regularization": 1.0, "translation": False, "weights": "to-t1"}
    assert panel.form.values() == defaults
    shown = fields["refine_with"].currentText, fields["weights"].currentText
    assert shown == ("Learned descriptor (DSIR)", "Brain, to T1")
