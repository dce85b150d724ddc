"""The host draws real slice views and panels (host/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from host.blocks import add_block

EXAMPLE = Path(__file__).resolve().parent / "example_module"


def test_slice_views_show_fusion(scene, grab_slice, grab_slices, tmp_path):
    import slicer

    back = add_block("back")
    front = add_block("front", box=((6, 14), (7, 19), (2, 9)), value=200.0)
    slicer.util.setSliceViewerLayers(background=back, foreground=front, foregroundOpacity=0.0, fit=True)
    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(10.0)
    means = []
    for opacity in (0.0, 0.5, 1.0):
        slicer.util.setSliceViewerLayers(foregroundOpacity=opacity)
        picture = grab_slice("Red").astype(float)
        means.append((picture.mean(), picture.max()))
    assert np.allclose([peak for _, peak in means], [127, 127, 255], atol=3)
    # The background's block fades (8 · 14 pixels of 100) and the foreground's appears (7 · 12 of 200).
    assert means[0][0] > 5.0
    picture = grab_slices("three.png", size=(200, 150))
    assert picture.shape == (150, 600, 3)
    assert (tmp_path / "three.png").stat().st_size > 500


def test_a_grid_transform_shifts_the_picture(scene, grab_slice):
    """A pull field of +5 mm along R shows the block 5 mm further towards L: to the right on screen."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    volume = add_block("moving")
    slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True)
    red = slicer.app.layoutManager().sliceWidget("Red")
    red.sliceLogic().SetSliceOffset(10.0)
    before = grab_slice("Red")[..., 0].astype(float)
    grid = vtk.vtkImageData()
    grid.SetDimensions(6, 6, 6)
    grid.SetSpacing(10.0, 10.0, 10.0)
    grid.SetOrigin(-10.0, -10.0, -10.0)
    field = np.zeros((6**3, 3))
    field[:, 0] = 5.0
    grid.GetPointData().SetScalars(numpy_to_vtk(field, deep=True))
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(grid)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    node.SetAndObserveTransformFromParent(transform)
    volume.SetAndObserveTransformNodeID(node.GetID())
    after = grab_slice("Red")[..., 0].astype(float)
    columns = np.arange(400)
    centre_before, centre_after = (float((p.sum(0) * columns).sum() / p.sum()) for p in (before, after))
    millimetre = 400 / red.mrmlSliceNode().GetFieldOfView()[0]
    assert centre_after - centre_before == pytest.approx(5.0 * millimetre, abs=0.5 * millimetre)


def test_own_actors_appear_in_a_slice_view(scene, grab_slice):
    import slicer
    import vtk

    renderer = (
        slicer.app.layoutManager().sliceWidget("Green").sliceView().renderWindow().GetRenderers().GetFirstRenderer()
    )
    text = vtk.vtkTextActor()
    text.SetInput("RegNet")
    text.GetTextProperty().SetColor(1.0, 0.0, 0.0)
    text.GetTextProperty().SetFontSize(60)
    renderer.AddViewProp(text)
    red = grab_slice("Green")
    renderer.RemoveViewProp(text)
    assert (red[..., 0] > 200).sum() > 300
    assert grab_slice("Green").max() < 30


def test_views_are_drawn_soon_after_a_change(scene, process_events):
    import slicer
    import vtk

    drawn = []
    window = slicer.app.layoutManager().sliceWidget("Red").sliceView().renderWindow()
    process_events()
    tag = window.AddObserver(vtk.vtkCommand.EndEvent, lambda caller, event: drawn.append(1))
    slicer.util.setSliceViewerLayers(background=add_block("v"), fit=True)
    assert process_events(until=lambda: drawn)
    window.RemoveObserver(tag)


def test_panels_and_3d_are_drawn(scene, widget_factory, grab):
    import slicer

    example = widget_factory("ExampleModule", EXAMPLE)
    picture = grab(example, size=(420, 600))
    assert picture.shape == (600, 420, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert slicer.app.layoutManager().threeDWidget(0).mrmlViewNode().IsA("vtkMRMLViewNode")
    slicer.util.forceRenderAllViews()
