"""DDIM through its panel's button: a linear transform node, of the right direction, that Slicer and ITK agree on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from volumes import SHAPE, add_bend, add_linear, add_volume, pattern, rigid, through

TOLERANCE_MM = 1e-3


@pytest.fixture
def panel(real_panel):
    """RegNet DDIM's panel on the real worker, without its network: the pair nearly matches."""
    widget = real_panel("RegNetDDIM")
    widget.form._fields["weights"]._widget.currentText = "None"
    return widget


def choose(panel, moving_to_ras: np.ndarray):
    """The same array as fixed and as moving volume, the latter elsewhere in the world."""
    import slicer

    fixed_to_ras = np.diag([-1.4, -1.2, 1.5, 1.0])
    fixed = add_volume("fixed", pattern(), fixed_to_ras)
    moving = add_volume("moving", pattern(), moving_to_ras @ fixed_to_ras)
    panel.ui.fixedSelector.setCurrentNode(fixed)
    panel.ui.movingSelector.setCurrentNode(moving)
    slicer.app.processEvents()
    return fixed, moving


def corners(fixed) -> np.ndarray:
    ends = [(0.0, n - 1.0) for n in SHAPE[::-1]]
    ijk = np.array([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]])
    return ijk * np.array([-1.4, -1.2, 1.5])


def test_the_result_is_a_linear_transform_node(panel, press_apply):
    import vtk

    truth = rigid((3.0, -2.0, 4.0), (2.0, -3.0, 1.5))
    fixed, moving = choose(panel, truth)
    node = press_apply(panel)
    assert node.GetClassName() == "vtkMRMLLinearTransformNode" and node.IsLinear()
    assert node.GetName() == "moving to fixed (DDIM)" and moving.GetTransformNodeID() == node.GetID()
    from_world = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(from_world)
    points = corners(fixed)
    # Fixed points lead to where the moving volume, without its transform, shows the same.
    left = np.linalg.norm(through(from_world, points) - (points @ truth[:3, :3].T + truth[:3, 3]), axis=1)
    before = np.linalg.norm(points - (points @ truth[:3, :3].T + truth[:3, 3]), axis=1)
    assert left.mean() < 0.25 * before.mean()
    report = json.loads(node.GetAttribute("RegNet.Report"))
    assert report["model"] == "ddim" and report["folding_percent"] == 0.0 and report["weights"] is None


def test_a_dense_result_does_not_go_into_a_linear_node(panel, press_apply):
    """Such a node holds a matrix and nothing else: a model that deforms gets a node of its own."""
    from RegNetLib import conversion
    from RegNetLib.result_import import ResultImporter

    choose(panel, rigid((2.0, 0.0, 0.0), (1.0, 0.0, 0.0)))
    linear = press_apply(panel)
    before = linear.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0))
    field = np.zeros((6, 7, 8, 3), np.float32)
    field[..., 0] = 3.0
    pull = conversion.pull_transform(np.eye(4), field, np.diag([10.0, 10.0, 10.0, 1.0]))
    assert conversion.linear_matrix(pull) is None
    parameters = panel.parameters
    importer = ResultImporter(parameters, None, "AVSM")
    dense = importer._fill_transform(pull, {}, parameters.fixedVolume, parameters.movingVolume, [])
    assert dense is not linear and dense.GetClassName() == "vtkMRMLTransformNode" and not dense.IsLinear()
    assert linear.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0)) == before


