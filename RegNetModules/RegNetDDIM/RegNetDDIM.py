"""RegNet's module for DDIM: linear registration of two volumes, one linear transform node."""

from __future__ import annotations

from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.self_test import LinearSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetDDIM(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet DDIM")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers two volumes by turning, shifting, scaling and shearing alone: a network proposes the transform "
            "in a fraction of a second, then it is improved on the pair itself. The result is a linear transform, "
            "applied to the moving volume. The network is the reconstruction of an unverified note (DDIM); no "
            "published result is claimed for it. For research, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Deep differentiable interpolation-based matching, reconstructed from a note of unknown authorship. Mutual "
            "information: Studholme C., Hill D., Hawkes D., Pattern Recognition 1999."
        )


class RegNetDDIMWidget(RegistrationPanel):
    MODEL = "ddim"
    PARAMETERS_UI = "UI/RegNetDDIM.ui"

    def make_logic(self) -> PanelLogic:
        return RegNetDDIMLogic()


class RegNetDDIMLogic(PanelLogic):
    """Keeps this module's parameter node."""


class RegNetDDIMTest(LinearSelfTest):
    MODULE = "RegNetDDIM"
