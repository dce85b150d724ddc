"""The propagation panel with a transform that exists, with several targets, and along a sequence."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from propagations import (
    LPS,
    TARGET_SHAPE,
    add_targets,
    carried,
    near,
    open_scan,
    open_sequence,
    registered,
    result_of,
    watched_bar,
)
from segmentations import SMALL, add_segmentation, add_sequence, mask_of, names_of, organs, overlap
from traces import leftovers, nodes
from volumes import GEOMETRIES, add_linear, pattern, rigid, through


@pytest.fixture
def panel(propagation):
    return propagation


@pytest.fixture
def slow_panel(slow_propagation):
    return slow_propagation


def as_slicer_sees_it(mask, inside_scan, target) -> np.ndarray:
    """(D, H, W) bool: for each voxel of the target the mask's voxel at ``inside_scan(RAS point)``, point by point."""
    import slicer

    shape = slicer.util.arrayFromVolume(target).shape
    index = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape)[::-1], 1)
    place, to_ijk = near(shape), np.linalg.inv(GEOMETRIES["plain"])
    own = inside_scan(index @ place[:3, :3].T + place[:3, 3]) @ to_ijk[:3, :3].T + to_ijk[:3, 3]
    where = np.rint(own).astype(int)[:, ::-1]
    valid = ((where >= 0) & (where < mask.shape)).all(axis=1)
    where[~valid] = 0
    return (mask[tuple(where.T)] & valid).reshape(shape)


@pytest.mark.parametrize("case", ["linear", "bend", "applied to both", "the target wears it"])
def test_a_transform_that_exists(panel, follow_up, apply, sent, case):
    """The segments lie where Slicer shows the transformed scan's."""
    import vtk

    scan, segmentation = panel.parameters.scan, panel.parameters.segmentation
    if case == "linear":
        transform = add_linear("known", rigid((6, -3, 4), (2, 3, -2)))
    else:
        transform = add_gentle_bend()
    if case == "applied to both":
        scan.SetAndObserveTransformNodeID(transform.GetID())
        segmentation.SetAndObserveTransformNodeID(transform.GetID())
    if case == "the target wears it":
        transform.SetNodeReferenceID("spatialRegistrationFixed", scan.GetID())
        transform.SetNodeReferenceID("spatialRegistrationMoving", follow_up.GetID())
        follow_up.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.mappingComboBox.currentText = "Use a transform that exists"
    panel.ui.transformSelector.setCurrentNode(transform)
    assert panel.ui.backwardsCheckBox.checked == (case == "the target wears it")
    apply(panel)
    assert [message["command"] for message in sent] == ["propagate"]
    general = vtk.vtkGeneralTransform()
    if case == "the target wears it":
        transform.GetTransformToWorld(general)
    else:
        transform.GetTransformFromWorld(general)
    result = result_of(panel, follow_up)
    assert result.GetParentTransformNode() is follow_up.GetParentTransformNode()
    for name, mask in organs().items():
        expected = as_slicer_sees_it(mask, lambda points: through(general, points), follow_up)
        assert expected.sum() > 15
        follow_up.SetAndObserveTransformNodeID(None)
        result.SetAndObserveTransformNodeID(None)
        assert overlap(mask_of(result, name, follow_up), expected) > 0.97, name
        at_rest = as_slicer_sees_it(mask, lambda points: points, follow_up)
        assert overlap(at_rest, expected) < 0.85


def add_gentle_bend():
    """Shifts by some 4 mm and bends by some 3 mm within the small volumes."""
    import slicer
    import vtk

    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (0.0, 15.0, 30.0):
        for y in (-10.0, 15.0):
            for z in (5.0, 30.0):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x + 4 + 0.05 * y, y + 3 * np.sin(x / 8), z - 0.006 * (x - 15) ** 2)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "known")
    node.SetAndObserveTransformToParent(spline)
    return node


