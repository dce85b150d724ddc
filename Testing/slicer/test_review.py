"""The live composites, judged by the pixels that the slice views show."""

from __future__ import annotations

import numpy as np
import pytest
from volumes import GEOMETRIES, SHAPE, add_linear, add_volume, rigid

FIXED_GREY, MOVING_GREY = 200, 60
SIZE = (300, 260)


def flat(value: float) -> np.ndarray:
    """An image of one value with one other voxel in a corner, so that it has a range."""
    array = np.full(SHAPE, value, np.float32)
    array[0, 0, 0] = 0.0
    return array


@pytest.fixture
def pair(widget_factory):
    """The panel with two volumes that fill the views in two greys, shown as they are (window 0 to 255)."""
    widget = widget_factory("RegNetAVSM")
    geometry = GEOMETRIES["plain"]
    fixed = add_volume("fixed", flat(FIXED_GREY), geometry)
    moving = add_volume("moving", flat(MOVING_GREY), geometry)
    for volume in (fixed, moving):
        display = volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 255)
    widget.parameters.fixedVolume, widget.parameters.movingVolume = fixed, moving
    widget.ui.showPairButton.click()
    return widget


def greys(picture) -> np.ndarray:
    """The inner part of a picture, without the views' annotations and borders."""
    height, width = picture.shape[:2]
    return picture[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4, 0].astype(int)


def share(picture, value: int) -> float:
    return float((abs(greys(picture) - value) < 6).mean())


def views():
    from RegNetLib.slice_views import slice_views

    return slice_views()


