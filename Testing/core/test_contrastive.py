"""The contrastive loss against its formula, its limits, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regnet.losses.contrastive import InfoNCE
from regnet.matching import unit


def vectors(count, channels=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(count, channels, generator=generator, dtype=dtype))


def spread_places(count, dims=3, step=10):
    """Voxels none of which is near another one."""
    return step * torch.stack(torch.unravel_index(torch.arange(count), (9, 8, 7)[:dims]), dim=1)


def crowded(count, dims=3, seed=1):
    flat = torch.randperm(12**dims, generator=torch.Generator().manual_seed(seed))[:count]
    return torch.stack(torch.unravel_index(flat, (12,) * dims), dim=1)


def by_formula(first, second, places, temperature, exclude):
    a, b, x = first.numpy(), second.numpy(), places.numpy()
    terms = []
    for k in range(len(a)):
        answers = [l for l in range(len(a)) if l == k or np.linalg.norm(x[l] - x[k]) >= exclude]  # noqa: E741
        terms.append(
            -a[k] @ b[k] / temperature + np.log(sum(np.exp(a[k] @ b[other] / temperature) for other in answers))
        )
    return np.mean(terms)


@pytest.mark.parametrize("exclude", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_the_formula(dims, temperature, exclude):
    first, second, places = vectors(60), vectors(60, seed=1), crowded(60, dims)
    expected = by_formula(first, second, places, temperature, exclude)
    assert float(InfoNCE(temperature, exclude)(first, second, places)) == pytest.approx(expected, rel=1e-10)


def test_vectors_that_know_nothing_cost_the_logarithm_of_their_number():
    alike = vectors(1).expand(300, -1)
    assert float(InfoNCE(exclude=0)(alike, alike, spread_places(300))) == pytest.approx(math.log(300), abs=1e-9)
    assert float(InfoNCE()(alike, alike, spread_places(300))) == pytest.approx(math.log(300), abs=1e-9)
    # Neighbours are no answers: fewer to choose from.
    places = crowded(300)
    allowed = (torch.cdist(places.double(), places.double()) >= 4.0).sum(1) + 1
    assert float(InfoNCE()(alike, alike, places)) == pytest.approx(float(allowed.double().log().mean()), abs=1e-9)
    # Random directions of many dimensions are nearly orthogonal.
    first, second = vectors(400, 4000), vectors(400, 4000, seed=1)
    assert float(InfoNCE(0.5)(first, second, spread_places(400))) == pytest.approx(math.log(400), abs=0.01)


def test_perfect_vectors_cost_nothing():
    one_hot = torch.eye(50, dtype=torch.float64)
    assert float(InfoNCE(0.02)(one_hot, one_hot, spread_places(50))) < 1e-10
    expected = math.log(1 + 49 * math.exp(-1 / 0.5))
    assert float(InfoNCE(0.5)(one_hot, one_hot, spread_places(50))) == pytest.approx(expected, rel=1e-10)
    wrong = one_hot.roll(1, 0)
    assert float(InfoNCE(0.02)(one_hot, wrong, spread_places(50))) == pytest.approx(50.0, rel=1e-10)


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_chunks_change_nothing(chunk):
    first, second, places = vectors(60).requires_grad_(True), vectors(60, seed=1), crowded(60)
    whole = InfoNCE()(first, second, places)
    parts = InfoNCE(chunk=chunk)(first, second, places)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    (expected,), (found,) = (torch.autograd.grad(loss, first) for loss in (whole, parts))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_neighbours_that_are_excluded_have_no_influence():
    first, second = vectors(3), vectors(3, seed=1).requires_grad_(True)
    places = torch.tensor([[5, 5, 5], [5, 5, 8], [5, 5, 9]])  # 3 and 4 voxels from the first

    (gradient,) = torch.autograd.grad(InfoNCE()(first[:2], second[:2], places[:2]), second)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    assert float(InfoNCE()(first[:2], second[:2], places[:2]).detach()) == 0.0
    far = first[[0, 2]], second[[0, 2]], places[[0, 2]]
    assert float(InfoNCE()(*far).detach()) == pytest.approx(
        by_formula(*(one.detach() for one in far), 0.07, 4.0), rel=1e-10
    )
    assert float(InfoNCE()(*far).detach()) > 0


def test_gradients_are_those_of_finite_differences():
    first, second = vectors(9).requires_grad_(True), vectors(9, seed=1).requires_grad_(True)
    places = crowded(9)
    assert torch.autograd.gradcheck(lambda a, b: InfoNCE(0.3, 3.0, 4)(a, b, places), (first, second))


def test_single_precision_is_enough_and_one_voxel_costs_nothing():
    first, second, places = vectors(200), vectors(200, seed=1), crowded(200)
    single = InfoNCE()(first.float(), second.float(), places)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(float(InfoNCE()(first, second, places)), rel=1e-5)
    assert float(InfoNCE()(first[:1], second[:1], places[:1])) == 0.0
