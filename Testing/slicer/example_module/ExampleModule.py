"""A small scripted module in the usual shape: the host's own tests open it as they would a shipped one."""

from __future__ import annotations

from typing import Annotated

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

events: list[str] = []


class ExampleModule(ScriptedLoadableModule):
    """Metadata."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Example")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        self.parent.contributors = ["RegNet"]
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data() -> None:
    """Called when Slicer has started."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Example", sampleName="ExampleData", uris="https://example.org/a.nrrd"
    )


@parameterNodeWrapper
class ExampleModuleParameterNode:
    """One parameter of each kind of widget."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(0.0, 10.0)] = 2.5
    count: Annotated[int, WithinRange(1, 9)] = 3
    mode: Annotated[str, Choice(["slow", "fast"])] = "fast"
    verbose: bool = True
    label: str = "untitled"


class ExampleModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._gui_tag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ExampleModule.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ExampleModuleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        events.append("setup")

    def enter(self) -> None:
        events.append("enter")
        self._connect()

    def exit(self) -> None:
        events.append("exit")
        self._disconnect()

    def cleanup(self) -> None:
        events.append("cleanup")
        self.removeObservers()

    def onSceneStartClose(self, caller, event) -> None:
        self._disconnect()

    def onSceneEndClose(self, caller, event) -> None:
        if self.parent.isEntered:
            self._connect()

    def _connect(self) -> None:
        self._parameters = self.logic.getParameterNode()
        self._gui_tag = self._parameters.connectGui(self.ui)
        self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._check)
        self._check()

    def _disconnect(self) -> None:
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self._check)
        self._parameters = None

    def _check(self, caller=None, event=None) -> None:
        ready = self._parameters.inputVolume is not None
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Count the voxels") if ready else _("Select a volume")

    def onApplyButton(self) -> None:
        self.ui.resultLabel.text = str(self.logic.process(self._parameters.inputVolume, self._parameters.threshold))


class ExampleModuleLogic(ScriptedLoadableModuleLogic):
    """The work."""

    def getParameterNode(self):
        return ExampleModuleParameterNode(super().getParameterNode())

    def process(self, volume, threshold: float) -> int:
        """The number of voxels above a threshold."""
        return int((slicer.util.arrayFromVolume(volume) > threshold).sum())


class ExampleModuleTest(ScriptedLoadableModuleTest):
    """The self-test that Slicer's developer mode offers."""

    def runTest(self) -> None:
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        import numpy as np

        slicer.util.updateVolumeFromArray(volume, np.arange(24.0).reshape(2, 3, 4))
        self.assertEqual(ExampleModuleLogic().process(volume, 20.0), 3)
        self.delayDisplay("passed", 50)
