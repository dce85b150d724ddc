"""The region of interest of a registration panel: boxes, segments and label volumes, and the segments of masks."""

from __future__ import annotations

import numpy as np
import pytest
from regnet.protocol import RegisterRequest
from segmentations import add_segmentation, organs
from volumes import GEOMETRIES, SHAPE, add_bend, add_linear, add_volume, pattern, rigid, scaled


def asked_of(sent: list[dict]) -> tuple[RegisterRequest, dict]:
    message = [message for message in sent if message["command"] == "register"][-1]
    return RegisterRequest(**{name: value for name, value in message.items() if name != "arrays"}), message["arrays"]


def on_lattice(request: RegisterRequest, arrays: dict, name: str, shape) -> np.ndarray:
    """The sent part of the fixed volume's lattice in its place, (D, H, W) bool."""
    entry, array = getattr(request, name), arrays[name]
    to_fixed = np.linalg.inv(request.fixed.index_to_world) @ entry.index_to_world
    np.testing.assert_allclose(to_fixed[:3, :3], np.eye(3), atol=1e-6)
    first = np.rint(to_fixed[:3, 3]).astype(int)[::-1]
    np.testing.assert_allclose(to_fixed[:3, 3], first[::-1], atol=1e-5)
    whole = np.zeros(shape, bool)
    whole[tuple(slice(a, a + n) for a, n in zip(first, array.shape, strict=True))] = array > 0
    return whole


def inside_box(roi, volume) -> np.ndarray:
    """Which voxels of a volume Slicer's own planes of the box hold, point by point in RAS."""
    import slicer

    to_box = np.linalg.inv(slicer.util.arrayFromVTKMatrix(roi.GetObjectToWorldMatrix()))
    place = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(place)
    place = slicer.util.arrayFromVTKMatrix(place)
    parent = volume.GetParentTransformNode()
    if parent is not None:
        matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
        parent.GetMatrixTransformToWorld(matrix)
        place = slicer.util.arrayFromVTKMatrix(matrix) @ place
    shape = volume.GetImageData().GetDimensions()[::-1]
    index = np.stack(np.indices(shape)[::-1], axis=-1)
    local = index @ (to_box @ place)[:3, :3].T + (to_box @ place)[:3, 3]
    return (np.abs(local) <= np.array(roi.GetSize()) / 2 + 1e-6).all(axis=-1)


@pytest.mark.parametrize(
    "module", ["RegNet", "RegNetAVSM", "RegNetMASR", "RegNetDeformGAN", "RegNetDDIM", "RegNetBSAFusion"]
)
def test_every_registration_panel_has_the_section_folded_away(open_pair, module):
    ui = open_pair(module=module).ui
    assert ui.regionSection.collapsed and ui.regionSection.text == "Region of interest"
    assert ui.regionTaperSpinBox.value == 10.0 and not ui.regionTaperSpinBox.enabled
    assert not ui.regionSegmentComboBox.enabled and ui.newBoxButton.enabled
    for name in ("regionSelector", "regionSegmentComboBox", "newBoxButton", "regionTaperSpinBox"):
        assert getattr(ui, name).toolTip.endswith(".")


@pytest.mark.parametrize("geometry", ["plain", "left-handed", "oblique"])
def test_a_new_box_is_the_region_that_is_sent(open_pair, apply, sent, geometry):
    widget = open_pair()
    fixed = add_volume("turned", ijk_to_ras=GEOMETRIES[geometry])
    fixed.SetAndObserveTransformNodeID(add_linear("table", rigid((4, -6, 8), (3, 2, 1))).GetID())
    widget.ui.fixedSelector.setCurrentNode(fixed)
    widget.ui.newBoxButton.click()
    roi = widget.ui.regionSelector.currentNode()
    assert roi is widget.parameters.region and roi.IsA("vtkMRMLMarkupsROINode")
    assert roi.GetDisplayNode().GetVisibility() and roi.GetDisplayNode().GetFillOpacity() < 0.2
    assert widget.ui.regionTaperSpinBox.enabled
    widget.ui.regionTaperSpinBox.value = 6.5
    apply(widget)
    request, arrays = asked_of(sent)
    found = on_lattice(request, arrays, "region", SHAPE)
    np.testing.assert_array_equal(found, inside_box(roi, fixed))
    assert request.taper == 6.5 and request.region.ndim == 3
    assert 0.03 < found.mean() < 0.12  # four tenths along each axis
    assert arrays["region"].size < 0.2 * found.size  # only the box's part was made


