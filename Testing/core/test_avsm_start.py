"""The affine network's transform as the start of the affine optimisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.affine_ascent import to_world
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.models.avsm_optimise import improve_affine
from regnet.pair import make_pair
from regnet.transform import Affine
from torch import nn

SHAPE, SPACING = (40, 48, 44), (2.0, 1.5, 1.8)


@pytest.fixture(scope="module")
def moved():
    """A pair whose moving image is the fixed one, turned by 40 degrees, sheared and shifted in the world."""
    noise = torch.rand(1, 1, 9, 10, 8, generator=torch.Generator().manual_seed(4))
    picture = nn.functional.interpolate(noise, size=SHAPE, mode="trilinear", align_corners=True)[0]
    picture = picture * nn.functional.pad(torch.ones(1, 26, 34, 30), (7, 7, 7, 7, 7, 7))
    lattice = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    turn = np.deg2rad(40.0)
    truth = np.eye(4)
    truth[:3, :3] = [[np.cos(turn), -np.sin(turn), 0.05], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.04, 1.03]]
    truth[:3, 3] = np.array([19.0, -16.0, 12.0]) + lattice.center() - truth[:3, :3] @ lattice.center()
    fixed, moving = Image(picture, lattice.index_to_world), Image(picture, truth @ lattice.index_to_world)
    pair = make_pair(fixed, moving, Affine.identity(), None, None, 4000.0, torch.device("cpu"))
    return pair, truth


def in_unit(pair, world: np.ndarray) -> torch.Tensor:
    """A world matrix as ``[A | b]`` in coordinates [-1, 1], array order, read off the corners of the grid."""
    sizes = np.array(pair.grid.shape) - 1.0
    ends = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], dtype=float)
    points = np.c_[((ends + 1) / 2 * sizes)[:, ::-1], np.ones(8)] @ pair.grid.index_to_world.T
    moved = (points @ world.T @ np.linalg.inv(pair.grid.index_to_world).T)[:, 2::-1] / sizes * 2 - 1
    solution, *_ = np.linalg.lstsq(np.c_[ends, np.ones(8)], moved, rcond=None)
    return torch.from_numpy(solution.T)


def corner_error(pair, found: np.ndarray, truth: np.ndarray) -> float:
    corners = np.c_[pair.grid.corners(), np.ones(8)]
    return float(np.linalg.norm((corners @ (found - truth).T)[:, :3], axis=1).mean())


def test_the_networks_coordinates_lead_to_the_world(moved):
    pair, truth = moved
    assert np.allclose(to_world(in_unit(pair, truth), pair.grid), truth, atol=1e-4)


def test_a_good_start_is_taken_and_kept(moved):
    pair, truth = moved
    from_start = corner_error(pair, improve_affine(pair, Events(), in_unit(pair, truth)), truth)
    alone = corner_error(pair, improve_affine(pair, Events()), truth)
    # A quarter of a voxel of the coarse grid that it works on.
    assert from_start < 2.0 and from_start < 0.5 * alone, (from_start, alone)


def test_a_start_that_makes_things_worse_is_left(moved):
    pair, truth = moved
    wrong = truth.copy()
    wrong[:3, 3] -= 40.0
    with_wrong = improve_affine(pair, Events(), in_unit(pair, wrong))
    assert np.array_equal(with_wrong, improve_affine(pair, Events()))
