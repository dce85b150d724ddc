"""RegNet's module for Deform-GAN: registration of brain scans of two contrasts, with a translator beside it."""

from __future__ import annotations

from RegNetLib.panel import PanelLogic, RegistrationPanel
from RegNetLib.self_test import PanelSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetDeformGAN(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet Deform-GAN")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Registers two brain scans of different contrasts, T1 to T2 or FLAIR (Deform-GAN, Zhang et al., 2020): one "
            "network deforms a scan while another translates it to T1, so that the two can be compared. Choose the two "
            "volumes and press Apply; the result is one transform that is applied to the moving volume. The translated "
            "scan can be had, too, as a volume of its own that is marked as synthetic. For research, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "Zhang X., Jian W., Chen Y., Yang S.: Deform-GAN: An Unsupervised Learning Model for Deformable "
            "Registration. arXiv 2002.11430, 2020."
        )


class RegNetDeformGANWidget(RegistrationPanel):
    MODEL = "deformgan"
    TWO_CONTRASTS = True
    PARAMETERS_UI = "UI/RegNetDeformGAN.ui"

    def make_logic(self) -> PanelLogic:
        return RegNetDeformGANLogic()


class RegNetDeformGANLogic(PanelLogic):
    """Keeps this module's parameter node."""


class RegNetDeformGANTest(PanelSelfTest):
    MODULE = "RegNetDeformGAN"
    TWO_CONTRASTS = True
