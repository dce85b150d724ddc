"""The colours that are sent with a volume, judged by what Slicer's own display makes of its values."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import add_volume, pattern

LOW, HIGH = -40.0, 160.0
IRON, HEAT = "vtkMRMLColorTableNodeIron", "vtkMRMLPETProceduralColorNodePET-Heat"


@pytest.fixture
def ramp(scene):
    """A volume whose values run evenly over the window and beyond, shown between LOW and HIGH."""
    values = np.linspace(LOW - 30, HIGH + 30, 16 * 200, dtype=np.float32).reshape(1, 16, 200)
    volume = add_volume("ramp", values)
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(LOW, HIGH)
    return volume


def displayed(volume) -> np.ndarray:
    """Red, green and blue in [0, 1] of every voxel, as the display node gives them to the slice views."""
    from vtk.util.numpy_support import vtk_to_numpy

    port = volume.GetDisplayNode().GetImageDataConnection()
    port.GetProducer().Update()
    pixels = vtk_to_numpy(port.GetProducer().GetOutputDataObject(port.GetIndex()).GetPointData().GetScalars())
    return pixels[:, :3] / 255.0


def told(volume) -> np.ndarray:
    """The same by the core, of what the worker is sent."""
    import slicer
    import torch
    from regnet.colour_table import ColourTable
    from regnet.protocol import Colours
    from RegNetLib.colours import colours_of

    sent = Colours(**colours_of(volume))
    values = torch.from_numpy(slicer.util.arrayFromVolume(volume).copy())[None]
    return ColourTable(sent.low, sent.high, sent.colours).apply(values).reshape(3, -1).T.numpy()


@pytest.mark.parametrize(
    "table", [IRON, HEAT, "vtkMRMLColorTableNodeRainbow", "vtkMRMLPETProceduralColorNodePET-DICOM"]
)
def test_they_are_those_on_the_screen(ramp, table):
    ramp.GetDisplayNode().SetAndObserveColorNodeID(table)
    difference = np.abs(told(ramp) - displayed(ramp))
    assert difference.max() < 0.08 and difference.mean() < 0.012  # a display has 256 steps, the core none
    inside = (np.ptp(displayed(ramp), axis=1) > 0.2).mean()
    assert inside > 0.4


@pytest.mark.parametrize("how", ["inverted", "window backwards", "both"])
def test_an_inverted_display_inverts_them(ramp, how):
    display = ramp.GetDisplayNode()
    display.SetAndObserveColorNodeID(HEAT)
    upright = told(ramp)
    if how != "window backwards":
        display.SetInvertDisplayScalarRange(1)
    if how != "inverted":
        display.SetWindowLevel(LOW - HIGH, (LOW + HIGH) / 2)
    np.testing.assert_allclose(told(ramp), displayed(ramp), atol=0.08)
    np.testing.assert_allclose(told(ramp), upright if how == "both" else upright[::-1], atol=0.02)


def test_a_table_of_few_colours_keeps_its_steps(ramp, scene):
    table = scene.AddNewNodeByClass("vtkMRMLColorTableNode", "four")
    table.SetTypeToUser()
    table.SetNumberOfColors(4)
    rows = [(0, 0, 0), (0.8, 0.1, 0), (0.2, 0.9, 0), (1, 1, 0.4)]
    for index, row in enumerate(rows):
        table.SetColor(index, *row, 1.0)
    ramp.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    found = told(ramp)
    near = np.abs(found[:, None] - np.array(rows)[None]).max(-1).min(-1)
    assert (near < 0.01).mean() > 0.97  # all but the values at a step
    assert (np.abs(found - displayed(ramp)).max(1) < 0.01).mean() > 0.97


@pytest.mark.parametrize("table", ["vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeInvertedGrey"])
def test_greys_are_none(ramp, table):
    from RegNetLib.colours import colours_of

    ramp.GetDisplayNode().SetAndObserveColorNodeID(table)
    assert colours_of(ramp) is None


def test_a_volume_without_a_display_or_a_window_has_none(ramp, scene):
    from RegNetLib.colours import colours_of

    ramp.GetDisplayNode().SetAndObserveColorNodeID(IRON)
    assert colours_of(ramp) is not None
    ramp.GetDisplayNode().SetWindowLevel(0, 10)
    assert colours_of(ramp) is None
    ramp.SetAndObserveDisplayNodeID(None)
    assert colours_of(ramp) is None
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    labels.CopyContent(add_volume("inside", (pattern() > 50).astype(np.uint8)))
    labels.CreateDefaultDisplayNodes()
    assert colours_of(labels) is None
