"""A run by the panel's buttons, from Apply to the result."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from traces import leftovers, nodes
from volumes import SHAPE, add_linear, add_volume, pattern, rigid

MODULES = {
    "RegNet": "AVSM",
    "RegNetAVSM": "AVSM",
    "RegNetMASR": "MASR-Net",
    "RegNetDDIM": "DDIM",
    "RegNetDeformGAN": "Deform-GAN",
    "RegNetBSAFusion": "BSAFusion",
}
"""And what each calls the model that it opens with."""


@pytest.mark.parametrize("module", MODULES)
def test_a_run_makes_one_transform_and_applies_it(open_pair, apply, scene, module):
    widget = open_pair(module=module)
    if module == "RegNetBSAFusion":  # what it makes besides has tests of its own
        widget.form._fields["fusion"]._widget.currentText = "Off"
    fixed, moving = widget.parameters.fixedVolume, widget.parameters.movingVolume
    before = nodes(scene, "vtkMRMLTransformNode")
    apply(widget)
    transform = widget.parameters.resultTransform
    assert nodes(scene, "vtkMRMLTransformNode") == [*before, f"atlas to patient ({MODULES[module]})"]
    assert transform.GetNodeReference("spatialRegistrationFixed") is fixed
    assert transform.GetNodeReference("spatialRegistrationMoving") is moving
    assert moving.GetTransformNodeID() == transform.GetID()
    assert widget.ui.transformSelector.currentNode() is transform
    assert widget.ui.applyButton.text == "Apply" and not widget.ui.progressBar.visible
    assert widget.ui.statusLabel.text == "Done in 1.5 s.\nA test warning."
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas"]
    assert leftovers() == []


def test_the_numbers_are_shown_and_stay_with_the_result(open_pair, apply):
    widget = open_pair()
    assert not widget.ui.resultSection.isVisibleTo(widget.parent)
    apply(widget)
    table = widget.ui.numbersTable
    shown = {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount)}
    assert shown["Similarity"] == "0.500 → 0.900"
    assert shown["Folding"] == "0.0000 %" and shown["Peak memory"] == "321 MB"
    assert shown["Time"] == "1.5 s (align 0.5)"
    assert shown["Working grid"] == "56 × 48 × 40, 1.00 × 1.00 × 1.00 mm"
    assert shown["Weights"] == "none: optimised on this pair" and shown["Warnings"] == "A test warning."
    widget.ui.transformSelector.setCurrentNode(None)
    assert not widget.ui.resultSection.isVisibleTo(widget.parent)


def test_the_button_becomes_cancel_and_progress_is_shown(open_pair, process_events):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert widget.ui.applyButton.text == "Cancel" and widget.ui.applyButton.enabled
    assert widget.ui.progressBar.isVisibleTo(widget.parent)
    for section in ("inputsSection", "alignmentSection", "modelSection", "outputSection"):
        assert not getattr(widget.ui, section).enabled
    assert process_events(until=lambda: widget.ui.progressBar.value > 50, timeout=20)
    assert widget.ui.statusLabel.text.startswith(("Registration", "register"))
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)
    assert widget.ui.inputsSection.enabled


def test_the_window_stays_alive_during_a_run(open_pair, process_events):
    """Twenty timer ticks a second arrive while the worker works."""
    import qt

    widget, ticks = open_pair("slow"), []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start(10)
    widget.ui.applyButton.click()
    ticks.clear()
    process_events(timeout=1.5)
    timer.stop()
    assert len(ticks) > 20 and max(np.diff(ticks)) < 0.5
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)


def test_resampled_volume(open_pair, apply):
    import slicer

    widget = open_pair()
    widget.ui.applyCheckBox.click()
    widget.ui.createVolumeCheckBox.click()
    apply(widget)
    fixed, moving = widget.parameters.fixedVolume, widget.parameters.movingVolume
    output = widget.parameters.outputVolume
    assert moving.GetTransformNodeID() is None  # the box was taken off
    assert output.GetName() == "atlas on patient" and output.GetTransformNodeID() is None
    array = slicer.util.arrayFromVolume(output)
    assert array.dtype == np.int16 and array.shape == SHAPE  # the moving volume's kind on the fixed one's grid
    np.testing.assert_array_equal(array, np.rint(slicer.util.arrayFromVolume(fixed) + 0.25).astype(np.int16))
    place = [slicer.util.vtkMatrixFromArray(np.eye(4)) for _ in range(2)]
    fixed.GetIJKToRASMatrix(place[0])
    output.GetIJKToRASMatrix(place[1])
    np.testing.assert_allclose(*map(slicer.util.arrayFromVTKMatrix, place), atol=1e-6)


def test_request_has_the_chosen_options(open_pair, process_events, scene, monkeypatch):
    """What the widgets show is what the worker is asked."""
    from regnet.protocol import parse_request
    from RegNetLib import worker_process

    widget = open_pair()
    sent = []
    send = worker_process.WorkerProcess.send

    def watched(self, message):
        sent.append(message)
        send(self, message)

    monkeypatch.setattr(worker_process.WorkerProcess, "send", watched)
    labels = add_volume("inside", (pattern() > 50).astype(np.uint8))
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    mask.CopyContent(labels)
    widget.ui.fixedMaskSelector.setCurrentNode(mask)
    widget.ui.alignmentComboBox.currentText = "Rigid"
    widget.ui.refinementComboBox.currentText = "Number of steps"
    widget.ui.refineStepsSpinBox.value = 12
    widget.ui.deviceComboBox.currentText = "Processor (CPU)"
    widget.ui.seedSpinBox.value = 7
    widget.form._fields["iterations"]._widget.value = 5
    widget.form._fields["similarity"]._widget.currentIndex = 1
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    request = parse_request(json.dumps(sent[0]))
    assert (request.align, request.refine, request.device, request.seed) == ("rigid", 12, "cpu", 7)
    assert request.model == "avsm"
    assert request.parameters["iterations"] == 5 and request.parameters["similarity"] == "mk-lncc"
    assert request.fixed_mask is not None and request.moving_mask is None
    assert request.fixed.index_to_world[0][0] == -1.0  # left-posterior-superior


def test_every_kind_of_parameter_reaches_the_request(open_pair, process_events, monkeypatch):
    """Choices, numbers and switches, set in the widgets as a user would."""
    from RegNetLib import worker_process

    widget = open_pair(module="RegNetMASR")
    sent = []
    send = worker_process.WorkerProcess.send

    def watched(self, message):
        sent.append(message)
        send(self, message)

    monkeypatch.setattr(worker_process.WorkerProcess, "send", watched)
    fields = {name: field._widget for name, field in widget.form._fields.items()}
    fields["descriptor"].currentText = "MIND-SSC (no trained weights)"
    fields["start"].currentText = "Alignment alone"
    fields["reach"].value = 30.0
    fields["detail"].value = 2.5
    fields["iterations"].value = 12
    fields["diffeomorphic"].click()
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    assert sent[0]["model"] == "masr"
    assert sent[0]["parameters"] == {
        "descriptor": "mind", "regularization": 1.0, "reach": 30.0, "weights": "general", "start": "none",
        "iterations": 12, "diffeomorphic": False, "detail": 2.5,
    }  # fmt: skip


def test_a_second_run_starts_from_the_original_position(open_pair, apply, scene):
    """The moving volume wears the first result then: it must not be registered twice."""
    widget = open_pair()
    moving = widget.parameters.movingVolume
    parent = add_linear("table", rigid((0, 0, 10), (1, 2, 3)))
    moving.SetAndObserveTransformNodeID(parent.GetID())
    from RegNetLib.inputs import placing_parent

    apply(widget)
    first = widget.parameters.resultTransform
    assert placing_parent(moving) is parent
    apply(widget)
    assert widget.parameters.resultTransform is first  # the chosen output is overwritten, as everywhere in Slicer
    assert placing_parent(moving) is parent
    widget.ui.transformSelector.setCurrentNode(None)
    apply(widget)
    second = widget.parameters.resultTransform
    assert second is not first and second.GetName() == "atlas to patient (AVSM)_1"
    assert placing_parent(moving) is parent
    widget.ui.afterCheckBox.click()
    assert moving.GetTransformNodeID() == parent.GetID()
    widget.ui.afterCheckBox.click()
    assert moving.GetTransformNodeID() == second.GetID()


def test_a_registered_volume_as_the_fixed_one_is_taken_where_it_is_seen(open_pair, apply, monkeypatch):
    """After a swap the former moving volume still wears its result: that is where the user sees it."""
    from RegNetLib import conversion, run_section

    widget = open_pair()
    apply(widget)
    atlas, transform = widget.parameters.movingVolume, widget.parameters.resultTransform
    widget.ui.swapButton.click()
    widget.ui.transformSelector.setCurrentNode(None)
    sent = []
    build = run_section.build_request
    monkeypatch.setattr(run_section, "build_request", lambda *given: sent.append(build(*given)) or sent[-1])
    apply(widget)
    seen = conversion.volume_to_array(atlas, transform).index_to_world
    np.testing.assert_allclose(sent[0]["fixed"]["index_to_world"], seen)
    assert np.abs(seen - conversion.volume_to_array(atlas).index_to_world).max() > 0.5


def test_deformation_grid(open_pair, apply, scene, grab_slice):
    """The grid is drawn over the slice views in colour, and goes away again."""
    widget = open_pair()
    assert not widget.ui.gridCheckBox.enabled
    apply(widget)

    def coloured() -> int:
        picture = grab_slice("Red").astype(int)[20:-20, 20:-20]
        return int((np.ptp(picture, axis=-1) > 40).sum())

    assert coloured() == 0
    widget.ui.gridCheckBox.click()
    display = widget.parameters.resultTransform.GetDisplayNode()
    assert display.GetVisibility2D() and coloured() > 300
    widget.ui.gridCheckBox.click()
    assert not display.GetVisibility2D() and coloured() == 0
    visible = [scene.GetNthNodeByClass(i, "vtkMRMLProceduralColorNode") for i in range(9)]
    assert all(node.GetHideFromEditors() for node in visible if node is not None and "RegNet" in node.GetName())
