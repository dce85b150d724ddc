"""Slicer's nodes against SimpleITK: both must mean the same world, for every kind of geometry."""

from __future__ import annotations

import fake_worker
import numpy as np
import pytest
import SimpleITK as sitk
from volumes import (
    GEOMETRIES,
    SHAPE,
    add_bend,
    add_linear,
    add_volume,
    as_itk,
    pattern,
    rigid,
    scaled,
    through,
    to_lps,
)

TOLERANCE_MM = 0.05


def itk_transform(affine, displacement, index_to_world) -> sitk.Transform:
    """The same transform in SimpleITK: the displacement first, then the affine part."""
    field = sitk.GetImageFromArray(displacement.astype(np.float64), isVector=True)
    spacing = np.linalg.norm(index_to_world[:3, :3], axis=0)
    field.SetSpacing(spacing.tolist())
    field.SetOrigin(index_to_world[:3, 3].tolist())
    field.SetDirection((index_to_world[:3, :3] / spacing).ravel().tolist())
    linear = sitk.AffineTransform(3)
    linear.SetMatrix(np.asarray(affine)[:3, :3].ravel().tolist())
    linear.SetTranslation(np.asarray(affine)[:3, 3].tolist())
    return sitk.CompositeTransform([linear, sitk.DisplacementFieldTransform(field)])  # ITK applies the last first


def points_around(index_to_world, shape, seed=0, count=150) -> np.ndarray:
    """World points in and a little outside of the grid, (N, 3)."""
    generator = np.random.default_rng(seed)
    ijk = generator.uniform(-3.0, np.array(shape[::-1]) + 2.0, (count, 3))
    return ijk @ index_to_world[:3, :3].T + index_to_world[:3, 3]


def add_result(transform):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    node.SetAndObserveTransformFromParent(transform)
    return node


def from_world(node):
    import vtk

    general = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(general)
    return general


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_volume_is_where_itk_says(scene, tmp_path, geometry):
    """A volume saved by Slicer and read by SimpleITK has the same voxels at the same world points."""
    import slicer
    from RegNetLib import conversion

    volume = add_volume("volume", ijk_to_ras=GEOMETRIES[geometry])
    image = conversion.volume_to_array(volume)
    path = tmp_path / "volume.nrrd"
    assert slicer.util.saveNode(volume, str(path))
    stored = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(image.array, sitk.GetArrayFromImage(stored))
    for ijk in ((0, 0, 0), (55, 0, 0), (0, 47, 0), (0, 0, 39), (13, 21, 34)):
        mine = (image.index_to_world @ [*ijk, 1.0])[:3]
        np.testing.assert_allclose(mine, stored.TransformIndexToPhysicalPoint(ijk), atol=1e-4)


def test_linear_parents_are_folded_in(scene, tmp_path):
    """A chain of linear parents gives the same as hardening it."""
    import slicer
    from RegNetLib import conversion

    volume = add_volume("volume", ijk_to_ras=GEOMETRIES["oblique"])
    outer = add_linear("outer", rigid((0, 30, 0), (5, 6, 7)))
    inner = add_linear("inner", rigid((10, 0, -20), (-9, 4, 2)) @ scaled((1.1, 1.1, 1.1)), outer)
    volume.SetAndObserveTransformNodeID(inner.GetID())
    image = conversion.volume_to_array(volume, volume.GetParentTransformNode())
    volume.HardenTransform()
    path = tmp_path / "hardened.nrrd"
    assert slicer.util.saveNode(volume, str(path))
    stored = sitk.ReadImage(str(path))
    for ijk in ((0, 0, 0), (55, 47, 39), (7, 30, 3)):
        mine = (image.index_to_world @ [*ijk, 1.0])[:3]
        np.testing.assert_allclose(mine, stored.TransformIndexToPhysicalPoint(ijk), atol=1e-3)


