"""RegNet's module for AVSM: affine and vector momentum-parameterised stationary velocity field registration."""

from __future__ import annotations

from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.self_test import PanelSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetAVSM(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet AVSM")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers two volumes by an affine transform followed by a smooth, invertible deformation (AVSM, Shen et "
            "al., CVPR 2019). Choose the two volumes and press Apply; the result is one transform that is applied to "
            "the moving volume. For research, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Shen Z., Han X., Xu Z., Niethammer M.: Networks for Joint Affine and Non-Parametric Image Registration. "
            "CVPR 2019."
        )


class RegNetAVSMWidget(RegistrationPanel):
    MODEL = "avsm"
    PARAMETERS_UI = "UI/RegNetAVSM.ui"

    def make_logic(self) -> PanelLogic:
        return RegNetAVSMLogic()


class RegNetAVSMLogic(PanelLogic):
    """Keeps this module's parameter node."""


class RegNetAVSMTest(PanelSelfTest):
    MODULE = "RegNetAVSM"
