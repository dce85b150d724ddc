"""Whatever way round a file stores a head, networks see it the same way, and what they find leads back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regnet.image import Grid
from regnet.networks.maps import affine_map, identity_map, warp_by_map
from regnet.orientation import Orientation

SHAPE = (7, 9, 11)
CANONICAL = np.diag([-1.0, -1.0, 1.0])
"""Right, anterior and superior in the world (LPS), as columns."""
STORED = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]


def stored(order, signs, tilt=0.0) -> Grid:
    """A grid whose index axis n runs along canonical axis order[n], forwards or backwards, a little oblique."""
    matrix = np.eye(4)
    matrix[:3, :3] = CANONICAL[:, list(order)] * np.array(signs) * [1.5, 2.0, 1.2]
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    matrix[:3, :3] = turn @ matrix[:3, :3]
    return Grid(SHAPE, matrix)


def world(grid: Grid) -> torch.Tensor:
    """(1, 3, *shape): the anatomy of each voxel, growing to the right, front and top."""
    return torch.from_numpy(grid.points() @ CANONICAL).movedim(-1, 0)[None].float()


@pytest.mark.parametrize(("order", "signs"), STORED)
def test_canonical_volumes_run_to_superior_anterior_right(order, signs):
    grid = stored(order, signs, tilt=0.3)
    right, front, top = Orientation.of(grid).apply(world(grid))[0]
    assert bool((top.diff(dim=0) > 0).all())
    assert bool((front.diff(dim=1) > 0).all())
    assert bool((right.diff(dim=2) > 0).all())
    columns = Orientation.of(grid).directions(grid.index_to_world[:3, :3] / grid.spacing)
    assert np.allclose(np.diag(CANONICAL.T @ columns), [np.cos(0.3), np.cos(0.3), 1.0])


@pytest.mark.parametrize(("order", "signs"), STORED)
def test_maps_and_affine_transforms_lead_back(order, signs):
    """Warping in canonical order and turning the result equals turning the map and warping as stored."""
    grid = stored(order, signs)
    orientation = Orientation.of(grid)
    image = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    canonical = orientation.apply(image)
    shape = tuple(canonical.shape[2:])
    affine = torch.tensor([[0.9, 0.1, 0.0, 0.05], [-0.1, 1.1, 0.05, -0.1], [0.0, 0.1, 1.0, 0.15]])
    where = affine_map(affine[None], shape) + 0.02 * torch.sin(9 * identity_map(shape, image))
    expected = warp_by_map(canonical, where)
    found = orientation.apply(warp_by_map(image, orientation.map_back(where)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    linear = orientation.affine_back(affine)
    torch.testing.assert_close(
        orientation.apply(warp_by_map(image, affine_map(linear[None], SHAPE))),
        warp_by_map(canonical, affine_map(affine[None], shape)),
        atol=1e-4,
        rtol=0,
    )


def test_planes_stay_as_they_are():
    grid = Grid((1, 5, 7), np.diag([-1.0, 1.0, 1.0, 1.0]), 2)
    orientation, image = Orientation.of(grid), torch.rand(1, 1, 5, 7)
    assert torch.equal(orientation.apply(image), image)
    where = identity_map((5, 7), image)
    assert torch.equal(orientation.map_back(where), where)
