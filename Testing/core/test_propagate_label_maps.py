"""Label maps resampled without stairs: hand-computed cases, a sphere, SimpleITK, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import oblique_grid, random_affine, smooth_field
from label_examples import cells, shift
from regnet import label_maps
from regnet.errors import Cancelled, InputError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.label_maps import carry_labels
from regnet.transform import Affine, Composite
from scipy import ndimage


def signed_sphere(grid: Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    return np.linalg.norm(grid.points() - centre, axis=-1) - radius


def surface_error(mask: np.ndarray, grid: Grid, centre: np.ndarray, radius: float) -> float:
    """Mean distance in mm of the voxel faces between inside and outside from the true sphere."""
    points, errors = grid.points(), []
    for axis in range(3):
        n = mask.shape[axis]
        near, far = (np.arange(n - 1), np.arange(1, n))
        changes = np.take(mask, near, axis) != np.take(mask, far, axis)
        middles = (np.take(points, near, axis) + np.take(points, far, axis)) / 2
        errors.append(np.abs(np.linalg.norm(middles[changes] - centre, axis=-1) - radius))
    return float(np.concatenate(errors).mean())


def test_a_whole_voxel_shift_is_exact_and_pulls():
    """The transform takes target points to source points: adding 2 mm reads from further on, so content moves back."""
    array = np.zeros((7, 9, 11), np.int32)
    array[3, 4, 5:8] = 1000
    array[4, 4, 5:8] = -3
    labels = Image.from_numpy(array, np.diag([1.0, 1.5, 2.0, 1.0]))
    found = carry_labels(labels, labels.grid, shift(2.0, -1.5, 0.0))
    expected = np.zeros_like(array)
    expected[3, 5, 3:6] = 1000
    expected[4, 5, 3:6] = -3
    np.testing.assert_array_equal(found.data[0].numpy(), expected)


def test_what_leaves_the_view_is_gone_and_nothing_comes_back_from_outside():
    array = np.zeros((6, 7, 8), np.int32)
    array[:, :, 6:] = 4
    labels = Image.from_numpy(array, np.eye(4))
    found = carry_labels(labels, labels.grid, shift(3.0, 0.0, 0.0)).data[0].numpy()
    expected = np.zeros_like(array)
    expected[:, :, 3:5] = 4
    np.testing.assert_array_equal(found, expected)
    assert not carry_labels(labels, labels.grid, shift(500.0, 0.0, 0.0)).data.any()


def test_outlines_flow_from_slice_to_slice():
    """Half-way between squares of 12 and 4 voxels there is one of about 8, not either of the two."""
    array = np.zeros((2, 30, 34), np.int32)
    array[0, 9:21, 11:23] = 1
    array[1, 13:17, 15:19] = 1
    labels = Image.from_numpy(array, np.diag([1.0, 1.0, 8.0, 1.0]))
    between = Grid((1, 30, 34), np.diag([1.0, 1.0, 8.0, 1.0]) @ shift(0, 0, 0.5).matrix)
    found = carry_labels(labels, between).data[0, 0].numpy()
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (11, 18, 13, 20)
    nearest = carry_labels(labels, between, interpolation="nearest").data.sum()
    assert nearest in (16, 144)


@pytest.mark.parametrize(("spacing", "radius"), [((1.0, 1.0, 4.0), 12.3), ((0.8, 0.8, 5.0), 11.2)])
def test_an_anisotropic_sphere_is_closer_to_the_truth(spacing, radius):
    """Upsampled to cubes: smooth beats nearest neighbour, and SimpleITK's Gaussian, clearly."""
    coarse = oblique_grid((int(40 / spacing[2]), 44, 48), spacing, (8, -6, 10))
    centre = coarse.center() + np.array([0.3, -0.4, 0.9])
    labels = Image.from_numpy((signed_sphere(coarse, centre, radius) <= 0).astype(np.int32), coarse.index_to_world)
    fine = oblique_grid((36, 38, 40), (spacing[0],) * 3, (8, -6, 10))
    truth = signed_sphere(fine, centre, radius) <= 0

    masks = {how: carry_labels(labels, fine, interpolation=how).data[0].numpy() > 0 for how in ("smooth", "nearest")}
    frame = Image(torch.zeros((1, *fine.shape)), fine.index_to_world).to_sitk()
    gaussian = sitk.Resample(labels.to_sitk(), frame, sitk.Transform(), sitk.sitkLabelGaussian)
    masks["gaussian"] = sitk.GetArrayFromImage(gaussian) > 0
    error = {name: surface_error(mask, fine, centre, radius) for name, mask in masks.items()}
    missed = {name: (mask != truth).sum() / truth.sum() for name, mask in masks.items()}
    assert error["smooth"] < 0.75 * error["nearest"] and error["smooth"] < 0.85 * error["gaussian"]
    assert missed["smooth"] < 0.65 * missed["nearest"] and missed["smooth"] < 0.8 * missed["gaussian"]
    volume = masks["smooth"].sum() * np.prod(fine.spacing) / (4 / 3 * np.pi * radius**3)
    assert 0.93 < volume < 1.03


