"""Folding, SDlogJ and the Jacobian determinant against closed forms and against SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import oblique_grid, random_affine, rotation
from regnet import metrics
from regnet.errors import InputError


def test_folding_percent_and_sdlogj_by_hand():
    determinant = np.array([[1.0, 0.0, -2.0, np.nan], [math.e, 1, math.e, 1]])
    assert metrics.folding_percent(determinant) == pytest.approx(100 * 3 / 8)
    mask = np.array([[True, True, False, False], [True, True, True, True]])
    assert metrics.folding_percent(determinant, mask) == pytest.approx(100 / 6)
    assert metrics.sdlogj(determinant[1]) == pytest.approx(0.5)
    assert metrics.sdlogj(7 * determinant[1]) == pytest.approx(0.5)
    assert metrics.sdlogj(np.array([1.0, -3.0])) == pytest.approx(-math.log(1e-9) / 2)


GRIDS = {
    "plain": oblique_grid((15, 19, 24)),
    "oblique": oblique_grid((15, 19, 24), (1.7, 0.8, 2.2), (25, -40, 60)),
    "flipped": oblique_grid((15, 19, 24), (0.9, 1.2, 1.5), (5, 10, -20), flip=(-1, 1, 1)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_determinant_of_a_linear_map_is_exact_up_to_the_border(name):
    grid = GRIDS[name]
    affine = random_affine(5, degrees=20, shift=30)
    points = grid.points()
    displacement = (affine(points.reshape(-1, 3)).reshape(points.shape) - points).astype(np.float32)
    found = metrics.jacobian_determinant(displacement, grid.index_to_world)
    assert found.shape == grid.shape
    assert found.dtype == np.float32
    expected = np.linalg.det(affine.matrix[:3, :3])
    assert abs(expected - 1) > 0.02
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", GRIDS)
def test_determinant_of_a_quadratic_map(name):
    """Central differences are exact for a polynomial of degree two, and its determinant is known in closed form."""
    grid = GRIDS[name]
    turn = rotation((10, 20, 30))
    local = (grid.points() - grid.center()) @ turn
    x, y, z = np.moveaxis(local, -1, 0)
    u = np.stack([0.004 * x * x + 0.01 * y, 0.006 * x * y, -0.03 * z + 0.003 * y * z], axis=-1) @ turn.T
    # Rows of the Jacobian: (1 + 0.008x, 0.01, 0), (0.006y, 1 + 0.006x, 0), (0, 0.003z, 0.97 + 0.003y).
    expected = ((1 + 0.008 * x) * (1 + 0.006 * x) - 0.01 * 0.006 * y) * (0.97 + 0.003 * y)
    found = metrics.jacobian_determinant(u, grid.index_to_world)
    inner = (slice(1, -1),) * 3
    assert np.ptp(expected[inner]) > 0.2
    assert np.abs(found - expected)[inner].max() < 1e-4


def test_determinant_equals_simpleitk():
    generator = np.random.default_rng(3)
    displacement = generator.normal(0, 0.4, (13, 17, 22, 3))
    image = sitk.GetImageFromArray(displacement, isVector=True)
    image.SetSpacing((1.3, 0.7, 2.1))
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    found = metrics.jacobian_determinant(displacement, np.diag([1.3, 0.7, 2.1, 1]))
    inner = (slice(1, -1),) * 3
    assert np.std(expected[inner]) > 0.3
    assert np.abs(found - expected)[inner].max() < 1e-4
    assert metrics.folding_percent(found[inner]) == metrics.folding_percent(expected[inner])


def test_determinant_does_not_depend_on_how_the_volume_is_cut_into_slabs(monkeypatch):
    displacement = np.random.default_rng(4).normal(0, 0.4, (13, 17, 22, 3))
    matrix = GRIDS["oblique"].index_to_world
    whole = metrics.jacobian_determinant(displacement, matrix)
    monkeypatch.setattr(metrics, "_CHUNK", 4 * 17 * 22 * 3)
    assert np.array_equal(metrics.jacobian_determinant(displacement, matrix), whole)


def test_determinant_in_two_dimensions_and_of_a_fold():
    x = np.arange(12.0)
    displacement = np.zeros((1, 9, 12, 3))
    displacement[..., 0] = np.where(x < 6, 0, -2 * (x - 6))
    displacement[..., 1] = 0.5 * np.arange(9.0)[:, None]
    found = metrics.jacobian_determinant(displacement, np.eye(4))
    assert found[0, 4, :6] == pytest.approx(1.5)
    assert found[0, 4, 7:] == pytest.approx(-1.5)
    assert metrics.folding_percent(found) == pytest.approx(100 * 6 / 12)


def test_determinant_refuses_another_shape():
    with pytest.raises(InputError, match="D, H, W, 3"):
        metrics.jacobian_determinant(np.zeros((3, 4, 5, 6)), np.eye(4))


@pytest.mark.parametrize("measure", [metrics.folding_percent, metrics.sdlogj])
def test_a_mask_without_voxels_is_refused(measure):
    with pytest.raises(InputError, match="no voxel"):
        measure(np.ones((2, 3, 4)), np.zeros((2, 3, 4), bool))
