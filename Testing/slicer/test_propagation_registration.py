"""Segments carried by the real worker, judged by SimpleITK."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from segmentations import add_segmentation, ball, mask_of, names_of, overlap
from volumes import GEOMETRIES, SHAPE, add_linear, add_volume, as_itk, counterpart, pattern, rigid

MOVE = rigid((2, -2, 1), (2, -3, 1))
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def masks() -> dict[str, np.ndarray]:
    """An organ, a part of it in a layer of its own, and one at the edge of the field of view."""
    return {
        "body": ball(SHAPE, (0.5, 0.5, 0.5), 0.3),
        "core": ball(SHAPE, (0.55, 0.45, 0.5), 0.12),
        "edge": ball(SHAPE, (0.03, 0.5, 0.5), 0.12),
    }


def test_segments_follow_the_anatomy(real_panel, process_events):
    """A turned, bent counterpart of the scan: the segments are where the same motion puts their masks."""
    panel = real_panel("RegNetPropagation")
    matrix, axes = GEOMETRIES["plain"], GEOMETRIES["oblique"].copy()
    axes[:3, 3] = 0.0
    scan = add_volume("scan", pattern(), matrix)
    image, place = counterpart(pattern(), matrix, axes)
    target = add_volume("target", image, place)
    panel.ui.scanSelector.setCurrentNode(scan)
    segmentation = add_segmentation("organs", masks(), matrix)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    panel.parameters.set_targets([target])
    truth = {name: counterpart(mask.astype(np.float32), matrix, axes)[0] > 0.5 for name, mask in masks().items()}
    panel.ui.referenceSelector.setCurrentNode(add_segmentation("truth", truth, place))
    panel.model.form._fields["iterations"]._widget.value = 6
    panel.ui.applyButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=300)
    assert panel.ui.statusLabel.text.startswith("Done: “organs on target”."), panel.ui.statusLabel.text

    from RegNetLib.propagation_nodes import earlier_result

    result = earlier_result(segmentation, target)
    assert names_of(result) == list(masks())
    grid = as_itk(np.zeros(image.shape, np.uint8), LPS @ place)
    for number, (name, mask) in enumerate(masks().items()):
        found = mask_of(result, name, target)
        source = as_itk(mask.astype(np.uint8), LPS @ matrix)
        at_rest = sitk.GetArrayFromImage(sitk.Resample(source, grid, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
        before, after = overlap(at_rest, truth[name]), overlap(found, truth[name])
        table = [panel.ui.resultTable.item(number, column).text() for column in range(6)]
        assert abs(float(table[4]) - after) < 0.01 and table[0] == name
        assert after > {"body": 0.95, "core": 0.85, "edge": 0.7}[name] and before < 0.6


def test_a_known_transform_with_layers_and_an_empty_segment(real_panel, process_events):
    """No registration: a matrix, a target in view of one segment only, and what the panel says of the others."""
    panel = real_panel("RegNetPropagation")
    matrix = GEOMETRIES["plain"]
    scan = add_volume("scan", pattern(), matrix)
    segmentation = add_segmentation("organs", masks(), matrix)
    segmentation.GetSegmentation().AddEmptySegment("none", "nothing drawn")
    place = matrix.copy()
    place[:3, 3] = (matrix @ [14, 10, 12, 1.0])[:3]
    target = add_volume("target", pattern((24, 30, 32)), place)
    known = add_linear("known", MOVE)
    panel.ui.scanSelector.setCurrentNode(scan)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    panel.parameters.set_targets([target])
    panel.ui.mappingComboBox.currentText = "Use a transform that exists"
    panel.ui.transformSelector.setCurrentNode(known)
    panel.ui.interpolationComboBox.currentText = "Nearest voxel"
    panel.ui.applyButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=120)

    from RegNetLib.propagation_nodes import earlier_result

    result = earlier_result(segmentation, target)
    assert names_of(result) == [*masks(), "nothing drawn"] and result.GetSegmentation().GetNumberOfLayers() == 2
    back = sitk.AffineTransform(3)
    inverse = LPS @ np.linalg.inv(MOVE) @ LPS
    back.SetMatrix(inverse[:3, :3].ravel().tolist())
    back.SetTranslation(inverse[:3, 3].tolist())
    grid = as_itk(np.zeros((24, 30, 32), np.uint8), LPS @ place)
    for name, mask in masks().items():
        image = sitk.Resample(as_itk(mask.astype(np.uint8), LPS @ matrix), grid, back, sitk.sitkNearestNeighbor)
        expected = sitk.GetArrayFromImage(image) > 0
        if name == "edge":
            assert not expected.any() and not mask_of(result, name, target).any()
        else:
            assert overlap(mask_of(result, name, target), expected) > 0.999
    lines = panel.ui.statusLabel.text.splitlines()
    assert lines[0] == "Done: “organs on target”."
    assert "1 segment is without a voxel in the segmentation: nothing drawn." in lines
    assert "1 segment is outside the field of view of the target: edge." in lines
    assert any(line.startswith("1 segment is only partly in the field of view of the target: body (") for line in lines)
    notes = [panel.ui.resultTable.item(row, 5).text() for row in range(4)]
    assert notes == ["partly outside the target", "", "outside the target", "empty in the source"]