def test_a_box_is_where_it_was_dragged_and_where_its_transform_puts_it(open_pair, apply, sent):
    import slicer

    widget = open_pair()
    fixed = add_volume("turned", ijk_to_ras=GEOMETRIES["oblique"])
    widget.ui.fixedSelector.setCurrentNode(fixed)
    widget.ui.newBoxButton.click()
    roi = widget.parameters.region
    turned = slicer.util.arrayFromVTKMatrix(roi.GetObjectToNodeMatrix()) @ rigid((20, -35, 50), (4, -3, 6))
    roi.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(turned))
    roi.SetSize(31.0, 22.0, 44.0)
    grown = rigid((0, 15, 5), (6, -4, 2)) @ scaled((1.2, 1.2, 1.2))
    roi.SetAndObserveTransformNodeID(add_linear("moved", grown).GetID())
    apply(widget)
    request, arrays = asked_of(sent)
    found = on_lattice(request, arrays, "region", SHAPE)
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    fixed.GetIJKToRASMatrix(matrix)
    to_box = np.linalg.inv(grown @ turned) @ slicer.util.arrayFromVTKMatrix(matrix)
    local = np.stack(np.indices(SHAPE)[::-1], axis=-1) @ to_box[:3, :3].T + to_box[:3, 3]
    by_hand = (np.abs(local) <= np.array([31.0, 22.0, 44.0]) / 2 + 1e-6).all(axis=-1)
    np.testing.assert_array_equal(found, by_hand)
    assert found.any() and not found.all()


def test_a_new_box_is_around_the_place_that_is_shown(open_pair):
    import slicer

    widget = open_pair()
    fixed = widget.parameters.fixedVolume
    bounds = np.zeros(6)
    fixed.GetRASBounds(bounds)
    shown = bounds[::2] + np.array([0.3, 0.6, 0.4]) * (bounds[1::2] - bounds[::2])
    manager = slicer.app.layoutManager()
    for name in manager.sliceViewNames():
        manager.sliceWidget(name).sliceLogic().GetSliceNode().JumpSliceByCentering(*shown)
    widget.ui.newBoxButton.click()
    np.testing.assert_allclose(widget.parameters.region.GetCenterWorld(), shown, atol=1e-6)
    for name in manager.sliceViewNames():
        manager.sliceWidget(name).sliceLogic().GetSliceNode().JumpSliceByCentering(900.0, 900.0, 900.0)
    widget.ui.newBoxButton.click()
    assert widget.parameters.region.GetName() != "Region of interest"
    np.testing.assert_allclose(widget.parameters.region.GetCenterWorld(), (bounds[::2] + bounds[1::2]) / 2, atol=0.6)


def test_a_segment_of_a_segmentation_or_all_of_them(open_pair, apply, sent):
    widget = open_pair()
    masks = organs(SHAPE)
    node = add_segmentation("organs", masks)
    widget.ui.regionSelector.setCurrentNode(node)
    box = widget.ui.regionSegmentComboBox
    assert box.enabled and [box.itemText(n) for n in range(box.count)] == ["All segments", *masks]
    assert box.currentText == "All segments"
    apply(widget)
    found = on_lattice(*asked_of(sent), "region", SHAPE)
    np.testing.assert_array_equal(found, np.any(list(masks.values()), axis=0))
    box.currentText = "kidney"
    apply(widget)
    np.testing.assert_array_equal(on_lattice(*asked_of(sent), "region", SHAPE), masks["kidney"])
    node.GetSegmentation().RemoveSegment(widget.parameters.regionSegment)
    widget.exit()
    widget.enter()
    assert box.currentText == "All segments" and box.count == 3


