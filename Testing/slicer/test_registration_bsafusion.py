"""BSAFusion through its panel's buttons on the real worker: what it fuses arrives, in greys and in colours.

The networks are small and untrained: these tests are about the way that images take, not about what they show.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from volumes import GEOMETRIES, add_volume, pattern

sys.path.append(str(Path(__file__).resolve().parents[1] / "core"))
PET_HEAT = "vtkMRMLPETProceduralColorNodePET-Heat"
FLAT = np.diag([-1.2, -1.2, 1.0, 1.0])
OTHER = GEOMETRIES["oblique"] @ np.diag([0.8, 0.9, 0.7, 1.0])


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    """Weights where the worker and the panel look first; to be asked for before the worker starts."""
    from fusion_models import write_models
    from regnet.zoo import ENVIRONMENT_VARIABLE

    folder = write_models(tmp_path_factory.mktemp("models"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def warm_client(small_weights):
    from RegNetLib.worker_client import WorkerClient

    client = WorkerClient()
    yield client
    client.stop()


@pytest.fixture
def panel(real_panel):
    """The panel on the real worker, for volumes that are aligned, with little refinement."""
    widget = real_panel("RegNetBSAFusion")
    widget.ui.alignmentComboBox.currentText = "None (already aligned)"
    widget.ui.refinementComboBox.currentText = "Number of steps"
    widget.ui.refineStepsSpinBox.value = 10
    widget.form._fields["refine_with"]._widget.currentText = "Edges (no trained weights, quickest)"
    return widget


@pytest.fixture
def press_fuse(process_events):
    def press(panel):
        assert panel.ui.fuseButton.enabled, panel.ui.fuseButton.toolTip
        panel.ui.fuseButton.click()
        assert process_events(until=lambda: not panel.client.is_busy(), timeout=240)
        assert panel.ui.fuseStatusLabel.text.startswith("Fused"), panel.ui.fuseStatusLabel.text
        return panel.parameters.fusedVolume

    return press


def choose(panel, dims: int, in_colour: bool):
    """A pair of two contrasts, the moving one shown in greys or as a PET is."""
    if dims == 3:
        fixed = pattern((28, 32, 36)), GEOMETRIES["oblique"]
        moving = 400.0 - 3.0 * pattern((34, 36, 42), seed=4), OTHER
    else:
        image = pattern((30, 72, 64))[15:16]
        fixed, moving = (image, FLAT), (np.roll(image.max() - image, (3, -2), axis=(1, 2)), FLAT)
    panel.ui.fixedSelector.setCurrentNode(add_volume("MR", *fixed))
    panel.ui.movingSelector.setCurrentNode(add_volume("PET", *moving))
    if in_colour:
        display = panel.parameters.movingVolume.GetDisplayNode()
        display.SetAndObserveColorNodeID(PET_HEAT)
        display.SetAutoWindowLevel(False)
        low, high = float(moving[0].min()), float(moving[0].max())
        display.SetWindowLevelMinMax(0.8 * low + 0.2 * high, 0.1 * low + 0.9 * high)


def images(panel):
    """The pair as the core takes it, the moving volume where it lies without any transform; and its colours."""
    from regnet.colour_table import ColourTable
    from regnet.image import Image
    from RegNetLib import conversion
    from RegNetLib.colours import colours_of

    moving = panel.parameters.movingVolume
    arrays = [conversion.volume_to_array(volume) for volume in (panel.parameters.fixedVolume, moving)]
    table = colours_of(moving)
    colours = ColourTable(**table) if table else None
    return [Image.from_numpy(one.array, one.index_to_world, one.ndim) for one in arrays], colours


def array_of(volume) -> np.ndarray:
    """(C, D, H, W) as the core has it."""
    import slicer

    array = slicer.util.arrayFromVolume(volume)
    return np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]


def agree(volume, image) -> None:
    """The volume shows what the core made, up to rounding."""
    from RegNetLib.conversion import volume_to_array

    found, expected = array_of(volume), image.data.numpy()
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = 255.0 if expected.dtype == np.uint8 else np.ptp(expected)
    difference = np.abs(found.astype(float) - expected) / scale
    assert difference.max() < 0.05 and difference.mean() < 2e-3
    assert found.astype(float).std() / scale > 0.02
    assert len(found) == 3 or volume_to_array(volume).ndim == image.ndim


@pytest.mark.parametrize(
    ("dims", "in_colour"), [(2, False), (2, True), (3, True), pytest.param(3, False, marks=pytest.mark.slow)]
)
def test_the_fused_volume_is_what_the_core_makes(panel, press_apply, press_fuse, dims, in_colour):
    """With the registration, and again by the step of the review with what the registration gave."""
    import regnet
    from regnet.fusing import fuse

    choose(panel, dims, in_colour)
    pair, colours = images(panel)
    transform = press_apply(panel)
    report = json.loads(transform.GetAttribute("RegNet.Report"))
    assert report["fusion"]["mode"] == ("plane" if dims == 2 else "volume") and report["warnings"] == []
    assert "Fusion" in {panel.ui.numbersTable.item(row, 0).text() for row in range(panel.ui.numbersTable.rowCount)}
    expected = regnet.register(
        *pair,
        model="bsafusion",
        align="none",
        refine=10,
        parameters={"refine_with": "edges"},
        device=report["device"],
        colours=colours,
    )
    volume = panel.parameters.fusedVolume
    assert volume.GetName() == "PET fused with MR (BSAFusion)"
    assert volume.GetClassName() == ("vtkMRMLVectorVolumeNode" if in_colour else "vtkMRMLScalarVolumeNode")
    agree(volume, expected.fused)
    first = array_of(volume).copy()
    assert press_fuse(panel) is volume and panel.review.mode() == "fused"
    agree(volume, expected.fused)  # the transform node says the same
    panel.ui.afterCheckBox.click()
    assert press_fuse(panel) is volume
    agree(volume, fuse(*pair, colours=colours).image)  # where it was before
    assert np.abs(array_of(volume).astype(float) - first).max() > 1e-3


def test_a_fused_colour_is_the_tables_at_the_fused_brightness(panel, press_apply, press_fuse):
    """The chroma of every voxel is that of the colour on the screen, of Slicer's own display."""
    from PIL import Image as Picture
    from vtk.util.numpy_support import vtk_to_numpy

    choose(panel, 2, True)
    moving = panel.parameters.movingVolume
    fused = array_of(press_fuse(panel))[:, 0]
    port = moving.GetDisplayNode().GetImageDataConnection()
    port.GetProducer().Update()
    seen = vtk_to_numpy(port.GetProducer().GetOutputDataObject(port.GetIndex()).GetPointData().GetScalars())
    seen = np.ascontiguousarray(seen.reshape(72, 64, 4)[..., :3])
    ours = np.ascontiguousarray(np.moveaxis(fused, 0, -1))
    room = (ours.min(-1) > 4) & (ours.max(-1) < 251)
    assert room.mean() > 0.05
    chroma = [np.asarray(Picture.fromarray(one).convert("YCbCr"))[..., 1:].astype(int) for one in (ours, seen)]
    assert np.abs(chroma[0] - chroma[1])[room].max() <= 10 and np.ptp(chroma[1][room]) > 60


