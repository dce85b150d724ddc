"""Regularisers against direct computations, and on transforms whose value is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.losses import RegularityWeight, affine_regularity, affine_symmetry, map_symmetry, momentum_energy
from regnet.losses.regularity import REGULARITY_WEIGHTS
from regnet.networks.maps import compose_affine, displacement_to_map, identity_map, invert_affine
from regnet.networks.smoothing import MultiGaussian
from regnet.spatial import invert


def test_affine_regularity_counts_every_entry():
    affine = torch.eye(3, 4)[None].repeat(2, 1, 1)
    assert float(affine_regularity(affine)) == 0.0
    affine[0, 0, 0] += 0.5
    affine[0, 2, 3] += 2.0
    affine[1, 1, 0] -= 1.0
    assert float(affine_regularity(affine)) == pytest.approx((0.25 + 4.0 + 1.0) / 2)


def test_regularity_weight_stays_then_falls_to_its_floor():
    weight = RegularityWeight(start=10.0, decay=4.0, static=5)
    assert weight(0) == weight(4) == 10.0
    assert weight(5) == pytest.approx(10.0 * 4 / 5)
    assert weight(13) == pytest.approx(10.0 * 4 / (4 + np.exp(2.0)))
    values = [weight(epoch) for epoch in range(5, 60)]
    assert all(a > b for a, b in zip(values, values[1:], strict=False))
    assert weight(100_000) < 1e-100
    assert REGULARITY_WEIGHTS["symmetric"](500) == 0.1
    assert REGULARITY_WEIGHTS["multi-step"](0) == pytest.approx(REGULARITY_WEIGHTS["plain"](0) / 100)


def random_affines(dims, seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(2, dims, dims + 1, generator=generator, dtype=torch.float64) - 0.5
    return torch.eye(dims, dims + 1, dtype=torch.float64) + 0.2 * noise


@pytest.mark.parametrize("dims", [2, 3])
def test_affine_symmetry_vanishes_for_inverses_and_does_not_mind_the_order(dims):
    first, second = random_affines(dims, 2), random_affines(dims, 3)
    assert float(affine_symmetry(first, invert_affine(first))) < 1e-20
    assert float(affine_symmetry(first, second)) == pytest.approx(float(affine_symmetry(second, first)), abs=1e-14)
    published = float(affine_symmetry(first, second, both_orders=False))
    swapped = float(affine_symmetry(second, first, both_orders=False))
    assert abs(published - swapped) > 1e-4
    product = compose_affine(first, second) - torch.eye(dims, dims + 1, dtype=torch.float64)
    assert published == pytest.approx(float(product.square().sum(dim=(1, 2)).mean()), abs=1e-14)


def test_map_symmetry_vanishes_for_inverses_and_does_not_mind_the_order():
    shape = (14, 17, 15)
    smooth = torch.nn.functional.interpolate(
        torch.rand(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5,
        size=shape,
        mode="trilinear",
        align_corners=True,
    )
    first, second = (displacement_to_map(2.0 * part[None]) for part in smooth)
    back = displacement_to_map(invert(2.0 * smooth[:1], iterations=200, tolerance=1e-12))
    assert float(map_symmetry(first, second)) > 1e-4
    assert float(map_symmetry(first, second)) == pytest.approx(float(map_symmetry(second, first)), rel=1e-12)
    assert float(map_symmetry(first, back, both_orders=False)) < 1e-18
    shift = identity_map(shape, smooth) + torch.tensor([0.1, -0.05, 0.2], dtype=torch.float64).view(1, 3, 1, 1, 1)
    unshift = 2 * identity_map(shape, smooth) - shift
    assert float(map_symmetry(shift, unshift)) < 1e-30
    assert float(map_symmetry(shift, identity_map(shape, smooth))) == pytest.approx((0.01 + 0.0025 + 0.04) / 3)


def test_momentum_energy_is_a_volume_integral_and_never_negative():
    generator = torch.Generator().manual_seed(0)
    momentum = torch.randn(2, 3, 9, 12, 10, generator=generator, dtype=torch.float64)
    velocity = MultiGaussian()(momentum)
    density = (momentum * velocity).sum(dim=1).numpy()
    expected = np.maximum(density, 0).sum() / (8 * 11 * 9) / 2
    assert float(momentum_energy(momentum, velocity)) == pytest.approx(expected, rel=1e-12)
    assert float(momentum_energy(momentum, velocity, (1.0, 0.5, 0.25))) == pytest.approx(expected / 8, rel=1e-12)
    assert density.sum() > 0.0
    assert float(momentum_energy(momentum, -velocity)) >= 0.0
