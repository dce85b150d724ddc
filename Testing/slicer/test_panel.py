"""The panels, by their buttons: what they ask for, a run from Apply to result, and everything that can go wrong.

Most tests use the stand-in worker; :mod:`test_registration` runs the real one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import fake_worker
import numpy as np
import pytest
from volumes import GEOMETRIES, SHAPE, add_linear, add_volume, pattern, rigid

FAKE = Path(fake_worker.__file__)
MODULES = ("RegNet", "RegNetAVSM")


@pytest.fixture
def worker(scene, monkeypatch):
    """``worker(mode)``: panels opened from now on use the stand-in worker in that mode."""
    from RegNetLib import worker_client
    from RegNetLib.worker_process import WorkerProcess

    def use(mode: str):
        make = lambda: WorkerProcess([sys.executable, str(FAKE), use.mode])  # noqa: E731
        use.mode = mode
        if use.client is None:
            use.client = worker_client.WorkerClient(make)
            monkeypatch.setattr(worker_client, "_shared", use.client)
        else:
            use.client.stop()  # the next run starts a worker of the new mode
        return use.client

    use.client = None
    yield use
    if use.client is not None:
        use.client.stop()


@pytest.fixture
def open_pair(worker, widget_factory):
    """The panel with a fixed and a moving volume chosen, and the stand-in worker in ``mode``."""

    def make(mode: str = "shift", module: str = "RegNetAVSM"):
        worker(mode)
        widget = widget_factory(module)
        widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
        moving = pattern(shift=(1, 2, 3)).astype(np.int16)
        widget.ui.movingSelector.setCurrentNode(add_volume("atlas", moving, GEOMETRIES["oblique"]))
        return widget

    return make


@pytest.fixture
def apply(process_events):
    """Press Apply and wait for the end of the run."""

    def press(widget, timeout=30.0):
        assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled
        widget.ui.applyButton.click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=timeout)

    return press


def nodes(scene, kind: str) -> list[str]:
    return [scene.GetNthNodeByClass(index, kind).GetName() for index in range(scene.GetNumberOfNodesByClass(kind))]


def leftovers() -> list[Path]:
    import slicer

    return list(Path(slicer.app.temporaryPath).glob("regnet-*"))


# Opening


@pytest.mark.parametrize("module", MODULES)
def test_opens_quickly_and_without_torch(widget_factory, module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # any import of torch would fail
    started = time.process_time()
    widget = widget_factory(module)
    assert time.process_time() - started < 1.0
    assert widget.client.process_id() == 0  # no worker either
    assert widget.ui.applyButton.text == "Choose a fixed volume" and not widget.ui.applyButton.enabled


@pytest.mark.parametrize("module", MODULES)
def test_every_control_has_a_tooltip(widget_factory, module):
    import qt

    widget = widget_factory(module)
    silent = []
    for child in widget.ui.inputsSection.parent().findChildren(qt.QWidget):
        kinds = ("QAbstractButton", "QComboBox", "QSpinBox", "qMRMLNodeComboBox", "ctkSliderWidget", "QTableWidget")
        named = child.objectName and not child.objectName.startswith("qt_")
        if named and any(child.inherits(kind) for kind in kinds) and child.parent() is not None:
            inner = any(child.parent().inherits(kind) for kind in kinds[2:])
            if not child.toolTip and not inner:
                silent.append(child.objectName)
    assert silent == []


def test_parameter_widgets_take_their_ranges_from_the_model(widget_factory):
    from regnet.models import get_parameters

    widget = widget_factory("RegNetAVSM")
    defaults = get_parameters("avsm")().to_dict()
    assert widget.form.values() == defaults
    numbers = [entry for entry in get_parameters("avsm").describe() if entry["type"] in ("int", "float")]
    assert len(numbers) >= 5
    for entry in numbers:
        field = widget.form._fields[entry["name"]]._widget
        assert (field.minimum, field.maximum) == (entry["minimum"], entry["maximum"])


def test_alignments_are_those_of_the_core(scene):
    from regnet.align import ALIGNMENTS
    from RegNetLib.parameter_node import Alignment

    assert sorted(entry.value for entry in Alignment) == sorted(ALIGNMENTS)


# What is missing


def test_apply_says_what_is_missing(widget_factory):
    widget = widget_factory("RegNetAVSM")
    button = widget.ui.applyButton
    assert (button.text, button.enabled) == ("Choose a fixed volume", False)
    first, second = add_volume("patient"), add_volume("atlas", pattern(shift=(1, 2, 3)))
    widget.ui.fixedSelector.setCurrentNode(first)
    assert (button.text, button.enabled) == ("Choose a moving volume", False)
    widget.ui.movingSelector.setCurrentNode(first)
    assert button.text == "The fixed and the moving volume are the same" and not button.enabled
    assert button.toolTip.endswith("choose two different ones.")
    widget.ui.movingSelector.setCurrentNode(second)
    assert (button.text, button.enabled) == ("Apply", True)


def test_unusable_volumes_are_refused_in_one_sentence(widget_factory, scene):
    import slicer

    widget = widget_factory("RegNetAVSM")
    widget.ui.fixedSelector.setCurrentNode(add_volume("patient"))
    bad = {
        "Volume “nothing” is empty": scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing"),
        "Volume “grey” has the same value everywhere": add_volume("grey", np.full(SHAPE, 7.0, np.float32)),
        "Volume “thin” has only 56 × 48 × 9 voxels": add_volume("thin", pattern()[:9]),
        "One volume is a single slice and the other is not": add_volume("slice", pattern()[:1]),
        "Volume “colours” has 3 channels": slicer.util.addVolumeFromArray(
            np.zeros((*SHAPE, 3), np.uint8), name="colours", nodeClassName="vtkMRMLVectorVolumeNode"
        ),
    }
    for text, volume in bad.items():
        widget.parameters.movingVolume = volume
        assert widget.ui.applyButton.text.startswith(text)
        assert not widget.ui.applyButton.enabled


def test_output_must_not_overwrite_an_input(open_pair):
    widget = open_pair()
    widget.ui.createVolumeCheckBox.click()
    widget.ui.outputVolumeSelector.setCurrentNode(widget.parameters.fixedVolume)
    assert widget.ui.applyButton.text == "The resampled volume would overwrite the fixed volume"
    widget.ui.createVolumeCheckBox.click()
    assert widget.ui.applyButton.enabled


# A run


@pytest.mark.parametrize("module", MODULES)
def test_a_run_makes_one_transform_and_applies_it(open_pair, apply, scene, module):
    widget = open_pair(module=module)
    fixed, moving = widget.parameters.fixedVolume, widget.parameters.movingVolume
    before = nodes(scene, "vtkMRMLTransformNode")
    apply(widget)
    transform = widget.parameters.resultTransform
    assert nodes(scene, "vtkMRMLTransformNode") == [*before, "atlas to patient (AVSM)"]
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
    monkeypatch.setattr(worker_process.WorkerProcess, "send", lambda self, message: sent.append(message) or send(self, message))
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


# What goes wrong


def test_cancel_leaves_nothing(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.createVolumeCheckBox.click()
    count = scene.GetNumberOfNodes()
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)
    assert scene.GetNumberOfNodes() == count and leftovers() == []
    assert widget.parameters.movingVolume.GetTransformNodeID() is None
    assert widget.ui.statusLabel.text == "Cancelled; nothing was changed."
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled


@pytest.mark.parametrize("mode", ["crash", "refuse"])
def test_a_failure_keeps_the_previous_result(open_pair, apply, scene, worker, mode):
    widget = open_pair()
    apply(widget)
    transform, count = widget.parameters.resultTransform, scene.GetNumberOfNodes()
    point = transform.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0))
    worker(mode)
    apply(widget)
    expected = {"crash": "The registration worker stopped unexpectedly", "refuse": "The images do not overlap; move one."}
    assert widget.ui.statusLabel.text.startswith(expected[mode])
    assert widget.parameters.resultTransform is transform and scene.GetNumberOfNodes() == count
    assert transform.GetTransformFromParent().TransformPoint((10.0, 20.0, 30.0)) == point
    assert widget.parameters.movingVolume.GetTransformNodeID() == transform.GetID()
    assert leftovers() == []
    worker("shift")
    apply(widget)
    assert widget.ui.statusLabel.text.startswith("Done")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killing_the_worker_and_trying_again(open_pair, apply, process_events):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    os.kill(widget.client.process_id(), signal.SIGKILL)
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=10)
    assert "stopped unexpectedly" in widget.ui.statusLabel.text and widget.parameters.resultTransform is None
    apply(widget)
    assert widget.parameters.resultTransform is not None


def test_removing_an_input_during_a_run(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    scene.RemoveNode(widget.parameters.movingVolume)
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)
    assert "was removed meanwhile" in widget.ui.statusLabel.text
    assert widget.parameters.resultTransform is None and leftovers() == []


def test_closing_the_scene_during_a_run(open_pair, process_events, scene):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    scene.Clear(0)
    process_events(timeout=0.5)
    assert not widget.client.is_busy() and widget.client.process_id() == 0 and leftovers() == []
    assert not [name for name in nodes(scene, "vtkMRMLTransformNode") if "atlas" in name]
    assert widget.ui.applyButton.text == "Choose a fixed volume"
    assert not widget.ui.progressBar.isVisibleTo(widget.parent)


def test_closing_the_module_during_a_run(open_pair, process_events):
    widget = open_pair("slow")
    widget.ui.applyButton.click()
    assert process_events(until=lambda: widget.ui.progressBar.value > 100, timeout=20)
    client = widget.client
    widget.cleanup()
    assert not client.is_busy() and client.process_id() == 0 and leftovers() == []


def test_an_empty_mask_is_one_sentence(open_pair, scene):
    widget = open_pair()
    widget.ui.movingMaskSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn"))
    widget.ui.applyButton.click()
    assert widget.ui.statusLabel.text == "Mask “drawn” is empty; choose another one or none."
    assert not widget.client.is_busy() and leftovers() == []
    assert widget.ui.applyButton.text == "Apply"


def test_two_panels_share_one_worker(open_pair, widget_factory, process_events):
    widget = open_pair("slow")
    other = widget_factory("RegNet")
    other.ui.fixedSelector.setCurrentNode(widget.parameters.fixedVolume)
    other.ui.movingSelector.setCurrentNode(widget.parameters.movingVolume)
    widget.ui.applyButton.click()
    other.run.refresh()
    assert other.ui.applyButton.text == "Another RegNet panel is running a registration" and not other.ui.applyButton.enabled
    widget.ui.applyButton.click()
    assert process_events(until=lambda: not widget.client.is_busy(), timeout=5)
    other.run.refresh()
    assert other.ui.applyButton.enabled


# What is remembered


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


def test_demo_pair(widget_factory, scene):
    widget = widget_factory("RegNetAVSM")
    widget.ui.demoButton.click()
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["Patient T1", "Atlas T1"]
    assert widget.ui.applyButton.text == "Apply" and widget.ui.applyButton.enabled
    composite = scene.GetNthNodeByClass(0, "vtkMRMLSliceCompositeNode")
    assert composite.GetBackgroundVolumeID() == widget.parameters.fixedVolume.GetID()


def test_demo_pair_is_in_sample_data(module_factory):
    import SampleData

    module_factory("RegNet")
    sources = [source for source in SampleData.SampleDataLogic.sources if source["category"] == "RegNet"]
    assert sources and Path(sources[0]["thumbnailFileName"]).is_file()
    assert [node.GetName() for node in sources[0]["customDownloader"](None)] == sources[0]["nodeNames"]