def test_agrees_with_simpleitk_away_from_surfaces():
    """Through an oblique affine and a field, only voxels at a surface may differ from the label Gaussian of ITK."""
    source = oblique_grid((22, 26, 30), (1.2, 1.0, 1.5), (10, 5, -8), flip=(1, -1, 1))
    target = oblique_grid((26, 24, 28), (1.1, 1.3, 1.2), (-4, 8, 3))
    transform = Composite((smooth_field(target, 2.0, seed=3), random_affine(4, degrees=6, shift=2)))
    labels = cells(source)
    found = carry_labels(labels, target, transform).data[0].numpy()
    frame = Image(torch.zeros((1, *target.shape)), target.index_to_world).to_sitk()
    other = sitk.GetArrayFromImage(sitk.Resample(labels.to_sitk(), frame, transform.to_sitk(), sitk.sitkLabelGaussian))
    assert set(np.unique(found)) == set(labels.data.unique().tolist())
    different = found != other
    assert 0 < different.mean() < 0.04
    # A voxel where they differ has a neighbour of another label.
    flat = ndimage.maximum_filter(other, 3) == ndimage.minimum_filter(other, 3)
    assert not (different & flat).any()


def test_the_same_grid_changes_nothing_and_blocks_do_not_show(monkeypatch):
    grid = oblique_grid((16, 19, 22), (1.0, 1.4, 2.0), (10, 20, -15))
    labels = cells(grid, 8)
    torch.testing.assert_close(carry_labels(labels, grid).data, labels.data)
    transform = Composite((smooth_field(grid, 4.0, seed=1), random_affine(2, shift=4)))
    target = oblique_grid((14, 23, 18), (1.7, 0.9, 1.3), (0, 10, 5))
    results = []
    for edge in (500, 9):
        monkeypatch.setattr(label_maps, "EDGE", edge)
        results.append(carry_labels(labels, target, transform).data)
    # The choice of blocks can move a rounding error, no more.
    assert results[0].any() and (results[0] != results[1]).float().mean() < 1e-3


def test_ties_go_to_the_first_in_order_and_to_labels_before_background():
    array = np.zeros((5, 6, 12), np.int32)
    array[..., 4:6], array[..., 6:8] = 7, 2
    labels = Image.from_numpy(array, np.eye(4))
    between = shift(0.5, 0.0, 0.0)

    def line(order):
        return carry_labels(labels, labels.grid, between, order).data[0, 2, 3].tolist()

    assert line((2, 7)) == [0, 0, 0, 7, 7, 2, 2, 2, 0, 0, 0, 0]
    assert line((7, 2)) == [0, 0, 0, 7, 7, 7, 2, 2, 0, 0, 0, 0]
    assert line(()) == line((2, 7))


def test_labels_that_meet_leave_no_gap():
    """The outer surface is that of all labels together, and where several of them meet there is no hole."""
    grid = oblique_grid((24, 26, 28), (1.0, 1.0, 3.0))
    labels = cells(grid, 30, seed=5)
    fine = oblique_grid((60, 26, 28), (1.0, 1.0, 1.2))
    found = carry_labels(labels, fine, shift(0.37, -0.41, 0.2)).data[0].numpy()
    solid = Image((labels.data > 0).int(), grid.index_to_world)
    whole = carry_labels(solid, fine, shift(0.37, -0.41, 0.2)).data[0].numpy()
    np.testing.assert_array_equal(found > 0, whole > 0)
    assert whole.sum() > 1000


def test_coarser_voxels_take_the_label_that_has_most_of_them():
    generator = np.random.default_rng(1)
    rough = generator.random((36, 30, 33)) < 0.12
    array = np.zeros(rough.shape, np.int32)
    array[:, :, 12:24] = 6
    array[rough] = 0
    labels = Image.from_numpy(array, np.eye(4))
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    matrix[:3, 3] = 1.0
    found = carry_labels(labels, Grid((12, 10, 11), matrix)).data[0].numpy()
    majority = array.reshape(12, 3, 10, 3, 11, 3).astype(bool).mean(axis=(1, 3, 5)) > 0.5
    assert ((found > 0) == majority).mean() > 0.97
    # Reading the middle voxel alone lets the holes through.
    middle = array[1::3, 1::3, 1::3] > 0
    assert (middle == majority).mean() < 0.97


def test_two_dimensional_label_maps():
    array = np.zeros((1, 20, 26), np.int32)
    array[0, 6:12, 8:18] = 5
    labels = Image.from_numpy(array, np.diag([2.0, 1.0, 1.0, 1.0]), 2)
    affine = Affine(shift(4.0, -3.0, 0.0).matrix, 2)
    found = carry_labels(labels, labels.grid, affine)
    expected = np.zeros_like(array)
    expected[0, 9:15, 6:16] = 5
    np.testing.assert_array_equal(found.data[0].numpy(), expected)
    fine = Grid((1, 39, 51), np.diag([1.0, 0.5, 1.0, 1.0]), 2)
    area = int((carry_labels(labels, fine).data > 0).sum()) * 0.5
    assert area == pytest.approx(6 * 20, rel=0.15)


def test_refuses_an_unknown_interpolation_and_stops_when_asked():
    labels = cells(oblique_grid((12, 14, 16)))
    with pytest.raises(InputError, match="no interpolation 'cubic'"):
        carry_labels(labels, labels.grid, interpolation="cubic")
    with pytest.raises(Cancelled):
        carry_labels(labels, labels.grid, events=Events(is_cancelled=lambda: True))
