"""What stands in the way of a verdict: one sentence, and nothing is lost."""

from __future__ import annotations

import pytest
from traces import leftovers, nodes
from volumes import add_bend

SCALARS, TABLES = "vtkMRMLScalarVolumeNode", "vtkMRMLTableNode"


def test_why_it_cannot_judge(open_review, worker):
    widget = open_review()
    transform = widget.parameters.resultTransform
    widget.parameters.resultTransform = None
    assert not widget.ui.judgeButton.enabled and "There is no transform to judge" in widget.ui.judgeButton.toolTip
    assert not widget.ui.reportButton.enabled
    widget.parameters.resultTransform = transform
    widget.parameters.movingVolume = None
    assert widget.ui.judgeButton.toolTip == "Choose a moving volume."


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_worker_that_fails_leaves_the_last_verdict(open_review, press_judge, worker, scene, mode):
    widget = open_review()
    press_judge(widget)
    count = scene.GetNumberOfNodes()
    worker(mode)
    press_judge(widget)
    assert widget.ui.judgeStatusLabel.text and widget.ui.verdictLabel.text == "Red: do not use it"
    assert scene.GetNumberOfNodes() == count and leftovers() == []


def test_cancel(open_review, process_events, scene):
    widget = open_review("slow")
    count = scene.GetNumberOfNodes()
    widget.ui.judgeButton.click()
    assert widget.ui.judgeButton.text == "Cancel" and not widget.ui.reportButton.enabled
    assert process_events(until=lambda: widget.ui.judgeProgressBar.value > 0)
    widget.ui.judgeButton.click()
    assert process_events(until=lambda: not widget.client.is_busy())
    assert widget.ui.judgeStatusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodes() == count and leftovers() == []


@pytest.mark.parametrize("what", ["transform", "volume", "scene"])
def test_what_goes_while_it_is_judged(open_review, process_events, scene, what):
    widget = open_review("slow")
    widget.ui.judgeButton.click()
    assert process_events(until=lambda: widget.ui.judgeProgressBar.value > 0)
    if what == "scene":
        scene.Clear(0)
    else:
        gone = widget.parameters.resultTransform if what == "transform" else widget.parameters.movingVolume
        scene.RemoveNode(gone)
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=15)
    assert nodes(scene, TABLES) == [] and leftovers() == []
    if what != "scene":
        assert "was removed meanwhile" in widget.ui.judgeStatusLabel.text


def test_what_was_drawn_on_a_bent_volume_cannot_be_compared(open_review, scene):
    widget = open_review()
    place = add_bend("place")
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(place.GetID())
    for name in ("fixed", "moving"):
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
        node.AddControlPoint(5.0, -7.0, 9.0)
        getattr(widget.ui, f"{name}PointsSelector").setCurrentNode(node)
    widget.ui.judgeButton.click()
    assert widget.ui.judgeStatusLabel.text.startswith("“patient” lies under the non-linear transform “place”; harden")
    assert not widget.client.is_busy() and leftovers() == []