def test_a_cancel_stops_the_fusion_and_the_worker_stays(panel, press_fuse, process_events, scene):
    choose(panel, 3, False)
    press_fuse(panel)
    process, count = panel.client.process_id(), scene.GetNumberOfNodes()
    before = array_of(panel.parameters.fusedVolume).copy()
    panel.ui.fuseButton.click()
    assert panel.ui.fuseButton.text == "Cancel fusion"
    panel.ui.fuseButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=10)
    assert panel.ui.fuseStatusLabel.text == "Cancelled; nothing was changed."
    assert scene.GetNumberOfNodes() == count
    np.testing.assert_array_equal(array_of(panel.parameters.fusedVolume), before)
    press_fuse(panel)
    assert panel.client.process_id() == process


def test_what_only_the_core_sees_is_its_sentence(panel, process_events):
    choose(panel, 2, False)
    array = pattern((30, 72, 64))[15:16].copy()
    array[0, 5, 5] = np.nan
    panel.ui.movingSelector.setCurrentNode(add_volume("broken", array, FLAT))
    panel.ui.fuseButton.click()
    assert process_events(until=lambda: not panel.client.is_busy(), timeout=60)
    text = "The moving image contains 1 NaN or infinite values; replace them first."
    assert panel.ui.fuseStatusLabel.text == text and panel.parameters.fusedVolume is None


def test_without_weights_by_choice(panel, press_apply):
    choose(panel, 2, True)
    panel.form._fields["weights"]._widget.currentText = "None"
    report = json.loads(press_apply(panel).GetAttribute("RegNet.Report"))
    assert report["weights"] is None and "fusion" not in report and panel.parameters.fusedVolume is None
    assert not panel.ui.fusedButton.isVisibleTo(panel.parent)