def test_several_targets_in_one_run(panel, tick, apply, sent, scene):
    targets = add_targets(tick, panel)
    fractions = watched_bar(panel)
    apply(panel)
    assert [message["command"] for message in sent] == ["register", "propagate"] * 3
    for number in range(3):
        np.testing.assert_array_equal(sent[2 * number]["arrays"]["target"], pattern(TARGET_SHAPE, seed=number + 5))
    assert nodes(scene, "vtkMRMLSegmentationNode") == ["organs", *(f"organs on patient {n}" for n in range(3))]
    assert all(result_of(panel, target) is not None for target in targets)
    assert panel.ui.statusLabel.text.splitlines()[1:] == ["patient 0, patient 1, patient 2: A test warning."]
    assert fractions == sorted(fractions) and len(set(fractions)) >= 9 and leftovers() == []
    combo = panel.ui.resultComboBox
    assert [combo.itemText(n) for n in range(combo.count)] == [target.GetName() for target in targets]


def test_choosing_a_result_shows_it(panel, tick, apply, scene):
    targets = add_targets(tick, panel)
    apply(panel)
    results = [result_of(panel, target) for target in targets]

    def shown() -> tuple:
        backgrounds = {
            scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode").GetBackgroundVolumeID() for n in range(3)
        }
        visible = [node.GetDisplayNode().GetVisibility() for node in (panel.parameters.segmentation, *results)]
        return backgrounds, visible

    assert shown() == ({targets[0].GetID()}, [0, 1, 0, 0])
    panel.ui.resultComboBox.currentIndex = 2
    assert shown() == ({targets[2].GetID()}, [0, 0, 0, 1])


def test_a_target_that_is_refused_does_not_stop_the_others(worker, widget_factory, tick, apply, scene):
    panel = open_scan(worker, widget_factory, "picky")
    targets = add_targets(tick, panel, bright=(1,))
    apply(panel)
    assert [result_of(panel, target) is not None for target in targets] == [True, False, True]
    assert panel.ui.statusLabel.text.splitlines()[:2] == [
        "2 of 3, patient 1: The fixed image is too bright.",
        "Done and kept: “organs on patient 0”, “organs on patient 2”.",
    ]
    assert leftovers() == []


def test_a_reference_is_of_one_target(panel, tick):
    add_targets(tick, panel)
    panel.ui.referenceSelector.setCurrentNode(add_segmentation("truth"))
    assert panel.ui.applyButton.text == "The reference is of one target"


def steps_in_itk(count: int) -> sitk.Transform:
    one = registered(SMALL, LPS @ GEOMETRIES["plain"])
    return sitk.CompositeTransform([one] * count) if count else sitk.Transform(3, sitk.sitkIdentity)


@pytest.mark.parametrize(
    ("how", "steps"), [("Every frame to the segmented one", (1, 0, 1, 1)), ("Frame to frame", (1, 0, 1, 2))]
)
def test_along_a_sequence(panel, apply, sent, scene, how, steps):
    sequence, browser = open_sequence(panel)
    assert panel.ui.frameSpinBox.value == 1
    panel.ui.alongComboBox.currentText = how
    fractions = watched_bar(panel)
    apply(panel)
    result = result_of(panel, sequence, "vtkMRMLSequenceNode")
    assert result.GetName() == "organs on heart" and nodes(scene, "vtkMRMLSequenceNode") == ["heart", "organs on heart"]
    assert [result.GetNthIndexValue(n) for n in range(4)] == ["0.0", "0.5", "1.0", "1.5"]
    assert (result.GetIndexName(), result.GetIndexUnit()) == ("time", "s")
    proxy = browser.GetProxyNode(result)
    volume = browser.GetProxyNode(sequence)
    assert proxy.GetName() == "organs on heart" and proxy.GetDisplayNode() is not None
    for number in range(4):
        browser.SetSelectedItemNumber(number)
        assert names_of(proxy) == ["liver", "kidney", "lesion"] and proxy.GetSegmentation().GetNumberOfLayers() == 2
        for name, mask in organs().items():
            place = LPS @ GEOMETRIES["plain"]
            expected = carried(mask, place, SMALL, place, steps_in_itk(steps[number]))
            assert overlap(mask_of(proxy, name, volume), expected) > 0.97, (number, name)
    pairs = [(fixed_of(message), moving_of(message)) for message in sent if message["command"] == "register"]
    assert pairs == ([(2, 1), (3, 1), (0, 1)] if steps[3] == 1 else [(2, 1), (3, 2), (0, 1)])
    frames = "frame 1 (0.5 s), frame 2 (1.0 s), frame 3 (1.5 s), frame 0 (0.0 s)"
    assert panel.ui.statusLabel.text == f"Done: “organs on heart”.\n{frames}: A test warning."
    assert fractions == sorted(fractions) and leftovers() == []


