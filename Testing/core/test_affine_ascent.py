"""The affine ascent on functions whose best matrix is known, and the logarithm of a displacement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.affine_ascent import ascend, at_rim, rim_to_world, to_world
from regnet.events import Events
from regnet.image import Grid


def points_of(d):
    """Points within rim coordinates, homogeneous (d + 1, n)."""
    points = 2 * torch.rand(d, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    return torch.cat([points, torch.ones(1, 200, dtype=torch.float64)])


def quadratic(wanted):
    """Less the mean squared distance to where ``wanted`` brings points, with its gradient by B in M (I + B)."""
    d = len(wanted) - 1
    rim = points_of(d)
    target = (wanted @ rim)[:d]

    def evaluate(matrix):
        left = (matrix @ rim)[:d] - target
        gradient = -2.0 / rim.shape[1] * (matrix[:d, :d].T @ left) @ rim.T
        return -float(left.square().sum(0).mean()), gradient.float()

    return evaluate


def moved(matrix):
    return (matrix @ points_of(len(matrix) - 1))[:-1]


def turned(d, angle=0.15, stretch=1.0):
    matrix = torch.eye(d + 1, dtype=torch.float64)
    turn = torch.zeros(d, d, dtype=torch.float64)
    turn[0, 1], turn[d - 2, d - 1] = angle, 0.7 * angle
    matrix[:d, :d] = torch.linalg.matrix_exp(turn - turn.T) * stretch
    matrix[:d, d] = torch.tensor([0.08, -0.12, 0.05][:d], dtype=torch.float64)
    return matrix


@pytest.mark.parametrize("rigid", [False, True])
@pytest.mark.parametrize("d", [2, 3])
def test_the_best_matrix_is_found(d, rigid):
    wanted = turned(d, stretch=1.0 if rigid else 1.07)
    start = torch.eye(d + 1, dtype=torch.float64)
    found = ascend(start, quadratic(wanted), 0.05, 80, Events(), rigid=rigid)
    assert float((moved(start) - moved(wanted)).norm(dim=0).max()) > 0.1
    assert float((moved(found) - moved(wanted)).norm(dim=0).max()) < 0.01
    assert torch.equal(start, torch.eye(d + 1, dtype=torch.float64))
    assert found[d].tolist() == pytest.approx([0.0] * d + [1.0], abs=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_a_rigid_ascent_only_turns_and_shifts(d):
    wanted = turned(d, stretch=1.2)
    found = ascend(torch.eye(d + 1, dtype=torch.float64), quadratic(wanted), 0.05, 60, Events(), rigid=True)[:d, :d]
    torch.testing.assert_close(found @ found.T, torch.eye(d, dtype=torch.float64), rtol=0, atol=1e-6)
    assert float(torch.linalg.det(found)) > 0
    free = ascend(torch.eye(d + 1, dtype=torch.float64), quadratic(wanted), 0.05, 60, Events())[:d, :d]
    assert float(torch.linalg.det(free)) > 1.1**d


def test_the_best_that_was_met_is_kept():
    """A step that is far too long leaves the start, which was best, behind."""
    start = turned(3)
    assert torch.equal(ascend(start, quadratic(start), 5.0, 3, Events()), start)


def test_rim_matrices_are_matrices_of_the_world():
    """A shift of half the longest axis, and a scaling about the middle, along array axes."""
    grid = Grid((21, 41, 31), np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 2], [0, 0, 0, 1]]))
    rim = np.eye(4)
    rim[0, 3] = 0.5  # of 20 voxels along the first array axis, 3 mm each
    world = rim_to_world(rim, grid, 20.0, 3)
    np.testing.assert_allclose(world @ [1, 2, 3, 1], [1, 2, 3 + 30, 1], atol=1e-9)
    affine = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.2, 0.1]])
    world = to_world(affine, grid)
    for index, value in (((30, 20, 10), 1.3), ((15, 20, 10), 0.1), ((0, 20, 10), -1.1)):
        there = np.linalg.inv(grid.index_to_world) @ world @ grid.index_to_world @ [*index, 1]
        np.testing.assert_allclose(there[:3], [15 + 15 * value, 20, 10], atol=1e-6)
    scaled = at_rim(affine, torch.tensor([0.5, 1.0, 0.75]))
    assert float(scaled[2, 3]) == pytest.approx(0.075)


def smooth(shape, largest, seed=0):
    noise = torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(seed))
    field = spatial.gaussian(noise, 5.0)
    window = torch.ones(())
    for axis, n in enumerate(shape):
        line = torch.sin(torch.pi * torch.linspace(0, 1, n)).clamp(min=0)
        window = window * line.view(-1, *(1,) * (len(shape) - 1 - axis))
    field = field * window
    return field / field.norm(dim=1).max() * largest


@pytest.mark.parametrize("shape", [(40, 52), (30, 36, 33)])
def test_the_exponential_of_the_logarithm_is_the_displacement(shape):
    displacement = smooth(shape, 3.0)
    velocity = spatial.logarithm(displacement)
    again = spatial.exponential(velocity)
    assert float((again - displacement).norm(dim=1).max()) < 0.2
    assert float((again - displacement).norm(dim=1).mean()) < 0.02
    # Not just the displacement itself, whose exponential goes astray.
    assert float((spatial.exponential(displacement) - displacement).norm(dim=1).max()) > 0.3
    back = spatial.exponential(-velocity)
    assert float(spatial.compose(back, displacement).norm(dim=1).mean()) < 0.05


@pytest.mark.parametrize("shape", [(40, 52), (30, 36, 33)])
def test_the_logarithm_of_an_exponential_is_the_velocity(shape):
    velocity = smooth(shape, 2.0, 1)
    found = spatial.logarithm(spatial.exponential(velocity))
    assert float((found - velocity).norm(dim=1).mean()) < 0.03
    zero = torch.zeros(1, len(shape), *shape)
    assert torch.equal(spatial.logarithm(zero), zero)


def test_folds_stay_behind():
    displacement = smooth((40, 52), 9.0, 2)
    displacement[:, :, 15:25] *= -1.0
    assert float(spatial.jacobian_determinant(displacement).min()) < 0
    velocity = spatial.logarithm(displacement)
    again = spatial.exponential(velocity)
    assert bool(torch.isfinite(again).all())
    assert float(spatial.jacobian_determinant(again).min()) > float(spatial.jacobian_determinant(displacement).min())
