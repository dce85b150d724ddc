"""The test that each module offers in Slicer's Reload and Test section: a real run through its own panel."""

from __future__ import annotations

import numpy as np
import qt
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .result_nodes import FIXED, MOVING


class PanelSelfTest(ScriptedLoadableModuleTest):
    """Registers two small synthetic volumes by pressing Apply. A derived class sets ``MODULE``."""

    MODULE = ""
    PATIENCE_MS = 180_000

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def runTest(self, **_options) -> None:
        self.setUp()
        self.test_apply()

    def test_apply(self) -> None:
        self.delayDisplay("A registration through the panel")
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        widget.parameters.fixedVolume = make_blob("fixed", 0.0)
        widget.parameters.movingVolume = make_blob("moving", 3.0)
        widget.ui.applyButton.click()
        self._wait(lambda: not widget.run.is_running())
        transform = widget.parameters.resultTransform
        self.assertIsNotNone(transform, widget.ui.statusLabel.text)
        self.assertEqual(transform.GetNodeReference(FIXED).GetName(), "fixed")
        self.assertEqual(transform.GetNodeReference(MOVING).GetTransformNodeID(), transform.GetID())
        self.delayDisplay("Test passed")

    def _wait(self, condition) -> None:
        """Let the application work until ``condition`` holds or patience ends."""
        loop, timer, limit = qt.QEventLoop(), qt.QTimer(), qt.QTimer()
        timer.connect("timeout()", lambda: loop.quit() if condition() else None)
        limit.connect("timeout()", loop.quit)
        timer.start(100)
        limit.start(self.PATIENCE_MS)
        loop.exec_()
        timer.stop()
        limit.stop()


def make_blob(name: str, shift_mm: float):
    """A volume of 32 x 36 x 40 voxels of 2 mm with a soft box and two soft balls, ``shift_mm`` along the first axis."""
    z, y, x = np.meshgrid(*(np.arange(n) * 2.0 for n in (32, 36, 40)), indexing="ij")
    x = x - shift_mm
    image = 100.0 / (1.0 + np.exp(np.maximum.reduce([abs(x - 38) - 24, abs(y - 35) - 20, abs(z - 31) - 18]) / 2.0))
    for centre, radius in (((30, 30, 30), 7.0), ((50, 42, 34), 10.0)):
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        image += 80.0 / (1.0 + np.exp((distance - radius) / 1.5))
    to_ras = slicer.util.vtkMatrixFromArray(np.diag([2.0, 2.0, 2.0, 1.0]))
    return slicer.util.addVolumeFromArray(image.astype(np.float32), ijkToRAS=to_ras, name=name)
