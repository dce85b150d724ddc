"""Segments on their way from a segmentation node to label maps and back."""

from __future__ import annotations

import numpy as np
import pytest
from segmentations import LABELMAP, LIVER, SMALL, add_segmentation, ball, mask_of, names_of, organs, oriented
from volumes import GEOMETRIES, add_volume, pattern


def ids(node) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs())


@pytest.mark.parametrize("geometry", ["plain", "oblique", "left-handed"])
def test_segments_survive_the_way_there_and_back(scene, geometry):
    """On the same lattice: every voxel, name, colour, terminology, layer and the order."""
    from RegNetLib.propagation_labels import fill_segmentation, read_labels

    matrix = GEOMETRIES[geometry]
    volume, node = add_volume("scan", pattern(SMALL), matrix), add_segmentation("organs", ijk_to_ras=matrix)
    labels = read_labels(node, ids(node), volume)
    assert labels.array.shape[0] == node.GetSegmentation().GetNumberOfLayers() == 2
    assert [entry.name for entry in labels.entries] == ["liver", "kidney", "lesion"]

    # By hand: where each voxel of the array lies, against the mask it was made from.
    to_ijk = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix) @ labels.index_to_world
    for entry, mask in zip(labels.entries, organs().values(), strict=True):
        found = np.argwhere(labels.array[entry.layer] == entry.value)[:, ::-1]
        ijk = np.rint(found @ to_ijk[:3, :3].T + to_ijk[:3, 3]).astype(int)
        assert sorted(map(tuple, ijk[:, ::-1])) == sorted(map(tuple, np.argwhere(mask)))

    whole = np.zeros((2, *SMALL), labels.array.dtype)
    for entry, mask in zip(labels.entries, organs().values(), strict=True):
        whole[entry.layer][mask] = entry.value
    copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    fill_segmentation(copy, whole, labels.entries, volume)
    assert ids(copy) == ids(node) and names_of(copy) == names_of(node)
    assert copy.GetSegmentation().GetNumberOfLayers() == 2
    for number, (name, mask) in enumerate(organs().items()):
        np.testing.assert_array_equal(mask_of(copy, name, volume), mask)
        segment = copy.GetSegmentation().GetNthSegment(number)
        np.testing.assert_allclose(segment.GetColor(), (0.2 + 0.3 * number, 0.9 - 0.3 * number, 0.1))
    assert LIVER in str(copy.GetSegmentation().GetNthSegment(0))
    geometry = copy.GetSegmentation().GetConversionParameter("Reference image geometry")
    numbers = [float(text) for text in geometry.rstrip(";").split(";")]
    np.testing.assert_allclose(np.reshape(numbers[:16], (4, 4)), matrix, atol=1e-9)
    assert numbers[16:] == [0, 21, 0, 19, 0, 17]


def test_unticked_segments_are_left_out(scene):
    from RegNetLib.propagation_labels import read_labels

    volume, node = add_volume("scan", pattern(SMALL)), add_segmentation("organs")
    labels = read_labels(node, ["Segment_2"], volume)
    assert [entry.name for entry in labels.entries] == ["kidney"]
    assert np.count_nonzero(labels.array) == organs()["kidney"].sum()
    assert ids(node) == ["Segment_1", "Segment_2", "Segment_3"]


def test_label_maps_of_different_lattices_meet_on_one(scene):
    """A segment that was imported from elsewhere keeps its place, to half a voxel."""
    import slicer
    from RegNetLib.propagation_labels import read_labels

    volume, node = add_volume("scan", pattern(SMALL)), add_segmentation("organs", {"liver": organs()["liver"]})
    finer = GEOMETRIES["plain"] @ np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] = GEOMETRIES["plain"][:3, 3] - 0.25
    shape = tuple(2 * n for n in SMALL)
    segment = slicer.vtkSegment()
    segment.SetName("fine")
    segment.AddRepresentation(LABELMAP, oriented(ball(shape, (0.5, 0.45, 0.7), 0.2), finer))
    node.GetSegmentation().AddSegment(segment, "fine")
    labels = read_labels(node, ["Segment_1", "fine"], volume)
    volumes = np.abs(np.linalg.det(labels.index_to_world[:3, :3]))
    sizes = organs()["liver"].sum(), ball(shape, (0.5, 0.45, 0.7), 0.2).sum() / 8
    for entry, true in zip(labels.entries, sizes, strict=True):
        inside = np.argwhere(labels.array[entry.layer] == entry.value)
        assert len(inside) * volumes == pytest.approx(true, rel=0.05)
    centre = inside[:, ::-1].mean(0) @ labels.index_to_world[:3, :3].T + labels.index_to_world[:3, 3]
    expected = GEOMETRIES["plain"] @ [*(np.array([0.7, 0.45, 0.5]) * (np.array(SMALL[::-1]) - 0.5)), 1.0]
    np.testing.assert_allclose(centre, expected[:3] * (-1, -1, 1), atol=0.5)


