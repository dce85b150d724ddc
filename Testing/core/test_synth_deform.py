"""Known transforms against their definitions, with numpy and scipy doing the sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.errors import InputError
from regnet.synth import deform
from regnet.synth.deform import AffineRange
from scipy import ndimage

SHAPES = [(40, 52), (22, 30, 26)]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def determinants(displacement):
    """det(I + Du) at every voxel by numpy's finite differences, (B, *s)."""
    result = []
    for field in displacement.double().numpy():
        d = field.shape[0]
        rows = np.array([np.gradient(part) for part in field]) + np.eye(d).reshape(d, d, *(1,) * d)
        result.append(np.linalg.det(np.moveaxis(rows, (0, 1), (-2, -1))))
    return np.array(result)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_displacement_is_the_documented_map(shape):
    d = len(shape)
    matrix = deform.random_affine(d, AffineRange(), seeded(1), 3)
    found = deform.affine_displacement(matrix, shape).numpy()
    middle, unit = (np.array(shape) - 1) / 2, max(shape) - 1
    for number in range(3):
        for voxel in [(0,) * d, tuple(n - 1 for n in shape), (3, 17, 8)[:d]]:
            linear, shift = matrix[number, :, :d].numpy(), matrix[number, :, d].numpy()
            expected = (linear @ ((np.array(voxel) - middle) / unit) + shift) * unit + middle - voxel
            assert np.abs(found[(number, slice(None), *voxel)] - expected).max() < 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_affine_ranges_mean_what_they_say(dims):
    nothing = deform.random_affine(dims, AffineRange(0, 0, 0, 0), seeded(0), 4)
    assert torch.allclose(nothing, torch.eye(dims, dims + 1).expand(4, -1, -1), atol=1e-6)
    turned = deform.random_affine(dims, AffineRange(20, 0, 0, 0), seeded(0), 200)[:, :, :dims]
    assert torch.allclose(turned @ turned.mT, torch.eye(dims).expand(200, -1, -1), atol=1e-5)
    if dims == 2:
        degrees = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
        assert 18 < degrees.abs().max() <= 20.001 and degrees.min() < -10 and degrees.max() > 10
    scaled = deform.random_affine(dims, AffineRange(0, 0.25, 0, 0), seeded(0), 200)[:, :, :dims]
    lengths = scaled.diagonal(dim1=1, dim2=2)
    assert 1.2 < lengths.max() <= 1.2501 and 0.7999 <= lengths.min() < 0.84
    assert (scaled - torch.diag_embed(lengths)).abs().max() < 1e-6
    sheared = deform.random_affine(dims, AffineRange(0, 0, 0.2, 0), seeded(0), 200)[:, :, :dims]
    assert torch.allclose(torch.linalg.det(sheared), torch.ones(200), atol=1e-5)
    assert 0.15 < (sheared - torch.eye(dims)).abs().max() <= 0.2001
    shifted = deform.random_affine(dims, AffineRange(0, 0, 0, 0.1), seeded(0), 200)[:, :, dims]
    assert 0.09 < shifted.abs().max() <= 0.1001
    with pytest.raises(InputError, match="degrees"):
        AffineRange(degrees=-1)


def test_rotations_are_rigid_in_voxels_on_a_grid_of_unequal_sides():
    shape = (18, 40, 27)
    u = deform.affine_displacement(deform.random_affine(3, AffineRange(30, 0, 0, 0.1), seeded(4)), shape)[0].numpy()
    ends = [np.array([0, 0, 0]), np.array([17, 39, 26]), np.array([17, 0, 26]), np.array([0, 39, 0])]
    moved = [end + u[(slice(None), *end)] for end in ends]
    assert max(np.abs(u).max(axis=(1, 2, 3))) > 1
    for i in range(4):
        for j in range(i):
            before, after = np.linalg.norm(ends[i] - ends[j]), np.linalg.norm(moved[i] - moved[j])
            assert abs(before - after) < 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_diffeomorphisms_reach_the_stated_displacement_without_folding(shape):
    wanted = torch.tensor([0.0, 1.0, 3.0, 5.0])
    u = deform.random_diffeomorphism(shape, wanted, (9.0, 20.0), seeded(2), batch=4)
    assert u.shape == (4, len(shape), *shape)
    longest = u.double().square().sum(1).sqrt().flatten(1).amax(1)
    assert torch.allclose(longest, wanted.double(), rtol=1e-4, atol=1e-6)
    assert determinants(u).min() > 0.04
    assert determinants(u)[3].std() > 0.05
    second = np.diff(u[3].numpy(), n=2, axis=1)
    assert np.abs(second).max() < 1.0


