"""RegNet's module that reviews any transform, whichever program made it."""

from __future__ import annotations

from RegNetLib.review_panel import ReviewLogic, ReviewPanel
from RegNetLib.review_self_test import ReviewSelfTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule


class RegNetReview(ScriptedLoadableModule):
    def __init__(self, parent) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("RegNet Review")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = ["RegNet", "Segmentations", "Markups"]
        parent.contributors = ["RegNet contributors"]
        parent.helpText = _(
            "Reviews a registration of any program: choose the fixed and the moving volume and the transform. Look at "
            "both by fading, flickering, a live checkerboard, the difference, edges, or a window around the cursor, "
            "and at the deformation as a grid. <b>Judge</b> tells by a traffic light, with its reasons, whether the "
            "transform folds, whether the volumes fit, and what lies outside the field of view, and makes maps and a "
            "table of all numbers. A green light is no proof: look at every result. For research, not for diagnosis."
        )
        parent.acknowledgementText = _("Similarity is judged by MIND-SSC (M. P. Heinrich et al., MICCAI 2013).")


class RegNetReviewWidget(ReviewPanel):
    PANEL_UI = "UI/RegNetReview.ui"

    def make_logic(self) -> ReviewLogic:
        return RegNetReviewLogic()


class RegNetReviewLogic(ReviewLogic):
    """Keeps this module's parameter node."""


class RegNetReviewTest(ReviewSelfTest):
    MODULE = "RegNetReview"
