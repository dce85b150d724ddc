"""The tensor mathematics against scipy and against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import threads
from regnet import spatial
from scipy import ndimage

SHAPES = [(21, 26), (14, 19, 23)]


def random_image(shape, seed=0, sigma=1.5):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return torch.from_numpy(values.astype(np.float32))[None, None]


def random_displacement(shape, size, seed=1, sigma=3.0):
    parts = [random_image(shape, seed + axis, sigma)[0, 0] for axis in range(len(shape))]
    field = torch.stack(parts)[None]
    return field / field.abs().max() * size


@pytest.mark.parametrize("shape", SHAPES)
def test_warp_equals_scipy(shape):
    image, u = random_image(shape), random_displacement(shape, 2.5)
    where = np.indices(shape) + u[0].numpy()
    expected = ndimage.map_coordinates(image[0, 0].numpy(), where, order=1, mode="nearest")
    assert np.abs(spatial.warp(image, u, padding="border")[0, 0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_sampling_has_the_same_value_and_a_true_gradient_when_differentiated(shape):
    image = random_image(shape).double()
    where = (spatial.identity(shape, image) + random_displacement(shape, 1.3).double()).requires_grad_(True)
    differentiable = spatial.sample(image, where, padding="border")
    assert torch.equal(differentiable.detach(), spatial.sample(image, where.detach(), padding="border"))
    inner = tuple(slice(3, -3) for _ in shape)
    (gradient,) = torch.autograd.grad(differentiable[(0, 0, *inner)].sum(), where)
    shifted = where.detach().clone()
    shifted[0, 0] += 1e-6
    change = (spatial.sample(image, shifted, padding="border") - differentiable.detach())[(0, 0, *inner)] / 1e-6
    assert (gradient[(0, 0, *inner)] - change).abs().max() < 1e-4
    assert change.abs().max() > 0.01


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_threads_share_the_sampling_of_a_large_lattice(mode, monkeypatch):
    """What two threads find is what one finds, and each really gets parts of the lattice."""
    image = torch.cat([random_image((14, 19, 23), seed) for seed in (0, 5)], dim=1)
    shape = (24, 31, 37)
    where = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(2)) * 24 - 2
    found, batches = [], []
    sampler = torch.nn.functional.grid_sample

    def watched(given, lattice, *arguments, **options):
        batches.append(len(lattice))
        return sampler(given, lattice, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "grid_sample", watched)
    for count in (1, 2):
        with threads(count):
            found.append(spatial.sample(image, where, mode, "border"))
    assert torch.equal(*found) and found[0].shape == (1, 2, *shape)
    assert batches[0] == 1 and batches[1] > 1


@pytest.mark.parametrize("shape", SHAPES)
def test_composition_equals_scipy_and_has_its_order(shape):
    u, v = random_displacement(shape, 2.0, 2), random_displacement(shape, 2.0, 7)
    where = np.indices(shape) + v[0].numpy()
    outer = [ndimage.map_coordinates(part, where, order=1, mode="nearest") for part in u[0].numpy()]
    expected = v[0].numpy() + np.stack(outer)
    found = spatial.compose(u, v)[0].numpy()
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - spatial.compose(v, u)[0].numpy()).max() > 0.1


@pytest.mark.parametrize("sigma", [0.4, 1.2, 3.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_equals_scipy_away_from_the_border(shape, sigma):
    image = random_image((*[2 * n for n in shape],), sigma=0.5)
    expected = ndimage.gaussian_filter(image[0, 0].numpy().astype(np.float64), sigma, truncate=6.0)
    found = spatial.gaussian(image, sigma)[0, 0].numpy()
    inner = tuple(slice(12, -12) for _ in shape)
    assert np.abs(found - expected)[inner].max() < 5e-5
    ones = spatial.gaussian(torch.ones(1, 2, *shape), sigma)
    assert (ones - 1).abs().max() < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_box_means_equal_scipy_and_have_the_stated_transpose(shape, stride):
    image = random_image(shape).double()
    found = spatial.box(image, 2, stride)
    full = ndimage.uniform_filter(image[0, 0].numpy(), 5)
    first = [(n - 1) % stride // 2 for n in shape]
    expected = full[tuple(slice(a, None, stride) for a in first)]
    inner = tuple(slice(2, -2) for _ in shape)
    assert np.abs(found[0, 0].numpy() - expected)[inner].max() < 1e-12
    other = torch.rand_like(found)
    back = spatial.box_transpose(other, shape, 2, stride)
    assert torch.allclose((found * other).sum(), (image * back).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_resizing_keeps_corners_and_scales_displacements(shape):
    target = tuple(2 * n - 1 for n in shape)
    u = random_displacement(shape, 2.0)
    fine = spatial.resize_displacement(u, target)
    every = tuple(slice(None, None, 2) for _ in shape)
    assert (fine[(slice(None), slice(None), *every)] - 2 * u).abs().max() < 1e-5
    assert (spatial.resize(fine, shape) - 2 * u).abs().max() < 1e-5


def test_reduction_removes_what_the_coarse_grid_could_not_hold():
    wave = torch.cos(torch.pi * torch.arange(65.0)).view(1, 1, 1, 1, 65).expand(1, 1, 9, 12, 65)
    slow = torch.cos(torch.pi / 32 * torch.arange(65.0)).view(1, 1, 1, 1, 65).expand(1, 1, 9, 12, 65)
    assert spatial.reduce(wave, (9, 12, 17))[..., 2:-2].abs().max() < 0.06
    assert (spatial.reduce(slow, (9, 12, 17)) - slow[..., ::4])[..., 2:-2].abs().max() < 0.03


@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_and_exponential_close(shape):
    u = random_displacement(shape, 1.5, sigma=4)
    inner = (slice(None), slice(None), *(slice(4, -4) for _ in shape))
    assert spatial.compose(u, spatial.invert(u))[inner].abs().max() < 0.02
    forward, backward = spatial.exponential(u), spatial.exponential(-u)
    assert spatial.compose(forward, backward)[inner].abs().max() < 0.05
    assert forward[inner].abs().max() > 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_determinant_of_a_linear_map(shape):
    d = len(shape)
    matrix = torch.eye(d) + 0.2 * torch.rand(d, d, generator=torch.Generator().manual_seed(0))
    position = spatial.identity(shape, matrix)
    moved = torch.einsum("ij,bj...->bi...", matrix, position)
    assert torch.allclose(spatial.jacobian_determinant(moved - position), torch.linalg.det(matrix), atol=1e-4)
