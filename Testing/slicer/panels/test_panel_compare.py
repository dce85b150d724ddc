"""Several models on one pair, by the home module's buttons."""

from __future__ import annotations

import numpy as np
import pytest
from test_panel_history import count, mapped, rows
from traces import leftovers, nodes
from volumes import add_linear, add_volume, pattern, rigid


@pytest.fixture
def open_compare(open_pair, tick):
    """The home module with a pair, the stand-in worker in ``mode``, and three models ticked."""

    def make(mode: str = "shift"):
        widget = open_pair(mode, "RegNet")
        shown = widget.compare.ui.comparedModelList
        tick(shown, *[shown.item(n).text() for n in range(shown.count)], ticked=False)
        tick(shown, "AVSM", "MASR-Net", "DDIM")
        return widget

    return make


@pytest.fixture
def press_compare(process_events):
    def press(widget):
        button = widget.compare.ui.compareButton
        assert (button.text, button.enabled) == ("Compare", True), button.toolTip
        button.click()
        assert button.text == "Cancel"
        assert process_events(until=lambda: not widget.compare.is_running(), timeout=40)
        process_events(timeout=0.0)

    return press


def table(widget) -> list[list[str]]:
    shown = widget.compare.ui.comparisonTable
    rows = [[shown.item(r, c) for c in range(shown.columnCount)] for r in range(shown.rowCount)]
    return [[item.text() for item in row if item is not None] for row in rows]


def transforms() -> list:
    """The results in the scene."""
    import slicer

    return [n for n in slicer.util.getNodesByClass("vtkMRMLTransformNode") if n.GetName().startswith("atlas to")]


def test_only_models_with_weights_are_offered(widget_factory, monkeypatch):
    from regnet import zoo
    from RegNetLib import compare_section

    monkeypatch.setattr(compare_section, "MODEL_NAMES", ("avsm", "masr", "ddim"))
    monkeypatch.setattr(compare_section, "list_weights", lambda name: zoo.list_weights(name) if name != "masr" else [])
    widget = widget_factory("RegNet")
    shown = widget.compare.ui.comparedModelList
    assert [shown.item(n).text() for n in range(shown.count)] == ["AVSM", "DDIM"]
    assert widget.compare.widget.collapsed
    button = widget.compare.ui.compareButton
    assert not button.enabled and button.toolTip == "Choose a fixed volume."


def test_models_are_compared(open_compare, press_compare, scene, sent):
    import slicer

    widget = open_compare()
    moving = widget.parameters.movingVolume
    press_compare(widget)
    assert [request["model"] for request in sent if request["command"] == "register"] == ["avsm", "masr", "ddim"]
    found = table(widget)
    assert [row[0] for row in found] == ["AVSM", "MASR-Net", "DDIM"]
    assert all(row[1:5] == ["1.5", "0.500", "0.900", "0.0000"] for row in found)
    assert widget.compare.ui.compareStatusLabel.text == "3 of 3 models are ready."
    assert [node.GetName() for node in transforms()] == [
        f"atlas to patient ({model})" for model in ("AVSM", "MASR-Net", "DDIM")
    ]
    # Nothing of the panel or of the moving volume is changed, and each result is an entry of the history.
    assert widget.parameters.resultTransform is None and moving.GetTransformNodeID() is None
    assert [row[0].split(" · ")[:2] for row in rows(widget)] == [
        ["Run 3", "DDIM"], ["Run 2", "MASR-Net"], ["Run 1", "AVSM"]
    ]  # fmt: skip
    # Side by side, at once.
    manager = slicer.app.layoutManager()
    assert manager.layout == 57303 and widget.compare.ui.comparisonViewsButton.checked
    for n, transform in enumerate(transforms()):
        composite = manager.sliceWidget(f"RegNet{n + 1}").sliceLogic().GetSliceCompositeNode()
        assert scene.GetNodeByID(composite.GetForegroundVolumeID()).GetParentTransformNode() is transform
    assert leftovers() == []


