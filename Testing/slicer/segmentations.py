"""Segmentation nodes for the tests, and what lies in them, read by Slicer's own export."""

from __future__ import annotations

import numpy as np
from volumes import GEOMETRIES

LABELMAP = "Binary labelmap"
SMALL = (18, 20, 22)
LIVER = "Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~Anatomic codes~^^~^^"


def ball(shape, centre, radius) -> np.ndarray:
    """(D, H, W) bool; centre and radius in shares of the shape."""
    size = np.array(shape)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return (((grid - np.multiply(centre, size - 1)) / (radius * size)) ** 2).sum(-1) < 1


def organs(shape=SMALL) -> dict[str, np.ndarray]:
    """Two organs that touch, and a lesion inside the first: with it there are two layers."""
    liver, kidney = ball(shape, (0.45, 0.5, 0.35), 0.25), ball(shape, (0.5, 0.45, 0.7), 0.2)
    return {"liver": liver & ~kidney, "kidney": kidney, "lesion": ball(shape, (0.4, 0.5, 0.35), 0.1)}


def oriented(mask: np.ndarray, ijk_to_ras: np.ndarray):
    import slicer
    from vtk.util import numpy_support

    image = slicer.vtkOrientedImageData()
    image.SetExtent(*(n for size in mask.shape[::-1] for n in (0, size - 1)))
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True))
    return image


def add_segmentation(name: str, masks: dict[str, np.ndarray] | None = None, ijk_to_ras=None):
    """A segmentation node; the first segment has a terminology, each a colour of its own and the identity Segment_N."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(LABELMAP)
    matrix = GEOMETRIES["plain"] if ijk_to_ras is None else ijk_to_ras
    for number, (title, mask) in enumerate((organs() if masks is None else masks).items()):
        segment = slicer.vtkSegment()
        segment.SetName(title)
        segment.SetColor(0.2 + 0.3 * number, 0.9 - 0.3 * number, 0.1)
        if number == 0:
            segment.SetTag("TerminologyEntry", LIVER)
        segment.AddRepresentation(LABELMAP, oriented(mask, matrix))
        segmentation.AddSegment(segment, f"Segment_{number + 1}")
    segmentation.CollapseBinaryLabelmaps(False)
    return node


def mask_of(node, title: str, volume) -> np.ndarray:
    """(D, H, W) bool on the lattice of a volume of the scene."""
    import slicer

    identity = node.GetSegmentation().GetSegmentIdBySegmentName(title)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identity, volume) > 0


def names_of(node) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(identity).GetName() for identity in segmentation.GetSegmentIDs()]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Dice."""
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def add_sequence(name: str, arrays, ijk_to_ras=None, browse: bool = True):
    """A sequence of volumes, half a second apart, and its browser (None without ``browse``)."""
    import slicer
    from volumes import add_volume

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number, array in enumerate(arrays):
        volume = add_volume("frame", array, ijk_to_ras)
        sequence.SetDataNodeAtValue(volume, str(0.5 * number))
        for display in range(volume.GetNumberOfDisplayNodes()):
            slicer.mrmlScene.RemoveNode(volume.GetNthDisplayNode(display))
        slicer.mrmlScene.RemoveNode(volume)
    if not browse:
        return sequence, None
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequence, browser