@pytest.mark.parametrize("geometry", ["anisotropic", "oblique"])
def test_nonlinear_parent_is_applied_to_a_copy(scene, geometry):
    """Every structure is found where the parent puts it, also far outside of the volume's own box."""
    import vtk
    from RegNetLib import conversion
    from scipy.ndimage import map_coordinates

    array = pattern()
    volume = add_volume("volume", array, GEOMETRIES[geometry])
    bend = add_bend("bend")
    volume.SetAndObserveTransformNodeID(bend.GetID())
    image = conversion.volume_to_array(volume, bend)
    np.testing.assert_array_equal(conversion.volume_to_array(volume).array, array)  # the volume itself is untouched
    generator = np.random.default_rng(5)
    ijk = generator.uniform(6, np.array(SHAPE[::-1]) - 7, (200, 3))
    to_world = vtk.vtkGeneralTransform()
    bend.GetTransformToWorld(to_world)
    ras = ijk @ GEOMETRIES[geometry][:3, :3].T + GEOMETRIES[geometry][:3, 3]
    world = to_lps(through(to_world, ras))
    back = np.linalg.inv(image.index_to_world)
    found = world @ back[:3, :3].T + back[:3, 3]
    expected = map_coordinates(array, ijk.T[::-1], order=1)
    seen = map_coordinates(image.array, found.T[::-1], order=1)
    assert np.abs(seen - expected).mean() < 0.03 * array.max()
    assert np.corrcoef(seen, expected)[0, 1] > 0.97


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_transform_node_equals_itk(scene, geometry):
    from RegNetLib import conversion

    image = conversion.volume_to_array(add_volume("fixed", ijk_to_ras=GEOMETRIES[geometry]))
    field = fake_worker.displacement(SHAPE)
    node = add_result(conversion.pull_transform(fake_worker.AFFINE, field, image.index_to_world))
    expected = itk_transform(fake_worker.AFFINE, field, image.index_to_world)
    points = points_around(image.index_to_world, SHAPE)
    mine = to_lps(through(from_world(node), to_lps(points)))
    theirs = through(expected, points)
    assert np.abs(theirs - points).max() > 5.0  # the transform does something
    np.testing.assert_allclose(mine, theirs, atol=TOLERANCE_MM)


@pytest.mark.parametrize("ending", [".h5", ".tfm"])
def test_saved_transform_is_the_same_in_itk_and_when_reloaded(scene, tmp_path, ending):
    import slicer
    from RegNetLib import conversion

    place = conversion.volume_to_array(add_volume("fixed", ijk_to_ras=GEOMETRIES["oblique"])).index_to_world
    field = fake_worker.displacement(SHAPE)
    node = add_result(conversion.pull_transform(fake_worker.AFFINE, field, place))
    path = str(tmp_path / f"result{ending}")
    assert slicer.util.saveNode(node, path)
    points = points_around(place, SHAPE)
    expected = through(itk_transform(fake_worker.AFFINE, field, place), points)
    np.testing.assert_allclose(through(sitk.ReadTransform(path), points), expected, atol=TOLERANCE_MM)
    again = slicer.util.loadTransform(path)
    np.testing.assert_allclose(to_lps(through(from_world(again), to_lps(points))), expected, atol=TOLERANCE_MM)


@pytest.mark.parametrize("kind", ["linear", "bent"])
def test_result_can_replace_the_moving_volumes_parent(scene, kind):
    """Below its parent the moving volume has own coordinates; world to there must be: result, then into the parent."""
    import vtk
    from RegNetLib import conversion

    parent = add_bend("parent") if kind == "bent" else add_linear("parent", rigid((20, 10, -30), (8, -5, 3)))
    place = conversion.volume_to_array(add_volume("fixed")).index_to_world
    field = fake_worker.displacement(SHAPE)
    pull = conversion.pull_transform(fake_worker.AFFINE, field, place)
    node = add_result(conversion.into_own_coordinates(pull, parent))
    points = points_around(place, SHAPE, count=60)
    to_world = vtk.vtkGeneralTransform()
    parent.GetTransformToWorld(to_world)
    own = through(from_world(node), to_lps(points))
    world = to_lps(through(to_world, own))
    expected = through(itk_transform(fake_worker.AFFINE, field, place), points)
    np.testing.assert_allclose(world, expected, atol=TOLERANCE_MM)
    if kind == "linear":  # the result does not follow what happens to the parent later
        parent.SetMatrixTransformToParent(vtk.vtkMatrix4x4())
        np.testing.assert_allclose(through(from_world(node), to_lps(points)), own, atol=1e-6)


