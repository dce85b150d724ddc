"""A result corrected through the panel's button, by the real worker."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import GEOMETRIES, add_linear, add_volume, pattern, rigid, through

PLACE, OFF = (30.0, 15.0, 30.0), np.array([3.0, -2.0, 4.0])


@pytest.fixture
def panel(real_panel):
    """MASR-Net's panel with a linear transform as its result, which nobody has applied."""
    widget = real_panel("RegNetMASR")
    widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    widget.ui.movingSelector.setCurrentNode(add_volume("atlas", pattern(shift=(1, 2, 3)), GEOMETRIES["plain"]))
    start = add_linear("start", rigid((3, -2, 4), (1, 2, -1)))
    widget.ui.transformSelector.setCurrentNode(start)
    widget.parameters.movingVolume.SetAndObserveTransformNodeID(start.GetID())
    return widget


def pull(node):
    import vtk

    from_world = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(from_world)
    return from_world


@pytest.fixture
def refine(process_events):
    def press(panel):
        assert panel.ui.correctButton.enabled, panel.ui.correctButton.toolTip
        panel.ui.correctButton.click()
        assert process_events(until=lambda: not panel.client.is_busy(), timeout=240)
        process_events(timeout=0.0)
        assert panel.ui.correctStatusLabel.text.startswith("Corrected"), panel.ui.correctStatusLabel.text
        return panel.parameters.resultTransform

    return press


def test_a_point_is_met_in_slicer(panel, refine, process_events):
    """Exactly, twice in a row, and nowhere else; the second time by a dense transform."""
    import vtk

    ui, parameters = panel.ui, panel.parameters
    ui.correctModeComboBox.currentText = "Exact"
    ui.addPairButton.click()
    fixed = parameters.correctFixedPoints
    fixed.AddControlPointWorld(vtk.vtkVector3d(*PLACE), "F")
    moving = parameters.correctMovingPoints
    start = parameters.resultTransform
    far = np.array([PLACE]) + np.array([[40.0, 0, 0], [0, 42.0, 0], [0, 0, -45.0]])
    for _ in range(2):
        before, goal = parameters.resultTransform, np.array(moving.GetNthControlPointPosition(0)) + OFF
        moving.SetNthControlPointPosition(0, goal)
        process_events(timeout=0.0)
        node = refine(panel)
        assert node is not before and parameters.movingVolume.GetTransformNodeID() == node.GetID()
        np.testing.assert_allclose(through(pull(node), np.array([PLACE])), [goal], atol=0.01)
        np.testing.assert_allclose(through(pull(node), far), through(pull(start), far), atol=1e-4)
        row = [ui.pairsTable.item(0, column).text() for column in range(3)]
        assert row == ["1", f"{np.linalg.norm(OFF):.2f}", "0.00"]