def test_a_linear_result_replaces_a_dense_one(panel):
    """In the same node, which is what the user has chosen; and the dense one can be had again."""
    import vtk
    from RegNetLib import conversion
    from RegNetLib.history_undo import copy_content
    from RegNetLib.result_import import ResultImporter

    choose(panel, np.eye(4))
    parameters, points = panel.parameters, np.array([(10.0, 20.0, 30.0), (-40.0, -30.0, 20.0)])
    field = np.zeros((12, 14, 16, 3), np.float32)
    field[..., 1] = np.linspace(0.0, 9.0, 16)
    bend = conversion.pull_transform(np.eye(4), field, np.diag([8.0, 9.0, 10.0, 1.0]))
    turn = conversion.pull_transform(rigid((10.0, -5.0, 20.0), (4.0, 5.0, 6.0)))

    def result(pull):
        added = []
        both = parameters.fixedVolume, parameters.movingVolume
        return ResultImporter(parameters, None, "DDIM")._fill_transform(pull, {}, *both, added), added

    def mapped(node):
        from_world = vtk.vtkGeneralTransform()
        node.GetTransformFromWorld(from_world)
        return through(from_world, points)

    node, _added = result(bend)
    parameters.resultTransform = node
    dense = mapped(node)
    again, added = result(turn)
    assert again is node and node.IsLinear()
    np.testing.assert_allclose(mapped(node), through(turn, points), atol=TOLERANCE_MM)
    np.testing.assert_allclose(mapped(added[0]), dense, atol=TOLERANCE_MM)
    copy_content(added[0], node)
    np.testing.assert_allclose(mapped(node), dense, atol=TOLERANCE_MM)


def test_matrix_of_a_chain_of_linear_transforms(scene):
    import vtk
    from RegNetLib import conversion

    first = rigid((10.0, -5.0, 20.0), (4.0, 5.0, 6.0))
    outer = add_linear("outer", rigid((0.0, 30.0, 0.0), (-7.0, 1.0, 2.0)))
    pull = conversion.into_own_coordinates(conversion.pull_transform(first), outer)
    matrix = conversion.linear_matrix(pull)
    points = np.array([(1.0, 2.0, 3.0), (-40.0, 50.0, 60.0), (0.0, 0.0, 90.0)])
    found = np.array([matrix.MultiplyPoint((*point, 1.0))[:3] for point in points])
    np.testing.assert_allclose(found, through(pull, points), atol=TOLERANCE_MM)
    bent = conversion.into_own_coordinates(conversion.pull_transform(first), add_bend("bend"))
    assert conversion.linear_matrix(bent) is None and isinstance(bent, vtk.vtkGeneralTransform)


@pytest.mark.slow
def test_it_is_compared_with_another_model(real_panel, process_events):
    """In the home module, without networks: both find the motion, and the history takes either up and back again."""
    import qt

    home = real_panel("RegNet")
    truth = rigid((3.0, -2.0, 4.0), (2.0, -3.0, 1.5))
    fixed, moving = choose(home, truth)
    for title, name, value in (("DDIM", "weights", "None"), ("AVSM", "iterations", 2)):
        home.ui.modelComboBox.currentText = title
        field = home.form._fields[name]._widget
        setattr(field, "currentText" if name == "weights" else "value", value)
    ui = home.compare.ui
    ui.comparedParametersComboBox.currentText = "As set in the panels"
    for n in range(ui.comparedModelList.count):
        wanted = ui.comparedModelList.item(n).text() in ("AVSM", "DDIM")
        ui.comparedModelList.item(n).setCheckState(qt.Qt.Checked if wanted else qt.Qt.Unchecked)
    ui.compareButton.click()
    assert process_events(until=lambda: not home.compare.is_running(), timeout=240)
    assert ui.compareStatusLabel.text == "2 of 2 models are ready."
    rows = [[ui.comparisonTable.item(row, column).text() for column in range(7)] for row in range(2)]
    points = corners(fixed)
    motion = np.linalg.norm(points @ truth[:3, :3].T + truth[:3, 3] - points, axis=1).max()
    for title, (model, *numbers, verdict) in zip(("AVSM", "DDIM"), rows, strict=True):
        seconds, before, after, folds, farthest = map(float, numbers)
        assert model == title and seconds > 0 and after > before + 0.1 and folds == 0 and verdict == ""
        assert abs(farthest - motion) < 0.25 * motion
    home.history.ui.historyList.item(0).setSelected(True)
    home.history.ui.useButton.click()
    assert moving.GetTransformNodeID() == home.parameters.resultTransform.GetID()
    home.history.ui.revertButton.click()
    assert moving.GetTransformNodeID() is None and home.parameters.resultTransform is None
