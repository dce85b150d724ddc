"""The propagation panel: what it asks for, and what a run to one target leaves, on the stand-in worker."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import fake_worker
import numpy as np
import pytest
from propagations import (
    LPS,
    TARGET_SHAPE,
    carried,
    near,
    registered,
    result_of,
)
from regnet.protocol import PropagateRequest, RegisterRequest
from segmentations import LIVER, SMALL, add_segmentation, ball, mask_of, names_of, organs, overlap
from traces import leftovers, nodes
from volumes import GEOMETRIES, add_bend, add_linear, add_volume, pattern, rigid


@pytest.fixture
def panel(propagation):
    return propagation


@pytest.fixture
def slow_panel(slow_propagation):
    return slow_propagation


def test_apply_says_what_is_missing(worker, widget_factory, tick, scene):
    worker("shift")
    panel = widget_factory("RegNetPropagation")
    button = panel.ui.applyButton
    assert (button.text, button.enabled) == ("Choose the scan that was segmented", False)
    scan = add_volume("baseline", pattern(SMALL))
    panel.ui.scanSelector.setCurrentNode(scan)
    assert button.text == "Choose the segmentation to carry"
    panel.ui.segmentationSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing"))
    assert button.text == "Segmentation “nothing” has no segments"
    panel.ui.segmentationSelector.setCurrentNode(add_segmentation("organs"))
    assert button.text == "Tick at least one target"
    add_volume("follow-up", pattern(TARGET_SHAPE), near(TARGET_SHAPE))
    tick(panel.ui.targetList, "follow-up")
    assert (button.text, button.enabled) == ("Apply", True)
    panel.ui.noSegmentsButton.click()
    assert button.text == "Tick at least one segment"
    panel.ui.allSegmentsButton.click()
    panel.ui.mappingComboBox.currentText = "Use a transform that exists"
    assert button.text == "Choose the transform that leads from the scan to the targets"
    panel.ui.destinationComboBox.currentText = "The frames of a sequence (4D)"
    assert button.text == "Choose a sequence"


@pytest.mark.parametrize(
    ("shape", "text"), [((1, 20, 22), "One volume is a single slice"), ((9, 20, 22), "Volume “other” has only 22 × 20")]
)
def test_unusable_targets_are_refused_in_one_sentence(panel, tick, shape, text):
    add_volume("other", pattern((20, 20, 22))[: shape[0]])
    tick(panel.ui.targetList, "other")
    assert panel.ui.applyButton.text.startswith(text) and not panel.ui.applyButton.enabled


def test_targets_are_all_volumes_but_the_scan(panel, tick, scene, process_events):
    def listed():
        process_events()
        return [panel.ui.targetList.item(n).text() for n in range(panel.ui.targetList.count)]

    first, second = add_volume("first", pattern(SMALL)), add_volume("second", pattern(SMALL))
    assert listed() == ["first", "second"]
    tick(panel.ui.targetList, "second", "first")
    assert panel.parameters.targets() == [first, second]
    panel.ui.scanSelector.setCurrentNode(first)
    assert listed() == ["baseline", "second"] and panel.parameters.targets() == [second]
    scene.RemoveNode(second)
    assert listed() == ["baseline"] and panel.parameters.targets() == []


def test_segments_follow_the_segmentation(panel, tick, process_events):
    def listed():
        return [panel.ui.segmentList.item(n).text() for n in range(panel.ui.segmentList.count)]

    assert listed() == ["liver", "kidney", "lesion"]
    tick(panel.ui.segmentList, "kidney", ticked=False)
    segmentation = panel.parameters.segmentation.GetSegmentation()
    segmentation.GetSegment("Segment_3").SetName("metastasis")
    segmentation.AddEmptySegment("new", "vessel")
    process_events()
    assert listed() == ["liver", "kidney", "metastasis", "vessel"]
    assert panel.parameters.chosen_segments() == ["Segment_1", "Segment_3", "new"]
    panel.ui.segmentationSelector.setCurrentNode(add_segmentation("others", {"bone": organs()["liver"]}))
    assert listed() == ["bone"] and panel.parameters.chosen_segments() == ["Segment_1"]


def test_ui_and_parameter_node_name_the_same_parameters(scene):
    from RegNetLib.propagation_parameters import Along, Interpolation, PropagationParameterNode

    path = Path(__file__).resolve().parents[3] / "RegNetModules/RegNetPropagation/Resources/UI/RegNetPropagation.ui"
    found = [p for p in ElementTree.parse(path).getroot().iter("property") if p.get("name") == "SlicerParameterName"]
    without_a_widget = {"model", "modelParameters", "leftOut"}
    named = sorted(p.find("string").text for p in found)
    assert named == sorted(set(PropagationParameterNode.allParameters) - without_a_widget)
    from regnet.label_maps import INTERPOLATIONS
    from regnet.propagate import ALONG

    assert tuple(entry.value for entry in Along) == ALONG
    assert tuple(entry.value for entry in Interpolation) == INTERPOLATIONS


def test_choices_are_saved_with_the_scene(panel, follow_up, tick, scene, tmp_path, process_events):
    import slicer

    tick(panel.ui.segmentList, "kidney", ticked=False)
    panel.ui.interpolationComboBox.currentText = "Nearest voxel"
    panel.ui.modelComboBox.currentText = "MASR-Net"
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(0)
    process_events()
    assert panel.parameters.targets() == [] and panel.ui.segmentList.count == 0
    assert panel.ui.interpolationComboBox.currentText == "Smooth"
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert [target.GetName() for target in panel.parameters.targets()] == ["follow-up"]
    assert panel.parameters.chosen_segments() == ["Segment_1", "Segment_3"]
    assert (panel.ui.interpolationComboBox.currentText, panel.parameters.model) == ("Nearest voxel", "masr")
    assert panel.ui.applyButton.text == "Apply"


def test_a_run_makes_one_segmentation_on_the_target(panel, follow_up, apply, scene):
    transforms = nodes(scene, "vtkMRMLTransformNode")
    apply(panel)
    result = result_of(panel, follow_up)
    assert nodes(scene, "vtkMRMLSegmentationNode") == ["organs", "organs on follow-up"] and leftovers() == []
    assert result.GetName() == "organs on follow-up" and names_of(result) == ["liver", "kidney", "lesion"]
    assert list(result.GetSegmentation().GetSegmentIDs()) == ["Segment_1", "Segment_2", "Segment_3"]
    assert result.GetSegmentation().GetNumberOfLayers() == 2
    np.testing.assert_allclose(result.GetSegmentation().GetNthSegment(1).GetColor(), (0.5, 0.6, 0.1))
    assert LIVER in str(result.GetSegmentation().GetNthSegment(0))
    assert result.GetNodeReference(result.GetReferenceImageGeometryReferenceRole()) is follow_up
    geometry = result.GetSegmentation().GetConversionParameter("Reference image geometry").rstrip(";").split(";")
    np.testing.assert_allclose(np.reshape(geometry[:16], (4, 4)).astype(float), near(TARGET_SHAPE), atol=1e-6)
    assert geometry[16:] == ["0", "23", "0", "17", "0", "19"]

    place, expected = LPS @ near(TARGET_SHAPE), {}
    transform = registered(TARGET_SHAPE, place)
    for name, mask in organs().items():
        expected[name] = carried(mask, LPS @ GEOMETRIES["plain"], TARGET_SHAPE, place, transform)
        assert expected[name].sum() > 15
        assert overlap(mask_of(result, name, follow_up), expected[name]) > 0.98, name
    text = panel.ui.statusLabel.text
    assert text.splitlines() == ["Done: “organs on follow-up”.", "A test warning."]
    assert nodes(scene, "vtkMRMLTransformNode") == transforms


def test_the_requests_are_what_the_widgets_say(panel, follow_up, apply, sent, tick):
    panel.ui.alignmentComboBox.currentText = "Rigid"
    panel.ui.refinementComboBox.currentText = "Number of steps"
    panel.ui.refineStepsSpinBox.value = 12
    panel.ui.interpolationComboBox.currentText = "Nearest voxel"
    panel.ui.modelComboBox.currentText = "Deform-GAN"
    tick(panel.ui.segmentList, "kidney", ticked=False)
    apply(panel)
    first, second = ({name: value for name, value in message.items() if name != "arrays"} for message in sent)
    request = RegisterRequest(**first)
    assert (request.model, request.align, request.refine) == ("deformgan", "rigid", 12)
    assert request.parameters["translation"] is False  # nobody asked for a picture
    np.testing.assert_allclose(request.fixed.index_to_world, LPS @ near(TARGET_SHAPE), atol=1e-9)
    np.testing.assert_allclose(request.moving.index_to_world, LPS @ GEOMETRIES["plain"])
    np.testing.assert_array_equal(sent[0]["arrays"]["scan"], pattern(SMALL))
    request = PropagateRequest(**second)
    assert [entry.name for entry in request.segments] == ["liver", "lesion"]
    assert request.interpolation == "nearest" and request.target.shape == list(TARGET_SHAPE)
    assert len(request.transforms) == 1 and request.transforms[0].affine == fake_worker.AFFINE
    np.testing.assert_array_equal(
        sent[1]["arrays"][Path(request.transforms[0].displacement.file).stem], fake_worker.displacement(TARGET_SHAPE)
    )
    assert sorted(np.unique(sent[1]["arrays"]["segments"])) == [0, 1]


def test_a_rerun_updates_the_same_node(panel, follow_up, apply, scene, tick):
    import slicer

    apply(panel)
    result, count = result_of(panel, follow_up), scene.GetNumberOfNodes()
    before = mask_of(result, "kidney", follow_up)
    result.GetDisplayNode().SetSegmentVisibility("Segment_1", False)
    result.SetName("checked")
    panel.parameters.segmentation.GetSegmentation().GetSegment("Segment_1").SetName("liver, left")
    liver = organs()["liver"] & ball(SMALL, (0.5, 0.5, 0.1), 0.3)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        liver.astype(np.uint8), panel.parameters.segmentation, "Segment_1", panel.parameters.scan
    )
    tick(panel.ui.segmentList, "kidney", ticked=False)
    apply(panel)
    assert result_of(panel, follow_up) is result and scene.GetNumberOfNodes() == count
    assert result.GetName() == "checked" and sorted(names_of(result)) == ["kidney", "lesion", "liver, left"]
    np.testing.assert_array_equal(mask_of(result, "kidney", follow_up), before)  # not carried again, not lost
    place = LPS @ near(TARGET_SHAPE)
    expected = carried(liver, LPS @ GEOMETRIES["plain"], TARGET_SHAPE, place, registered(TARGET_SHAPE, place))
    assert overlap(mask_of(result, "liver, left", follow_up), expected) > 0.97
    assert not result.GetDisplayNode().GetSegmentVisibility("Segment_1")


def test_the_table_tells_of_each_segment(panel, follow_up, apply):
    assert not panel.ui.resultSection.isVisibleTo(panel.parent)
    apply(panel)
    result, table = result_of(panel, follow_up), panel.ui.resultTable
    rows = [[table.item(row, column).text() for column in range(6)] for row in range(table.rowCount)]
    for row, (name, mask) in zip(rows, organs().items(), strict=True):
        voxels = mask_of(result, name, follow_up).sum() * 1.2 * 1.1 * 0.9 / 1000
        assert row == [name, "100%", f"{mask.sum() / 1000:.2f}", f"{voxels:.2f}", "–", ""]
    panel.ui.segmentationSelector.setCurrentNode(None)
    assert not panel.ui.resultSection.isVisibleTo(panel.parent)


def test_what_the_table_says_of_lost_segments(scene):
    from RegNetLib.propagation_results import table_rows

    base = {"source_voxels": 5, "voxels": 4, "share_in_view": 1.0, "source_volume_ml": 1.0, "volume_ml": 0.8}
    cases = {
        "": base,
        "empty in the source": {**base, "source_voxels": 0, "share_in_view": None, "voxels": 0},
        "outside the target": {**base, "share_in_view": 0.0, "voxels": 0},
        "partly outside the target": {**base, "share_in_view": 0.4},
        "too small for the voxels": {**base, "voxels": 0},
    }
    rows = [{"name": str(n), "dice": 0.5, **row} for n, row in enumerate(cases.values())]
    table = table_rows({"segments": rows, "mean": {"dice": 0.5, "segments": 5}})
    assert [row[5] for row in table[:-1]] == list(cases)
    assert table[3][1:5] == ("40%", "1.00", "0.80", "0.500") and table[1][1] == "–"
    assert table[-1] == ("Mean of 5", "", "", "", "0.500", "")


def test_a_reference_gives_dice(panel, follow_up, apply, tick):
    """Whatever its own order and layers are, and wherever it lies."""
    panel.ui.noSegmentsButton.click()
    tick(panel.ui.segmentList, "kidney", "lesion")
    place = LPS @ near(TARGET_SHAPE)
    transform = registered(TARGET_SHAPE, place)
    truth = {
        name: carried(organs()[name], LPS @ GEOMETRIES["plain"], TARGET_SHAPE, place, transform) for name in organs()
    }
    shifted = np.roll(truth["kidney"], 2, axis=2)
    table = add_linear("table", rigid((0, 30, 0), (50, 0, 9)))
    own = np.linalg.inv(rigid((0, 30, 0), (50, 0, 9))) @ near(TARGET_SHAPE)
    reference = add_segmentation("truth", {"other": truth["liver"], "kidney": shifted}, own)
    reference.SetAndObserveTransformNodeID(table.GetID())
    panel.ui.referenceSelector.setCurrentNode(reference)
    apply(panel)
    rows = {panel.ui.resultTable.item(n, 0).text(): panel.ui.resultTable.item(n, 4).text() for n in range(2)}
    found = mask_of(result_of(panel, follow_up), "kidney", follow_up)
    assert float(rows["kidney"]) == pytest.approx(overlap(found, shifted), abs=0.02) and rows["lesion"] == "–"
    panel.ui.referenceSelector.setCurrentNode(add_segmentation("wrong", {"bone": truth["liver"]}))
    assert panel.ui.applyButton.text == "Reference “wrong” has none of the ticked segments"
    panel.ui.referenceSelector.setCurrentNode(panel.parameters.segmentation)
    assert panel.ui.applyButton.text == "The reference is the segmentation that is carried"


@pytest.mark.parametrize("who", ["scan and segmentation", "scan", "segmentation under the result", "target"])
def test_parents_are_honoured(panel, follow_up, apply, sent, who):
    """Where the user sees things; results of RegNet that the scan wears are taken off."""
    scan, segmentation = panel.parameters.scan, panel.parameters.segmentation
    matrix = rigid((10, 20, -5), (7, -9, 4))
    table = add_linear("table", matrix)
    scan_place = target_place = np.eye(4)
    if who == "scan and segmentation":
        scan.SetAndObserveTransformNodeID(table.GetID())
        segmentation.SetAndObserveTransformNodeID(table.GetID())
        scan_place = matrix
    elif who == "target":
        follow_up.SetAndObserveTransformNodeID(table.GetID())
        target_place = matrix
    else:
        bend = add_bend("result")
        bend.SetAttribute("RegNet.Report", "{}")
        bend.SetNodeReferenceID("spatialRegistrationMoving", scan.GetID())
        scan.SetAndObserveTransformNodeID(bend.GetID())
        if who == "segmentation under the result":
            segmentation.SetAndObserveTransformNodeID(bend.GetID())
    apply(panel)
    register, propagate = sent
    np.testing.assert_allclose(register["moving"]["index_to_world"], LPS @ scan_place @ GEOMETRIES["plain"], atol=1e-9)
    np.testing.assert_allclose(register["fixed"]["index_to_world"], LPS @ target_place @ near(TARGET_SHAPE), atol=1e-9)
    np.testing.assert_allclose(propagate["target"]["index_to_world"], register["fixed"]["index_to_world"], atol=1e-9)
    labels = propagate["arrays"]["segments"]
    first = np.argwhere(labels.any(axis=0)).min(axis=0)[::-1]
    found = np.array(propagate["labels"]["index_to_world"]) @ [*first, 1.0]
    corner = np.argwhere(np.any(list(organs().values()), axis=0)).min(axis=0)[::-1]
    np.testing.assert_allclose(found, LPS @ scan_place @ GEOMETRIES["plain"] @ [*corner, 1.0], atol=1e-9)
    result = result_of(panel, follow_up)
    assert result.GetParentTransformNode() is follow_up.GetParentTransformNode()


def test_what_cannot_be_placed_is_refused(panel, follow_up):
    bend = add_bend("bend")
    for node, name in ((panel.parameters.scan, "baseline"), (follow_up, "follow-up")):
        node.SetAndObserveTransformNodeID(bend.GetID())
        panel.enter()
        assert panel.ui.applyButton.toolTip == (
            f"“{name}” lies under the non-linear transform “bend”; harden it in the Transforms module first."
        )
        node.SetAndObserveTransformNodeID(None)
    panel.parameters.segmentation.SetAndObserveTransformNodeID(add_linear("far", rigid((0, 0, 0), (500, 0, 0))).GetID())
    panel.enter()
    panel.ui.applyButton.click()
    text = "Segmentation “organs” lies wholly outside its scan; choose the one that it was drawn on."
    assert panel.ui.statusLabel.text == text and leftovers() == [] and not panel.client.is_busy()
