"""Segmentation files between Slicer and the core: each reads what the other wrote."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from vtk.util import numpy_support

LABELMAP = "Binary labelmap"
SPACING, ORIGIN = (1.0, 1.5, 2.0), (10.0, 20.0, 30.0)
SHAPE = (10, 12, 14)
TERMS = "Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes~^^~^^"


def oriented(mask: np.ndarray):
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(n for size in mask.shape[::-1] for n in (0, size - 1)))
    image.SetSpacing(*SPACING)
    image.SetOrigin(*ORIGIN)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True))
    return image


def masks(overlap: bool) -> dict[str, np.ndarray]:
    liver, tumour = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    liver[2:6, 3:8, 4:9] = True
    tumour[4 if overlap else 6 : 9, 3:8, 4:9] = True
    return {"liver, left": liver, "tumour ü": tumour}


def write_with_slicer(path, overlap: bool) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(LABELMAP)
    for number, (name, mask) in enumerate(masks(overlap).items()):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetColor(0.1 + 0.3 * number, 0.2, 0.3)
        segment.SetTag("TerminologyEntry", TERMS)
        segment.AddRepresentation(LABELMAP, oriented(mask))
        segmentation.AddSegment(segment, f"Segment_{number + 3}")
    segmentation.CollapseBinaryLabelmaps(False)
    assert storage(path).WriteData(node)


def storage(path):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    node.SetFileName(str(path))
    return node


@pytest.mark.parametrize("overlap", [False, True])
def test_slicer_reads_what_was_carried_from_its_own_file(tmp_path, overlap):
    from regnet.image import Grid
    from regnet.propagate import resampled
    from regnet.segmentation_files import read_segmentation, write_segmentation
    from regnet.transform import Affine

    write_with_slicer(tmp_path / "in.seg.nrrd", overlap)
    read = read_segmentation(tmp_path / "in.seg.nrrd")
    assert [segment.name for segment in read.segments] == list(masks(overlap)) and read.layers == 1 + overlap
    assert read.counts() == [int(mask.sum()) for mask in masks(overlap).values()]

    # Slicer's RAS grid in LPS, two voxels further along k; the transform brings it back and one more along i.
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*SPACING, 1.0])
    matrix[:3, 3] = -ORIGIN[0], -ORIGIN[1], ORIGIN[2] + 2 * SPACING[2]
    back = np.eye(4)
    back[:3, 3] = -SPACING[0], 0.0, -2 * SPACING[2]
    write_segmentation(resampled(read, Grid(SHAPE, matrix), Affine(back)), tmp_path / "out.seg.nrrd")

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage(tmp_path / "out.seg.nrrd").ReadData(node)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 1 + overlap
    names = list(segmentation.GetSegmentIDs())
    assert names == ["Segment_3", "Segment_4"]
    for number, (name, mask) in enumerate(masks(overlap).items()):
        segment = segmentation.GetNthSegment(number)
        assert segment.GetName() == name and segment.GetLabelValue() == read.segments[number].value
        np.testing.assert_allclose(segment.GetColor(), (0.1 + 0.3 * number, 0.2, 0.3), atol=1e-6)
        assert TERMS in str(segment)
        image = segment.GetRepresentation(LABELMAP)
        i0, _, j0, _, k0, _ = image.GetExtent()
        array = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        where = np.argwhere(array == segment.GetLabelValue()) + (k0, j0, i0)
        expected = np.argwhere(mask)
        # A point of the target reads one voxel of i further on (towards +x in RAS): the content lies one before it.
        np.testing.assert_array_equal(where, expected - (0, 0, 1))
        assert image.GetOrigin()[2] == pytest.approx(ORIGIN[2] + 2 * SPACING[2])
    geometry = segmentation.GetConversionParameter("Reference image geometry")
    numbers = [float(number) for number in geometry.rstrip(";").split(";")]
    assert numbers[3] == pytest.approx(ORIGIN[0]) and numbers[16:] == [0, 13, 0, 11, 0, 9]