def test_hardening_gives_itks_picture(scene):
    """Slicer's own resampling of the moving volume under the result equals SimpleITK's."""
    from RegNetLib import conversion

    array = pattern()
    moving = add_volume("moving", array, GEOMETRIES["anisotropic"])
    image = conversion.volume_to_array(moving)
    field = fake_worker.displacement(SHAPE)
    node = add_result(conversion.pull_transform(fake_worker.AFFINE, field, image.index_to_world))
    moving.SetAndObserveTransformNodeID(node.GetID())
    moving.HardenTransform()
    hardened = conversion.volume_to_array(moving)  # Slicer makes room for what the transform moves out of the box
    expected = sitk.Resample(
        as_itk(image.array, image.index_to_world),
        as_itk(hardened.array, hardened.index_to_world),
        itk_transform(fake_worker.AFFINE, field, image.index_to_world),
        sitk.sitkLinear,
    )
    expected = sitk.GetArrayFromImage(expected)
    inside = np.abs(hardened.array - expected)[4:-4, 4:-4, 4:-4]
    assert inside.max() < 0.5
    assert np.abs(expected[:40, :48, :56] - array).max() > 50  # it moved a lot


def test_linear_result_without_field(scene):
    from RegNetLib import conversion

    node = add_result(conversion.pull_transform(fake_worker.AFFINE))
    points = points_around(np.eye(4), SHAPE)
    expected = points @ np.array(fake_worker.AFFINE)[:3, :3].T + np.array(fake_worker.AFFINE)[:3, 3]
    np.testing.assert_allclose(to_lps(through(from_world(node), to_lps(points))), expected, atol=1e-6)


def test_single_slice_is_two_dimensional(scene):
    from RegNetLib import conversion

    image = conversion.volume_to_array(add_volume("slice", pattern((40, 48, 56))[20:21], GEOMETRIES["anisotropic"]))
    assert image.ndim == 2
    field = np.zeros((1, 48, 56, 3), np.float32)
    field[0, 10:38, 10:46, 0] = 2.5
    node = add_result(conversion.pull_transform(np.eye(4), field, image.index_to_world))
    middle = (image.index_to_world @ [28, 24, 0, 1.0])[None, :3]
    np.testing.assert_allclose(
        to_lps(through(from_world(node), to_lps(middle))), middle + [2.5, 0.0, 0.0], atol=TOLERANCE_MM
    )


def test_segmentation_becomes_labels_in_place(scene):
    """A segmentation's voxels are found at the world points of the label volume that it was made from."""
    import slicer
    from RegNetLib import conversion

    array = np.zeros(SHAPE, np.uint8)
    array[10:20, 15:33, 20:41] = 1
    array[25:31, 15:20, 20:25] = 2
    matrix = slicer.util.vtkMatrixFromArray(GEOMETRIES["oblique"])
    labels = slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, nodeClassName="vtkMRMLLabelMapVolumeNode")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    assert conversion.labels_to_array(segmentation) is None
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    shift = add_linear("shift", rigid((0, 0, 15), (3, 4, 5)))
    for node in (labels, segmentation):
        node.SetAndObserveTransformNodeID(shift.GetID())
    found, expected = conversion.labels_to_array(segmentation), conversion.labels_to_array(labels)
    np.testing.assert_array_equal(expected.array, array)
    for label in (1, 2):
        mine, theirs = (
            np.argwhere(image.array == label)[:, ::-1] @ image.index_to_world[:3, :3].T + image.index_to_world[:3, 3]
            for image in (found, expected)
        )
        assert len(mine) == len(theirs) > 100
        np.testing.assert_allclose(np.sort(mine, axis=0), np.sort(theirs, axis=0), atol=1e-3)
