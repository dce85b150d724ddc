"""Looking at results of the history: thumbnails, side by side, and flicker."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GEOMETRIES, add_bend, add_linear, add_volume, pattern, rigid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def two_runs(open_pair, apply, process_events):
    """A panel with two results of one pair, the transform of one 8 mm from the other's; both chosen."""
    widget = open_pair()
    for seed in (0, 8):
        widget.ui.seedSpinBox.value = seed
        apply(widget)
    process_events()
    for n in range(2):
        widget.history.ui.historyList.item(n).setSelected(True)
    return widget


def results(widget) -> list:
    from RegNetLib.history import entries

    return [entry.transform for entry in entries()]


def read_png(data: bytes, folder) -> np.ndarray:
    from host.pictures import read_png as read

    path = folder / "picture.png"
    path.write_bytes(data)
    return read(str(path)).astype(float)


def sampled(volume, points: np.ndarray, parent=None) -> np.ndarray:
    """A volume's values at world points (..., 3), by SimpleITK; NaN outside."""
    import slicer

    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    place = LPS @ slicer.util.arrayFromVTKMatrix(matrix)
    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(volume).astype(np.float32))
    spacing = np.linalg.norm(place[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(place[:3, 3].tolist())
    image.SetDirection((place[:3, :3] / spacing).ravel().tolist())
    flat = points.reshape(-1, 3)
    if parent is not None:
        flat = np.array([parent.GetTransformFromParent().TransformPoint(point) for point in flat])
    flat = flat * np.diag(LPS)[:3]
    return np.array([_value(image, point) for point in flat.tolist()]).reshape(points.shape[:-1])


def _value(image, point) -> float:
    index = image.TransformPhysicalPointToContinuousIndex(point)
    inside = all(0 <= i <= n - 1 for i, n in zip(index, image.GetSize(), strict=True))
    return image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) if inside else np.nan


def axial_points(volume) -> np.ndarray:
    """World points (96 rows or fewer, columns, 3) of the middle slice of a volume whose axes are near the world's."""
    import slicer

    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    place, size = slicer.util.arrayFromVTKMatrix(matrix), np.array(volume.GetImageData().GetDimensions())
    lengths = (np.linalg.norm(place[:3, :3], axis=0) * size)[:2]
    columns, rows = np.maximum(1, np.rint(lengths / (lengths.max() / 96)).astype(int))
    i = (np.arange(columns) + 0.5) / columns * size[0] - 0.5
    j = (np.arange(rows) + 0.5) / rows * size[1] - 0.5
    i = i[::-1] if place[0, 0] > 0 else i  # right at the left
    j = j[::-1] if place[1, 1] > 0 else j  # front at the top
    index = np.stack([*np.meshgrid(i, j), np.full((rows, columns), (size[2] - 1) / 2), np.ones((rows, columns))], -1)
    return (index @ place.T)[..., :3]


def unit(values: np.ndarray) -> np.ndarray:
    low, high = np.nanpercentile(values, (1, 99))
    return np.nan_to_num(np.clip((values - low) / (high - low), 0, 1))


@pytest.mark.parametrize("geometry", ["anisotropic", "flipped", "left-handed"])
@pytest.mark.parametrize("kind", ["linear", "bent"])
def test_the_thumbnail_shows_both_volumes(scene, tmp_path, geometry, kind):
    """Tiles of the fixed volume in grey, the others the moving one in orange, as SimpleITK samples them."""
    from RegNetLib.history_picture import MOVING_TINT, PIXELS, TILES, make_picture

    fixed = add_volume("fixed", ijk_to_ras=GEOMETRIES[geometry])
    away = -60 if kind == "bent" else 0  # which the bend brings back
    moving = add_volume("moving", pattern(seed=5), rigid((4, -6, 9), (3 + away, 2, -5)) @ GEOMETRIES[geometry])
    transform = add_linear("result", rigid((3, 5, -4), (2, -6, 4))) if kind == "linear" else add_bend("result")
    picture = read_png(make_picture(fixed, moving, transform), tmp_path)
    points = axial_points(fixed)
    assert picture.shape == (*points.shape[:2], 3) and max(picture.shape[:2]) == PIXELS
    rows, columns = np.indices(points.shape[:2]) // (PIXELS // TILES)
    is_fixed = (rows + columns) % 2 == 0
    grey, other = 255 * unit(sampled(fixed, points)), 255 * unit(sampled(moving, points, transform))
    inside = np.isfinite(sampled(fixed, points))  # at the border, half a voxel more is drawn
    assert grey[is_fixed].std() > 20 and other[~is_fixed].std() > 20
    for channel, tint in enumerate(MOVING_TINT):
        np.testing.assert_allclose(picture[..., channel][is_fixed & inside], grey[is_fixed & inside], atol=3)
        wrong = np.abs(picture[..., channel] - tint * other)[~is_fixed] > 4
        assert wrong.mean() < 0.02


def test_the_thumbnail_of_a_single_slice_and_of_a_volume_under_a_transform(scene, tmp_path):
    from RegNetLib.history_picture import make_picture

    fixed = add_volume("fixed", pattern()[20:21], GEOMETRIES["plain"])
    moving = add_volume("moving", pattern()[20:21], GEOMETRIES["plain"])
    still = add_linear("still", np.eye(4))
    picture = read_png(make_picture(fixed, moving, still), tmp_path)
    truth = sampled(fixed, axial_points(fixed))
    np.testing.assert_allclose(picture[..., 0][np.isfinite(truth)], 255 * unit(truth)[np.isfinite(truth)], atol=3)
    # Both moved by the same parent: the same picture.
    place = add_linear("place", rigid((10, 20, 30), (7, 8, 9)))
    fixed.SetAndObserveTransformNodeID(place.GetID())
    np.testing.assert_allclose(read_png(make_picture(fixed, moving, place), tmp_path), picture, atol=2)


def test_the_thumbnail_of_a_sagittal_acquisition_is_axial(scene, tmp_path):
    """Its fastest axis runs from front to back, its slowest from right to left."""
    from RegNetLib.history_picture import slice_lattice

    axes = np.eye(4)
    axes[:3, :3] = np.array([[0, 0, -3.0], [-1.0, 0, 0], [0, -1.2, 0]])
    volume = add_volume("sagittal", ijk_to_ras=axes)
    lattice, size = slice_lattice(volume)
    to_ras = axes @ lattice
    assert to_ras[0, 0] < 0 and to_ras[1, 1] < 0 and np.allclose(to_ras[2, :2], 0)
    assert size == (96, round(96 * 56 / 120))


def test_side_by_side(two_runs, scene, process_events):
    """Each view has the fixed volume below and a moving one under its own result above, and nothing is left."""
    import slicer

    widget, ui, manager = two_runs, two_runs.history.ui, slicer.app.layoutManager()
    before, layout = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode"), manager.layout
    displays = scene.GetNumberOfNodesByClass("vtkMRMLVolumeDisplayNode")
    moving = widget.parameters.movingVolume
    place = moving.GetTransformNodeID()
    ui.sideBySideButton.click()
    assert ui.sideBySideButton.checked and manager.layout == 57302
    for name, transform, title in zip(("RegNet1", "RegNet2"), results(widget), ("Run 1", "Run 2"), strict=True):
        view = manager.sliceWidget(name)
        composite = view.sliceLogic().GetSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == widget.parameters.fixedVolume.GetID()
        volume = scene.GetNodeByID(composite.GetForegroundVolumeID())
        assert volume is not moving and volume.GetImageData() is moving.GetImageData()
        assert volume.GetParentTransformNode() is transform and volume.GetHideFromEditors()
        assert not volume.GetSaveWithScene() and not volume.GetDisplayNode().GetSaveWithScene()
        assert view.mrmlSliceNode().GetLayoutLabel() == f"{title} · AVSM" and composite.GetLinkedControl()
    assert moving.GetTransformNodeID() == place
    ui.sideBySideButton.click()
    assert manager.layout == layout and not ui.sideBySideButton.checked
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeDisplayNode") == displays


def test_the_two_views_show_different_pictures(two_runs, grab_slice):
    two_runs.history.ui.sideBySideButton.click()
    pictures = [grab_slice(name).astype(float) for name in ("RegNet1", "RegNet2")]
    assert all(picture.std() > 20 for picture in pictures)
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


def test_side_by_side_ends(two_runs, scene, process_events):
    """When the panel is left, the layout changed, a result made or removed, or the scene closed."""
    import slicer

    widget, manager = two_runs, slicer.app.layoutManager()

    def leave():
        widget.exit()
        widget.enter()

    def run():
        widget.ui.applyButton.click()
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)

    ends = [
        (leave, 3, 2),
        (lambda: manager.setLayout(4), 4, 2),
        (run, 4, 2),
        (lambda: scene.RemoveNode(results(widget)[0]), 4, 2),
        (lambda: scene.Clear(0), 4, 0),
    ]
    for end, layout, volumes in ends:
        for n in range(widget.history.ui.historyList.count):
            widget.history.ui.historyList.item(n).setSelected(True)
        widget.history.ui.sideBySideButton.click()
        assert 57302 <= manager.layout <= 57303
        end()
        process_events(timeout=0.05)
        assert manager.layout == layout and not widget.history.ui.sideBySideButton.checked
        assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == volumes


