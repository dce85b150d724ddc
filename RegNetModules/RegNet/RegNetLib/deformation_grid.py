"""A transform drawn as a warped grid in the slice views and in 3D, with Slicer's own transform display."""

from __future__ import annotations

import slicer
import vtk

COLOURS = ((0.0, (0.35, 0.75, 0.95)), (10.0, (0.98, 0.85, 0.35)), (30.0, (0.95, 0.35, 0.25)))
"""Colour of the grid where points move by that many millimetres."""
COLOUR_NODE = "RegNet displacement"


def show_deformation_grid(transform, in_slices: bool, in_3d: bool, region=None) -> None:
    """Show or hide the grid of a transform node.

    Args:
        region: the volume node that the grid in 3D fills; without one there is none.
    """
    transform.CreateDefaultDisplayNodes()
    display = transform.GetDisplayNode()
    in_3d = in_3d and region is not None
    if in_slices or in_3d:
        display.SetVisualizationMode(slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID)
        display.SetAndObserveColorNodeID(_colour_node().GetID())
    if in_3d:
        display.SetAndObserveRegionNode(region)
    display.SetVisibility2D(bool(in_slices))
    display.SetVisibility3D(bool(in_3d))
    display.SetVisibility(bool(in_slices or in_3d))


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
