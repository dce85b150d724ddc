"""The host's scene, views, files, modules and package management (host/README.md)."""

from __future__ import annotations

import enum
import time
from pathlib import Path
from typing import Annotated, Optional, Union

import numpy as np
import pytest
from host.blocks import SHAPE, add_block

EXAMPLE = Path(__file__).resolve().parent / "example_module"


@pytest.fixture
def example(widget_factory):
    return widget_factory("ExampleModule", EXAMPLE)


def test_a_module_opens_runs_and_closes_as_in_slicer(scene, module_factory, widget_factory):
    import ExampleModule
    import SampleData
    import slicer

    ExampleModule.events.clear()
    module = module_factory("ExampleModule", EXAMPLE)
    assert (module.title, slicer.modules.examplemodule.name) == ("Example", "ExampleModule")
    sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("Example")
    assert [source.sampleName for source in sources] == ["ExampleData"]
    widget = widget_factory("ExampleModule", EXAMPLE)
    assert ExampleModule.events == ["setup", "enter"]
    assert slicer.util.getModuleWidget("ExampleModule") is widget
    assert widget.parent.isEntered is True
    assert slicer.util.modulePath("ExampleModule").endswith("ExampleModule.py")
    slicer.util.selectModule("Data")
    assert ExampleModule.events == ["setup", "enter", "exit"]
    slicer.util.selectModule("ExampleModule")
    assert slicer.util.selectedModule() == "ExampleModule"
    slicer.selfTests["ExampleModule"](msec=1)


@pytest.fixture(autouse=True)
def importable(module_factory):
    module_factory("ExampleModule", EXAMPLE)


def test_cleanup_is_called_when_the_panel_goes(request, scene, widget_factory):
    import ExampleModule
    import slicer

    widget_factory("ExampleModule", EXAMPLE)
    ExampleModule.events.clear()
    slicer.app.moduleManager().module("ExampleModule")._native._close_widget()
    assert ExampleModule.events == ["exit", "cleanup"]


def test_clicking_the_button_does_the_work(scene, example):
    volume = add_block("block")
    assert example.ui.applyButton.enabled is False
    assert example.ui.applyButton.toolTip == "Select a volume"
    example.ui.inputSelector.setCurrentNode(volume)
    assert example.ui.applyButton.enabled is True
    example.ui.applyButton.click()
    assert example.ui.resultLabel.text == str(8 * 12 * 14)


def test_widgets_and_parameter_node_follow_each_other(scene, example):
    parameters = example.logic.getParameterNode()
    example.ui.thresholdSlider.value = 4.5
    example.ui.modeBox.currentText = "slow"
    example.ui.verboseBox.click()
    example.ui.labelEdit.text = "mine"
    assert (parameters.threshold, parameters.mode, parameters.verbose, parameters.label) == (4.5, "slow", False, "mine")
    parameters.count = 7
    assert example.ui.countBox.value == 7
    with pytest.raises(ValueError, match="within range"):
        parameters.threshold = 11.0
    with pytest.raises(TypeError):
        parameters.verbose = 1


def test_closing_the_scene_resets_the_panel(scene, example):
    example.ui.inputSelector.setCurrentNode(add_block("block"))
    example.ui.countBox.value = 8
    scene.Clear(0)
    assert example.ui.inputSelector.currentNode() is None
    assert example.ui.countBox.value == 3
    assert example.ui.applyButton.enabled is False


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_parameters_survive_a_saved_scene(scene, example, tmp_path, ending):
    import slicer

    volume = add_block("kept")
    parameters = example.logic.getParameterNode()
    parameters.inputVolume, parameters.threshold, parameters.mode, parameters.label = volume, 7.5, "slow", "ä b"
    path = str(tmp_path / f"scene.{ending}")
    if ending == "mrml":
        assert slicer.util.saveNode(volume, str(tmp_path / "kept.nrrd"))
    assert slicer.util.saveScene(path)
    scene.Clear(0)
    assert example.logic.getParameterNode().threshold == 2.5
    slicer.util.loadScene(path)
    found = example.logic.getParameterNode()
    assert (found.threshold, found.mode, found.label, found.inputVolume.GetName()) == (7.5, "slow", "ä b", "kept")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(found.inputVolume)[10, 10, 10:12], [100.0, 100.0])


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


