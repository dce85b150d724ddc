"""Click to correct, in every panel: placing pairs, what is sent, and what becomes of the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from traces import leftovers, nodes
from volumes import add_linear, add_volume, pattern, pull, rigid, through

MODULES = ("RegNet", "RegNetDDIM", "RegNetBSAFusion")
PLACE, OTHER = (30.0, 15.0, 30.0), (22.0, 10.0, 25.0)
NAME = "atlas to patient (AVSM), corrected"


def text_of(table) -> list[list[str]]:
    return [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]


@pytest.mark.parametrize("module", MODULES)
def test_every_panel_can_correct(open_pair, apply, place_pair, press_refine, module):
    panel = open_pair(module=module)
    apply(panel)
    before = panel.parameters.resultTransform
    place_pair(panel, PLACE)
    press_refine(panel)
    after, moving = panel.parameters.resultTransform, panel.parameters.movingVolume
    assert after is not before and after.GetName() == f"{before.GetName()}, corrected" and leftovers() == []
    assert moving.GetTransformNodeID() == after.GetID()
    lines = panel.ui.correctStatusLabel.text.splitlines()
    assert lines[0].startswith("Corrected in 0.7 s. Mean error of the points: 5.00 → 0.50 mm.")
    assert lines[1] == "A test warning."
    assert panel.ui.transformSelector.currentNode() is after


def test_a_pair_is_placed_through_the_present_result(panel, place_pair):
    place_pair(panel, PLACE)
    place_pair(panel, OTHER)
    parameters = panel.parameters
    fixed, moving = parameters.correctFixedPoints, parameters.correctMovingPoints
    labels = [[node.GetNthControlPointLabel(n) for n in range(2)] for node in (fixed, moving)]
    assert labels == [["1", "2"], ["1", "2"]] and fixed.GetTransformNodeID() is None
    assert moving.GetTransformNodeID() == parameters.movingVolume.GetTransformNodeID()
    expected = through(pull(parameters.resultTransform), np.array([PLACE, OTHER]))
    for n in range(2):
        np.testing.assert_allclose(moving.GetNthControlPointPosition(n), expected[n], atol=1e-6)
        np.testing.assert_allclose(moving.GetNthControlPointPositionWorld(n), (PLACE, OTHER)[n], atol=0.01)
    assert text_of(panel.ui.pairsTable) == [["1", "0.00", "–"], ["2", "0.00", "–"]]


def test_dragging_a_point_shows_its_error(panel, place_pair, process_events):
    place_pair(panel, PLACE)
    moving = panel.parameters.correctMovingPoints
    own = np.array(moving.GetNthControlPointPosition(0)) + (3.0, 0.0, 4.0)
    moving.SetNthControlPointPosition(0, own)
    process_events(timeout=0.0)
    assert text_of(panel.ui.pairsTable) == [["1", "5.00", "–"]]


def test_moving_points_stay_with_the_moving_volume(panel, place_pair):
    place_pair(panel, PLACE)
    moving, volume = panel.parameters.correctMovingPoints, panel.parameters.movingVolume
    panel.ui.afterCheckBox.click()
    assert volume.GetTransformNodeID() is None and moving.GetTransformNodeID() is None
    table = add_linear("table", rigid((0, 0, 10)))
    volume.SetAndObserveTransformNodeID(table.GetID())
    assert moving.GetTransformNodeID() == table.GetID()


def test_deleting_and_clearing(panel, place_pair, process_events):
    for world in (PLACE, OTHER, (25.0, 20.0, 35.0)):
        place_pair(panel, world)
    table, ui = panel.ui.pairsTable, panel.ui
    assert not ui.deletePairButton.enabled
    table.selectRow(1)
    ui.deletePairButton.click()
    process_events(timeout=0.0)
    assert [row[0] for row in text_of(table)] == ["1", "3"]
    panel.parameters.correctMovingPoints.RemoveNthControlPoint(1)  # in the Markups module
    process_events(timeout=0.0)
    assert [row[0] for row in text_of(table)] == ["1"]
    assert panel.parameters.correctFixedPoints.GetNumberOfControlPoints() == 1
    place_pair(panel, OTHER)
    assert [row[0] for row in text_of(table)] == ["1", "2"]
    ui.clearPairsButton.click()
    process_events(timeout=0.0)
    assert text_of(table) == [] and not ui.correctButton.enabled and not ui.clearPairsButton.enabled
    for node in (panel.parameters.correctFixedPoints, panel.parameters.correctMovingPoints):
        assert node.GetNumberOfControlPoints() == 0


def test_a_click_on_a_row_shows_the_point_in_all_views(panel, place_pair):
    import slicer

    for world in (PLACE, OTHER):
        place_pair(panel, world)
    panel.ui.pairsTable.cellClicked.emit(1, 0)
    for name, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        to_ras = slicer.util.arrayFromVTKMatrix(
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        )
        assert to_ras[axis, 3] == pytest.approx(OTHER[axis], abs=1.0)


def test_the_table_keeps_the_errors_before_and_after(panel, place_pair, process_events, monkeypatch):
    """As long as the points and the result are what they were."""
    from RegNetLib import correct_section

    place_pair(panel, PLACE)
    node = panel.parameters.resultTransform
    report = {**json.loads(node.GetAttribute("RegNet.Report")), "correction": {"points": [
        {"name": "1", "before_mm": 6.25, "after_mm": 0.0}]}}  # fmt: skip
    node.SetAttribute("RegNet.Report", json.dumps(report))
    panel.correct.refresh()
    assert text_of(panel.ui.pairsTable) == [["1", "6.25", "0.00"]]
    moving = panel.parameters.correctMovingPoints
    moving.SetNthControlPointPosition(0, np.array(moving.GetNthControlPointPosition(0)) + (0, 2.0, 0))
    process_events(timeout=0.0)
    assert text_of(panel.ui.pairsTable) == [["1", "2.00", "–"]]
    assert correct_section.SAME < 0.05


def test_undo_goes_back_to_the_result_before(panel, place_pair, press_refine, scene):
    ui, parameters = panel.ui, panel.parameters
    assert not ui.undoCorrectionButton.enabled
    before, moving = parameters.resultTransform, parameters.movingVolume
    place_pair(panel, PLACE)
    press_refine(panel)
    first = parameters.resultTransform
    press_refine(panel)
    second = parameters.resultTransform
    assert [node.GetName() for node in (before, first, second)][1:] == [NAME, f"{NAME}_1"]
    for expected in (first, before):
        assert ui.undoCorrectionButton.enabled
        ui.undoCorrectionButton.click()
        assert parameters.resultTransform is expected and moving.GetTransformNodeID() == expected.GetID()
        assert parameters.correctMovingPoints.GetTransformNodeID() == expected.GetID()
    assert not ui.undoCorrectionButton.enabled and "stays in the scene" in ui.correctStatusLabel.text
    assert all(scene.IsNodePresent(node) for node in (first, second))


def test_a_result_that_is_not_applied_stays_so(panel, place_pair, press_refine):
    panel.ui.applyCheckBox.click()
    panel.ui.afterCheckBox.click()
    assert panel.parameters.movingVolume.GetTransformNodeID() is None
    place_pair(panel, PLACE)
    press_refine(panel)
    assert panel.parameters.movingVolume.GetTransformNodeID() is None
    assert panel.parameters.resultTransform.GetName() == NAME


def test_the_views_stay_at_what_is_corrected(panel, place_pair, press_refine):
    import slicer

    place_pair(panel, PLACE)
    panel.ui.pairsTable.cellClicked.emit(0, 0)
    nodes_of_views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    before = [slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()).copy() for node in nodes_of_views]
    views = [node.GetFieldOfView() for node in nodes_of_views]
    press_refine(panel)
    for node, matrix, view in zip(nodes_of_views, before, views, strict=True):
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()), matrix)
        np.testing.assert_allclose(node.GetFieldOfView(), view)


def test_points_are_of_their_volumes(panel, place_pair, scene):
    """Another moving volume has no points; with the first one they are back."""
    place_pair(panel, PLACE)
    moving = panel.parameters.movingVolume
    panel.ui.movingSelector.setCurrentNode(add_volume("another", pattern(seed=8)))
    assert text_of(panel.ui.pairsTable) == []
    panel.ui.movingSelector.setCurrentNode(moving)
    assert [row[0] for row in text_of(panel.ui.pairsTable)] == ["1"]
    assert nodes(scene, "vtkMRMLMarkupsFiducialNode") == ["Fixed points", "Moving points"]


def test_points_and_settings_are_saved_with_the_scene(panel, place_pair, scene, tmp_path, process_events):
    import slicer

    place_pair(panel, PLACE)
    panel.ui.correctModeComboBox.currentText = "Exact"
    panel.ui.correctReachSpinBox.value = 33.0
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    scene.Clear(0)
    process_events()
    assert text_of(panel.ui.pairsTable) == []
    slicer.util.loadScene(str(path))
    process_events()
    assert [row[0] for row in text_of(panel.ui.pairsTable)] == ["1"]
    assert panel.ui.correctModeComboBox.currentText == "Exact" and panel.ui.correctReachSpinBox.value == 33.0
    place_pair(panel, OTHER)
    assert [row[0] for row in text_of(panel.ui.pairsTable)] == ["1", "2"]


def test_the_choices_are_those_of_the_core(scene):
    from regnet.correct import MODES
    from regnet.correct_images import SIMILARITIES
    from RegNetLib.parameter_node import Comparison, CorrectionMode

    assert tuple(entry.value for entry in CorrectionMode) == MODES
    assert tuple(entry.value for entry in Comparison) == SIMILARITIES