def test_the_flow_of_a_velocity_goes_further_than_the_velocity_itself_without_folding():
    u = deform.random_diffeomorphism((60, 72), 10.0, (9.0, 9.0), seeded(0), batch=6)
    # The velocity taken for the displacement would have to be shrunk to 7 voxels or so.
    assert (u.square().sum(1).sqrt().flatten(1).amax(1) > 9.99).sum() >= 5
    assert determinants(u).min() > 0.04


@pytest.mark.parametrize("shape", SHAPES)
def test_more_than_can_be_done_without_folding_is_shrunk(shape):
    u = deform.random_diffeomorphism(shape, 60.0, (4.0, 6.0), seeded(3), batch=2)
    longest = u.square().sum(1).sqrt().flatten(1).amax(1)
    assert (longest < 50).all() and (longest > 1).all()
    assert determinants(u).min() > 0.04


@pytest.mark.parametrize("shape", [(60, 75), (28, 19, 22), (3, 40, 50)])
@pytest.mark.parametrize("place", [0, 0.48, 1])
def test_the_least_determinant_is_found_wherever_it_is(shape, place, monkeypatch):
    monkeypatch.setattr(deform, "SLAB", 1300)
    generator = np.random.default_rng(0)
    field = generator.normal(size=(2, len(shape), *shape)) * 0.05
    where = tuple(round(place * (n - 1)) for n in shape)
    field[(1, 0, *where)] += 0.8
    found = deform._least_determinant(torch.from_numpy(field))
    assert np.allclose(found.numpy(), determinants(torch.from_numpy(field)).min(axis=tuple(range(1, len(shape) + 1))))


def test_smoothness_sets_the_scale():
    fine, coarse = (
        deform.random_diffeomorphism((60, 72), 2.0, smoothness, seeded(1), batch=8)
        for smoothness in ((5.0, 6.0), (25.0, 30.0))
    )
    assert fine.diff(dim=-1).std() > 2.5 * coarse.diff(dim=-1).std()
    with pytest.raises(InputError, match="smoothness"):
        deform.random_diffeomorphism((20, 20), 2.0, (8.0, 4.0), seeded(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_warps_apply_the_affine_map_after_the_diffeomorphism(shape):
    d, size = len(shape), 3.0
    warp = deform.random_warp(shape, AffineRange(), size, (9.0, 18.0), seeded(6), batch=2)
    generator = seeded(6)
    inner = deform.random_diffeomorphism(shape, size, (9.0, 18.0), generator, batch=2)
    matrix = deform.random_affine(d, AffineRange(), generator, 2)
    outer = deform.affine_displacement(matrix, shape).numpy()
    points = np.indices(shape)
    for number in range(2):
        where = points + inner[number].numpy()
        inside = np.logical_and.reduce([(w >= 0) & (w <= n - 1) for w, n in zip(where, shape, strict=True)])
        carried = np.stack([ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in outer[number]])
        assert np.abs(warp[number].numpy() - (inner[number].numpy() + carried))[:, inside].max() < 1e-3
    assert determinants(warp).min() > 0.03
    assert torch.equal(deform.random_warp(shape, None, size, (9.0, 18.0), seeded(6), batch=2), inner)


def test_a_seed_and_a_generator_per_sample_fix_the_result():
    def warp(generator, batch):
        return deform.random_warp((20, 27), AffineRange(), 3.0, (8.0, 16.0), generator, batch=batch)

    assert torch.equal(warp(seeded(8), 2), warp(seeded(8), 2))
    assert (warp(seeded(8), 2) - warp(seeded(9), 2)).abs().max() > 0.5
    together = warp([seeded(1), seeded(2)], 2)
    assert (together[1:] - warp(seeded(2), 1)).abs().max() < 1e-4