def test_one_result_is_shown_beside_the_present_one(two_runs):
    import slicer

    widget, shown = two_runs, two_runs.history.ui.historyList
    shown.item(0).setSelected(False)  # the present one
    widget.history.ui.sideBySideButton.click()
    assert slicer.app.layoutManager().layout == 57302
    widget.history.ui.sideBySideButton.click()
    shown.item(1).setSelected(False)
    shown.item(0).setSelected(True)
    assert not widget.history.ui.sideBySideButton.enabled and not widget.history.ui.flickerButton.enabled


def test_a_scene_saved_during_a_comparison(two_runs, scene, tmp_path, process_events):
    """The stand-ins are not in it, and loading it gives the usual views."""
    import slicer

    two_runs.history.ui.sideBySideButton.click()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(0)
    slicer.app.layoutManager().setLayout(57302)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert slicer.app.layoutManager().layout == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 2


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_layout_node_takes_the_layouts(scene, count):
    """MRML's own layout logic reads them, and makes the views that they name."""
    import slicer
    from RegNetLib.compare_views import FIRST_LAYOUT, layout_description, register_layouts

    register_layouts()
    register_layouts()
    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    assert node.GetLayoutDescription(FIRST_LAYOUT + count) == layout_description(count)
    logic = slicer.vtkMRMLLayoutLogic()
    fresh = slicer.vtkMRMLScene()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(fresh)
    logic.SetMRMLScene(fresh)
    logic.GetLayoutNode().AddLayoutDescription(FIRST_LAYOUT + count, layout_description(count))
    logic.GetLayoutNode().SetViewArrangement(FIRST_LAYOUT + count)
    views = logic.GetViewNodes()
    found = [views.GetItemAsObject(n) for n in range(views.GetNumberOfItems())]
    assert [view.GetLayoutName() for view in found] == [f"RegNet{n + 1}" for n in range(count)]
    assert all(view.GetOrientation() == "Axial" for view in found)


