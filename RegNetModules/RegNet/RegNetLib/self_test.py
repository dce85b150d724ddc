"""The test that each module offers in Slicer's Reload and Test section: a real run through its own panel, judged."""

from __future__ import annotations

import numpy as np
import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .result_nodes import FIXED, MOVING, report_of

SPACING_MM = 2.0
SHAPE = (32, 36, 40)
SHIFT_MM = 3.0
"""How far the moving volume of the pair has been moved along the first axis."""
MOST_MM = 0.5
"""What a registration may leave of that, in the mean."""
INSIDE = 50.0
"""Greys above this are inside the object."""


class PanelSelfTest(ScriptedLoadableModuleTest):
    """Registers two small synthetic volumes by pressing Apply, and measures the result. A derived class sets ``MODULE``
    and, for a model that is made for them, ``TWO_CONTRASTS``; what else its result has to be it says in ``check``."""

    MODULE = ""
    TWO_CONTRASTS = False
    PATIENCE_MS = 180_000
    STEPS = 5
    """Of the refinement: enough for the pair, also on a slow computer."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def runTest(self, **_options) -> None:
        self.setUp()
        self.test_apply()

    def test_apply(self) -> None:
        self.delayDisplay("A registration through the panel")
        widget = self.open_with_pair()
        widget.ui.applyButton.click()
        self._wait(lambda: not widget.run.is_running())
        transform = widget.parameters.resultTransform
        self.assertIsNotNone(transform, widget.ui.statusLabel.text)
        self.assertEqual(transform.GetNodeReference(FIXED).GetName(), "fixed")
        self.assertEqual(transform.GetNodeReference(MOVING).GetTransformNodeID(), transform.GetID())
        self.assert_right(transform, widget.parameters.fixedVolume)
        self.check(widget, transform)
        self.delayDisplay("Test passed")

    def check(self, widget, transform) -> None:
        """What this module's result has to be besides."""

    def open_with_pair(self):
        """The module's panel with the pair chosen, and few steps of refinement."""
        widget = slicer.util.getModuleWidget(self.MODULE)
        widget.enter()
        widget.parameters.fixedVolume = make_blob("fixed", 0.0)
        widget.parameters.movingVolume = make_blob("moving", SHIFT_MM, other_contrast=self.TWO_CONTRASTS)
        widget.parameters.refinement = type(widget.parameters.refinement).STEPS
        widget.parameters.refineSteps = self.STEPS
        return widget

    def assert_right(self, transform, fixed) -> None:
        """The shift is found inside the object, by trained networks, without folds."""
        points = np.argwhere(slicer.util.arrayFromVolume(fixed) > INSIDE)[::37, ::-1] * SPACING_MM
        from_world = vtk.vtkGeneralTransform()
        transform.GetTransformFromWorld(from_world)
        found = np.array([from_world.TransformPoint(point) for point in points.tolist()])
        left = float(np.linalg.norm(found - points - [SHIFT_MM, 0.0, 0.0], axis=1).mean())
        self.assertLess(left, MOST_MM, f"“{transform.GetName()}” leaves {left:.2f} mm of {SHIFT_MM} mm.")
        report = report_of(transform)
        self.assertTrue(report["weights"], "No trained weights were used.")
        self.assertEqual(report["folding_percent"], 0.0)

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


class LinearSelfTest(PanelSelfTest):
    """For a model whose result is linear."""

    def check(self, widget, transform) -> None:
        self.assertEqual(transform.GetClassName(), "vtkMRMLLinearTransformNode")


class FusionSelfTest(PanelSelfTest):
    """For a model that fuses: the picture shows what both volumes show, where the fixed one shows it."""

    TWO_CONTRASTS = True

    def check(self, widget, transform) -> None:
        fused, fixed = widget.parameters.fusedVolume, widget.parameters.fixedVolume
        self.assertIsNotNone(fused, widget.ui.statusLabel.text)
        picture, grey = slicer.util.arrayFromVolume(fused), slicer.util.arrayFromVolume(fixed)
        self.assertEqual(picture.shape, grey.shape)
        self.assertTrue(np.isfinite(picture).all())
        self.assertGreater(float(np.corrcoef(picture.ravel(), grey.ravel())[0, 1]), 0.8)
        there = make_blob("there", 0.0, other_contrast=True)
        self.assertGreater(float(np.corrcoef(picture.ravel(), slicer.util.arrayFromVolume(there).ravel())[0, 1]), 0.8)


class CompareSelfTest(PanelSelfTest):
    """For the home module: every model that has weights, by pressing Compare."""

    def test_apply(self) -> None:
        self.delayDisplay("A comparison of all models")
        widget = self.open_with_pair()
        shown, ui = widget.compare.ui.comparedModelList, widget.compare.ui
        self.assertGreater(shown.count, 1, "No other model has weights.")
        ui.comparedParametersComboBox.currentIndex = 1  # as set in the panel: few steps
        ui.compareButton.click()
        self._wait(lambda: not widget.compare.is_running())
        told = f"{shown.count} of {shown.count} models are ready."
        self.assertEqual(ui.compareStatusLabel.text, told)
        results = [node for node in slicer.util.getNodesByClass("vtkMRMLTransformNode") if report_of(node)]
        self.assertEqual(len(results), shown.count)
        self.assertEqual(len({report_of(node)["model"] for node in results}), shown.count)
        for node in results:
            self.assert_right(node, widget.parameters.fixedVolume)
        self.delayDisplay("Test passed")


def make_blob(name: str, shift_mm: float, other_contrast: bool = False):
    """A volume of 32 x 36 x 40 voxels of 2 mm with a soft box and two soft balls, ``shift_mm`` along the first axis;
    the balls are bright, or dark where it is of the ``other_contrast``."""
    z, y, x = np.meshgrid(*(np.arange(n) * SPACING_MM for n in SHAPE), indexing="ij")
    x = x - shift_mm
    box, balls = (
        1.0 / (1.0 + np.exp(np.maximum.reduce([abs(x - 38) - 24, abs(y - 35) - 20, abs(z - 31) - 18]) / 2.0)),
        0.0,
    )
    for centre, radius in (((30, 30, 30), 7.0), ((50, 42, 34), 10.0)):
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        balls = balls + 1.0 / (1.0 + np.exp((distance - radius) / 1.5))
    image = 160.0 * box - 110.0 * balls if other_contrast else 100.0 * box + 80.0 * balls
    to_ras = slicer.util.vtkMatrixFromArray(np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]))
    return slicer.util.addVolumeFromArray(image.astype(np.float32), ijkToRAS=to_ras, name=name)