def test_show_pair_fills_and_links_all_views(pair, grab_slice):
    fixed, moving = pair.parameters.fixedVolume, pair.parameters.movingVolume
    assert {view.slice_node.GetName() for view in views()} >= {"Red", "Yellow", "Green"}
    for view in views():
        assert view.composite_node.GetBackgroundVolumeID() == fixed.GetID()
        assert view.composite_node.GetForegroundVolumeID() == moving.GetID()
        assert view.composite_node.GetLinkedControl()
    pair.ui.linkCheckBox.click()
    assert not any(view.composite_node.GetLinkedControl() for view in views())
    assert share(grab_slice("Red", size=SIZE), (FIXED_GREY + MOVING_GREY) // 2) > 0.99


def test_fade(pair, grab_slice):
    pair.ui.fadeSlider.value = 0.0
    assert share(grab_slice("Green", size=SIZE), FIXED_GREY) > 0.99
    pair.ui.fadeSlider.value = 1.0
    assert share(grab_slice("Green", size=SIZE), MOVING_GREY) > 0.99
    assert views()[0].composite_node.GetForegroundOpacity() == 1.0


@pytest.mark.parametrize("name", ["Red", "Yellow", "Green"])
def test_checkerboard_shows_both_volumes_in_tiles(pair, grab_slice, name):
    pair.ui.tileSlider.value = 6
    pair.ui.checkerboardButton.click()
    picture = grab_slice(name, size=SIZE)
    assert share(picture, FIXED_GREY) == pytest.approx(0.5, abs=0.12)
    assert share(picture, MOVING_GREY) == pytest.approx(0.5, abs=0.12)
    assert share(picture, FIXED_GREY) + share(picture, MOVING_GREY) > 0.99


def tile_width_mm(picture, view) -> float:
    """The usual distance between two changes of grey along a row, in millimetres."""
    row = greys(picture)
    edges = np.flatnonzero(np.abs(np.diff(row[row.shape[0] // 2])) > 50)
    node = view.slice_node
    return float(np.median(np.diff(edges))) * node.GetFieldOfView()[0] / node.GetDimensions()[0]


def test_tiles_have_the_size_that_was_asked_for(pair, grab_slice):
    pair.ui.checkerboardButton.click()
    red = next(view for view in views() if view.slice_node.GetName() == "Red")
    for size in (4, 7):
        pair.ui.tileSlider.value = size
        assert tile_width_mm(grab_slice("Red", size=SIZE), red) == pytest.approx(size, abs=0.6)


def test_tiles_follow_zoom_and_size_of_the_view(pair, grab_slice):
    """In millimetres a tile is the same after zooming in and after the view was made larger."""
    pair.ui.tileSlider.value = 5
    pair.ui.checkerboardButton.click()
    red = next(view for view in views() if view.slice_node.GetName() == "Red")
    x, y, z = red.slice_node.GetFieldOfView()
    red.slice_node.SetFieldOfView(0.5 * x, 0.5 * y, z)
    assert tile_width_mm(grab_slice("Red", size=SIZE), red) == pytest.approx(5, abs=0.4)
    larger = (420, 330)
    assert tile_width_mm(grab_slice("Red", size=larger), red) == pytest.approx(5, abs=0.4)


def test_checkerboard_is_live(pair, grab_slice):
    """Moving a volume, scrolling and windowing are seen without switching anything."""
    pair.ui.tileSlider.value = 6
    pair.ui.checkerboardButton.click()
    moving = pair.parameters.movingVolume
    moving.GetDisplayNode().SetWindowLevelMinMax(0, 120)
    assert share(grab_slice("Red", size=SIZE), 127) == pytest.approx(0.5, abs=0.12)
    away = add_linear("away", rigid((0, 0, 0), (500, 0, 0)))
    moving.SetAndObserveTransformNodeID(away.GetID())
    picture = grab_slice("Red", size=SIZE)
    assert share(picture, 127) == 0.0
    assert share(picture, 0) == pytest.approx(0.5, abs=0.12)
    assert share(picture, FIXED_GREY) == pytest.approx(0.5, abs=0.12)


def test_difference(pair, grab_slice):
    pair.ui.differenceButton.click()
    assert share(grab_slice("Yellow", size=SIZE), FIXED_GREY - MOVING_GREY) > 0.99
    pair.parameters.movingVolume.GetDisplayNode().SetWindowLevelMinMax(-1000, -500)  # white: the sign does not matter
    assert share(grab_slice("Yellow", size=SIZE), 255 - FIXED_GREY) > 0.99


def test_labels_stay_on_top(pair, grab_slice, scene):
    import slicer

    array = np.full(SHAPE, 5, np.uint8)
    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["plain"])
    labels = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, nodeClassName="vtkMRMLLabelMapVolumeNode")
    labels.CreateDefaultDisplayNodes()
    labels.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeLabels")
    pair.ui.checkerboardButton.click()
    before = grab_slice("Red", size=SIZE)
    for view in views():
        view.composite_node.SetLabelVolumeID(labels.GetID())
        view.composite_node.SetLabelOpacity(1.0)
    after = grab_slice("Red", size=SIZE)
    middle = after[110:150, 120:180].reshape(-1, 3).astype(int)
    assert (np.ptp(before[110:150, 120:180].reshape(-1, 3).astype(int), axis=1) < 6).all()  # greys
    assert (np.ptp(middle, axis=1) > 50).all()  # colours


def test_switching_off_restores_the_views_own_image(pair, grab_slice):
    pair.ui.fadeSlider.value = 0.25
    own = [(view, mapper, mapper.GetInputConnection(0, 0)) for view in views() for mapper in view.image_mappers()]
    assert len(own) >= 3
    picture = grab_slice("Red", size=SIZE)
    pair.ui.checkerboardButton.click()
    assert all(mapper.GetInputConnection(0, 0).GetProducer() is not port.GetProducer() for _, mapper, port in own)
    pair.ui.differenceButton.click()
    pair.ui.fadeButton.click()
    assert all(mapper.GetInputConnection(0, 0).GetProducer() is port.GetProducer() for _, mapper, port in own)
    np.testing.assert_array_equal(grab_slice("Red", size=SIZE), picture)


def test_leaving_the_module_restores_and_coming_back_resumes(pair, grab_slice):
    pair.ui.tileSlider.value = 6
    pair.ui.checkerboardButton.click()
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) == pytest.approx(0.5, abs=0.12)
    pair.exit()
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) == 0.0
    pair.enter()
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) == pytest.approx(0.5, abs=0.12)


def test_removing_a_volume_while_tiles_are_shown(pair, grab_slice, scene, process_events):
    pair.ui.checkerboardButton.click()
    removed = pair.parameters.movingVolume
    scene.RemoveNode(removed)
    process_events()
    assert pair.parameters.movingVolume is not removed
    assert share(grab_slice("Red", size=SIZE), FIXED_GREY) > 0.99
    assert not pair.ui.reviewFrame.enabled


def test_closing_the_scene_while_tiles_are_shown(pair, grab_slice, scene, process_events):
    pair.ui.checkerboardButton.click()
    grab_slice("Red", size=SIZE)
    scene.Clear(0)
    process_events()
    assert grab_slice("Red", size=SIZE).max() < 255


def test_slider_for_the_mode(pair):
    """Only the slider that does something is offered."""
    shown = {"fade": (True, False), "checkerboard": (False, True), "difference": (False, False)}
    for mode, (fade, tile) in shown.items():
        getattr(pair.ui, f"{mode}Button").click()
        assert pair.review.mode() == mode
        assert pair.ui.fadeSlider.isVisibleTo(pair.ui.reviewSection) == fade
        assert pair.ui.tileSlider.isVisibleTo(pair.ui.reviewSection) == tile