def test_flicker(two_runs, process_events):
    """The moving volume goes to and fro, as fast as the slider says, and back to where it was at the end."""
    widget, ui, moving = two_runs, two_runs.history.ui, two_runs.parameters.movingVolume
    home = moving.GetTransformNodeID()
    ids = [transform.GetID() for transform in results(widget)]
    seen = []
    moving.AddObserver("ModifiedEvent", lambda *_: seen.append(moving.GetTransformNodeID()))
    ui.rateSlider.value = 5
    ui.flickerButton.click()
    assert ui.flickerButton.checked and ui.historyStatusLabel.text == "Now: Run 1 · AVSM"
    assert process_events(until=lambda: [k for k, n in enumerate(seen[1:]) if n != seen[k]][2:], timeout=10)
    assert set(seen) == set(ids)
    ui.flickerButton.click()
    assert not ui.flickerButton.checked and moving.GetTransformNodeID() == home
    assert ui.historyStatusLabel.text == ""
    seen.clear()
    process_events(timeout=0.4)
    assert seen == []


def test_flicker_stops(two_runs, process_events, scene):
    """When the panel is left, a result used, made or removed, the volume moved, or the scene closed."""
    widget, ui, moving = two_runs, two_runs.history.ui, two_runs.parameters.movingVolume
    first, second = results(widget)
    other = add_linear("other", rigid((5, 0, 0)))

    def leave():
        widget.exit()
        widget.enter()

    def use():
        ui.historyList.item(0).setSelected(False)
        ui.useButton.click()

    def run():
        widget.ui.applyButton.click()
        assert moving.GetTransformNodeID() == second.GetID()  # before anything else
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=20)

    def back():
        moving.SetAndObserveTransformNodeID(second.GetID())
        widget.parameters.resultTransform = second

    ends = [
        (leave, second),
        (lambda: moving.SetAndObserveTransformNodeID(other.GetID()), other),
        (use, first),
        (run, second),
        (lambda: scene.RemoveNode(first), second),
    ]
    for end, expected in ends:
        back()
        for n in range(ui.historyList.count):
            ui.historyList.item(n).setSelected(n >= ui.historyList.count - 2)
        ui.flickerButton.click()
        assert moving.GetTransformNodeID() == first.GetID()
        end()
        assert process_events(until=lambda: not ui.flickerButton.checked, timeout=5)
        assert moving.GetTransformNodeID() == expected.GetID()
    scene.Clear(0)
    process_events()
    assert not ui.flickerButton.checked


def test_flicker_rests_while_a_dialog_is_open(two_runs, process_events, monkeypatch):
    """It may be the dialog that saves the scene."""
    from RegNetLib import history_flicker

    widget, moving = two_runs, two_runs.parameters.movingVolume
    home, first = moving.GetTransformNodeID(), results(widget)[0].GetID()
    widget.history.ui.flickerButton.click()
    monkeypatch.setattr(history_flicker, "dialog_is_open", lambda: True)
    assert process_events(until=lambda: moving.GetTransformNodeID() == home, timeout=5)
    monkeypatch.setattr(history_flicker, "dialog_is_open", lambda: False)
    assert process_events(until=lambda: moving.GetTransformNodeID() == first, timeout=5)


def test_flicker_is_for_one_pair(two_runs, apply, process_events):
    widget = two_runs
    widget.ui.swapButton.click()
    widget.ui.transformSelector.setCurrentNode(None)
    apply(widget)
    process_events()
    shown = widget.history.ui.historyList
    for n in range(shown.count):
        shown.item(n).setSelected(n < 2)
    assert not widget.history.ui.flickerButton.enabled and widget.history.ui.sideBySideButton.enabled
