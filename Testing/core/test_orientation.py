"""Whatever way round a file stores a head, networks see it the same way, and what they find leads back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regnet import spatial
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


@pytest.mark.parametrize(("order", "signs"), STORED)
def test_what_was_turned_is_turned_back(order, signs):
    """Of any batch and channels; and a canonical volume, turned back, is as the grid has it."""
    grid = stored(order, signs, tilt=-0.2)
    orientation = Orientation.of(grid)
    volume = torch.rand(2, 3, *SHAPE, generator=torch.Generator().manual_seed(2))
    kept = volume.clone()
    turned = orientation.apply(volume)
    assert sorted(turned.shape[2:]) == sorted(SHAPE)
    back = orientation.back(turned)
    assert torch.equal(back, volume) and back.is_contiguous() and torch.equal(volume, kept)
    canonical = torch.rand(turned.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(orientation.apply(orientation.back(canonical)), canonical)


def test_the_ways_round_are_all_different():
    volume = torch.rand(1, 1, 5, 5, 5, generator=torch.Generator().manual_seed(4))
    seen = {Orientation.of(stored(order, signs)).apply(volume).numpy().tobytes() for order, signs in STORED}
    assert len(seen) == len(STORED) == 48


@pytest.mark.parametrize(("order", "signs"), STORED)
def test_displacements_lead_back(order, signs):
    """Warping in canonical order and turning the result back equals warping as stored."""
    orientation = Orientation.of(stored(order, signs))
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(2, 1, *SHAPE, generator=generator)
    canonical = orientation.apply(image)
    # Of another size along each axis, so that no two can be mistaken.
    size = torch.tensor([0.4, 1.0, 2.0]).view(1, 3, 1, 1, 1)
    displacement = size * torch.randn(2, 3, *canonical.shape[2:], generator=generator)
    kept = displacement.clone()
    expected = orientation.back(spatial.warp(canonical, displacement, padding="border"))
    found = orientation.displacement_back(displacement)
    assert found.shape == (2, 3, *SHAPE) and torch.equal(displacement, kept)
    torch.testing.assert_close(spatial.warp(image, found, padding="border"), expected, atol=1e-4, rtol=0)
    assert float((image - expected).abs().mean()) > 0.1


@pytest.mark.parametrize(("order", "signs"), STORED[::5])
def test_a_step_to_the_right_is_one_in_the_world(order, signs):
    """And so upwards and forwards: a canonical displacement of one voxel reads the next one that way."""
    grid = stored(order, signs)
    orientation = Orientation.of(grid)
    shape = orientation.apply(torch.zeros(1, 1, *SHAPE)).shape[2:]
    for axis, way in enumerate(CANONICAL.T[::-1]):
        one = torch.zeros(1, 3, *shape)
        one[:, axis] = 1.0
        (voxel,) = np.unique(orientation.displacement_back(one)[0].flatten(1).numpy(), axis=1).T
        step = grid.index_to_world[:3, :3] @ voxel[::-1]
        np.testing.assert_allclose(step / np.linalg.norm(step), way, atol=1e-6)


def test_planes_stay_as_they_are():
    grid = Grid((1, 5, 7), np.diag([-1.0, 1.0, 1.0, 1.0]), 2)
    orientation, image = Orientation.of(grid), torch.rand(1, 1, 5, 7)
    assert torch.equal(orientation.apply(image), image)
    where = identity_map((5, 7), image)
    assert torch.equal(orientation.map_back(where), where)
    displacement = torch.randn(2, 2, 5, 7)
    assert torch.equal(orientation.back(displacement), displacement)
    assert torch.equal(orientation.displacement_back(displacement), displacement)
