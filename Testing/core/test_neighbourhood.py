"""Neighbourhood self-similarity against plain loops, and what it must not notice."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from regnet.networks import neighbourhood
from regnet.networks.neighbourhood import LEAST_VARIANCE, mixed_relations, neighbours, padded, pairs, relations

SHAPES = [(7, 9), (6, 8, 5)]
COUNT = {2: 4, 3: 12}


def features(shape, channels=2, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, *shape, generator=generator, dtype=torch.float64)


def related(tensor, radius):
    return relations(padded(tensor, radius), radius, radius)


def by_loop(values, radius):
    """(P, *shape) of one feature, voxel by voxel; beyond the border its last value is repeated."""
    dims, shape = values.ndim, values.shape
    offsets = neighbours(dims, radius)
    found = np.empty((COUNT[dims], *shape))
    for place in np.ndindex(*shape):
        read = [
            values[tuple(min(max(x + step, 0), n - 1) for x, step, n in zip(place, offset, shape, strict=True))]
            for offset in offsets
        ]
        chosen = [(i, j) for i, j in itertools.combinations(range(2 * dims), 2) if i // 2 != j // 2]
        squares = np.array([(read[i] - read[j]) ** 2 for i, j in chosen])
        found[(slice(None), *place)] = np.exp(-squares / max(squares.mean(), LEAST_VARIANCE))
    return found


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
@pytest.mark.parametrize("dims", [2, 3])
def test_pairs_are_the_neighbours_that_are_not_opposite(dims, radius):
    offsets = np.array(neighbours(dims, radius))
    assert len(offsets) == 2 * dims == len({tuple(row) for row in offsets.tolist()})
    assert (np.abs(offsets).sum(axis=1) == radius).all()
    chosen = pairs(dims)
    assert len(chosen) == len({frozenset(pair) for pair in chosen}) == COUNT[dims]
    for i, j in chosen:
        assert np.linalg.norm(offsets[i] - offsets[j]) == pytest.approx(math.sqrt(2) * radius)
        assert (offsets[i] + offsets[j]).any()


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_relations_agree_with_a_loop(shape, radius):
    tensor = features(shape, 2, batch=2)
    found = related(tensor, radius)
    assert found.shape == (2, 2, COUNT[len(shape)], *shape)
    for sample, channel in itertools.product(range(2), range(2)):
        expected = by_loop(tensor[sample, channel].numpy(), radius)
        np.testing.assert_allclose(found[sample, channel].numpy(), expected, atol=1e-13)


def test_a_wider_margin_changes_nothing():
    tensor = features((6, 8, 5))
    assert torch.equal(relations(padded(tensor, 3), 3, 1), related(tensor, 1))


def test_padding_repeats_the_border():
    tensor = features((4, 6, 3))
    expected = np.pad(tensor.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2), (2, 2)], mode="edge")
    np.testing.assert_array_equal(padded(tensor, 2).numpy(), expected)


def summed_before(tensor, radius):
    """The wrong variant: squared differences summed over the features before the exponential."""
    dims = tensor.ndim - 2
    wide = padded(tensor, radius)
    views = [neighbourhood.shifted(wide, radius, offset) for offset in neighbours(dims, radius)]
    squares = torch.stack([(views[i] - views[j]).square().sum(1) for i, j in pairs(dims)], dim=1)
    return torch.exp(-squares / squares.mean(1, keepdim=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_affine_change_of_each_feature_changes_nothing(shape):
    tensor = features(shape, 3)
    column = (1, 3, *(1,) * len(shape))
    scale = torch.tensor([0.3, -7.0, 40.0], dtype=torch.float64).view(column)
    shift = torch.tensor([5.0, -1.0, 0.2], dtype=torch.float64).view(column)
    for radius in (1, 2):
        found = related(tensor, radius)
        assert float((related(-4.0 * tensor + 3.0, radius) - found).abs().max()) < 3e-7
        assert float((related(scale * tensor + shift, radius) - found).abs().max()) < 3e-7
        # Collapsed over the features, one of them decides alone.
        assert float((summed_before(-4.0 * tensor + 3.0, radius) - summed_before(tensor, radius)).abs().max()) < 3e-7
        assert float((summed_before(scale * tensor, radius) - summed_before(tensor, radius)).abs().max()) > 0.4


@pytest.mark.parametrize("shape", SHAPES)
def test_exponents_average_to_one(shape):
    count = COUNT[len(shape)]
    found = related(features(shape, 3), 2)
    assert float(found.min()) > math.exp(-count) and float(found.max()) <= 1.0
    exponents = -found.log()
    torch.testing.assert_close(exponents.mean(dim=2), torch.ones_like(exponents[:, :, 0]), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_constant_features_are_all_alike(shape, dtype):
    for value in (0.0, 0.7, -3e4):
        tensor = torch.full((1, 2, *shape), value, dtype=dtype, requires_grad=True)
        found = related(tensor, 1)
        assert torch.equal(found, torch.ones_like(found))
        found.sum().backward()
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_centre_takes_no_part_in_its_own_relations(shape, radius):
    tensor = features(shape, 1)
    middle = tuple(n // 2 for n in shape)
    changed = tensor.clone()
    changed[(0, 0, *middle)] += 10.0
    before, after = related(tensor, radius)[0, 0], related(changed, radius)[0, 0]
    assert torch.equal(after[(slice(None), *middle)], before[(slice(None), *middle)])
    beside = (*middle[:-1], middle[-1] + radius)
    assert not torch.allclose(after[(slice(None), *beside)], before[(slice(None), *beside)], atol=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quarter_turn_permutes_the_relations(shape):
    tensor, dims = features(shape), len(shape)
    offsets = neighbours(dims, 1)
    place = {frozenset(pair): number for number, pair in enumerate(pairs(dims))}
    for a, b in itertools.permutations(range(dims), 2):
        turned = related(torch.rot90(tensor, 1, (a + 2, b + 2)), 1)
        expected = torch.rot90(related(tensor, 1), 1, (a + 3, b + 3))

        def before(number, a=a, b=b):
            """The neighbour that became ``number``: out[i, j] = in[j, n - 1 - i]."""
            offset = list(offsets[number])
            offset[a], offset[b] = offset[b], -offset[a]
            return offsets.index(tuple(offset))

        order = [place[frozenset((before(i), before(j)))] for i, j in pairs(dims)]
        assert order != list(range(len(order)))
        assert float((turned - expected[:, :, order]).abs().max()) < 5e-16


@pytest.mark.parametrize(("margin", "radius"), [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_relations_are_the_weighted_sum(shape, margin, radius, monkeypatch):
    wide = padded(features(shape, 3, batch=2), margin)
    weights = features((COUNT[len(shape)],), 3, seed=1)[0]
    expected = torch.einsum("bcp...,cp->bp...", relations(wide, margin, radius), weights)
    for slab in (1, 100, 1 << 14):
        monkeypatch.setattr(neighbourhood, "SLAB_VOXELS", slab)
        torch.testing.assert_close(mixed_relations(wide, margin, radius, weights), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("slab", [1, 1 << 14])
@pytest.mark.parametrize("contrast", ["usual", "clamped", "half"])
@pytest.mark.parametrize("shape", [(5, 4), (4, 3, 5)])
def test_the_gradient_of_mixed_relations_is_that_of_finite_differences(shape, contrast, slab, monkeypatch):
    monkeypatch.setattr(neighbourhood, "SLAB_VOXELS", slab)
    wide = padded(features(shape, 2), 2)
    if contrast == "clamped":
        wide = wide * 3e-4
    elif contrast == "half":
        wide[..., : wide.shape[-1] // 2] *= 3e-4
    weights = (features((COUNT[len(shape)],), 2, seed=1)[0] - 0.3).requires_grad_(True)
    variance = -relations(wide, 2, 1).log().mean(dim=2)
    assert bool((variance < 0.999).any()) == (contrast != "usual")
    wide.requires_grad_(True)
    for radius in (1, 2):
        assert torch.autograd.gradcheck(
            lambda a, b, r=radius: mixed_relations(a, 2, r, b), (wide, weights), eps=1e-8, atol=1e-4, fast_mode=True
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_mixed_relations_is_that_of_autograd(shape, monkeypatch):
    monkeypatch.setattr(neighbourhood, "SLAB_VOXELS", 50)
    upstream = features(shape, COUNT[len(shape)], seed=5, batch=2) - 0.5
    found = []
    for mixed in (
        lambda wide, weights: mixed_relations(wide, 2, 2, weights),
        lambda wide, weights: torch.einsum("bcp...,cp->bp...", relations(wide, 2, 2), weights),
    ):
        tensor = features(shape, 3, batch=2).requires_grad_(True)
        weights = features((COUNT[len(shape)],), 3, seed=1)[0].requires_grad_(True)
        found.append(torch.autograd.grad(mixed(padded(tensor, 2), weights), (tensor, weights), upstream))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