def test_the_farthest_motion(open_compare, press_compare, sent):
    """As the transform nodes themselves have it."""
    from fake_worker import AFFINE, displacement
    from volumes import SHAPE

    widget = open_compare()
    press_compare(widget)
    place = np.array(next(request for request in sent if "fixed" in request)["fixed"]["index_to_world"])
    index = np.stack(np.indices(SHAPE)[::-1], axis=-1)
    points = index @ place[:3, :3].T + place[:3, 3]
    affine = np.array(AFFINE)
    moved = (points + displacement(SHAPE)) @ affine[:3, :3].T + affine[:3, 3]
    farthest = np.linalg.norm(moved - points, axis=-1).max()
    assert [row[5] for row in table(widget)] == [f"{farthest:.1f}"] * 3
    to_lps = np.diag([-1.0, -1.0, 1.0])
    point = (points[3, 4, 5] @ to_lps).tolist()
    through = transforms()[0].GetTransformFromParent()
    np.testing.assert_allclose(np.array(through.TransformPoint(point)) @ to_lps, moved[3, 4, 5], atol=1e-3)


def test_the_farthest_motion_of_a_linear_result(tmp_path):
    """No voxel of the volume is moved farther than its farthest corner."""
    from RegNetLib.compare_run import farthest_motion
    from RegNetLib.private_folder import PrivateFolder

    folder = PrivateFolder(tmp_path)
    place = np.diag([1.2, 0.8, 3.0, 1.0])
    place[:3, 3] = (-20, 15, 4)
    fixed = {"file": folder.save("fixed", np.zeros((7, 9, 11), np.float32)), "index_to_world": place.tolist()}
    affine = rigid((5, -8, 12), (3, -4, 5))
    index = np.stack(np.indices((7, 9, 11))[::-1], axis=-1)
    points = index @ place[:3, :3].T + place[:3, 3]
    expected = np.linalg.norm(points @ affine[:3, :3].T + affine[:3, 3] - points, axis=-1).max()
    found = farthest_motion({"affine": affine.tolist(), "displacement": None}, fixed, folder)
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_failed_model_is_a_row_that_says_so(open_compare, press_compare):
    widget = open_compare("refuse-masr")
    press_compare(widget)
    found = table(widget)
    assert found[1] == ["MASR-Net", "Failed: The images do not overlap; move one."]
    assert widget.compare.ui.comparisonTable.columnSpan(1, 1) == 6
    assert [row[1] for row in found[::2]] == ["1.5", "1.5"] and len(rows(widget)) == 2
    assert widget.compare.ui.compareStatusLabel.text == "2 of 3 models are ready."
    widget.compare.ui.comparisonTable.selectRow(1)
    assert not widget.compare.ui.comparisonUseButton.enabled
    widget.history.side_by_side.end()


def test_all_models_fail(open_compare, press_compare, scene, tick):
    import slicer

    widget = open_compare("crash")
    tick(widget.compare.ui.comparedModelList, "DDIM", ticked=False)
    before = count(scene)
    press_compare(widget)
    assert [row[1][:44] for row in table(widget)] == ["Failed: The registration worker stopped unex"] * 2
    assert count(scene) == {**before, "Table": before["Table"] + 1} and slicer.app.layoutManager().layout == 3
    assert not widget.compare.ui.comparisonViewsButton.enabled


def test_cancel_keeps_what_is_ready(open_compare, process_events, scene):
    widget = open_compare("slow-masr")
    ui = widget.compare.ui
    ui.compareButton.click()
    assert not ui.comparedModelList.enabled and widget.ui.applyButton.text.startswith("A registration is running")
    assert process_events(until=lambda: len(table(widget)) == 1, timeout=20)
    assert process_events(until=lambda: ui.compareStatusLabel.text.startswith("2 of 3, MASR-Net"), timeout=20)
    assert 300 < ui.compareProgressBar.value < 700
    ui.compareButton.click()
    assert process_events(until=lambda: not widget.compare.is_running(), timeout=5)
    assert ui.compareStatusLabel.text == "Cancelled. 1 of 3 models are ready."
    assert [row[0] for row in table(widget)] == ["AVSM"] and len(rows(widget)) == 1
    assert ui.compareButton.text == "Compare" and ui.comparedModelList.enabled and leftovers() == []


