"""What a correction is asked of the worker, for any transform, and what the answer becomes."""

from __future__ import annotations

import fake_worker
import numpy as np
import pytest
from regnet.protocol import CorrectRequest
from segmentations import add_segmentation, ball
from volumes import GEOMETRIES, SHAPE, add_bend, add_linear, pull, rigid, through, to_lps

PLACE = (30.0, 15.0, 30.0)


def test_the_request_is_what_the_widgets_and_the_scene_say(panel, place_pair, press_refine, sent):
    from RegNetLib.conversion import volume_to_array

    place_pair(panel, PLACE)
    ui, parameters = panel.ui, panel.parameters
    parameters.correctMovingPoints.SetNthControlPointPosition(0, (1.0, 2.0, 3.0))
    ui.correctModeComboBox.currentText = "Exact"
    ui.correctReachSpinBox.value = 25.0
    ui.correctImagesCheckBox.click()
    ui.correctSimilarityComboBox.currentText = "Local correlation"
    ui.deviceComboBox.currentText = "Processor (CPU)"
    press_refine(panel)
    asked = next(message for message in sent if message["command"] == "correct")
    request = CorrectRequest(**{name: value for name, value in asked.items() if name != "arrays"})
    assert (request.mode, request.reach, request.images, request.similarity) == ("exact", 25.0, True, "lncc")
    assert request.device == "cpu" and request.region is None
    np.testing.assert_allclose(request.fixed_points, [to_lps(np.array(PLACE))])
    np.testing.assert_allclose(request.moving_points, [(-1.0, -2.0, 3.0)])
    np.testing.assert_array_equal(asked["arrays"]["moving"], volume_to_array(parameters.movingVolume).array)
    np.testing.assert_allclose(request.moving.index_to_world, volume_to_array(parameters.movingVolume).index_to_world)
    step = request.transforms[0]
    np.testing.assert_allclose(step.affine, fake_worker.AFFINE, atol=1e-12)
    np.testing.assert_array_equal(asked["arrays"]["transform-0"], fake_worker.displacement(SHAPE))  # to the bit


def worker_sees(asked: dict, points: np.ndarray) -> np.ndarray:
    """Where the transforms of a request take LPS ``points``."""
    from regnet.image import Grid
    from regnet.transform import Affine, DisplacementField

    for step in asked["transforms"]:
        if step["displacement"]:
            array = asked["arrays"][step["displacement"]["file"].removesuffix(".npy")]
            place = np.array(step["displacement"]["index_to_world"])
            points = DisplacementField(array, Grid(array.shape[:3], place))(points)
        points = Affine(np.array(step["affine"]))(points)
    return points


@pytest.mark.parametrize("kind", ["linear", "bend", "loaded", "below another", "backwards"])
def test_any_transform_is_sent_and_comes_back(panel, place_pair, press_refine, sent, tmp_path, kind):
    """What the worker sees is what Slicer shows; and the new node is the answer before all of the old one."""
    import slicer
    from regnet.image import Grid
    from regnet.transform import Affine, Composite, DisplacementField

    turned = rigid((5, 9, -7), (-70, -60, -10)) @ np.diag([3.0, 3.0, 3.5, 1.0])
    field = DisplacementField(fake_worker.displacement((28, 30, 32)), Grid((28, 30, 32), turned))
    if kind == "linear":
        node = add_linear("start", rigid((3, 5, 7), (2, 3, 4)))
    elif kind == "bend":
        node = add_bend("start")
    else:
        Composite((field, Affine(rigid((2, 0, 5))))).write(tmp_path / "start.h5")
        node = slicer.util.loadTransform(str(tmp_path / "start.h5"))
    if kind == "below another":
        node.SetAndObserveTransformNodeID(add_linear("table", rigid((0, 0, 12), (5, 0, 0))).GetID())
    if kind == "backwards":
        node.Inverse()
    panel.ui.transformSelector.setCurrentNode(node)
    place_pair(panel, PLACE)
    press_refine(panel)
    asked = next(message for message in sent if message["command"] == "correct")
    world = np.random.default_rng(2).uniform((12, 0, 12), (52, 34, 44), (60, 3))
    expected = to_lps(through(pull(node), world))
    np.testing.assert_allclose(worker_sees(asked, to_lps(world)), expected, atol=0.1)
    grid = Grid(SHAPE, np.array(asked["fixed"]["index_to_world"]))
    first = DisplacementField(fake_worker.displacement(SHAPE), grid)(to_lps(world))
    after = panel.parameters.resultTransform
    found = through(pull(after), world)
    np.testing.assert_allclose(found, through(pull(node), to_lps(first)), atol=2e-3)
    away = world + 200.0  # beyond the fixed volume, too
    np.testing.assert_allclose(through(pull(after), away), through(pull(node), away), atol=2e-3)
    assert after.GetParentTransformNode() is None and after is not node
    assert after.GetNodeReference("spatialRegistrationMoving") is panel.parameters.movingVolume


def test_the_next_registration_starts_where_the_volume_was(panel, place_pair, press_refine, sent, apply):
    """A moving volume that wears a corrected result is taken from where it was before the first one."""
    from RegNetLib.conversion import volume_to_array

    place_pair(panel, PLACE)
    press_refine(panel)
    panel.ui.transformSelector.setCurrentNode(None)
    apply(panel)
    asked = [message for message in sent if message["command"] == "register"][-1]
    own = volume_to_array(panel.parameters.movingVolume)
    np.testing.assert_allclose(asked["moving"]["index_to_world"], own.index_to_world)


def test_a_region_is_sent_as_it_lies_in_the_world(panel, press_refine, sent, process_events):
    shape = (40, 48, 56)
    masks = {"liver": ball(shape, (0.5, 0.5, 0.4), 0.2), "lesion": ball(shape, (0.4, 0.5, 0.6), 0.1)}
    node = add_segmentation("painted", masks)
    table = add_linear("table", rigid((0, 0, 20), (3, 0, 0)))
    node.SetAndObserveTransformNodeID(table.GetID())
    panel.ui.correctSegmentationSelector.setCurrentNode(node)
    box = panel.ui.correctSegmentComboBox
    assert [box.itemText(n) for n in range(box.count)] == ["liver", "lesion"] and box.currentText == "liver"
    assert not panel.ui.correctImagesCheckBox.enabled
    box.currentIndex = 1
    assert panel.parameters.correctSegment == "Segment_2"
    press_refine(panel)
    asked = next(message for message in sent if message["command"] == "correct")
    assert asked["images"] is True and asked["fixed_points"] == []
    index = np.argwhere(asked["arrays"]["region"]).mean(0)[::-1]
    place = np.array(asked["region"]["index_to_world"])
    middle = np.argwhere(masks["lesion"]).mean(0)[::-1]
    world = rigid((0, 0, 20), (3, 0, 0)) @ GEOMETRIES["plain"] @ [*middle, 1.0]
    np.testing.assert_allclose(place[:3, :3] @ index + place[:3, 3], to_lps(world[:3]), atol=1e-6)
