"""RegNet's module for BSAFusion: scans of two modalities registered and fused to one picture."""

from __future__ import annotations

from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.self_test import FusionSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetBSAFusion(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet BSAFusion")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers a CT, PET or SPECT of the head to an MR and fuses both to one picture (BSAFusion, Li et al., "
            "2025). Choose the two volumes and press Apply; the result is one transform that is applied to the moving "
            "volume, and a fused volume. A moving volume that is shown in colours, a PET say, keeps them: choose its "
            "colour table and its window in the Volumes module first. The fused volume is marked as such: a network "
            "made it, for looking at. For research, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Li H., Su D., Cai Q., Zhang Y.: BSAFusion: A Bidirectional Stepwise Feature Alignment Network for "
            "Unaligned Medical Image Fusion. AAAI 2025."
        )


class RegNetBSAFusionWidget(RegistrationPanel):
    MODEL = "bsafusion"
    TWO_CONTRASTS = True
    PARAMETERS_UI = "UI/RegNetBSAFusion.ui"

    def make_logic(self) -> PanelLogic:
        return RegNetBSAFusionLogic()


class RegNetBSAFusionLogic(PanelLogic):
    """Keeps this module's parameter node."""


class RegNetBSAFusionTest(FusionSelfTest):
    MODULE = "RegNetBSAFusion"