def fixed_of(message) -> int:
    return frame_of(message["arrays"]["target"])


def moving_of(message) -> int:
    return frame_of(message["arrays"]["scan"])


def frame_of(array) -> int:
    """Which of the frames it is."""
    return next(n for n in range(4) if np.array_equal(array, pattern(SMALL, shift=(0, 0, n))))


def test_a_sequence_is_updated_by_the_next_run(panel, apply, scene, tick):
    sequence, browser = open_sequence(panel)
    apply(panel)
    result, count = result_of(panel, sequence, "vtkMRMLSequenceNode"), scene.GetNumberOfNodes()
    tick(panel.ui.segmentList, "liver", ticked=False)
    apply(panel)
    assert result_of(panel, sequence, "vtkMRMLSequenceNode") is result and scene.GetNumberOfNodes() == count
    assert result.GetNumberOfDataNodes() == 4 and names_of(result.GetNthDataNode(3)) == ["kidney", "lesion"]
    assert names_of(browser.GetProxyNode(result)) == ["kidney", "lesion"]
    combo = panel.ui.resultComboBox
    assert combo.count == 4 and combo.currentText == "frame 1 (0.5 s)"
    combo.currentIndex = 3
    assert browser.GetSelectedItemNumber() == 3
    table = panel.ui.resultTable
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == ["kidney", "lesion"]


def test_a_sequence_without_a_browser_gets_one(panel, apply):
    import slicer

    sequence, _none = open_sequence(panel, browse=False)
    panel.ui.frameSpinBox.value = 7
    assert panel.ui.applyButton.text == "There is no frame 7 in “heart”"
    panel.ui.frameSpinBox.value = 0
    apply(panel)
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    result = result_of(panel, sequence, "vtkMRMLSequenceNode")
    assert browser.GetProxyNode(result) is not None and browser.GetMasterSequenceNode() is sequence


def test_a_reference_of_each_frame(panel, apply, sent):
    import slicer

    sequence, browser = open_sequence(panel)
    loose = add_segmentation("loose")
    panel.ui.referenceSelector.setCurrentNode(loose)
    assert panel.ui.applyButton.text == "Reference “loose” belongs to no sequence"
    truth = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "truth")
    for number in (1, 2):  # not of every frame
        masks = {"kidney": np.roll(organs()["kidney"], number, axis=1)}
        node = add_segmentation("frame", masks)
        truth.SetDataNodeAtValue(node, str(0.5 * number))
        slicer.mrmlScene.RemoveNode(node)
    browser.AddSynchronizedSequenceNodeID(truth.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    panel.ui.referenceSelector.setCurrentNode(browser.GetProxyNode(truth))
    apply(panel)
    scored = [m for m in sent if m["command"] == "propagate" and m.get("reference")]
    assert len(scored) == 2
    assert float(panel.ui.resultTable.item(1, 4).text()) == pytest.approx(
        overlap(organs()["kidney"], np.roll(organs()["kidney"], 1, axis=1)), abs=0.001
    )


def test_what_is_no_sequence_of_volumes(panel, scene):
    import slicer

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "moves")
    sequence.SetDataNodeAtValue(add_linear("move", np.eye(4)), "0")
    panel.ui.destinationComboBox.currentText = "The frames of a sequence (4D)"
    panel.ui.sequenceSelector.setCurrentNode(sequence)
    assert panel.ui.applyButton.text == "Sequence “moves” is none of volumes"
    single, _browser = add_sequence("single", [pattern(SMALL)])
    panel.ui.sequenceSelector.setCurrentNode(single)
    assert panel.ui.applyButton.text == "Sequence “single” has fewer than two frames"
    assert slicer.mrmlScene is scene
