"""The propagation module's own test in Slicer's Reload and Test section: a real run through its panel."""

from __future__ import annotations

import numpy as np
import slicer

from .propagation_nodes import earlier_result
from .self_test import PanelSelfTest, make_blob


class PropagationSelfTest(PanelSelfTest):
    """Carries a box from one small synthetic volume to another, 3 mm away, by pressing Apply."""

    def test_apply(self) -> None:
        self.delayDisplay("A propagation through the panel")
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        scan, target = make_blob("scan", 0.0), make_blob("target", 3.0)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        identity = segmentation.GetSegmentation().AddEmptySegment("", "ball")
        inside = (slicer.util.arrayFromVolume(scan) > 130).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(inside, segmentation, identity, scan)
        widget.parameters.scan, widget.parameters.segmentation = scan, segmentation
        widget.parameters.set_targets([target])
        widget.ui.applyButton.click()
        self._wait(lambda: not widget.run.is_running())
        result = earlier_result(segmentation, target)
        self.assertIsNotNone(result, widget.ui.statusLabel.text)
        self.assertEqual(result.GetName(), "organs on target")
        self.assertEqual(result.GetSegmentation().GetNthSegment(0).GetName(), "ball")
        self.delayDisplay("Test passed")
