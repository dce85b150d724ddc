"""A transform drawn as a warped grid in the slice views, with Slicer's own transform display."""

from __future__ import annotations

import slicer
import vtk

COLOURS = ((0.0, (0.35, 0.75, 0.95)), (10.0, (0.98, 0.85, 0.35)), (30.0, (0.95, 0.35, 0.25)))
"""Colour of the grid where points move by that many millimetres."""
COLOUR_NODE = "RegNet displacement"


def show_deformation_grid(transform, visible: bool) -> None:
    """Show or hide the grid of a transform node in all slice views."""
    transform.CreateDefaultDisplayNodes()
    display = transform.GetDisplayNode()
    if visible:
        display.SetVisualizationMode(slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID)
        display.SetAndObserveColorNodeID(_colour_node().GetID())
    display.SetVisibility2D(bool(visible))
    display.SetVisibility(bool(visible))


def _colour_node():
    """The colours as a node, made once per scene and kept out of the user's lists."""
    node = slicer.mrmlScene.GetFirstNode(COLOUR_NODE, "vtkMRMLProceduralColorNode")
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLProceduralColorNode", COLOUR_NODE)
        node.SetHideFromEditors(True)
        ramp = vtk.vtkColorTransferFunction()
        for millimetres, colour in COLOURS:
            ramp.AddRGBPoint(millimetres, *colour)
        node.SetAndObserveColorTransferFunction(ramp)
    return node
