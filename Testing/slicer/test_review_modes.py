"""Flicker, edges, the window around the cursor, keys and grids, by the pixels of the slice views; and nothing stays."""

from __future__ import annotations

import numpy as np
import pytest
from test_review import FIXED_GREY, MOVING_GREY, SIZE, flat, greys, share, views
from volumes import GEOMETRIES, SHAPE, add_bend, add_linear, add_volume, rigid


@pytest.fixture
def review(widget_factory):
    """The review module with two volumes that fill the views in two greys, shown as they are, and a transform."""
    widget = widget_factory("RegNetReview")
    for name, grey in (("fixed", FIXED_GREY), ("moving", MOVING_GREY)):
        volume = add_volume(name, flat(grey), GEOMETRIES["plain"])
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(0, 255)
        setattr(widget.parameters, f"{name}Volume", volume)
    widget.parameters.resultTransform = add_linear("result", rigid())
    widget.ui.showPairButton.click()
    return widget


def crosshair():
    import slicer

    return slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")


def is_followed() -> bool:
    import slicer

    return bool(crosshair().HasObserver(slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent))


def view(name: str):
    return next(one for one in views() if one.slice_node.GetName() == name)


def own_images() -> bool:
    """Whether all views show their own image."""
    return all(one.image_mappers() for one in views())


def test_flicker_shows_one_and_then_the_other(review, grab_slice, process_events):
    review.ui.rateSlider.value = 10
    review.ui.flickerButton.click()
    assert review.ui.rateSlider.isVisibleTo(review.parent) and not review.ui.fadeSlider.isVisibleTo(review.parent)
    seen = set()

    def both() -> bool:
        picture = grab_slice("Red", size=SIZE)
        seen.update(grey for grey in (FIXED_GREY, MOVING_GREY) if share(picture, grey) > 0.99)
        return len(seen) == 2

    assert process_events(until=both, timeout=10)
    assert view("Red").composite_node.GetForegroundOpacity() == 0.5  # no node is changed


def test_the_rate_of_the_flicker(review):
    review.ui.flickerButton.click()
    assert review.review._live._timer.interval == 500
    review.ui.rateSlider.value = 5
    assert review.review._live._timer.interval == 200
    review.ui.fadeButton.click()
    assert not review.review._live.is_flickering()


@pytest.mark.parametrize("mode", ["flicker", "reveal", "edges"])
@pytest.mark.parametrize("how", ["left", "scene closed", "module closed"])
def test_nothing_stays(review, grab_slice, process_events, scene, mode, how):
    before = grab_slice("Red", size=SIZE)
    getattr(review.ui, f"{mode}Button").click()
    assert not own_images() and review.review._live.composites()
    if how == "left":
        review.exit()
    elif how == "scene closed":
        scene.Clear(0)
        process_events()
    else:
        review.cleanup()
    assert not review.review._live.composites()
    assert not review.review._live.is_flickering() and not is_followed()
    if how == "scene closed":
        assert grab_slice("Red", size=SIZE).max() < 255
    else:
        assert own_images()
        np.testing.assert_array_equal(grab_slice("Red", size=SIZE), before)
    if how == "left":
        review.enter()
        assert not own_images() and is_followed() == (mode == "reveal")


@pytest.mark.parametrize("mode", ["flicker", "reveal", "edges"])
def test_a_volume_goes_while_it_is_shown(review, grab_slice, process_events, scene, mode):
    review.ui.rateSlider.value = 10
    getattr(review.ui, f"{mode}Button").click()
    grab_slice("Red", size=SIZE)
    scene.RemoveNode(review.parameters.movingVolume)
    process_events(timeout=0.3)
    assert not review.review._live.is_flickering() and not review.ui.reviewFrame.enabled
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) > 0.99


def test_the_window_follows_the_cursor(review, grab_slice):
    review.ui.revealSlider.value = 8
    review.ui.revealButton.click()
    grab_slice("Red", size=SIZE)
    red = view("Red").slice_node
    mm = red.GetFieldOfView()[0] / red.GetDimensions()[0]
    for middle in ((150, 130), (175, 115)):
        crosshair().SetCursorPositionXYZ([*middle, 0.0], red)
        picture = grab_slice("Red", size=SIZE)[::-1, :, 0].astype(int)  # rows from the bottom, as positions are
        inside = abs(picture - MOVING_GREY) < 6
        rows, columns = np.nonzero(inside[40:220, 60:240])
        assert np.hypot(columns.mean() + 60 - middle[0], rows.mean() + 40 - middle[1]) < 1.5
        assert np.sqrt(len(rows) / np.pi) * mm == pytest.approx(8, abs=0.4)
        assert share(grab_slice("Green", size=SIZE), FIXED_GREY) > 0.99  # the mouse is not there
    review.ui.revealSlider.value = 4
    assert np.sqrt((abs(greys(grab_slice("Red", size=SIZE)) - MOVING_GREY) < 6).sum() / np.pi) * mm == pytest.approx(
        4, abs=0.4
    )
    crosshair().SetCursorPositionXYZ([0.0, 0.0, 0.0], None)
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) > 0.99