def test_every_parameter_type_is_kept(scene):
    import slicer
    from slicer.parameterNodeWrapper import Default, FloatRange, RangeBounds, parameterNodeWrapper

    Types = type("Types", (), {"colour": Colour.BLUE, "pair": (1, 2.5), "folder": Path("here")})
    Types.__annotations__ = {
        "colour": Colour,
        "names": list[str],
        "pair": tuple[int, float],
        "folder": Path,
        "limits": Annotated[FloatRange, RangeBounds(0.0, 10.0), Default(FloatRange(1.0, 2.0))],
        # Slicer 5.10 does not take `int | None`, as the end of this test says.
        "maybe": Optional[int],  # noqa: UP045
        "node": Union[slicer.vtkMRMLModelNode, slicer.vtkMRMLScalarVolumeNode, None],  # noqa: UP007
    }
    wrapped = parameterNodeWrapper(Types)
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    first = wrapped(node)
    assert (first.colour, list(first.names), first.pair, first.folder, first.maybe, first.node) == (
        Colour.BLUE, [], (1, 2.5), Path("here"), None, None,
    )  # fmt: skip
    first.colour, first.pair, first.maybe, first.node = Colour.RED, (4, 0.5), 9, add_block("v")
    first.names.append("one")
    first.limits = FloatRange(3.0, 4.0)
    again = wrapped(node)
    assert (again.colour, again.pair, again.maybe, again.node.GetName(), again.names) == (
        Colour.RED,
        (4, 0.5),
        9,
        "v",
        ["one"],
    )
    assert again.limits == FloatRange(3.0, 4.0)
    with pytest.raises(ValueError, match="Range must be within"):
        first.limits = FloatRange(3.0, 40.0)
    Types.__annotations__ = {"maybe": int | None}
    with pytest.raises(TypeError, match="Unable to create serializer"):
        parameterNodeWrapper(Types)


def test_node_combo_boxes_follow_the_scene(scene):
    import slicer

    chosen, optional = slicer.qMRMLNodeComboBox(), slicer.qMRMLNodeComboBox()
    optional.noneEnabled = True
    for box in (chosen, optional):
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        box.setMRMLScene(scene)
    changes = []
    chosen.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: changes.append(node.GetName() if node else None))
    validity = []
    chosen.connect("currentNodeChanged(bool)", validity.append)
    first = add_block("first")
    assert (chosen.currentNode() is first, optional.currentNode(), changes, validity) == (True, None, ["first"], [True])
    second = add_block("second")
    scene.AddNewNodeByClass("vtkMRMLModelNode", "model")
    assert (chosen.nodeCount(), optional.nodeCount(), chosen.currentNode() is first) == (2, 2, True)
    optional.currentNodeID = second.GetID()
    second.SetName("renamed")
    assert optional._native._combo.currentText() == "renamed"
    first.SetHideFromEditors(True)
    first.Modified()
    assert (chosen.nodeCount(), chosen.currentNode() is second) == (1, True)
    scene.RemoveNode(second)
    assert (chosen.currentNode(), optional.currentNode(), changes) == (None, None, ["first", "renamed", None])
    labels = slicer.qMRMLNodeComboBox()
    labels.setMRMLScene(scene)
    labels.nodeTypes = ("vtkMRMLLinearTransformNode",)
    labels.baseName = "Result"
    assert labels.addNode().GetName() == "Result"
    assert labels.currentNode().GetName() == "Result"


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nrrd"])
def test_volumes_are_saved_and_loaded(scene, tmp_path, name):
    import slicer

    volume = add_block("scan")
    path = tmp_path / name
    assert slicer.util.saveNode(volume, str(path))
    scene.Clear(0)
    loaded = slicer.util.loadVolume(str(path))
    assert loaded.GetName() == "scan"
    assert slicer.util.arrayFromVolume(loaded).shape == SHAPE
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == loaded.GetID()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


def test_installations_are_recorded_never_run(scene, messages, slicer_host):
    import PyTorchUtils
    import slicer
    import slicer.packaging
    from host import packaging

    messages.answer = False
    assert PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None
    missing = slicer.packaging.pip_check("no-such-package-anywhere>=1")
    assert (missing, slicer.packaging.pip_check("numpy>=1.20"), packaging.installations) == (False, True, [])
    with pytest.raises(RuntimeError):
        slicer.packaging.pip_ensure("no-such-package-anywhere", skip_in_testing=False, requester="Test")
    assert len(messages.questions) == 2
    slicer.util.pip_install("something")
    assert packaging.installations == [("pip", "something")]


def test_events_are_waited_for_not_slept(process_events):
    import qt

    start, rung = time.monotonic(), []
    qt.QTimer.singleShot(50, lambda: rung.append(1))
    assert process_events(until=lambda: rung, timeout=5.0)
    assert time.monotonic() - start < 4.0
    assert process_events(until=lambda: False, timeout=0.05) is False
