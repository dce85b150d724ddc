"""Random numbers for synthetic data: their distribution, and that samples do not depend on one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.errors import InputError
from regnet.synth.draws import Draws, _hash, spline, spline_matrix
from scipy import stats
from scipy.interpolate import BSpline

SHAPES = [(45, 52), (22, 26, 19)]


def seeded(*seeds):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(generators) > 1 else generators[0]


def test_the_hash_is_lowbias32():
    def reference(x):
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    values = [0, 1, 2, 77, 2**31 - 1, 2**31, 2**32 - 1, 123456789]
    signed = torch.tensor([v - 2**32 if v >= 2**31 else v for v in values], dtype=torch.int64).to(torch.int32)
    assert [int(v) % 2**32 for v in _hash(signed)] == [reference(v) for v in values]


@pytest.mark.parametrize("shape", SHAPES)
def test_white_noise_is_nearly_normal_and_independent(shape):
    noise = Draws(seeded(3), 4).white_noise((*shape, 4), 2).double().numpy()
    assert noise.shape == (4, 2, *shape, 4)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs(stats.skew(noise.ravel())) < 0.03
    assert abs(stats.kurtosis(noise.ravel()) + 0.3) < 0.05  # A sum of four uniform numbers has -1.2 / 4.
    for axis in range(noise.ndim):
        one, other = (np.take(noise, range(a, noise.shape[axis] - 1 + a), axis) for a in (0, 1))
        assert abs((one * other).mean()) < 0.02


@pytest.mark.parametrize("n", [4, 23, 50])
def test_splines_are_scipys_cubic_ones(n):
    cells = 3
    found = spline_matrix(cells, n, True, torch.device("cpu")).double().numpy()
    place = np.linspace(0, cells, n)
    knots = np.arange(-3, cells + 4)
    # Half-open at the end: evaluated a hair before it.
    expected = BSpline.design_matrix(np.minimum(place, cells - 1e-9), knots.astype(float), 3).toarray()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_splines_reproduce_straight_lines(shape):
    cells = [5, 7, 4][: len(shape)]
    for axis, n in enumerate(shape):
        # Coefficient k sits at knot k - 1.
        ramp = torch.arange(cells[axis] + 3).float().sub(1.0).view(-1, *(1,) * (len(shape) - 1 - axis))
        found = spline(ramp.expand(1, 1, *(m + 3 for m in cells)), shape)
        expected = torch.linspace(0, cells[axis], n).view(-1, *(1,) * (len(shape) - 1 - axis))
        assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_smooth_noise_has_variance_one_everywhere_and_is_smooth(shape):
    noise = Draws(seeded(5), 300).smooth_noise(shape, 8.0).numpy()
    spread = noise.std(axis=0)
    assert abs(spread.mean() - 1) < 0.06 and spread.min() > 0.75 and spread.max() < 1.3
    assert np.abs(np.diff(noise, axis=-1)).max() < 0.8
    rough = Draws(seeded(5), 300).smooth_noise(shape, 3.0).numpy()
    assert np.diff(rough, axis=-1).std() > 2 * np.diff(noise, axis=-1).std()


def test_one_generator_per_sample_makes_samples_independent_of_their_batch():
    def everything(generators, batch):
        draws = Draws(generators, batch)
        return (
            draws.uniform(2, 3, 4),
            draws.normal(2),
            draws.chance(0.5),
            draws.whole(1, 6, 3),
            draws.smooth_noise((9, 12), 3.0, 2),
        )

    together = everything(seeded(1, 2, 3), 3)
    alone = everything(seeded(2), 1)
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1:2], one)
        assert many.dtype == torch.bool or not torch.equal(many[0], many[1])


def test_whole_numbers_reach_both_ends_and_no_further():
    values = Draws(seeded(0), 500).whole(2, 5, 4)
    assert sorted(values.unique().tolist()) == [2, 3, 4, 5]


def test_wrong_generators_are_refused():
    with pytest.raises(InputError, match="2 generators cannot serve a batch of 3"):
        Draws(seeded(0, 1), 3)
