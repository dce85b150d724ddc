"""What a judgement says of the transform itself, against SimpleITK and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import oblique_grid, random_affine, smooth_field
from judged import FIXED, MOVING, fixed_image, moving_image
from regnet.events import Events
from regnet.image import Image
from regnet.judge_agreement import foreground
from regnet.judge_regularity import regularity
from regnet.transform import Affine, Composite, DisplacementField


def found_of(transform):
    return regularity(fixed_image(), moving_image(), foreground(fixed_image()), transform, Events())


def inside_of(image: Image) -> np.ndarray:
    return foreground(fixed_image()).resample(image.grid, labels=True).data[0].numpy() > 0


def test_the_determinant_is_that_of_simpleitk():
    field = smooth_field(FIXED, 6.0, seed=3)
    found = found_of(field)
    image = found.maps["jacobian"]
    # SimpleITK takes components along the image's axes, whatever its direction says.
    axes = FIXED.index_to_world[:3, :3] / FIXED.spacing
    along = sitk.GetImageFromArray(field.displacement.astype(float) @ axes, isVector=True)
    along.SetSpacing(FIXED.spacing.tolist())
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(along))
    start = np.rint(FIXED.world_to_index @ image.index_to_world[:, 3])[:3].astype(int)[::-1]
    box = tuple(slice(a, a + n) for a, n in zip(start, image.grid.shape, strict=True))
    inner = (slice(1, -1),) * 3  # SimpleITK has other differences at a border
    np.testing.assert_allclose(image.data[0].numpy()[inner], expected[box][inner], atol=2e-3)
    mask = inside_of(image)
    assert found.numbers["smallest_determinant"] == pytest.approx(image.data[0].numpy()[mask].min())
    assert found.numbers["folded_percent"] == pytest.approx(100 * (image.data[0].numpy()[mask] <= 0).mean())


def test_the_displacement_and_where_it_is_largest():
    transform = Composite((smooth_field(FIXED, 6.0, seed=3), random_affine(2)))
    found = found_of(transform)
    image = found.maps["displacement"]
    points = image.grid.points().reshape(-1, 3)
    itk = transform.to_sitk()
    sample = np.random.default_rng(0).choice(len(points), 400, replace=False)
    expected = [np.linalg.norm(np.array(itk.TransformPoint(points[n].tolist())) - points[n]) for n in sample]
    np.testing.assert_allclose(image.data.numpy().ravel()[sample], expected, atol=1e-3)
    mask = inside_of(image)
    lengths = image.data[0].numpy()[mask]
    assert found.numbers["displacement_max_mm"] == pytest.approx(lengths.max())
    assert found.numbers["displacement_p95_mm"] == pytest.approx(np.percentile(lengths, 95))
    at = np.array([found.numbers["displacement_max_at"]])
    assert np.linalg.norm(transform(at) - at) == pytest.approx(lengths.max(), rel=1e-4)


def test_an_invertible_transform_leads_back_and_agrees_with_simpleitk():
    transform = Composite((smooth_field(FIXED, 2.0, seed=5, sigma=5.0), random_affine(2)))
    numbers = found_of(transform).numbers
    assert numbers["inverse_error_max_mm"] < 0.1
    field = transform.to_field(FIXED.padded(8)).to_image()
    inverse = sitk.DisplacementFieldTransform(
        sitk.IterativeInverseDisplacementField(field, numberOfIterations=40, stopValue=1e-4)
    )
    points = FIXED.points()[8:-8:6, 8:-8:6, 8:-8:6].reshape(-1, 3)
    errors = [np.linalg.norm(np.array(inverse.TransformPoint(q.tolist())) - p)
              for p, q in zip(points, transform(points), strict=True)]  # fmt: skip
    assert np.median(errors) < 0.1  # so is the one that SimpleITK finds
    assert numbers["inverse_error_mean_mm"] < 0.05


def test_a_fold_has_no_inverse():
    middle = tuple(n // 2 for n in FIXED.shape)
    displacement = np.zeros((*FIXED.shape, 3), np.float32)
    displacement[middle] = (9.0, 0.0, 0.0)
    found = found_of(DisplacementField(displacement, FIXED))
    assert found.numbers["smallest_determinant"] < 0 < found.numbers["folded_percent"]
    assert found.numbers["inverse_error_max_mm"] > 1.0
    far = np.array(found.numbers["inverse_error_max_at"]) - (FIXED.index_to_world @ [*middle[::-1], 1.0])[:3]
    assert np.linalg.norm(far) < 12.0


def test_folds_between_the_voxels_of_a_coarse_image_are_found():
    """A field on a finer lattice folds where no voxel of the fixed image would see it."""
    fine = FIXED.resized(tuple(3 * n for n in FIXED.shape))
    displacement = np.zeros((*fine.shape, 3), np.float32)
    displacement[43, 49, 58:60] = (1.2, 0.0, 0.0)
    field = DisplacementField(displacement, fine)
    assert field.jacobian_determinant(FIXED).min() > 0
    found = found_of(field)
    assert found.numbers["folded_percent"] > 0
    assert found.maps["jacobian"].grid.spacing == pytest.approx(FIXED.spacing, rel=0.01)


def test_a_linear_transform():
    affine = Affine(np.diag([1.1, 0.9, 1.2, 1.0]))
    numbers = found_of(affine).numbers
    assert numbers["smallest_determinant"] == pytest.approx(1.1 * 0.9 * 1.2)
    assert numbers["largest_determinant"] == numbers["smallest_determinant"]
    assert numbers["linear_scale"] == pytest.approx(1.1 * 0.9 * 1.2)
    assert numbers["inverse_error_max_mm"] == pytest.approx(0.0, abs=1e-3)


def test_a_transform_without_an_inverse():
    found = found_of(Affine(np.diag([1.0, 1.0, 0.0, 1.0])))
    assert "inverse_consistency" not in found.maps and "inverse_error_max_mm" not in found.numbers
    assert found.numbers["folded_percent"] == 100.0


def test_the_foreground_is_filled_and_keeps_its_place():
    mask = foreground(moving_image())
    points = mask.grid.points().reshape(-1, 3)
    inside = mask.data.numpy().ravel() > 0
    expected = ((points / (23.0, 18.0, 19.0)) ** 2).sum(axis=1) < 1
    assert (inside == expected).mean() > 0.95
    flat = oblique_grid((20, 24, 30))
    whole = foreground(Image.from_numpy(np.linspace(0.4, 1.0, 14400).reshape(20, 24, 30), flat.index_to_world))
    assert bool(whole.data.all()) is False or whole.data.float().mean() == 1.0
    assert MOVING.ndim == mask.ndim
