"""The registration network on descriptors: what it does before it has learned anything, its grids and gradients."""

from __future__ import annotations

import pytest
import torch
from regnet import spatial
from regnet.matching import unit
from regnet.networks.matcher import FACTORS, LEAST_SIDE, Matcher, shape_for

SHAPES = [(37, 30), (22, 29, 25)]


def vectors(shape, seed=0, sigma=2.0):
    generator = torch.Generator().manual_seed(seed)
    return unit(spatial.gaussian(torch.randn(1, 8, *shape, generator=generator), sigma))


def matcher(dims, width=8):
    torch.manual_seed(0)
    return Matcher(dims, width)


def inner(field, margin=5):
    return field[(..., *(slice(margin, n - margin) for n in field.shape[2:]))]


def shifted_pair(shape, shift, seed=0):
    """``fixed(x) = moving(x + shift)``."""
    large = vectors([n + 12 for n in shape], seed)
    fixed = large[(..., *(slice(6 + s, 6 + s + n) for s, n in zip(shift, shape, strict=True)))]
    return fixed, large[(..., *(slice(6, 6 + n) for n in shape))]


@pytest.mark.parametrize("shape", [*SHAPES, (7, 5, 40)])
def test_displacements_are_given_on_three_grids(shape):
    with torch.no_grad():
        steps = matcher(len(shape)).all_steps(vectors(shape), vectors(shape, 1))
        last = matcher(len(shape))(vectors(shape), vectors(shape, 1))
    assert len(steps) == len(FACTORS) == 3
    for step, factor in zip(steps, FACTORS, strict=True):
        sizes = [max(min(n, LEAST_SIDE), round((n - 1) / factor) + 1) for n in shape]
        assert tuple(step.shape) == (1, len(shape), *sizes)
        assert bool(torch.isfinite(step).all())
    assert tuple(last.shape) == (1, len(shape), *shape)
    assert torch.equal(last, steps[-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_images_hardly_move(shape):
    with torch.no_grad():
        found = matcher(len(shape))(vectors(shape, sigma=0.7), vectors(shape, sigma=0.7))
        smooth = matcher(len(shape))(vectors(shape), vectors(shape))
    assert float(inner(found).norm(dim=1).mean()) < 0.3
    assert float(inner(smooth).norm(dim=1).mean()) < 0.7  # neighbours are as likely there, and not evenly so


@pytest.mark.parametrize(
    ("shape", "shift"), [((37, 30), (3, -4)), ((22, 29, 25), (-3, 4, 2)), ((22, 29, 25), (0, 0, -4))]
)
def test_a_shift_is_followed_before_anything_is_learned(shape, shift):
    fixed, moving = shifted_pair(shape, shift)
    with torch.no_grad():
        found = matcher(len(shape))(fixed, moving)
    for axis, step in enumerate(shift):
        mean = float(inner(found)[:, axis].mean())
        assert abs(mean - step) < max(0.5 * abs(step), 0.4), (axis, mean)
    moved = unit(spatial.warp(moving, found, padding="border"))
    before, after = (float(inner((fixed * image).sum(1, keepdim=True)).mean()) for image in (moving, moved))
    assert after > before + 0.3 * (1 - before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shifted_blob_is_followed_in_the_right_direction(shape):
    axes = spatial.identity(shape, torch.zeros(()))
    middle = torch.tensor([(n - 1) / 2 for n in shape]).view(1, -1, *(1,) * len(shape))

    def blob(shift):
        """Vectors that turn with the distance from a point."""
        offset = torch.zeros_like(middle)
        offset[:, -1] = shift
        value = torch.exp(-((axes - middle - offset) ** 2).sum(1, keepdim=True) / 40.0)
        return unit(torch.cat([value, 1 - value, value * (1 - value)], dim=1)), value

    (fixed, where), (moving, _) = blob(-1.5), blob(1.5)
    with torch.no_grad():
        found = matcher(len(shape))(fixed, moving)
    mean = (found * where).flatten(2).sum(2) / where.sum()
    assert float(mean[0, -1]) > 1.0
    assert float(mean[0, :-1].abs().max()) < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_reach_every_parameter(shape):
    network = matcher(len(shape))
    with torch.no_grad():
        network.last.weight.normal_(0.0, 0.01)
    fixed, moving = shifted_pair(shape, (2, -1, 1)[: len(shape)])
    found = network(fixed, moving)
    loss = 1.0 - (fixed * spatial.warp(moving, found, padding="border")).sum(1).mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_a_few_steps_of_training_raise_the_likeness():
    network, (fixed, moving) = matcher(2), shifted_pair((29, 24), (3, -4))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(6):
        loss = 1.0 - (fixed * unit(spatial.warp(moving, network(fixed, moving), padding="border"))).sum(1).mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_the_grid_of_a_given_size_keeps_its_proportions():
    for shape, most in (((160, 192, 144), 150_000), ((400, 90), 9_000), ((30, 31, 20), 10_000_000)):
        found = shape_for(shape, most)
        count = torch.tensor(found).prod().item()
        assert count < 1.1 * most
        ratios = [(n - 1) / (m - 1) for n, m in zip(shape, found, strict=True)]
        assert max(ratios) < 1.1 * min(ratios)
    assert shape_for((30, 31, 20), 10_000_000) == (30, 31, 20)
