"""Real registrations: the panel's Apply, the real worker, and the result judged by SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import (
    GEOMETRIES,
    SHAPE,
    add_bend,
    add_linear,
    add_volume,
    as_itk,
    counterpart,
    pattern,
    rigid,
    through,
    to_lps,
)

TOLERANCE_MM = 0.05
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def panel(real_panel):
    """RegNet AVSM's panel on the real worker, with few iterations."""
    widget = real_panel("RegNetAVSM")
    widget.form._fields["iterations"]._widget.value = 6
    return widget


@pytest.fixture
def results(monkeypatch):
    """What the worker sent, kept before the panel took it over: (result, displacement array)."""
    from RegNetLib.result_import import ResultImporter

    kept, load = [], ResultImporter.load

    def keep(self, result, folder):
        kept.append((result, folder.load(result["displacement"]["file"]).copy()))
        return load(self, result, folder)

    monkeypatch.setattr(ResultImporter, "load", keep)
    return kept


@pytest.fixture
def register(panel, press_apply):
    """Press Apply and wait; gives the transform node."""
    return lambda: press_apply(panel)


def in_itk(result: dict, displacement: np.ndarray) -> sitk.Transform:
    """The worker's result as SimpleITK has it, without anything of Slicer."""
    place = np.array(result["displacement"]["index_to_world"])
    field = sitk.GetImageFromArray(displacement.astype(np.float64), isVector=True)
    field.CopyInformation(as_itk(displacement[..., 0], place))
    linear = sitk.AffineTransform(3)
    linear.SetMatrix(np.array(result["affine"])[:3, :3].ravel().tolist())
    linear.SetTranslation(np.array(result["affine"])[:3, 3].tolist())
    return sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


CASES = {
    "oblique": ("oblique", "left-handed", None),
    "anisotropic, flipped": ("flipped", "anisotropic", None),
    "under linear parents": ("anisotropic", "oblique", "linear"),
    "under a non-linear parent": ("plain", "flipped", "bent"),
}


def add_pair(fixed_geometry: str, moving_geometry: str, parents: str | None):
    """A pair whose images agree in the world but for a known small motion. Gives (fixed, moving) nodes."""
    matrix = GEOMETRIES[fixed_geometry]
    fixed = add_volume("fixed", pattern(), matrix)
    axes = GEOMETRIES[moving_geometry].copy()
    axes[:3, 3] = 0.0
    moving = add_volume("moving", *counterpart(pattern(), matrix, axes))
    if parents == "linear":  # both lie on a table that was moved, one of them on a turned cushion
        table = add_linear("table", rigid((10, -20, 5), (-30, 25, 40)))
        cushion = add_linear("cushion", rigid((4, 3, -6), (5, -2, 3)), table)
        fixed.SetAndObserveTransformNodeID(table.GetID())
        moving.SetAndObserveTransformNodeID(cushion.GetID())
    if parents == "bent":
        bend = add_bend("bend")
        fixed.SetAndObserveTransformNodeID(bend.GetID())
        moving.SetAndObserveTransformNodeID(bend.GetID())
    return fixed, moving


