"""The discrete search against loops, and shifts that it has to find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.discrete import consistent, costs_of_shifts, coupled, pyramid_search, search, shifts
from regnet.matching import unit

SHAPES = [(19, 24), (17, 14, 20)]


def smooth_vectors(shape, sigma, seed=0, channels=8):
    generator = torch.Generator().manual_seed(seed)
    return unit(spatial.gaussian(torch.randn(1, channels, *shape, generator=generator), sigma))


def moved_pair(shape, shift, sigma=1.2, seed=0):
    """Vectors and the same shifted: ``fixed(x) = moving(x + shift)``, cut from one larger grid."""
    margin = max(abs(step) for step in shift)
    large = smooth_vectors([n + 2 * margin for n in shape], sigma, seed)
    fixed = large[(..., *(slice(margin + s, margin + s + n) for s, n in zip(shift, shape, strict=True)))]
    return fixed, large[(..., *(slice(margin, margin + n) for n in shape))]


def inner(field, margin):
    return field[(..., *(slice(margin, n - margin) for n in field.shape[2:]))]


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("shape", [(6, 9), (5, 4, 7)])
def test_costs_agree_with_a_loop(shape, radius):
    fixed, moving = smooth_vectors(shape, 0.8), smooth_vectors(shape, 0.8, 1)
    found = costs_of_shifts(fixed, moving, radius)
    every = list(itertools.product(range(-radius, radius + 1), repeat=len(shape)))
    assert shifts(len(shape), radius, fixed).T.int().tolist() == [list(shift) for shift in every]
    assert found.shape == (len(every), *shape)
    a, b = fixed[0].numpy(), moving[0].numpy()
    for number, shift in enumerate(every):
        for place in np.ndindex(*shape):
            there = tuple(min(max(x + s, 0), n - 1) for x, s, n in zip(place, shift, shape, strict=True))
            expected = 1.0 - float(a[(slice(None), *place)] @ b[(slice(None), *there)])
            assert float(found[(number, *place)]) == pytest.approx(expected, abs=1e-5)


def test_costs_leave_their_input_alone():
    fixed, moving = moved_pair((9, 8, 10), (1, 0, -1))
    kept = fixed.clone(), moving.clone()
    search(fixed, moving, 2)
    assert torch.equal(fixed, kept[0]) and torch.equal(moving, kept[1])


@pytest.mark.parametrize(
    ("shape", "shift"), [((23, 30), (3, -2)), ((17, 14, 20), (2, -1, 3)), ((17, 14, 20), (0, 3, 0))]
)
def test_a_known_shift_is_found(shape, shift):
    fixed, moving = moved_pair(shape, shift)
    found = search(fixed, moving, 4)
    assert found.shape == (1, len(shape), *shape)
    truth = torch.tensor(shift, dtype=torch.float32).view(1, -1, *(1,) * len(shape))
    assert float((inner(found, 4) - truth).abs().mean()) < 0.15
    before, after = (inner((fixed - image).square().sum(1, keepdim=True), 4).mean() for image in (
        moving, spatial.warp(moving, found, padding="border")))  # fmt: skip
    assert float(after) < 0.2 * float(before)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_vectors_stay_where_they_are(shape):
    fixed = smooth_vectors(shape, 1.2)
    assert float(search(fixed, fixed, 3).abs().max()) < 1e-4


def test_more_strength_makes_smoother_fields():
    fixed, moving = smooth_vectors((17, 14, 20), 1.0), smooth_vectors((17, 14, 20), 1.0, 1)
    costs = costs_of_shifts(fixed, moving, 3)
    rough = [
        sum(float(coupled(costs, 3, strength).diff(dim=axis).square().mean()) for axis in (2, 3, 4))
        for strength in (0.3, 1.0, 4.0)
    ]
    assert rough[0] > rough[1] > rough[2] > 0


def test_coupling_decides_between_shifts_of_equal_cost():
    """One voxel whose costs say nothing takes the shift of those around it."""
    truth = torch.tensor([1.0, -2.0, 2.0])
    every = shifts(3, 2, truth)
    costs = torch.where((every == truth[:, None]).all(dim=0), 0.0, 1.0).view(-1, 1, 1, 1).repeat(1, 7, 6, 8)
    costs[:, 3, 3, 4] = 0.5
    found = coupled(costs, 2)
    torch.testing.assert_close(found[0, :, 3, 3, 4], truth, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_consistent_fields_undo_each_other(shape):
    there, back = (2.5 * smooth_vectors(shape, 4.0, seed, len(shape)) for seed in (0, 1))
    back = -there + 0.4 * back

    def distance(first, second):
        return float(inner(spatial.compose(first, second), 3).norm(dim=1).mean())

    found = consistent(there, back)
    assert distance(back, there) > 0.3
    assert distance(consistent(back, there), found) < 0.4 * distance(back, there)
    # Half-way: not just the one, nor the inverse of the other.
    apart = [float((found - one).norm(dim=1).mean()) for one in (there, spatial.invert(back))]
    assert max(apart) < float((there - spatial.invert(back)).norm(dim=1).mean())


@pytest.mark.parametrize(("shape", "shift"), [((61, 72), (9, -8)), ((49, 36, 54), (8, -7, 9))])
def test_coarse_searches_reach_further(shape, shift):
    fixed, moving = moved_pair(shape, shift, 3.0)
    coarse, fine = ([round((n - 1) / factor) + 1 for n in shape] for factor in (4, 2))
    truth = torch.tensor(shift, dtype=torch.float32).view(1, -1, *(1,) * len(shape))

    def error(shapes):
        found = pyramid_search(fixed, moving, shapes, [3] * len(shapes))
        assert tuple(found.shape[2:]) == tuple(shapes[-1])
        return float((inner(spatial.resize_displacement(found, shape), 10) - truth).norm(dim=1).mean())

    assert error([fine]) > 4.0  # 3 steps of 2 voxels are less than the shift
    assert error([coarse, fine]) < 1.0
