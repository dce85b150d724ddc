"""Fusing as a step of the review, in every panel: what is sent and what comes of it."""

from __future__ import annotations

import fake_worker
import numpy as np
import pytest
from regnet.protocol import FuseRequest
from traces import leftovers, nodes
from volumes import GEOMETRIES, add_bend, add_linear, add_volume, pattern, rigid, through, to_lps

MODULES = ("RegNet", "RegNetAVSM", "RegNetMASR", "RegNetDDIM", "RegNetDeformGAN", "RegNetBSAFusion")
NAME = "atlas fused with patient (BSAFusion)"


@pytest.fixture
def panel(open_pair, fusion_weights):
    return open_pair()


@pytest.mark.parametrize("module", MODULES)
def test_every_panel_can_fuse(open_pair, fusion_weights, press_fuse, scene, module):
    import slicer

    panel = open_pair(module=module)
    volume = press_fuse(panel)
    assert nodes(scene, "vtkMRMLScalarVolumeNode") == ["patient", "atlas", NAME] and leftovers() == []
    assert volume.GetName() == NAME and volume.GetAttribute("RegNet.Fused")
    assert "not for diagnosis" in volume.GetDescription() and volume.GetNodeReference("RegNetFusedTransform") is None
    expected = fake_worker.fused(slicer.util.arrayFromVolume(panel.parameters.fixedVolume), None)[0]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), expected)
    assert panel.review.mode() == "fused" and panel.ui.fusedButton.isVisibleTo(panel.parent)
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        assert view.GetBackgroundVolumeID() == volume.GetID() and view.GetForegroundVolumeID() is None
    text = panel.ui.fuseStatusLabel.text
    assert text.splitlines() == [
        "Fused slice by slice: the volume would need 299 MB (weights ct-mri). "
        f"The fused image is the volume “{NAME}”.", "A test warning.",
    ]  # fmt: skip
    assert panel.ui.statusLabel.text == "" and panel.parameters.resultTransform is None


def test_the_request_is_what_the_widgets_and_the_scene_say(panel, press_fuse, sent):
    from RegNetLib.conversion import volume_to_array

    fixed, moving = panel.parameters.fixedVolume, panel.parameters.movingVolume
    moving.SetAndObserveTransformNodeID(add_linear("table", rigid((0, 20, 10), (1, 2, 3))).GetID())
    panel.ui.fuseWeightsComboBox.currentText = "SPECT with MR"
    panel.ui.deviceComboBox.currentText = "Processor (CPU)"
    press_fuse(panel)
    asked = {name: value for name, value in sent[0].items() if name != "arrays"}
    request = FuseRequest(**asked)
    assert (request.weights, request.mode, request.device) == ("spect-mri", "auto", "cpu")
    assert request.colours is None and request.displacement is None
    for name, volume in (("fixed", fixed), ("moving", moving)):
        expected = volume_to_array(volume, volume.GetParentTransformNode())
        np.testing.assert_array_equal(sent[0]["arrays"][name], expected.array)
        np.testing.assert_allclose(getattr(request, name).index_to_world, expected.index_to_world)


def test_colours_are_sent_and_come_back(panel, press_fuse, sent):
    panel.parameters.movingVolume.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    volume = press_fuse(panel)
    assert len(sent[0]["colours"]["colours"]) == 256 and volume.GetClassName() == "vtkMRMLVectorVolumeNode"


def where_it_is_sampled(request: dict, points: np.ndarray) -> np.ndarray:
    """Voxels (i, j, k) of the moving array that belong to world ``points`` (LPS), as the worker will find them."""
    from regnet.image import Grid
    from regnet.transform import DisplacementField

    array = request["arrays"]["field"]
    place = np.array(request["displacement"]["index_to_world"])
    field = DisplacementField(array, Grid(array.shape[:3], place, request["displacement"]["ndim"]))
    to_index = np.linalg.inv(request["moving"]["index_to_world"])
    return field(points) @ to_index[:3, :3].T + to_index[:3, 3]


