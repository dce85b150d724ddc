"""A panel when it opens, and what it asks for before it can run."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from volumes import SHAPE, add_linear, add_volume, pattern, rigid

MODELS = {
    "RegNetAVSM": "avsm",
    "RegNetMASR": "masr",
    "RegNetDDIM": "ddim",
    "RegNetDeformGAN": "deformgan",
    "RegNetBSAFusion": "bsafusion",
}
MODULES = ("RegNet", *MODELS, "RegNetPropagation", "RegNetReview")


@pytest.mark.parametrize("module", MODULES)
def test_opens_quickly_and_without_torch(widget_factory, module, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # any import of torch would fail
    started = time.process_time()
    widget = widget_factory(module)
    assert time.process_time() - started < 1.0
    assert widget.client.process_id() == 0  # no worker either
    if module == "RegNetReview":
        assert widget.ui.judgeButton.toolTip == "Choose a fixed volume." and not widget.ui.judgeButton.enabled
        return
    if module == "RegNetReview":
        assert widget.ui.judgeButton.toolTip == "Choose a fixed volume." and not widget.ui.judgeButton.enabled
        return
    first = "Choose the scan that was segmented" if module == "RegNetPropagation" else "Choose a fixed volume"
    assert widget.ui.applyButton.text == first and not widget.ui.applyButton.enabled


@pytest.mark.parametrize("module", MODULES)
def test_every_control_has_a_tooltip(widget_factory, module):
    import qt

    widget = widget_factory(module)
    silent = []
    for child in widget.ui.inputsSection.parent().findChildren(qt.QWidget):
        kinds = ("QAbstractButton", "QComboBox", "QSpinBox", "qMRMLNodeComboBox", "ctkSliderWidget")
        kinds += ("QTableWidget", "QListWidget")
        named = child.objectName and not child.objectName.startswith("qt_")
        if named and any(child.inherits(kind) for kind in kinds) and child.parent() is not None:
            inner = any(child.parent().inherits(kind) for kind in kinds[2:])
            if not child.toolTip and not inner:
                silent.append(child.objectName)
    assert silent == []


@pytest.mark.parametrize("module", MODELS)
def test_parameter_widgets_take_their_ranges_from_the_model(widget_factory, module):
    from regnet.models import get_parameters

    parameters, widget = get_parameters(MODELS[module]), widget_factory(module)
    assert widget.form.values() == parameters().to_dict()
    numbers = [entry for entry in parameters.describe() if entry["type"] in ("int", "float")]
    assert numbers
    for entry in numbers:
        field = widget.form._fields[entry["name"]]._widget
        assert (field.minimum, field.maximum) == (entry["minimum"], entry["maximum"])


@pytest.mark.parametrize("module", MODELS)
def test_rare_parameters_are_folded_away(widget_factory, module):
    """What the model calls advanced, and nothing else, is inside the folded section."""
    from regnet.models import get_parameters

    widget = widget_factory(module)
    for entry in get_parameters(MODELS[module]).describe():
        field = widget.form._fields[entry["name"]]._widget
        inside = field.parent().objectName == "advancedSection"
        assert inside == entry["advanced"], entry["name"]
        assert not inside or field.parent().collapsed


@pytest.mark.parametrize("module", MODELS)
def test_lengths_show_their_unit(widget_factory, module):
    from regnet.models import get_parameters

    widget = widget_factory(module)
    for entry in get_parameters(MODELS[module]).describe():
        if entry["unit"]:
            assert widget.form._fields[entry["name"]]._widget.suffix == f" {entry['unit']}", entry["name"]


def test_alignments_are_those_of_the_core(scene):
    from regnet.align import ALIGNMENTS
    from RegNetLib.parameter_node import Alignment

    assert sorted(entry.value for entry in Alignment) == sorted([*ALIGNMENTS, "auto"])


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


def test_output_must_not_be_what_an_input_stands_on(open_pair):
    widget = open_pair()
    table = add_linear("table", rigid((0, 0, 10)))
    cushion = add_linear("cushion", rigid((0, 5, 0)), table)
    widget.parameters.fixedVolume.SetAndObserveTransformNodeID(cushion.GetID())
    widget.ui.transformSelector.setCurrentNode(table)
    assert widget.ui.applyButton.text == "Transform “table” places volume “patient”"
    widget.ui.transformSelector.setCurrentNode(None)
    assert widget.ui.applyButton.enabled
