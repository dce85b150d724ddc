"""What all panels of RegNet share: their parameter node, and what becomes of it as scenes come and go."""

from __future__ import annotations

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .worker_client import shared_client


class ScenePanel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Base of the panels. A derived class makes its sections in ``make_sections``, says which jobs it waits for, and
    shows its parameters in ``_on_parameters_modified`` and ``_refresh_sections``; ``parameters`` is None between
    scenes."""

    def __init__(self, parent=None) -> None:
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.ui = None
        self.parameters = None
        self.client = shared_client()
        self._gui_tag = None
        ScriptedLoadableModuleWidget.__init__(self, parent)  # last: without a parent it calls setup()

    def make_logic(self) -> ScriptedLoadableModuleLogic:
        """The module's own logic, whose class name gives the parameter node its name."""
        raise NotImplementedError

    def panel_ui(self) -> str:
        """Path of the panel's .ui file."""
        raise NotImplementedError

    def make_sections(self, panel) -> None:
        """Bind the widgets of ``ui``, which have been put into the module as ``panel``."""
        raise NotImplementedError

    def close_sections(self) -> None:
        """Let go of widgets and nodes: the panel is going away."""
        raise NotImplementedError

    def jobs(self) -> tuple:
        """The sections with work for the worker."""
        raise NotImplementedError

    def _on_parameters_modified(self, *_arguments) -> None:
        """Show the parameters, if there are any."""
        raise NotImplementedError

    def _refresh_sections(self) -> None:
        """Show what can be done now."""
        raise NotImplementedError

    def model_to_warm(self) -> str:
        """The model whose first run should not have to wait for anything to be loaded; empty for none."""
        return ""

    def setup(self) -> None:
        super().setup()
        self.logic = self.make_logic()
        panel = slicer.util.loadUI(self.panel_ui())
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.make_sections(panel)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(scene, scene.EndCloseEvent, self.on_scene_ready)
        self.addObserver(scene, scene.StartImportEvent, self.on_scene_start_import)
        self.addObserver(scene, scene.EndImportEvent, self.on_scene_imported)
        self._observe_parameters()

    def cleanup(self) -> None:
        if self.ui is None:
            return
        for job in self.jobs():
            job.close()
        self._forget_parameters()
        self.close_sections()
        self.removeObservers()
        self.client.forget_images()

    def enter(self) -> None:
        self._observe_parameters()
        self._warm_up()

    def _warm_up(self) -> None:
        if self.parameters is not None and self.model_to_warm():
            self.client.warm(self.model_to_warm())

    def suspend(self) -> None:
        """Take out of the slice views what only this panel can switch off."""

    def exit(self) -> None:
        self.suspend()

    def on_scene_start_close(self, *_arguments) -> None:
        for job in self.jobs():
            job.abandon()
        self.suspend()
        self._forget_parameters()
        self.client.forget_images()

    def on_scene_start_import(self, *_arguments) -> None:
        """While nodes arrive one by one, the selectors would overwrite what the scene says of them."""
        self._forget_parameters()

    def on_scene_imported(self, *_arguments) -> None:
        self.on_scene_ready()

    def on_scene_ready(self, *_arguments) -> None:
        if self.parent.isEntered or any(job.is_running() for job in self.jobs()):
            self._observe_parameters()
        if self.parent.isEntered:
            self._warm_up()

    def _observe_parameters(self) -> None:
        if self.parameters is not None:
            return
        self.parameters = self.logic.getParameterNode()
        self._begin_parameters()
        self._gui_tag = self.parameters.connectGui(self.ui)
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified)
        self._on_parameters_modified()

    def _begin_parameters(self) -> None:
        """Before the widgets are bound to a parameter node that was just taken up."""

    def _forget_parameters(self) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(
                self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._on_parameters_modified
            )
        self.parameters, self._gui_tag = None, None
        self._refresh_sections()

    def _get_parameters(self):
        return self.parameters