def test_a_surface_becomes_a_label_map_and_the_node_stays_as_it_is(scene):
    import vtk
    from RegNetLib.propagation_labels import read_labels

    volume, node = add_volume("scan", pattern(SMALL)), scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "model")
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(5.0)
    sphere.SetCenter(*(GEOMETRIES["plain"] @ [10, 9, 8, 1.0])[:3])
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.Update()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", (1.0, 0.0, 0.0), "ball")
    labels = read_labels(node, ["ball"], volume)
    assert not node.GetSegmentation().ContainsRepresentation(LABELMAP)
    voxels = np.argwhere(labels.array[0])[:, ::-1]
    volume_mm3 = len(voxels) * abs(np.linalg.det(labels.index_to_world[:3, :3]))
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 125, rel=0.1)
    centre = (voxels @ labels.index_to_world[:3, :3].T + labels.index_to_world[:3, 3]).mean(0)
    np.testing.assert_allclose(centre * (-1, -1, 1), sphere.GetCenter(), atol=0.3)


def test_an_empty_segment_among_others_and_nothing_at_all(scene):
    from RegNetLib.propagation_labels import read_labels

    volume, node = add_volume("scan", pattern(SMALL)), add_segmentation("organs", {"liver": organs()["liver"]})
    node.GetSegmentation().AddEmptySegment("none", "nothing drawn")
    labels = read_labels(node, ["Segment_1", "none"], volume)
    first, second = labels.entries
    assert (labels.array[second.layer] == second.value).sum() == 0 and second.name == "nothing drawn"
    assert (first.layer, first.value) != (second.layer, second.value)
    with pytest.raises(ValueError, match="“organs” is empty: none of the ticked segments"):
        read_labels(node, ["none"], volume)
    bare = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "bare")
    bare.GetSegmentation().AddEmptySegment("one", "one")
    with pytest.raises(ValueError, match="“bare” is empty"):
        read_labels(bare, ["one"], volume)


def test_filling_again_replaces_what_it_carries_and_nothing_else(scene):
    """The surface in 3D follows, the display stays, and so does what the user has drawn."""
    from RegNetLib.propagation_labels import fill_segmentation, read_labels

    volume, node = add_volume("scan", pattern(SMALL)), add_segmentation("organs", {"liver": organs()["liver"]})
    labels = read_labels(node, ["Segment_1"], volume)
    result = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
    result.CreateDefaultDisplayNodes()
    first, second = (ball(SMALL, (0.5, 0.5, x), 0.2).astype(np.uint8)[None] for x in (0.3, 0.7))
    fill_segmentation(result, first, labels.entries, volume)
    result.GetDisplayNode().SetSegmentOpacity2DFill("Segment_1", 0.3)
    result.CreateClosedSurfaceRepresentation()
    before = result.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Closed surface").GetCenter()
    result.GetSegmentation().AddEmptySegment("mine", "drawn by hand")
    fill_segmentation(result, second, labels.entries, volume)
    assert names_of(result) == ["liver", "drawn by hand"]
    np.testing.assert_array_equal(mask_of(result, "liver", volume), second[0] > 0)
    after = result.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Closed surface").GetCenter()
    assert after[0] - before[0] == pytest.approx(0.4 * 21, abs=1.0)
    assert result.GetDisplayNode().GetSegmentOpacity2DFill("Segment_1") == pytest.approx(0.3)
