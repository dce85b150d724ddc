"""The panel of every RegNet module: a module names its model and adds its own parameters, everything else is here."""

from __future__ import annotations

import logging
from pathlib import Path

import slicer
from regnet.models import get_info
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .connections import Connections
from .correct_section import CorrectSection
from .fuse_section import FuseSection
from .history_section import HistorySection
from .judge_section import JudgeSection
from .live_preview import put_all_back
from .model_section import ModelSection
from .parameter_form import ParameterForm
from .parameter_node import PanelParameterNode
from .region_section import RegionSection
from .result_section import ResultSection
from .review import ReviewSection
from .review_subject import PanelSubject
from .run_section import RunSection
from .sample_data import demo_folder, load_demo_pair
from .scene_panel import ScenePanel

PANEL_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetPanel.ui"


class PanelLogic(ScriptedLoadableModuleLogic):
    """Keeps a panel's parameter node; each module derives its own, whose class name gives the node its name."""

    def getParameterNode(self) -> PanelParameterNode:
        return PanelParameterNode(super().getParameterNode())


class RegistrationPanel(ScenePanel):
    """Base of the modules' widgets. A derived class sets ``MODEL`` and ``PARAMETERS_UI`` and returns its logic."""

    MODEL: str = ""
    """Name of the model in ``regnet.models``; empty lets the user choose."""
    TWO_CONTRASTS: bool = False
    """Whether the demo pair should be of two contrasts, because the model is made for them."""
    PARAMETERS_UI: str = ""
    """The module's .ui file for the model's parameters (object names are parameter names); empty makes the widgets."""

    def panel_ui(self) -> str:
        return str(PANEL_UI)

    def make_sections(self, panel) -> None:
        self.ui.demoButton.visible = demo_folder() is not None
        load = self._load_parameters_ui if self.PARAMETERS_UI else None
        self.model = ModelSection(self.ui, self._get_parameters, choose=not self.MODEL, load=load)
        self.region = RegionSection(self.ui, self._get_parameters, self._on_region_changed)
        panel.layout().insertWidget(panel.layout().indexOf(self.ui.inputsSection) + 1, self.region.widget)
        self.result = ResultSection(self.ui)
        self.fuse = FuseSection(self.ui, self.client, self._get_parameters, self._on_fused)
        subject = PanelSubject(self._get_parameters)
        self.review = ReviewSection(self.ui, subject)
        self.judge = JudgeSection(self.ui, self.client, subject, self.review)
        self.run = RunSection(
            self.ui, self.client, self._get_parameters, self._get_model, self._on_result, self.review.show_moving
        )
        self.history = HistorySection(self.client, self._get_parameters, self.model, self._show_result)
        panel.layout().insertWidget(panel.layout().indexOf(self.ui.resultSection) + 1, self.history.widget)
        self.correct = CorrectSection(self.ui, self.client, self._get_parameters, self._on_result)
        panel.layout().insertWidget(panel.layout().indexOf(self.ui.resultSection) + 1, self.correct.widget)
        self.connections = Connections()
        self.connections.add(self.ui.demoButton, "clicked()", self.on_demo)
        self.connections.add(self.ui.swapButton, "clicked()", self.on_swap)

    @property
    def form(self) -> ParameterForm:
        """The shown model's parameters."""
        return self.model.form

    def model_to_warm(self) -> str:
        return self.parameters.model

    def jobs(self) -> tuple:
        return self.run, self.fuse, self.judge, self.correct

    def close_sections(self) -> None:
        for section in (self.review, self.history, self.model, self.region, self.connections):
            section.close()

    def enter(self) -> None:
        super().enter()
        self.run.resume()
        self.region.refresh()  # segments may have been added meanwhile
        self.run.refresh()
        self.fuse.refresh()  # weights, or torch, may have been installed meanwhile
        self.judge.refresh()
        self.review.resume()

    def exit(self) -> None:
        self.run.suspend()  # its preview
        super().exit()

    def suspend(self) -> None:
        for section in (self.review, self.history, self.correct):
            section.suspend()

    def on_scene_imported(self, *_arguments) -> None:
        if not self.client.is_busy():
            put_all_back()
        super().on_scene_imported()

    def on_demo(self) -> None:
        try:
            fixed, moving = load_demo_pair(two_contrasts=self.TWO_CONTRASTS)
        except (OSError, RuntimeError) as error:
            logging.exception("The demo pair could not be loaded")
            self.run.show_status(str(error), failed=True)
            return
        with slicer.util.NodeModify(self.parameters):
            self.parameters.fixedVolume, self.parameters.movingVolume = fixed, moving
        self.review.show_pair()

    def on_swap(self) -> None:
        """Exchange the fixed and the moving side, masks included."""
        side = self.parameters
        with slicer.util.NodeModify(side):
            side.fixedVolume, side.movingVolume = side.movingVolume, side.fixedVolume
            side.fixedMask, side.movingMask = side.movingMask, side.fixedMask
            side.fixedMaskSegment, side.movingMaskSegment = side.movingMaskSegment, side.fixedMaskSegment

    def _load_parameters_ui(self) -> tuple:
        widget = slicer.util.loadUI(self.resourcePath(self.PARAMETERS_UI))
        return widget, vars(slicer.util.childWidgetVariables(widget))

    def _begin_parameters(self) -> None:
        if self.MODEL:
            self.parameters.model = self.MODEL

    def _on_parameters_modified(self, *_arguments) -> None:
        if self.parameters is None:
            return
        parameters = self.parameters
        self.model.refresh()
        self.ui.refineStepsSpinBox.enabled = parameters.refinement.value == "steps"
        self.ui.outputVolumeSelector.enabled = parameters.createVolume
        self.ui.swapButton.enabled = parameters.fixedVolume is not None or parameters.movingVolume is not None
        self.result.show(parameters.resultTransform)
        self._refresh_sections()

    def _refresh_sections(self) -> None:
        self.region.refresh()
        self.run.refresh()
        self.fuse.refresh()
        self.review.refresh()
        self.judge.refresh()
        self.history.refresh()
        self.correct.refresh()

    def _on_region_changed(self) -> None:
        self.region.refresh()
        self.run.refresh()

    def _get_model(self):
        name, values = self.model.chosen()
        return name, get_info(name).title, values

    def _on_result(self, transform) -> None:
        self.history.add(transform)
        self._show_result(transform)

    def _show_result(self, transform) -> None:
        self.result.show(transform)
        self.review.show_result(transform)

    def _on_fused(self, volume) -> None:
        self.review.show_fused()
