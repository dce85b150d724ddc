"""World-space contracts: torch, SimpleITK and the analytic function give the same picture and the same points."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import blob_image, oblique_grid, random_affine, rotation, smooth_field
from regnet.errors import InputError
from regnet.image import Grid, Image
from regnet.transform import Affine, Composite, DisplacementField, read_transform

FIXED = oblique_grid((34, 42, 50), (1.0, 1.1, 1.4), (12, -20, 7), (3, -4, 5), (1, -1, 1))
MOVING = oblique_grid((40, 30, 44), (1.3, 1.5, 0.9), (-8, 5, 30), (0, 2, 1), (-1, 1, 1))
FIELD_GRID = oblique_grid((22, 26, 30), (2.0, 2.1, 2.2), (12, -20, 7), (3, -4, 5), (1, -1, 1))
TURNED_FIELD_GRID = oblique_grid((22, 26, 30), (2.0, 2.1, 2.2), (40, 10, -15), (1, 0, 2))


def transforms():
    return {
        "affine": random_affine(1),
        "aligned field": smooth_field(FIELD_GRID, 4.0, 2, sigma=3),
        "turned field": smooth_field(TURNED_FIELD_GRID, 4.0, 3, sigma=3),
        "field then affine": Composite((smooth_field(FIELD_GRID, 4.0, 2, sigma=3), random_affine(1))),
        "affine then field": Composite((random_affine(1), smooth_field(TURNED_FIELD_GRID, 3.0, 5, sigma=3))),
        "two fields": Composite((smooth_field(FIELD_GRID, 2.0, 2), random_affine(4), smooth_field(MOVING, 2.0, 6))),
    }


@pytest.mark.parametrize("name", transforms())
def test_points_equal_simpleitk(name):
    transform = transforms()[name]
    points = FIXED.points().reshape(-1, 3)[::211]
    reference = transform.to_sitk()
    expected = np.array([reference.TransformPoint(point) for point in points.tolist()])
    assert np.abs(expected - points).max() > 0.5
    assert np.abs(transform(points) - expected).max() < 1e-4


@pytest.mark.parametrize("name", transforms())
@pytest.mark.parametrize("labels", [False, True])
def test_resampling_equals_simpleitk(name, labels):
    transform = transforms()[name]
    moving = blob_image(MOVING, 3)
    if labels:
        moving = Image.from_numpy((moving.data[0].numpy() * 6).astype(np.int32), moving.index_to_world)
    reference = blob_image(FIXED).to_sitk()
    interpolator = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    expected = sitk.GetArrayFromImage(
        sitk.Resample(moving.to_sitk(), reference, transform.to_sitk(), interpolator, -1.0 if not labels else 0)
    )
    found = moving.resample(FIXED, transform, labels=labels, default=0 if labels else -1.0).data[0].numpy()
    differs = np.abs(found - expected) > (0.5 if labels else 2e-3)
    # Points within rounding of the image's border, or of a label's edge, may fall on either side.
    assert differs.mean() < 2e-3
    assert (expected > 0).mean() > 0.2


def test_field_is_zero_outside_its_grid_as_in_itk():
    field = DisplacementField(np.full((*FIELD_GRID.shape, 3), 2.0, np.float32), FIELD_GRID)
    far = FIELD_GRID.center() + np.array([[200.0, 0, 0]])
    assert np.abs(field(far) - far).max() == 0
    assert np.allclose(field(FIELD_GRID.center()[None]), FIELD_GRID.center() + 2.0, atol=1e-5)


def test_whole_field_equals_the_composite_and_its_determinant_the_known_one():
    transform = transforms()["field then affine"]
    field = transform.to_field(FIXED)
    points = FIXED.points()[4:-4, 4:-4, 4:-4].reshape(-1, 3)[::173]
    assert np.abs(field(points) - transform(points)).max() < 0.02
    scaled = Affine(np.diag([1.2, 0.9, 1.1, 1.0]))
    assert np.allclose(scaled.jacobian_determinant(FIXED), 1.2 * 0.9 * 1.1, atol=1e-3)


def test_determinant_equals_simpleitk():
    field = smooth_field(FIELD_GRID, 4.0, 2, sigma=3)
    axis_aligned = DisplacementField(field.displacement, Grid(FIELD_GRID.shape, np.diag([2.2, 2.1, 2.0, 1.0])))
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(axis_aligned.to_image()))
    found = axis_aligned.jacobian_determinant(axis_aligned.grid)
    inner = (slice(2, -2),) * 3
    assert np.std(expected) > 0.05
    assert np.abs(found - expected)[inner].max() < 1e-3


def test_determinant_does_not_depend_on_the_slab_size(monkeypatch):
    transform = transforms()["field then affine"]
    whole = transform.jacobian_determinant(FIXED)
    monkeypatch.setattr("regnet.transform.SLAB_VOXELS", 5000)
    assert np.abs(transform.jacobian_determinant(FIXED) - whole).max() < 1e-4


@pytest.mark.parametrize("name", transforms())
def test_inverse_undoes(name):
    transform = transforms()[name]
    points = FIXED.points()[6:-6, 6:-6, 6:-6].reshape(-1, 3)[::97]
    error = np.linalg.norm(transform.inverse()(transform(points)) - points, axis=1)
    # Both fields are linear between points 2 mm apart, so the inverse closes to a fraction of that.
    assert error.max() < 0.35
    assert error.mean() < 0.06


def test_then_applies_self_first_and_merges_affines():
    first, second = random_affine(1), random_affine(2)
    points = FIXED.corners()
    merged = first.then(second)
    assert isinstance(merged, Affine)
    assert np.allclose(merged(points), second(first(points)))
    field = smooth_field(FIELD_GRID, 3.0)
    assert np.allclose(field.then(second)(points), second(field(points)))
    assert len(field.then(first).then(second).parts) == 2


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
@pytest.mark.parametrize("name", ["affine", "field then affine"])
def test_files_round_trip_and_are_what_simpleitk_reads(tmp_path, name, suffix):
    transform = transforms()[name]
    path = tmp_path / f"t{suffix}"
    transform.write(path)
    points = FIXED.points().reshape(-1, 3)[::977]
    reference = sitk.ReadTransform(str(path))
    expected = np.array([reference.TransformPoint(point) for point in points.tolist()])
    assert np.abs(expected - transform(points)).max() < 1e-4
    assert np.abs(read_transform(path)(points) - transform(points)).max() < 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_field_images_round_trip(tmp_path, suffix):
    field = smooth_field(FIELD_GRID, 4.0)
    path = tmp_path / f"field{suffix}"
    field.write(path)
    points = FIELD_GRID.points()[3:-3, 3:-3, 3:-3].reshape(-1, 3)[::97]
    assert np.abs(read_transform(path)(points) - field(points)).max() < 1e-3


def test_two_dimensional_transform_warps_a_simpleitk_image():
    matrix = np.eye(4)
    matrix[:2, :2] = rotation((0, 0, 10))[:2, :2] @ np.diag([1.2, 0.8])
    grid = Grid((1, 30, 44), matrix, ndim=2)
    field = DisplacementField(np.random.default_rng(0).normal(size=(1, 30, 44, 3)) * [0.5, 0.5, 0], grid)
    image = Image.from_numpy(np.random.default_rng(1).random((1, 30, 44)).astype(np.float32), matrix, 2)
    expected = sitk.GetArrayFromImage(sitk.Resample(image.to_sitk(), image.to_sitk(), field.to_sitk(), sitk.sitkLinear))
    found = image.resample(grid, field).data[0, 0].numpy()
    assert np.abs(found - expected)[1:-1, 1:-1].max() < 1e-3


def test_wrong_files_are_refused_in_one_sentence(tmp_path):
    image = blob_image(FIXED)
    image.write(tmp_path / "image.nii.gz")
    (tmp_path / "noise.h5").write_bytes(b"not a transform")
    (tmp_path / "letter.doc").write_text("hello")
    for name, words in [
        ("image.nii.gz", "not a displacement field"),
        ("noise.h5", "cannot be read as a transform"),
        ("letter.doc", "is not a transform file"),
        ("absent.h5", "There is no transform file"),
    ]:
        with pytest.raises(InputError, match=words):
            read_transform(tmp_path / name)
    with pytest.raises(InputError, match="linear transform only"):
        smooth_field(FIELD_GRID, 1.0).write(tmp_path / "dense.mat")
    with pytest.raises(InputError, match="cannot be written"):
        random_affine(0).write(tmp_path / "absent" / "t.h5")
