"""What a panel remembers, the models that it offers, and the demo pair."""

from __future__ import annotations

import json

import numpy as np
from traces import nodes


def test_settings_and_result_survive_saving_the_scene(open_pair, apply, scene, tmp_path, process_events):
    import slicer

    widget = open_pair()
    widget.ui.alignmentComboBox.currentText = "Centres of mass"
    widget.form._fields["iterations"]._widget.value = 11
    apply(widget)
    transform = widget.parameters.resultTransform
    points = [(5.0, -7.0, 9.0), (30.0, 15.0, 25.0), (45.0, 20.0, 40.0)]
    expected = [transform.GetTransformFromParent().TransformPoint(point) for point in points]
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    scene.Clear(0)
    process_events()
    assert widget.form.values()["iterations"] == 30
    slicer.util.loadScene(str(path))
    process_events()
    again = slicer.util.getNode("atlas to patient (AVSM)")
    assert again.GetNodeReference("spatialRegistrationFixed").GetName() == "patient"
    assert slicer.util.getNode("atlas").GetParentTransformNode() is again
    found = [again.GetTransformFromParent().TransformPoint(point) for point in points]
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert widget.ui.alignmentComboBox.currentText == "Centres of mass"
    assert widget.form.values()["iterations"] == 11
    assert widget.ui.fixedSelector.currentNode().GetName() == "patient"
    assert widget.ui.numbersTable.rowCount > 5 and widget.ui.afterCheckBox.enabled


def test_swap_and_restore_defaults(open_pair):
    widget = open_pair()
    fixed, moving = widget.parameters.fixedVolume, widget.parameters.movingVolume
    widget.ui.swapButton.click()
    assert widget.ui.fixedSelector.currentNode() is moving and widget.ui.movingSelector.currentNode() is fixed
    field = widget.form._fields["time_steps"]._widget
    field.value = 25
    assert json.loads(widget.parameters.modelParameters)["avsm"]["time_steps"] == 25
    widget.ui.restoreDefaultsButton.click()
    assert field.value == 10 and json.loads(widget.parameters.modelParameters)["avsm"]["time_steps"] == 10


def test_a_switch_is_remembered_and_restored(open_pair):
    widget = open_pair(module="RegNetMASR")
    switch, detail = (widget.form._fields[name]._widget for name in ("diffeomorphic", "detail"))
    assert switch.checked and detail.text == "automatic"
    switch.click()
    detail.value = 1.5
    kept = json.loads(widget.parameters.modelParameters)["masr"]
    assert kept["diffeomorphic"] is False and kept["detail"] == 1.5 and detail.text == "1.50 mm"
    widget.exit()
    widget.enter()
    assert not switch.checked
    widget.ui.restoreDefaultsButton.click()
    assert switch.checked and detail.text == "automatic"
    assert json.loads(widget.parameters.modelParameters)["masr"]["diffeomorphic"] is True


def test_unreadable_settings_in_a_scene_are_no_harm(widget_factory):
    widget = widget_factory("RegNetAVSM")
    for text in ("not JSON", "[1, 2]", json.dumps({"avsm": {"similarity": "gone", "iterations": 12}})):
        widget.parameters.modelParameters = text
    assert widget.form.values()["similarity"] == "lncc" and widget.form.values()["iterations"] == 12


def test_home_module_offers_every_model(widget_factory):
    from regnet.models import MODEL_NAMES, get_info

    widget = widget_factory("RegNet")
    box = widget.ui.modelComboBox
    assert [box.itemText(index) for index in range(box.count)] == [get_info(name).title for name in MODEL_NAMES]
    assert box.isVisibleTo(widget.parent) and widget.ui.modelSummaryLabel.text == get_info("avsm").summary
    assert not widget_factory("RegNetAVSM").ui.modelComboBox.isVisibleTo(widget.parent)


def test_home_module_shows_the_parameters_of_one_model(widget_factory, process_events):
    from regnet.models import MODEL_NAMES, get_parameters

    widget = widget_factory("RegNet")
    layout = widget.ui.modelParametersFrame.layout()
    for name in (*MODEL_NAMES, MODEL_NAMES[0]):
        widget.ui.modelComboBox.currentIndex = MODEL_NAMES.index(name)
        process_events()
        forms = [layout.itemAt(index).widget() for index in range(layout.count())]
        assert [form.isVisibleTo(widget.parent) for form in forms].count(True) == 1
        assert widget.form.widget.isVisibleTo(widget.parent)
        assert widget.form.values() == get_parameters(name)().to_dict()


def test_demo_pair(widget_factory, scene):
    widget = widget_factory("RegNetAVSM")
    widget.ui.demoButton.click()
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["Patient T1", "Atlas T1"]
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled
    composite = scene.GetNthNodeByClass(0, "vtkMRMLSliceCompositeNode")
    assert composite.GetBackgroundVolumeID() == widget.parameters.fixedVolume.GetID()


def test_a_closed_panel_lets_go_of_everything(open_pair, scene, process_events):
    """After cleanup() nothing of the panel answers: neither its widgets, nor the scene, nor its parameter node."""
    widget = open_pair()
    parameters, seen = widget.parameters, []
    widget.cleanup()
    widget.run.refresh = widget.review.refresh = lambda: seen.append("refreshed")
    parameters.alignment = type(parameters.alignment)("rigid")
    for button in (widget.ui.applyButton, widget.ui.demoButton, widget.ui.swapButton, widget.ui.checkerboardButton):
        button.enabled = True
        button.click()
    scene.Clear(0)
    process_events()
    assert seen == [] and widget.parameters is None and not widget.client.is_busy()
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == []
    assert widget.ui.alignmentComboBox.currentText == "Automatic"
    widget.cleanup()
