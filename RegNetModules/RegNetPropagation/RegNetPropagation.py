"""RegNet's module that carries segmentations: from one scan to another, to several, or along a sequence."""

from __future__ import annotations

from RegNetLib.propagation_panel import PropagationLogic, PropagationPanel
from RegNetLib.propagation_self_test import PropagationSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetPropagation(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet Propagation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet", "Segmentations", "Sequences"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Carries a segmentation of one scan to other scans of the same or another patient, or along the frames of "
            "a sequence (4D). Choose the scan, its segmentation and the targets, and press Apply: each target is "
            "registered by the model that you choose, or reached through a transform that exists, and gets a "
            "segmentation of its own with the same names, colours, terminology and order. The table tells of each "
            "segment how much of it the target shows, its volume before and after, and its Dice where there is a "
            "reference. Look at every result before you use it. For research, not for diagnosis."
        )
        parent.acknowledgementText = _("Each model's paper is named in its panel; please cite it with your results.")


class RegNetPropagationWidget(PropagationPanel):
    PANEL_UI = "UI/RegNetPropagation.ui"

    def make_logic(self) -> PropagationLogic:
        return RegNetPropagationLogic()


class RegNetPropagationLogic(PropagationLogic):
    """Keeps this module's parameter node."""


class RegNetPropagationTest(PropagationSelfTest):
    MODULE = "RegNetPropagation"
