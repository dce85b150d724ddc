"""What the tests of the propagation panel share: a panel with a scan, targets, and what the stand-in makes of them."""

from __future__ import annotations

import fake_worker
import numpy as np
import SimpleITK as sitk
from segmentations import SMALL, add_segmentation, add_sequence
from volumes import GEOMETRIES, add_volume, as_itk, pattern, rigid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TARGET_SHAPE = (20, 18, 24)


def open_scan(worker, widget_factory, mode="shift", geometry="plain"):
    """The panel with a scan and its segmentation chosen."""
    worker(mode)
    panel = widget_factory("RegNetPropagation")
    panel.ui.scanSelector.setCurrentNode(add_volume("baseline", pattern(SMALL), GEOMETRIES[geometry]))
    panel.ui.segmentationSelector.setCurrentNode(add_segmentation("organs", ijk_to_ras=GEOMETRIES[geometry]))
    return panel


def near(shape) -> np.ndarray:
    """A turned lattice of 1.2 x 1.1 x 0.9 mm with its centre where the fake registration sends the baseline's."""
    axes = rigid((8, -5, 10)) @ np.diag([1.2, 1.1, 0.9, 1.0])
    centre = GEOMETRIES["plain"] @ [*((np.array(SMALL[::-1]) - 1) / 2), 1.0]
    back = np.linalg.inv(LPS @ np.array(fake_worker.AFFINE) @ LPS) @ centre
    axes[:3, 3] = back[:3] - axes[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return axes


def result_of(panel, target, kind="vtkMRMLSegmentationNode"):
    from RegNetLib.propagation_nodes import earlier_result

    return earlier_result(panel.parameters.segmentation, target, kind)


def registered(shape, place: np.ndarray) -> sitk.Transform:
    """What the stand-in answers for a target, as SimpleITK has it."""
    field = sitk.GetImageFromArray(fake_worker.displacement(shape).astype(np.float64), isVector=True)
    field.CopyInformation(as_itk(np.zeros(shape, np.uint8), place))
    linear = sitk.AffineTransform(3)
    matrix = np.array(fake_worker.AFFINE)
    linear.SetMatrix(matrix[:3, :3].ravel().tolist())
    linear.SetTranslation(matrix[:3, 3].tolist())
    return sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])


def carried(mask, scan_place, shape, target_place, transform) -> np.ndarray:
    """A mask on the target's lattice, by SimpleITK's nearest neighbours."""
    grid = as_itk(np.zeros(shape, np.uint8), target_place)
    source = as_itk(mask.astype(np.uint8), scan_place)
    return sitk.GetArrayFromImage(sitk.Resample(source, grid, transform, sitk.sitkNearestNeighbor)) > 0


def add_targets(tick, panel, bright=()) -> list:
    volumes = []
    for number in range(3):
        array = pattern(TARGET_SHAPE, seed=number + 5) + (2000 if number in bright else 0)
        volumes.append(add_volume(f"patient {number}", array, near(TARGET_SHAPE)))
    tick(panel.ui.targetList, *(volume.GetName() for volume in volumes))
    return volumes


def watched_bar(panel) -> list[int]:
    """The values that the bar of a run shows, one after the other."""
    kept, progress = [], panel.run.on_progress

    def watched(*arguments):
        progress(*arguments)
        kept.append(panel.ui.progressBar.value)

    panel.run.on_progress = watched
    return kept


def open_sequence(panel, browse=True, frame=1, bright=None):
    """Four frames, of which the second is segmented, and ``bright`` is too bright; the browser or None."""
    arrays = [pattern(SMALL, shift=(0, 0, number)) + (2000 if number == bright else 0) for number in range(4)]
    sequence, browser = add_sequence("heart", arrays, browse=browse)
    if browser is not None:
        browser.SetSelectedItemNumber(frame)
    panel.ui.destinationComboBox.currentText = "The frames of a sequence (4D)"
    panel.ui.sequenceSelector.setCurrentNode(sequence)
    return sequence, browser
