"""RegNet's home module: any of its models on any pair of volumes."""

from __future__ import annotations

import slicer
from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.sample_data import register_sample_data
from RegNetLib.self_test import PanelSelfTest
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
            "run can be cancelled, and the result is one transform. Choose the two volumes and press Apply. PyTorch is "
            "installed at the first run, after asking. For research, not for diagnosis."
        )
        parent.acknowledgementText = _("Each model's paper is named in its panel; please cite it with your results.")
        slicer.app.connect("startupCompleted()", register_sample_data)


class RegNetWidget(RegistrationPanel):
    def make_logic(self) -> PanelLogic:
        return RegNetLogic()


class RegNetLogic(PanelLogic):
    """Keeps the home module's parameter node."""


class RegNetTest(PanelSelfTest):
    MODULE = "RegNet"