def test_cancelled_before_anything_is_ready(open_compare, press_compare, worker, process_events, scene):
    """The comparison before stays in the table."""
    widget = open_compare()
    press_compare(widget)
    before, texts = count(scene), table(widget)
    worker("slow")
    widget.compare.ui.compareButton.click()
    assert process_events(until=lambda: widget.compare.ui.compareProgressBar.value > 10, timeout=20)
    widget.compare.ui.compareButton.click()
    assert process_events(until=lambda: not widget.compare.is_running(), timeout=5)
    # The stand-ins of the views went with the start.
    assert table(widget) == texts
    assert count(scene) == {**before, "Volume": before["Volume"] - 3, "VolumeDisplay": before["VolumeDisplay"] - 3}


def test_the_scene_is_closed_in_the_middle(open_compare, process_events, scene):
    import slicer

    widget = open_compare("slow-masr")
    widget.compare.ui.compareButton.click()
    assert process_events(until=lambda: len(table(widget)) == 1, timeout=20)
    scene.Clear(0)
    process_events()
    assert not widget.compare.is_running() and not widget.client.is_busy() and leftovers() == []
    assert table(widget) == [] and rows(widget) == [] and slicer.app.layoutManager().layout == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_a_volume_is_removed_in_the_middle(open_compare, process_events, scene):
    widget = open_compare("slow")
    widget.compare.ui.compareButton.click()
    assert process_events(until=lambda: widget.compare.ui.compareProgressBar.value > 30, timeout=20)
    scene.RemoveNode(widget.parameters.movingVolume)
    assert process_events(until=lambda: not widget.compare.is_running(), timeout=8)
    assert widget.compare.ui.compareStatusLabel.text == "“atlas” was removed meanwhile. 0 of 3 models are ready."
    assert len(nodes(scene, "vtkMRMLTableNode")) == 0 and leftovers() == []


def test_another_module_is_shown_meanwhile(open_compare, process_events):
    """The comparison goes on; the layout is left alone."""
    import slicer

    widget = open_compare()
    widget.compare.ui.compareButton.click()
    widget.exit()
    assert process_events(until=lambda: not widget.compare.is_running(), timeout=30)
    assert slicer.app.layoutManager().layout == 3 and len(table(widget)) == 3
    widget.enter()
    widget.compare.ui.comparisonViewsButton.click()
    assert slicer.app.layoutManager().layout == 57303


def test_a_result_of_the_table_is_used(open_compare, press_compare):
    import slicer

    widget = open_compare()
    parent = add_linear("table", rigid((0, 0, 10), (1, 2, 3)))
    widget.parameters.movingVolume.SetAndObserveTransformNodeID(parent.GetID())
    press_compare(widget)
    widget.compare.ui.comparisonTable.selectRow(1)
    widget.compare.ui.comparisonUseButton.click()
    result = widget.parameters.resultTransform
    assert result.GetName() == "atlas to patient (MASR-Net)" and slicer.app.layoutManager().layout == 3
    assert widget.parameters.movingVolume.GetTransformNodeID() == result.GetID()
    widget.history.ui.revertButton.click()
    assert widget.parameters.movingVolume.GetTransformNodeID() == parent.GetID()