@pytest.mark.parametrize("case", ["result", "bend", "result not applied", "slices"])
def test_a_dense_transform_is_sent_as_it_is_seen(panel, apply, press_fuse, sent, case):
    """The worker samples the moving array where Slicer does."""
    import vtk

    if case == "slices":
        to_ras = GEOMETRIES["flipped"]
        for selector, name in ((panel.ui.fixedSelector, "patient slice"), (panel.ui.movingSelector, "atlas slice")):
            selector.setCurrentNode(add_volume(name, pattern((3, 64, 56))[1:2], to_ras))
    if case == "result not applied":
        panel.ui.applyCheckBox.click()
    fixed, moving = panel.parameters.fixedVolume, panel.parameters.movingVolume
    if case == "bend":
        transform = add_bend("bend")
        moving.SetAndObserveTransformNodeID(transform.GetID())
    else:
        apply(panel)
        transform = panel.parameters.resultTransform
        assert (moving.GetTransformNodeID() is None) == (case == "result not applied")
    volume = press_fuse(panel)
    assert volume.GetNodeReference("RegNetFusedTransform") is transform
    request = sent[-1]
    place = np.array(request["fixed"]["index_to_world"])
    ends = np.array(request["arrays"]["fixed"].shape[::-1]) - 1.0
    points = np.random.default_rng(4).uniform(0, 1, (200, 3)) * ends @ place[:3, :3].T + place[:3, 3]
    from_world, to_ijk = vtk.vtkGeneralTransform(), vtk.vtkMatrix4x4()
    transform.GetTransformFromWorld(from_world)
    moving.GetRASToIJKMatrix(to_ijk)
    own = through(from_world, to_lps(points))
    expected = np.array([to_ijk.MultiplyPoint([*point, 1.0])[:3] for point in own])
    assert request["displacement"]["ndim"] == (2 if case == "slices" else 3)
    np.testing.assert_allclose(where_it_is_sampled(request, points), expected, atol=0.05)
    at_rest = points @ np.linalg.inv(request["moving"]["index_to_world"])[:3, :3].T
    assert np.ptp(at_rest - expected, axis=0).max() > 1.0
    assert fixed.GetTransformNodeID() is None


def test_a_transform_of_a_large_volume_is_sampled_sparsely(scene):
    """Never so many points that the window would freeze, and still exact where the transform is smooth."""
    import vtk
    from RegNetLib import conversion

    bend = add_bend("bend")
    lattice = conversion.ImageArray(np.zeros((210, 190, 160), np.int8), conversion.FLIP @ GEOMETRIES["plain"])
    field = conversion.displacement_through(bend, lattice)
    counts = field.array.shape[:3]
    assert 0.8 * conversion.MOST_SAMPLES < np.prod(counts) <= conversion.MOST_SAMPLES
    for end in (0.0, 1.0):  # the same corners
        mine = field.index_to_world @ [*(end * (np.array(counts[::-1]) - 1)), 1.0]
        np.testing.assert_allclose(mine, lattice.index_to_world @ [*(end * np.array([159, 189, 209])), 1.0], atol=1e-9)
    from_world = vtk.vtkGeneralTransform()
    bend.GetTransformFromWorld(from_world)
    index = np.array([(0, 0, 0), (40, 51, 62), (counts[2] - 1, counts[1] - 1, counts[0] - 1)])
    points = index @ field.index_to_world[:3, :3].T + field.index_to_world[:3, 3]
    found = points + field.array[tuple(index.T[::-1])]
    np.testing.assert_allclose(found, to_lps(through(from_world, to_lps(points))), atol=1e-3)


def test_the_next_fusion_fills_the_same_volume(panel, press_fuse, apply, scene):
    import slicer

    volume = press_fuse(panel)
    count = scene.GetNumberOfNodes()
    slicer.util.updateVolumeFromArray(panel.parameters.fixedVolume, pattern(seed=9))
    assert press_fuse(panel) is volume and scene.GetNumberOfNodes() == count
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), fake_worker.fused(pattern(seed=9), None)[0])
    apply(panel)  # a new registration, not fused yet
    assert panel.review.mode() == "fade" and not panel.ui.fusedButton.isVisibleTo(panel.parent)
    assert press_fuse(panel) is volume and panel.ui.fusedButton.isVisibleTo(panel.parent)


@pytest.mark.parametrize(
    ("installed", "mode"), [(("volumes", "ct-mri"), "auto"), (("ct-mri",), "slices"), (("volumes",), "volume")]
)
def test_volumes_are_fused_with_what_is_installed(panel, fusion_weights, press_fuse, sent, installed, mode):
    fusion_weights(*installed)
    press_fuse(panel)
    assert sent[0]["mode"] == mode


def test_the_choice_of_weights_is_saved_with_the_scene(panel, scene, tmp_path, process_events):
    import slicer

    panel.ui.fuseWeightsComboBox.currentText = "PET with MR"
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    scene.Clear(0)
    process_events()
    assert panel.ui.fuseWeightsComboBox.currentText == "CT with MR"
    slicer.util.loadScene(str(path))
    process_events()
    assert panel.ui.fuseWeightsComboBox.currentText == "PET with MR"


def test_the_weights_offered_are_those_of_the_core(scene):
    from regnet.models.bsafusion import PLANES
    from RegNetLib.parameter_node import FusionWeights

    assert tuple(entry.value for entry in FusionWeights) == PLANES