@pytest.mark.parametrize("case", CASES)
def test_result_is_the_same_in_slicer_and_itk(panel, register, results, tmp_path, case):
    import slicer
    import vtk
    from RegNetLib import conversion

    fixed, moving = add_pair(*CASES[case])
    panel.ui.fixedSelector.setCurrentNode(fixed)
    panel.ui.movingSelector.setCurrentNode(moving)
    panel.ui.createVolumeCheckBox.click()
    world = {
        node.GetName(): conversion.volume_to_array(node, node.GetParentTransformNode()) for node in (fixed, moving)
    }
    to_world = vtk.vtkGeneralTransform()  # of the moving volume before the run
    if moving.GetParentTransformNode() is not None:
        moving.GetParentTransformNode().GetTransformToWorld(to_world)
    transform = register()
    expected = in_itk(*results[0])

    # Points: world to the moving volume's own coordinates, back to the world with its former parents.
    generator = np.random.default_rng(1)
    ijk = generator.uniform(-2, np.array(SHAPE[::-1]) + 1, (120, 3))
    matrix = world["fixed"].index_to_world
    points = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    from_world = vtk.vtkGeneralTransform()
    transform.GetTransformFromWorld(from_world)
    mine = to_lps(through(to_world, through(from_world, to_lps(points))))
    theirs = through(expected, points)
    np.testing.assert_allclose(mine, theirs, atol=TOLERANCE_MM)
    assert np.abs(theirs - points).max() > 3.0
    assert moving.GetParentTransformNode() is transform

    # Pictures: the resampled volume is what SimpleITK makes of the moving image with that transform.
    images = {name: as_itk(image.array.astype(np.float32), image.index_to_world) for name, image in world.items()}
    picture = sitk.GetArrayFromImage(sitk.Resample(images["moving"], images["fixed"], expected, sitk.sitkLinear))
    output = panel.parameters.outputVolume
    assert np.abs(slicer.util.arrayFromVolume(output) - picture)[2:-2, 2:-2, 2:-2].max() < 0.5
    np.testing.assert_allclose(conversion.volume_to_array(output).index_to_world, matrix, atol=1e-4)

    # And it is a registration: the pictures agree much better than before.
    before = sitk.GetArrayFromImage(sitk.Resample(images["moving"], images["fixed"], sitk.Transform(), sitk.sitkLinear))
    target = sitk.GetArrayFromImage(images["fixed"])
    assert agreement(target, picture) > 0.95
    assert 1 - agreement(target, picture) < 0.4 * (1 - agreement(target, before))

    # The file that Slicer saves is what SimpleITK needs, where the moving volume had no parents to take in.
    if case == "oblique":
        path = str(tmp_path / "transform.h5")
        assert slicer.util.saveNode(transform, path)
        stored = sitk.Resample(images["moving"], images["fixed"], sitk.ReadTransform(path), sitk.sitkLinear)
        assert np.abs(sitk.GetArrayFromImage(stored) - picture).max() < 0.1


def test_cancel_midway_and_run_again(panel, register, process_events, scene):
    fixed, moving = add_pair("plain", "flipped", None)
    panel.ui.fixedSelector.setCurrentNode(fixed)
    panel.ui.movingSelector.setCurrentNode(moving)
    panel.form._fields["iterations"]._widget.value = 400
    count = scene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    assert process_events(until=lambda: panel.ui.progressBar.value > 60, timeout=120)
    process = panel.client.process_id()
    panel.ui.applyButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=10)
    assert panel.ui.statusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodes() == count and moving.GetTransformNodeID() is None
    panel.form._fields["iterations"]._widget.value = 1
    panel.ui.refinementComboBox.currentText = "Off"
    register()
    assert panel.client.process_id() == process  # the worker obeyed and stayed warm


def test_the_core_refuses_in_one_sentence(panel, process_events):
    """What only the core can see in the data reaches the panel as its sentence."""
    array = pattern()
    array[20, 24, 28] = np.nan
    panel.ui.fixedSelector.setCurrentNode(add_volume("fixed"))
    panel.ui.movingSelector.setCurrentNode(add_volume("moving", array))
    panel.ui.applyButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=120)
    assert panel.ui.statusLabel.text == "The moving image contains 1 NaN or infinite values; replace them first."
    assert panel.parameters.resultTransform is None


def test_single_slices(panel, register):
    """Two-dimensional images: the result moves points within the plane only."""
    import vtk

    image = pattern((30, 72, 64))[15:16]
    moved = np.roll(image, (3, -2), axis=(1, 2))
    panel.ui.fixedSelector.setCurrentNode(add_volume("fixed", image, LPS @ np.diag([1.0, 1.0, 1.0, 1.0])))
    panel.ui.movingSelector.setCurrentNode(add_volume("moving", moved, LPS @ np.diag([1.0, 1.0, 1.0, 1.0])))
    transform = register()
    from_world = vtk.vtkGeneralTransform()
    transform.GetTransformFromWorld(from_world)
    point = np.array([[32.0, 36.0, 0.0]])
    found = to_lps(through(from_world, to_lps(point)))
    np.testing.assert_allclose(found - point, [[-2.0, 3.0, 0.0]], atol=0.7)


def test_masks_reach_the_core(panel, register, scene):
    """A segmentation as the fixed mask: the run accepts it and says so by succeeding."""
    import slicer

    fixed, moving = add_pair("plain", "flipped", None)
    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["plain"])
    inside = (pattern() > 40).astype(np.uint8)
    labels = slicer.util.addVolumeFromArray(inside, ijkToRAS=matrix, nodeClassName="vtkMRMLLabelMapVolumeNode")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "body")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    panel.ui.fixedSelector.setCurrentNode(fixed)
    panel.ui.movingSelector.setCurrentNode(moving)
    panel.ui.fixedMaskSelector.setCurrentNode(segmentation)
    panel.ui.refinementComboBox.currentText = "Off"
    assert register().GetNodeReference("spatialRegistrationFixed") is fixed