def test_edges_of_the_moving_volume_lie_over_the_fixed_one(review, grab_slice):
    import slicer

    array = np.full(SHAPE, 40.0, np.float32)
    array[:, :, SHAPE[2] // 2 :] = 220.0
    slicer.util.updateVolumeFromArray(review.parameters.movingVolume, array)
    review.ui.edgesButton.click()
    picture = grab_slice("Red", size=SIZE).astype(int)
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 90)
    columns = np.flatnonzero(yellow[100:160].all(axis=0))
    red = view("Red").slice_node
    mm = red.GetFieldOfView()[0] / red.GetDimensions()[0]
    assert 0 < len(columns) * mm < 4.0
    import vtk

    to_xy = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(red.GetXYToRAS(), to_xy)
    edge = (GEOMETRIES["plain"] @ [SHAPE[2] / 2 - 0.5, 0, 0, 1])[:3]
    assert columns.mean() == pytest.approx(to_xy.MultiplyPoint([*edge, 1.0])[0], abs=2.0)
    away = picture[100:160, int(columns.max()) + 12 : int(columns.max()) + 40, 0]
    assert (abs(away - FIXED_GREY) < 6).all()
    review.ui.edgeSlider.value = 150  # 180 greys over a voxel of one millimetre
    weaker = grab_slice("Red", size=SIZE).astype(int)
    steep = (weaker[..., 0] > 200) & (weaker[..., 2] < 90)
    review.parameters.movingVolume.GetDisplayNode().SetWindowLevelMinMax(0, 2550)  # a tenth as steep
    none = grab_slice("Red", size=SIZE).astype(int)
    assert steep.sum() < yellow.sum() and not ((none[..., 0] > 150) & (none[..., 2] < 90))[60:200, 60:240].any()


def shortcuts(widget) -> dict:
    return {key.key.toString(): key for key in widget.review._shortcuts._keys}


def press(key) -> None:
    """What Qt does when the key is pressed and the shortcut is enabled."""
    native = getattr(key, "_native", key)
    if key.enabled:
        native.activated.emit()


def test_keys_work_while_the_panel_is_open(review, widget_factory):
    import slicer

    keys = shortcuts(review)
    assert set(keys) == {"Shift+F", "Shift+L", "Shift+C"} and all(key.enabled for key in keys.values())
    for name, mode in (("Shift+C", "checkerboard"), ("Shift+L", "flicker"), ("Shift+F", "fade")):
        press(keys[name])
        assert review.review.mode() == mode
    review.parameters.movingVolume = None
    press(keys["Shift+C"])
    assert review.review.mode() == "fade"
    slicer.util.selectModule("RegNetReview")
    other = widget_factory("RegNetAVSM")
    assert not any(key.enabled for key in keys.values())
    assert all(key.enabled for key in shortcuts(other).values())
    press(keys["Shift+C"])
    assert review.review.mode() == "fade"


def test_the_grid_in_slices_and_in_3d(review):
    import slicer

    node = add_bend("bend")
    review.parameters.resultTransform = node
    review.ui.gridCheckBox.click()
    display = node.GetDisplayNode()
    assert display.GetVisibility2D() and display.GetVisibility() and not display.GetVisibility3D()
    review.ui.grid3DCheckBox.click()
    assert display.GetVisibility3D() and display.GetRegionNode() is review.parameters.fixedVolume
    assert display.GetVisualizationMode() == slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID
    review.ui.gridCheckBox.click()
    assert display.GetVisibility3D() and not display.GetVisibility2D()
    review.ui.grid3DCheckBox.click()
    assert not display.GetVisibility()


def test_before_and_after_of_a_transform_that_knows_nothing(review):
    """It may be applied or not when it comes in; before is where the volume lay then."""
    moving, result = review.parameters.movingVolume, review.parameters.resultTransform
    bed = add_linear("bed", rigid((0, 0, 0), (0, 5, 0)))
    moving.SetAndObserveTransformNodeID(bed.GetID())
    review.enter()
    assert review.ui.afterCheckBox.enabled and not review.ui.afterCheckBox.checked
    review.ui.afterCheckBox.click()
    assert moving.GetParentTransformNode() is result
    review.ui.afterCheckBox.click()
    assert moving.GetParentTransformNode() is bed
    moving.SetAndObserveTransformNodeID(result.GetID())
    review.enter()
    assert review.ui.afterCheckBox.checked


def test_a_transform_brings_its_volumes(widget_factory):
    widget = widget_factory("RegNetReview")
    fixed, moving, result = add_volume("fixed"), add_volume("moving"), add_linear("result", rigid())
    result.SetNodeReferenceID("spatialRegistrationFixed", fixed.GetID())
    result.SetNodeReferenceID("spatialRegistrationMoving", moving.GetID())
    widget.ui.transformSelector.setCurrentNode(result)
    assert (widget.parameters.fixedVolume, widget.parameters.movingVolume) == (fixed, moving)