def test_masks_are_segments_too_and_swap_with_their_volumes(open_pair, apply, sent):
    widget = open_pair()
    masks = organs(SHAPE)
    widget.ui.fixedMaskSelector.setCurrentNode(add_segmentation("organs", masks))
    widget.ui.fixedMaskSegmentComboBox.currentText = "lesion"
    assert not widget.ui.movingMaskSegmentComboBox.enabled
    apply(widget)
    np.testing.assert_array_equal(on_lattice(*asked_of(sent), "fixed_mask", SHAPE), masks["lesion"])
    widget.ui.swapButton.click()
    assert widget.ui.movingMaskSegmentComboBox.currentText == "lesion"
    assert not widget.ui.fixedMaskSegmentComboBox.enabled


def test_a_label_volume_is_a_region_where_it_is_above_zero(open_pair, apply, sent, scene):
    widget = open_pair()
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "marked")
    labels.CopyContent(add_volume("inside", (3 * (pattern() > 90)).astype(np.uint8)))
    widget.ui.regionSelector.setCurrentNode(labels)
    assert not widget.ui.regionSegmentComboBox.enabled
    apply(widget)
    np.testing.assert_array_equal(on_lattice(*asked_of(sent), "region", SHAPE), pattern() > 90)


def test_in_a_flat_pair_a_box_counts_in_the_plane(open_pair, apply, sent):
    """Also where it lies far above it."""
    widget = open_pair()
    fixed = add_volume("flat", pattern()[:1] + pattern()[20:21], GEOMETRIES["oblique"])
    widget.ui.fixedSelector.setCurrentNode(fixed)
    widget.ui.movingSelector.setCurrentNode(add_volume("flat too", pattern()[20:21], GEOMETRIES["oblique"]))
    widget.ui.newBoxButton.click()
    roi = widget.parameters.region
    before = inside_box(roi, fixed)
    place = GEOMETRIES["oblique"]
    away = 40.0 * place[:3, 2] / np.linalg.norm(place[:3, 2])
    roi.SetCenterWorld(*(np.array(roi.GetCenterWorld()) + away))
    assert not inside_box(roi, fixed).any() and before.any()
    apply(widget)
    request, arrays = asked_of(sent)
    assert request.region.ndim == 2
    np.testing.assert_array_equal(on_lattice(request, arrays, "region", (1, *SHAPE[1:])), before)


def test_without_a_region_none_is_sent(open_pair, apply, sent):
    widget = open_pair()
    widget.ui.newBoxButton.click()
    widget.ui.regionSelector.setCurrentNode(None)
    apply(widget)
    request, _arrays = asked_of(sent)
    assert request.region is None and request.taper == 10.0


def test_what_is_wrong_with_a_region_is_in_the_tooltip(open_pair, scene, process_events):
    widget = open_pair()
    ui = widget.ui
    ui.regionSelector.setCurrentNode(add_segmentation("nothing", {}))
    assert "Segmentation “nothing” has no segment" in ui.applyButton.toolTip and not ui.applyButton.enabled
    ui.regionSelector.setCurrentNode(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "unplaced"))
    assert "Box “unplaced” has no size yet" in ui.applyButton.toolTip and not ui.applyButton.enabled
    ui.newBoxButton.click()
    assert ui.applyButton.enabled
    widget.parameters.region.SetAndObserveTransformNodeID(add_bend("bend").GetID())
    assert process_events(until=lambda: not ui.applyButton.enabled)
    assert "non-linear transform “bend”" in ui.applyButton.toolTip


