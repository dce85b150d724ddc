"""RegNet's module for MASR-Net: registration of two contrasts or modalities by a descriptor of structure."""

from __future__ import annotations

from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.self_test import PanelSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetMASR(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet MASR-Net")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers two volumes that show the same anatomy with different intensities: CT to MR, T1 to T2, one "
            "contrast phase to another (MASR-Net, Mok et al., CVPR 2024). It compares structure instead of intensity. "
            "Choose the two volumes and press Apply; the result is one transform that is applied to the moving volume. "
            "For research, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Mok T. C. W., Li Z., Bai Y., Zhang J., Liu W., Zhou Y.-J., Yan K., Jin D., Shi Y., Yin X., Lu L., Zhang "
            "L.: Modality-Agnostic Structural Image Representation Learning for Deformable Multi-Modality Medical "
            "Image Registration. CVPR 2024."
        )


class RegNetMASRWidget(RegistrationPanel):
    MODEL = "masr"
    TWO_CONTRASTS = True
    PARAMETERS_UI = "UI/RegNetMASR.ui"

    def make_logic(self) -> PanelLogic:
        return RegNetMASRLogic()


class RegNetMASRLogic(PanelLogic):
    """Keeps this module's parameter node."""


class RegNetMASRTest(PanelSelfTest):
    MODULE = "RegNetMASR"
    TWO_CONTRASTS = True
