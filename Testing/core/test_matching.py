"""Descriptors at moved positions: value and gradient against torch's own sampler."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from regnet import matching, spatial
from regnet.matching import Match, reduced, unit

SHAPES = [(15, 19), (11, 8, 14)]


def vectors(shape, seed=0, channels=5):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(1, channels, *shape, generator=generator) + 0.5)


def weights(shape, seed):
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


def scattered(shape, count, low=0.02, high=0.98, seed=4):
    """Random positions (d, count); from below 0 and to above 1 of the grid's extent if asked for."""
    extent = torch.tensor([n - 1.0 for n in shape])[:, None]
    return (low + (high - low) * torch.rand(len(shape), count, generator=torch.Generator().manual_seed(seed))) * extent


def by_grid_sample(fixed, moving, positions, weight=None, moving_weight=None):
    """The weighted mean of the scalar products, in double precision, for autograd; ``fixed`` (N, C)."""
    d, sizes = len(positions), moving.shape[2:]
    scaled = [2 * positions[axis] / (n - 1) - 1 for axis, n in enumerate(sizes)]
    lattice = torch.stack(scaled[::-1], dim=-1).view(1, *(1,) * (d - 1), -1, d)

    def read(tensor):
        found = functional.grid_sample(tensor.double(), lattice, padding_mode="border", align_corners=True)
        return found.view(tensor.shape[1], -1)

    likeness = (fixed.double() * functional.normalize(read(moving), dim=0).T).sum(1)
    every = torch.ones_like(likeness) if weight is None else weight.double()
    if moving_weight is not None:
        every = every * read(moving_weight)[0]
    # What the weights themselves gain or lose by moving is no matter of likeness.
    every = every.detach()
    return (every * likeness).sum() / every.sum()


@pytest.mark.parametrize("part", [7, 1 << 14])
@pytest.mark.parametrize("weighted", ["", "fixed", "moving", "both"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), [(0.02, 0.98), (-0.4, 1.4)])
def test_value_and_gradient_are_those_of_the_sampler(shape, low, high, weighted, part, monkeypatch):
    monkeypatch.setattr(matching, "PART", part)
    size = tuple(n + 3 - axis for axis, n in enumerate(shape))
    fixed, moving = vectors(shape), vectors(size, 1)
    weight = weights(shape, 2) if weighted in ("fixed", "both") else None
    moving_weight = weights(size, 3) if weighted in ("moving", "both") else None
    index = torch.randperm(fixed[0, 0].numel(), generator=torch.Generator().manual_seed(5))[:60]
    chosen = torch.randperm(60, generator=torch.Generator().manual_seed(6))[:41]
    match = Match(fixed, moving, index, weight, moving_weight)
    assert len(match) == 60
    mine = scattered(size, 41, low, high).requires_grad_(True)
    value = match.score(mine, chosen)
    (gradient,) = torch.autograd.grad(3.0 * value, mine)
    theirs = mine.detach().double().requires_grad_(True)
    at = fixed[0].flatten(1).T[index[chosen]]
    at_weight = None if weight is None else weight.flatten()[index[chosen]]
    expected = by_grid_sample(at, moving, theirs, at_weight, moving_weight)
    (expected_gradient,) = torch.autograd.grad(3.0 * expected, theirs)
    assert float(value.detach()) == pytest.approx(float(expected.detach()), abs=2e-6)
    inside = (mine > 0) & (mine < torch.tensor(size)[:, None] - 1)
    difference = (gradient - expected_gradient).abs()
    assert float(difference[inside].max()) < 1e-4 * float(expected_gradient.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_gained_by_moving_beyond_the_border(shape):
    """The border is repeated there: the score is flat, and so has to be its gradient across the border."""
    fixed, moving = vectors(shape), vectors(shape, 1)
    match = Match(fixed, moving, torch.arange(30))
    positions = scattered(shape, 30, -0.6, 1.6)
    _, gradient = match.value_and_gradient(positions, torch.arange(30))
    beyond = (positions < 0) | (positions > torch.tensor(shape)[:, None] - 1)
    assert bool(beyond.any()) and float(gradient[beyond].abs().max()) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_matches_itself_and_voxels_are_no_better_than_what_lies_between(shape):
    fixed = vectors(shape)
    index = torch.arange(fixed[0, 0].numel())
    here = spatial.identity(shape, fixed)[0].flatten(1)
    assert float(Match(fixed, fixed, index).score(here, index)) == pytest.approx(1.0, abs=1e-6)
    # One vector everywhere, of any length: unit again wherever it is read.
    constant = vectors((1,) * len(shape), 7).expand(1, -1, *shape)
    for scale in (1.0, 0.2):
        match = Match(constant, scale * constant, index)
        value, gradient = match.value_and_gradient(here + 0.37, index)
        assert float(value) == pytest.approx(1.0, abs=1e-6)
        assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_points_without_weight_have_no_influence(shape):
    fixed, moving = vectors(shape), vectors(shape, 1)
    seen = (weights(shape, 2) > 0.5).float()
    index = torch.arange(fixed[0, 0].numel())
    positions = scattered(shape, len(index))
    spoilt = torch.where(seen > 0, fixed, vectors(shape, 8))
    first = Match(fixed, moving, index, seen).value_and_gradient(positions, index)
    second = Match(spoilt, moving, index, seen).value_and_gradient(positions, index)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert float(first[1][:, seen.flatten() == 0].abs().max()) == 0
    assert all(
        bool(torch.isfinite(one).all())
        for one in Match(fixed, moving, index, None, 0 * seen).value_and_gradient(positions, index)
    )


def test_a_step_along_the_gradient_raises_the_score():
    shape = (11, 8, 14)
    fixed = unit(spatial.gaussian(vectors(shape), 1.5))
    index = torch.arange(fixed[0, 0].numel())
    match = Match(fixed, fixed, index)
    positions = spatial.identity(shape, fixed)[0].flatten(1) + 0.8
    before, gradient = match.value_and_gradient(positions, index)
    after, _ = match.value_and_gradient(positions + 0.3 * gradient / gradient.abs().max(), index)
    assert float(after) > float(before) + 1e-4


def test_reduced_vectors_have_unit_length():
    fixed = vectors((20, 17, 26))
    assert reduced(fixed, (20, 17, 26)) is fixed
    small = reduced(fixed, (10, 9, 13))
    assert small.shape == (1, 5, 10, 9, 13)
    torch.testing.assert_close(small.norm(dim=1), torch.ones(1, 10, 9, 13))
    torch.testing.assert_close(small, functional.normalize(spatial.reduce(fixed, (10, 9, 13)), dim=1))
