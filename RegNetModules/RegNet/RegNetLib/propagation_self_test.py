"""The propagation module's own test in Slicer's Reload and Test section: a real run through its panel, judged."""

from __future__ import annotations

import numpy as np
import slicer

from .propagation_nodes import earlier_result
from .self_test import SHIFT_MM, PanelSelfTest, make_blob

BALL = 130.0
"""Greys above this are inside the balls."""
LEAST_DICE, MOST_BEFORE = 0.9, 0.8
"""Overlap with the truth that has to be reached, and that there is less of before."""


class PropagationSelfTest(PanelSelfTest):
    """Carries two balls from one small synthetic volume to another, 3 mm away, by pressing Apply."""

    def test_apply(self) -> None:
        self.delayDisplay("A propagation through the panel")
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        scan, target = make_blob("scan", 0.0), make_blob("target", SHIFT_MM)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        identity = segmentation.GetSegmentation().AddEmptySegment("", "balls")
        inside = (slicer.util.arrayFromVolume(scan) > BALL).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(inside, segmentation, identity, scan)
        widget.parameters.scan, widget.parameters.segmentation = scan, segmentation
        widget.parameters.set_targets([target])
        widget.ui.applyButton.click()
        self._wait(lambda: not widget.run.is_running())
        result = earlier_result(segmentation, target)
        self.assertIsNotNone(result, widget.ui.statusLabel.text)
        self.assertEqual(result.GetName(), "organs on target")
        self.assertEqual(result.GetSegmentation().GetNthSegment(0).GetName(), "balls")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(result, result.GetSegmentation().GetNthSegmentID(0), target)
        truth = slicer.util.arrayFromVolume(target) > BALL
        self.assertLess(_dice(inside > 0, truth), MOST_BEFORE)
        self.assertGreater(_dice(found > 0, truth), LEAST_DICE)
        self.delayDisplay("Test passed")


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2.0 * (one & other).sum() / (one.sum() + other.sum()))
