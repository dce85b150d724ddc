"""The panel that reviews any transform: two volumes, the transform, and the registration panels' own Review section."""

from __future__ import annotations

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTransformNode
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .judge_section import JudgeSection
from .result_nodes import FIXED, MOVING
from .review import ReviewSection
from .review_subject import TransformSubject
from .worker_client import shared_client


@parameterNodeWrapper
class ReviewParameterNode:
    """Names are those of the widgets' ``SlicerParameterName``, and of the registration panels' parameters."""

    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    resultTransform: vtkMRMLTransformNode


class ReviewLogic(ScriptedLoadableModuleLogic):
    """Keeps the panel's parameter node; the module derives its own, whose class name gives the node its name."""

    def getParameterNode(self) -> ReviewParameterNode:
        return ReviewParameterNode(super().getParameterNode())


class ReviewPanel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Base of the module's widget, which returns its logic and names its .ui file."""

    PANEL_UI = ""

    def __init__(self, parent=None) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.ui = None
        self.parameters: ReviewParameterNode | None = None
        self.client = shared_client()
        self._gui_tag = None
        self._chosen = None
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup()

    def make_logic(self) -> ReviewLogic:
        raise NotImplementedError

    def setup(self) -> None:
        super().setup()
        self.logic = self.make_logic()
        panel = slicer.util.loadUI(self.resourcePath(self.PANEL_UI))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        subject = TransformSubject(self._get_parameters)
        self.review = ReviewSection(self.ui, subject)
        self.judge = JudgeSection(self.ui, self.client, subject, self.review)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self.on_scene_ready)
        self.addObserver(scene, scene.StartImportEvent, self.on_scene_start_import)
        self.addObserver(scene, scene.EndImportEvent, self.on_scene_ready)
        self._observe_parameters()

    def cleanup(self) -> None:
        if self.ui is None:
            return
        self.judge.close()
        self.review.close()
        self._forget_parameters()
        self.removeObservers()

    def enter(self) -> None:
        self._observe_parameters()
        self.judge.refresh()  # torch may have been installed meanwhile, volumes changed
        self.review.resume()

    def exit(self) -> None:
        """Another module is shown: nothing of this one stays in the slice views."""
        self.review.suspend()

    def on_scene_start_close(self, *_arguments) -> None:
        self.judge.abandon()
        self.review.suspend()
        self._forget_parameters()

    def on_scene_start_import(self, *_arguments) -> None:
        """While nodes arrive one by one, the selectors would overwrite what the scene says of them."""
        self._forget_parameters()

    def on_scene_ready(self, *_arguments) -> None:
        if self.parent.isEntered or self.judge.is_running():
            self._observe_parameters()

    def _observe_parameters(self) -> None:
        if self.parameters is not None:
            return
        self.parameters = self.logic.getParameterNode()
        self._gui_tag = self.parameters.connectGui(self.ui)
        self._chosen = self.parameters.resultTransform
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified)
        self._on_parameters_modified()

    def _forget_parameters(self) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(
                self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified
            )
        self.parameters = self._gui_tag = self._chosen = None
        self._refresh_sections()

    def _on_parameters_modified(self, *_arguments) -> None:
        if self.parameters is None:
            return
        self._follow_transform()
        self._refresh_sections()

    def _follow_transform(self) -> None:
        """A transform that knows its volumes brings them along where none are chosen."""
        transform, before = self.parameters.resultTransform, self._chosen
        self._chosen = transform
        if transform is None or transform is before:
            return
        with slicer.util.NodeModify(self.parameters):
            if self.parameters.fixedVolume is None and transform.GetNodeReference(FIXED) is not None:
                self.parameters.fixedVolume = transform.GetNodeReference(FIXED)
            if self.parameters.movingVolume is None and transform.GetNodeReference(MOVING) is not None:
                self.parameters.movingVolume = transform.GetNodeReference(MOVING)

    def _refresh_sections(self) -> None:
        self.review.refresh()
        self.judge.refresh()

    def _get_parameters(self) -> ReviewParameterNode | None:
        return self.parameters