def test_parameters_are_defaults_or_those_of_the_panels(open_compare, press_compare, sent, widget_factory, scene):
    """Of this panel where a model was touched here, else of the model's own module."""
    from regnet.models import get_parameters

    widget = open_compare()
    own = widget_factory("RegNetMASR")
    own.form._fields["iterations"]._widget.value = 17
    widget_factory("RegNet")
    widget.ui.modelComboBox.currentText = "AVSM"
    widget.form._fields["iterations"]._widget.value = 9
    widget.ui.alignmentComboBox.currentText = "Rigid"
    press_compare(widget)
    asked = {request["model"]: request for request in sent if request["command"] == "register"}
    assert asked["avsm"]["parameters"] == get_parameters("avsm")().to_dict()
    assert asked["masr"]["parameters"] == get_parameters("masr")().to_dict()
    assert {request["align"] for request in asked.values()} == {"rigid"} and not asked["avsm"]["preview"]
    sent.clear()
    widget.compare.ui.comparedParametersComboBox.currentText = "As set in the panels"
    press_compare(widget)
    asked = {request["model"]: request for request in sent if request["command"] == "register"}
    assert asked["avsm"]["parameters"]["iterations"] == 9 and asked["masr"]["parameters"]["iterations"] == 17
    assert asked["ddim"]["parameters"] == get_parameters("ddim")().to_dict()


def test_models_that_make_pictures_are_not_asked_for_them(open_compare, press_compare, sent, tick):
    widget = open_compare()
    tick(widget.compare.ui.comparedModelList, "AVSM", "MASR-Net", "DDIM", ticked=False)
    tick(widget.compare.ui.comparedModelList, "Deform-GAN")
    widget.ui.modelComboBox.currentText = "Deform-GAN"
    widget.form._fields["translation"]._widget.checked = True
    widget.compare.ui.comparedParametersComboBox.currentText = "As set in the panels"
    press_compare(widget)
    assert next(r for r in sent if r["command"] == "register")["parameters"]["translation"] is False


def test_the_table_is_saved_with_the_scene(open_compare, press_compare, scene, tmp_path, process_events):
    import slicer

    widget = open_compare("refuse-masr")
    press_compare(widget)
    texts = table(widget)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(0)
    process_events()
    assert table(widget) == []
    add_volume("another", pattern(shift=(2, 0, 1)))
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert table(widget) == texts
    widget.compare.ui.comparisonTable.selectRow(2)
    widget.compare.ui.comparisonUseButton.click()
    assert widget.parameters.resultTransform.GetName() == "atlas to patient (DDIM)"
    assert mapped(widget.parameters.resultTransform).shape == (3, 3)


def test_a_second_comparison_takes_the_place_of_the_first(open_compare, press_compare, scene, tick):
    widget = open_compare()
    press_compare(widget)
    tick(widget.compare.ui.comparedModelList, "AVSM", "DDIM", ticked=False)
    press_compare(widget)
    assert [row[0] for row in table(widget)] == ["MASR-Net"] and len(nodes(scene, "vtkMRMLTableNode")) == 1
    assert len(rows(widget)) == 4
    widget.parameters.movingVolume = add_volume("third", pattern(shift=(2, 1, 0)))
    assert table(widget) == []


def test_a_verdict_is_shown_once_a_result_was_judged(open_compare, press_compare):
    """And no longer when its transform was changed since."""
    from RegNetLib.judge_inputs import fingerprint
    from RegNetLib.judge_state import keep_judgement
    from RegNetLib.review_subject import PanelSubject

    widget = open_compare()
    press_compare(widget)
    widget.compare.ui.comparisonTable.selectRow(0)
    widget.compare.ui.comparisonUseButton.click()
    result = widget.parameters.resultTransform
    judged = fingerprint(PanelSubject(lambda: widget.parameters))
    keep_judgement(result, {"verdict": "amber", "numbers": {}}, judged)
    widget.history.refresh()
    widget.compare.refresh()
    assert [row[6] for row in table(widget)] == ["Amber: look before you use it", "", ""]
    assert rows(widget)[2][2].endswith(" · Amber: look before you use it")
    result.SetAndObserveTransformFromParent(add_linear("other", rigid((9, 0, 0))).GetTransformFromParent())
    widget.compare.refresh()
    assert [row[6] for row in table(widget)] == ["", "", ""]