def test_a_box_that_is_placed_and_a_segment_that_is_painted_are_noticed(open_pair, scene, process_events):
    import slicer

    widget = open_pair()
    ui = widget.ui
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "unplaced")
    ui.regionSelector.setCurrentNode(box)
    assert not ui.applyButton.enabled
    box.SetCenterWorld(*widget.parameters.fixedVolume.GetOrigin())
    box.SetSize(20.0, 20.0, 20.0)
    assert process_events(until=lambda: ui.applyButton.enabled)
    node = add_segmentation("organs", {})
    ui.regionSelector.setCurrentNode(node)
    assert not ui.applyButton.enabled and ui.regionSegmentComboBox.count == 0
    segment = slicer.vtkSegment()
    segment.SetName("tumour")
    node.GetSegmentation().AddSegment(segment, "Segment_1")
    assert process_events(until=lambda: ui.applyButton.enabled)
    assert [ui.regionSegmentComboBox.itemText(n) for n in range(2)] == ["All segments", "tumour"]
    segment.SetName("oedema")
    assert process_events(until=lambda: ui.regionSegmentComboBox.itemText(1) == "oedema")


def test_a_region_outside_is_refused_and_nothing_is_left(open_pair, scene):
    widget = open_pair()
    widget.ui.newBoxButton.click()
    widget.parameters.region.SetCenterWorld(900.0, 900.0, 900.0)
    nodes = scene.GetNumberOfNodes()
    widget.ui.applyButton.click()
    assert "lies outside of the fixed volume" in widget.ui.statusLabel.text and not widget.client.is_busy()
    assert scene.GetNumberOfNodes() == nodes and widget.ui.applyButton.enabled


def test_a_region_is_saved_with_the_scene(open_pair, scene, tmp_path, process_events):
    import slicer

    widget = open_pair()
    widget.ui.regionSelector.setCurrentNode(add_segmentation("organs", organs(SHAPE)))
    widget.ui.regionSegmentComboBox.currentText = "lesion"
    widget.ui.regionTaperSpinBox.value = 4.0
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    scene.Clear(0)
    process_events()
    assert not widget.ui.regionSegmentComboBox.enabled
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert widget.ui.regionSelector.currentNode().GetName() == "organs"
    assert widget.ui.regionSegmentComboBox.currentText == "lesion" and widget.ui.regionTaperSpinBox.value == 4.0


@pytest.mark.parametrize("how", ["removed", "closed"])
def test_a_region_that_goes_during_a_run(open_pair, process_events, scene, how):
    widget = open_pair("slow")
    widget.ui.newBoxButton.click()
    widget.ui.applyButton.click()
    assert widget.client.is_busy() and not widget.ui.regionSection.enabled
    if how == "removed":
        scene.RemoveNode(widget.parameters.region)
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=30)
        assert widget.parameters.resultTransform is not None and widget.parameters.region is None
        assert not widget.ui.regionTaperSpinBox.enabled
    else:
        scene.Clear(0)
        assert process_events(until=lambda: not widget.client.is_busy(), timeout=30)
        assert not widget.ui.newBoxButton.enabled


def test_history_knows_the_region_of_a_run(open_pair, apply):
    from RegNetLib.history import entries
    from RegNetLib.history_settings import put_back

    widget = open_pair()
    widget.ui.regionSelector.setCurrentNode(add_segmentation("organs", organs(SHAPE)))
    widget.ui.regionSegmentComboBox.currentText = "kidney"
    widget.ui.regionTaperSpinBox.value = 5.0
    apply(widget)
    node = widget.parameters.region
    widget.ui.regionSelector.setCurrentNode(None)
    widget.ui.regionTaperSpinBox.value = 20.0
    put_back(entries()[-1], widget.parameters, widget.model)
    assert widget.ui.regionSelector.currentNode() is node
    assert widget.ui.regionSegmentComboBox.currentText == "kidney" and widget.ui.regionTaperSpinBox.value == 5.0
