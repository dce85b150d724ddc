"""RegNet's home module: any of its models on any pair of volumes."""

from __future__ import annotations

import slicer
from RegNetLib.compare_section import CompareSection
from RegNetLib.compare_views import register_layouts
from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.sample_data import register_sample_data
from RegNetLib.self_test import CompareSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNet(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers two volumes with any of RegNet's models, in a process of its own: the window stays usable, the "
            "run can be cancelled, and the result is one transform. Choose the two volumes and press Apply, or have "
            "several models compared. Every result is kept in the history of the scene. PyTorch is "
            "installed at the first run, after asking. For research, not for diagnosis."
        )
        parent.acknowledgementText = _("Each model's paper is named in its panel; please cite it with your results.")
        slicer.app.connect("startupCompleted()", register_sample_data)
        slicer.app.connect("startupCompleted()", register_layouts)


class RegNetWidget(RegistrationPanel):
    compare: CompareSection | None = None

    def make_logic(self) -> PanelLogic:
        return RegNetLogic()

    def setup(self) -> None:
        super().setup()
        self.compare = CompareSection(self.client, self._get_parameters, self.model, self.history)
        layout = self.ui.resultSection.parent().layout()
        layout.insertWidget(layout.indexOf(self.history.widget) + 1, self.compare.widget)

    def cleanup(self) -> None:
        if self.compare is not None:
            self.compare.close()
        super().cleanup()

    def enter(self) -> None:
        super().enter()
        self.compare.resume()

    def exit(self) -> None:
        self.compare.suspend()
        super().exit()

    def on_scene_start_close(self, *_arguments) -> None:
        self.compare.abandon()
        super().on_scene_start_close()

    def _refresh_sections(self) -> None:
        super()._refresh_sections()
        if self.compare is not None:
            self.compare.refresh()


class RegNetLogic(PanelLogic):
    """Keeps the home module's parameter node."""


class RegNetTest(CompareSelfTest):
    MODULE = "RegNet"
