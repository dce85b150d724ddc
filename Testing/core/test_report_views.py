"""The report's pictures: planes, pixels, grids and colours are where and what they claim."""

from __future__ import annotations

import io
import itertools

import matplotlib.image
import numpy as np
import pytest
from helpers import oblique_grid, random_affine, rotation
from regnet import report_views as views
from regnet.image import Grid
from regnet.transform import DisplacementField


def axis_grids():
    """Every way to store a volume along the anatomical axes, 48 of them, tilted a little."""
    tilt = rotation((4, -6, 5))
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            linear = np.zeros((3, 3))
            for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
                linear[axis, column] = sign
            matrix = np.eye(4)
            matrix[:3, :3] = tilt @ linear @ np.diag([1.0, 2.0, 1.5])
            yield Grid((12, 14, 16), matrix)


def test_orientation_is_radiological_whatever_the_storage():
    for grid in axis_grids():
        points = grid.points() - grid.center()
        centre = tuple(n // 2 for n in grid.shape)
        for plane in views.planes(grid, centre):
            left_right = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
            left, right, top, bottom = plane.letters
            for letter, towards in ((right, 1), (left, -1)):
                axis, sign = left_right[letter]
                values = plane.cut(points[..., axis]) * sign * towards
                assert (np.diff(values, axis=1) > 0).all(), (plane.name, letter)
            for letter, towards in ((bottom, 1), (top, -1)):
                axis, sign = left_right[letter]
                values = plane.cut(points[..., axis]) * sign * towards
                assert (np.diff(values, axis=0) > 0).all(), (plane.name, letter)


def test_plane_knows_where_its_pixels_are():
    for grid in axis_grids():
        points = grid.points()
        for plane in views.planes(grid, (3, 5, 7)):
            rows, columns = plane.shape
            down, right = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
            expected = np.stack([plane.cut(points[..., axis]) for axis in range(3)], axis=-1)
            found = plane.world(down.ravel().astype(float), right.ravel().astype(float)).reshape(rows, columns, 3)
            np.testing.assert_allclose(found, expected, atol=1e-9)
            # One pixel to the right is one voxel width in the direction that the plane names.
            step = plane.directions()[:, 0] * plane.voxel[1]
            np.testing.assert_allclose(expected[0, 1] - expected[0, 0], step, atol=1e-9)
            assert plane.size_mm == (rows * plane.voxel[0], columns * plane.voxel[1])


def test_axial_plane_of_the_usual_storage():
    axial, coronal, sagittal = views.planes(Grid((10, 20, 30), np.diag([1.0, 1.0, 3.0, 1.0])), (4, 5, 6))
    assert axial.letters == ("R", "L", "A", "P") and axial.size_mm == (20.0, 30.0) and axial.index == 4
    assert coronal.letters == ("R", "L", "S", "I") and coronal.size_mm == (30.0, 30.0) and coronal.index == 5
    assert sagittal.letters == ("A", "P", "S", "I") and sagittal.size_mm == (30.0, 20.0) and sagittal.index == 6


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_is_read_back_exactly(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    decoded = matplotlib.image.imread(io.BytesIO(views.png(pixels)), format="png")
    np.testing.assert_array_equal(np.rint(decoded * 255).astype(np.uint8), pixels)


def test_affine_transforms_leave_the_grid_straight():
    grid = oblique_grid((20, 24, 28), (1.0, 1.2, 2.0), (20, 10, -30))
    inside = np.ones(grid.shape, bool)
    transform = random_affine(5, 20, 30)
    linear = views.LinearPart.fit(transform, grid, inside)
    assert np.abs(linear.rest(grid.points().reshape(-1, 3))).max() < 1e-9
    assert linear.scale == pytest.approx(np.linalg.det(transform.matrix[:3, :3]))


def test_grid_lines_move_where_the_transform_reads():
    """A bump that reads 5 mm further to the patient's left moves lines to the right on an axial plane."""
    grid = Grid((21, 31, 41), np.eye(4))
    middle = grid.center()
    bump = np.exp(-(((grid.points() - middle) / 5) ** 2).sum(-1))
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 0] = 5 * bump
    displacement = views.LinearPart.fit(DisplacementField(field, grid), grid, np.ones(grid.shape, bool)).rest
    axial = views.planes(grid, (10, 15, 20))[0]
    lines = views.grid_lines(axial, displacement, 5.0)
    upright = [line for line in lines if np.ptp(line[:, 0]) < np.ptp(line[:, 1])]
    # Line through x = 17.5 mm from the edge: far from the bump unmoved, beside it pushed to the right.
    line = min(upright, key=lambda points: abs(points[0, 0] - 18))
    place = np.abs(line[:, 1] - 15.5).argmin()
    assert 2.5 < line[place, 0] - line[0, 0] < 5.5
    assert np.abs(line[:, 1] - np.linspace(0, 31, len(line))).max() < 0.2


def test_jacobian_colours_tell_growth_from_shrinkage():
    anatomy = np.full((1, 3), 0.5)
    shrunk, kept, grown = views.jacobian_colours(np.array([[0.5, 1.0, 2.0]]), anatomy, 1.0)[0].astype(int)
    assert shrunk[2] > shrunk[0] + 60 and grown[0] > grown[2] + 60
    assert np.ptp(kept) == 0 and kept[0] > 40
