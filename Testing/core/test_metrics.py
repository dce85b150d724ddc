"""Metrics against values worked out by hand and against SimpleITK's own measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import random_affine
from regnet import metrics
from regnet.errors import InputError


def blobs(shape: tuple[int, int, int], seed: int, count: int = 6) -> np.ndarray:
    """A label map of overlapping balls with the ids 3, 6, 9 … so that ids are neither dense nor start at one."""
    generator = np.random.default_rng(seed)
    where = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    result = np.zeros(shape, np.int16)
    for i in range(count):
        middle = np.random.default_rng(i).uniform(0.25, 0.75, 3) * shape + generator.normal(0, 1.5, 3)
        result[np.linalg.norm(where - middle, axis=-1) < 5.5] = 3 * (i + 1)
    return result


A, B = blobs((24, 30, 38), 1), blobs((24, 30, 38), 2)
SPACING = (2.5, 0.8, 1.1)


def to_sitk(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    return image


# Dice


def test_dice_by_hand():
    a = np.array([[1, 1, 1, 0], [2, 2, 0, 0]])
    b = np.array([[1, 1, 0, 0], [1, 2, 5, 0]])
    found = metrics.dice(a, b)
    assert found == {1: pytest.approx(4 / 6), 2: pytest.approx(2 / 3)}


def test_dice_equals_simpleitk():
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(to_sitk(A), to_sitk(B))
    found = metrics.dice(A, B)
    assert sorted(found) == [3, 6, 9, 12, 15, 18]
    for label, value in found.items():
        assert value == pytest.approx(overlap.GetDiceCoefficient(label), abs=1e-12)
        assert 0.1 < value < 1


def test_dice_of_named_labels_says_zero_where_one_map_lacks_it_and_nan_where_both_do():
    a, b = np.array([[1, 1, 4]]), np.array([[1, 2, 2]])
    found = metrics.dice(a, b, labels=[4, 1, 7])
    assert list(found) == [1, 4, 7]
    assert found[1] == pytest.approx(2 / 3)
    assert found[4] == 0
    assert math.isnan(found[7])


@pytest.mark.parametrize(
    ("kind", "offset"),
    [(np.int8, -90), (np.uint8, 0), (np.uint8, 200), (np.int32, 4_000_000), (np.int64, -5), (np.float32, 70_000)],
)
def test_dice_does_not_depend_on_type_or_range_of_ids(kind, offset):
    a, b = (np.where(labels > 0, labels.astype(np.int64) + offset, 0).astype(kind) for labels in (A, B))
    expected = {label + offset: value for label, value in metrics.dice(A, B).items()}
    assert metrics.dice(a, b) == pytest.approx(expected)


def test_dice_counts_across_the_chunks_it_works_in():
    a = np.zeros((3, 1000, 701), np.int16)
    a[:, 200:900] = 7
    b = np.roll(a, 70, axis=1)
    assert metrics.dice(a, b) == {7: pytest.approx(630 / 700)}


def test_shared_labels_of_maps_of_different_shapes():
    assert metrics.shared_labels(np.array([[0, 2, 9, 4]]), np.array([[2], [4], [5]])) == [2, 4]


def test_no_shared_label_gives_an_empty_answer():
    assert metrics.dice(np.ones((2, 3), int), np.full((2, 3), 2)) == {}
    assert metrics.hd95(np.ones((2, 3), int), np.full((2, 3), 2), (1, 1)) == {}


# Hausdorff


def test_hd95_of_a_shifted_box_by_hand():
    a = np.zeros((12, 20, 26), np.uint8)
    a[3:7, 5:13, 4:18] = 8
    b = np.roll(a, 3, axis=0)
    # Far more than a twentieth of each surface lies 3 voxels outside of the other box, and nothing lies farther.
    assert metrics.hd95(a, b, SPACING) == {8: pytest.approx(3 * 2.5)}
    assert metrics.hd95(a, b, (1, 1, 1)) == {8: pytest.approx(3)}


def test_hd95_is_the_95th_percentile_and_not_the_maximum():
    a = np.zeros((1, 1, 200), np.uint8)
    a[0, 0, ::2] = 1
    b = a.copy()
    b[0, 0, 2] = 0
    b[0, 0, 190:] = 0
    distances = [2.2] + [2.2 * k for k in (1, 2, 3, 4, 5)]
    # 94 of the 100 points of a lie on b.
    expected = np.percentile([0] * 94 + sorted(distances), 95)
    found = metrics.hd95(a, b, SPACING)[1]
    assert found == pytest.approx(expected)
    assert 0 < found < max(distances)


def test_hd95_equals_distances_between_all_pairs_of_simpleitk_contour_points():
    found = metrics.hd95(A, B, SPACING)
    assert sorted(found) == [3, 6, 9, 12, 15, 18]
    for label, value in found.items():
        points = []
        for labels in (A, B):
            # A margin makes the border of the image a contour, too.
            image = to_sitk(np.pad(labels == label, 1).astype(np.uint8))
            contour = sitk.GetArrayFromImage(sitk.LabelContour(image, fullyConnected=False))
            points.append(np.argwhere(contour) * SPACING)
        between = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
        expected = max(np.percentile(between.min(axis=0), 95), np.percentile(between.min(axis=1), 95))
        assert value == pytest.approx(expected)
        assert value > 0.8


def test_largest_surface_distance_of_convex_labels_equals_simpleitk_hausdorff():
    a = np.zeros((14, 20, 30), np.uint8)
    a[2:8, 3:12, 4:20] = 1
    b = np.zeros_like(a)
    b[5:13, 4:16, 2:27] = 1
    there, back = metrics.surface_distances(a > 0, b > 0, SPACING)
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(to_sitk(a), to_sitk(b))
    assert max(there.max(), back.max()) == pytest.approx(hausdorff.GetHausdorffDistance())


def test_hd95_is_symmetric_and_zero_for_itself():
    assert metrics.hd95(A, B, SPACING) == metrics.hd95(B, A, SPACING)
    assert set(metrics.hd95(A, A, SPACING).values()) == {0.0}


def test_hd95_in_two_dimensions():
    a = np.zeros((20, 31), np.uint8)
    a[4:9, 5:12] = 2
    assert metrics.hd95(a, np.roll(a, 6, axis=1), (0.5, 1.5)) == {2: pytest.approx(9.0)}


def test_hd95_of_a_missing_label():
    found = metrics.hd95(np.array([[[1, 1, 4]]]), np.array([[[1, 2, 2]]]), (1, 1, 1), labels=[4, 7])
    assert found[4] == math.inf
    assert math.isnan(found[7])


@pytest.mark.parametrize("measure", [lambda a, b: metrics.dice(a, b), lambda a, b: metrics.hd95(a, b, (1, 1, 1))])
def test_label_maps_of_different_shapes_are_refused(measure):
    with pytest.raises(InputError, match="different shapes"):
        measure(A, A[1:])


def test_fractional_labels_and_wrong_spacing_are_refused():
    with pytest.raises(InputError, match="whole numbers"):
        metrics.dice(A + 0.5, B)
    with pytest.raises(InputError, match="2 values"):
        metrics.hd95(A, B, (1, 1))


# Points


def test_tre_and_inverse_consistency_by_hand():
    points = np.array([[0.0, 0, 0], [1, 2, 3], [-4, 5, 6]])

    def shift(p):
        return p + [3.0, 4.0, 0.0]

    assert metrics.tre(shift, points, points) == pytest.approx([5, 5, 5])
    assert metrics.tre(shift, points, points + [3, 4, 12]) == pytest.approx([12, 12, 12])
    assert metrics.inverse_consistency(shift, lambda p: p - [3, 4, 2], points) == pytest.approx([2, 2, 2])
    transform = random_affine(3)
    assert metrics.inverse_consistency(transform, transform.inverse(), points).max() < 1e-9
    with pytest.raises(InputError, match="come in pairs"):
        metrics.tre(shift, points, points[:2])


# Similarity


def test_ncc():
    image = np.random.default_rng(0).normal(size=(5, 6, 7))
    assert metrics.ncc(image, 3 * image + 2) == pytest.approx(1)
    assert metrics.ncc(image, -image) == pytest.approx(-1)
    assert metrics.ncc(np.array([1, 2, 3]), np.array([1, 3, 2])) == pytest.approx(0.5)
    assert metrics.ncc(image, np.ones_like(image)) == 0
    other, mask = image.copy(), np.zeros(image.shape, bool)
    mask[1:4] = True
    other[~mask] = 100
    assert metrics.ncc(image, other, mask) == pytest.approx(1)
    assert metrics.ncc(image, other) < 0.5


def test_mutual_information_by_hand():
    a = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    # A permutation of four equally likely values tells everything: log 4 nats; a split in two tells log 2.
    assert metrics.mutual_information(a, np.array([5, 1, 8, 0])[a], bins=16) == pytest.approx(math.log(4))
    assert metrics.mutual_information(a, a % 2, bins=16) == pytest.approx(math.log(2))
    assert metrics.mutual_information(a, np.tile([0, 1], 4), bins=16) == pytest.approx(0)
    assert metrics.mutual_information(a, np.zeros(8)) == 0
    noise = np.tile([0, 1], 4)
    mixed = np.concatenate([a, noise]), np.concatenate([a, noise[::-1]])
    mask = np.arange(16) < 8
    assert metrics.mutual_information(*mixed, bins=4, mask=mask) == pytest.approx(math.log(4))


def test_empty_comparisons_are_refused():
    image = np.ones((2, 3, 4))
    for measure in (metrics.ncc, metrics.mutual_information):
        with pytest.raises(InputError, match="nothing to compare"):
            measure(image, image, mask=np.zeros(image.shape, bool))
        with pytest.raises(InputError, match="different shapes"):
            measure(image, image[1:])
