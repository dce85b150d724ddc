"""The analytic similarity of the refinement against brute-force windows and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.losses.local_correlation import TINY, LocalCorrelation


def images(seed=0, shape=(9, 11, 12)):
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
    moving = 0.4 * fixed + 0.6 * torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
    return fixed, moving, torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)


def brute_force(fixed, moving, radius, floor, tiny):
    f, m = fixed[0, 0].numpy(), moving[0, 0].numpy()
    result, content = np.zeros(f.shape), np.zeros(f.shape)
    for index in np.ndindex(f.shape):
        window = tuple(slice(max(i - radius, 0), i + radius + 1) for i in index)
        a, b = f[window], m[window]
        covariance = np.mean((a - a.mean()) * (b - b.mean()))
        result[index] = covariance**2 / ((a.var() + floor) * (b.var() + tiny))
        content[index] = a.var() / (a.var() + floor)
    return result, content


@pytest.mark.parametrize("stride", [1, 2])
def test_value_equals_brute_force_windows(stride):
    fixed, moving, _ = images()
    similarity = LocalCorrelation(fixed, 2, stride=stride)
    local, content = brute_force(fixed, moving, 2, similarity.floor, TINY)
    chosen = tuple(slice((n - 1) % stride // 2, None, stride) for n in local.shape)
    expected = local[chosen].sum() / content[chosen].sum()
    assert similarity.value(moving) == pytest.approx(expected, abs=1e-9)
    assert similarity.value_and_gradient(moving)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_equals_finite_differences_to_the_border(stride, weighted):
    fixed, moving, weight = images(1)
    similarity = LocalCorrelation(fixed, 2, weight if weighted else None, stride)
    _, gradient = similarity.value_and_gradient(moving)

    def total(image):
        windows = similarity._windows(image.clone(), None)
        return similarity.value(image) * float(windows.content.sum())

    for index in [(0, 0, 0), (4, 5, 6), (8, 10, 11), (3, 0, 7)]:
        up, down = moving.clone(), moving.clone()
        up[(0, 0, *index)] += 1e-5
        down[(0, 0, *index)] -= 1e-5
        assert float(gradient[(0, 0, *index)]) == pytest.approx((total(up) - total(down)) / 2e-5, rel=1e-4, abs=1e-6)


def test_invariant_to_contrast_and_inversion_and_blind_to_flat_regions():
    fixed, moving, _ = images(2)
    similarity = LocalCorrelation(fixed, 2)
    assert similarity.value(1.0 - 0.7 * fixed) > 0.99
    assert similarity.value(0.2 + 0.5 * moving) == pytest.approx(similarity.value(moving), abs=0.02)
    value, gradient = similarity.value_and_gradient(torch.full_like(fixed, 0.3))
    assert value < 1e-9
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() < 1e-3 * similarity.value_and_gradient(moving)[1].abs().max() + 1e-6


def test_a_weight_of_zero_takes_a_region_out():
    fixed, moving, _ = images(3, (10, 12, 24))
    weight = torch.ones_like(fixed)
    weight[..., 12:] = 0
    spoiled = moving.clone()
    spoiled[..., 12:] = 0.5
    similarity = LocalCorrelation(fixed, 1, weight)
    assert similarity.value(spoiled) == pytest.approx(similarity.value(moving), abs=1e-9)
    assert similarity.value_and_gradient(moving)[1][..., 12:].abs().max() == 0


def test_a_weight_given_with_the_call_does_the_same():
    fixed, moving, weight = images(4)
    kept, given = LocalCorrelation(fixed, 2, weight), LocalCorrelation(fixed, 2)
    value, gradient = kept.value_and_gradient(moving)
    other_value, other_gradient = given.value_and_gradient(moving, weight)
    assert value == pytest.approx(other_value, abs=1e-12)
    assert torch.allclose(gradient, other_gradient)
