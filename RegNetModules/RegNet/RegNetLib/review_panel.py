"""The panel that reviews any transform: two volumes, the transform, and the registration panels' own Review section."""

from __future__ import annotations

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTransformNode
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .judge_section import JudgeSection
from .result_nodes import FIXED, MOVING
from .review import ReviewSection
from .review_subject import TransformSubject
from .scene_panel import ScenePanel


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


class ReviewPanel(ScenePanel):
    """Base of the module's widget, which returns its logic and names its .ui file."""

    PANEL_UI = ""

    def panel_ui(self) -> str:
        return self.resourcePath(self.PANEL_UI)

    def make_sections(self, panel) -> None:
        self._chosen = None
        subject = TransformSubject(self._get_parameters)
        self.review = ReviewSection(self.ui, subject)
        self.judge = JudgeSection(self.ui, self.client, subject, self.review)

    def jobs(self) -> tuple:
        return (self.judge,)

    def close_sections(self) -> None:
        self.review.close()

    def enter(self) -> None:
        super().enter()
        self.judge.refresh()  # torch may have been installed meanwhile, volumes changed
        self.review.resume()

    def suspend(self) -> None:
        self.review.suspend()

    def _begin_parameters(self) -> None:
        self._chosen = self.parameters.resultTransform

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
