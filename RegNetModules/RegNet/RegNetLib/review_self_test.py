"""What the review module tests of itself inside Slicer."""

from __future__ import annotations

import numpy as np
import slicer

from .judge_state import judgement_of
from .review_subject import TransformSubject
from .self_test import SHIFT_MM, PanelSelfTest, make_blob


class ReviewSelfTest(PanelSelfTest):
    """Judges a shift that is right and one that is not, of two small synthetic volumes, by pressing the button."""

    def test_apply(self) -> None:
        self.delayDisplay("Judgements through the panel")
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        widget.parameters.fixedVolume = make_blob("fixed", 0.0)
        widget.parameters.movingVolume = make_blob("moving", SHIFT_MM)
        self.assertEqual(self.verdict(widget, "right", -SHIFT_MM), "green", widget.ui.reasonsLabel.text)
        self.assertEqual(self.verdict(widget, "wrong", 3 * SHIFT_MM), "red", widget.ui.reasonsLabel.text)
        self.delayDisplay("Test passed")

    def verdict(self, widget, name: str, shift_mm: float) -> str:
        """Of a transform that moves the moving volume along the first axis."""
        transform, matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name), np.eye(4)
        matrix[0, 3] = shift_mm
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        widget.parameters.resultTransform = transform
        widget.ui.judgeButton.click()
        self._wait(lambda: not widget.judge.is_running())
        judgement = judgement_of(TransformSubject(lambda: widget.parameters))
        self.assertIsNotNone(judgement, widget.ui.judgeStatusLabel.text)
        self.assertEqual(judgement["numbers"]["folded_percent"], 0.0)
        return judgement["verdict"]
