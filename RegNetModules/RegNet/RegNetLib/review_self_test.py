"""What the review module tests of itself inside Slicer."""

from __future__ import annotations

import slicer

from .judge_state import judgement_of
from .review_subject import TransformSubject
from .self_test import PanelSelfTest, make_blob


class ReviewSelfTest(PanelSelfTest):
    """Judges a shift that is right and one that is not, of two small synthetic volumes, by pressing the button."""

    def test_apply(self) -> None:
        self.delayDisplay("A judgement through the panel")
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        fixed, moving = make_blob("fixed", 0.0), make_blob("moving", 3.0)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
        widget.parameters.fixedVolume, widget.parameters.movingVolume = fixed, moving
        widget.parameters.resultTransform = transform
        widget.ui.judgeButton.click()
        self._wait(lambda: not widget.judge.is_running())
        judgement = judgement_of(TransformSubject(lambda: widget.parameters))
        self.assertIsNotNone(judgement, widget.ui.judgeStatusLabel.text)
        self.assertEqual(judgement["numbers"]["folded_percent"], 0.0)
        self.assertIn(judgement["verdict"], ("green", "amber", "red", "unknown"))
        self.delayDisplay("Test passed")
