"""The force that guides the momentum network: which way it points, and that the network uses it."""

from __future__ import annotations

import pytest
import torch
from regnet import spatial
from regnet.losses.local_correlation import LocalCorrelation
from regnet.networks.avsm import AVSM, AVSMConfig
from regnet.networks.avsm_momentum import MomentumNet, half_shape
from regnet.networks.guidance import LIMIT, matching_force
from regnet.networks.line_search import best_length, best_lengths
from regnet.networks.maps import identity_affine, identity_map, warp_by_map
from regnet.networks.vsvf import VSVF
from torch import nn

SHAPES = {2: (40, 33), 3: (24, 33, 28)}


def smooth_image(shape, seed=0):
    coarse = torch.rand(1, 1, *(8,) * len(shape), generator=torch.Generator().manual_seed(seed))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_step_along_the_force_makes_the_images_more_alike(dims):
    shape = SHAPES[dims]
    fixed = smooth_image(shape)
    shift = torch.zeros(1, dims, *shape)
    shift[:, dims - 1] = 1.0
    warped = spatial.warp(fixed, shift, padding="border")
    force = matching_force(warped, fixed)
    assert force.shape == (1, dims, *shape)
    assert float(force.square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(force.abs().max()) < 2 * LIMIT
    inner = (slice(None), slice(None), *(slice(5, -5),) * dims)
    along = force[inner][:, dims - 1].mean()
    others = force[inner][:, : dims - 1].mean(dim=tuple(range(2, dims + 2))).abs().max()
    assert float(along) < 0 and float(along.abs()) > 2 * float(others)
    similarity = LocalCorrelation(fixed, 2)
    step = spatial.gaussian(force, 2.0)
    values = [
        similarity.value(spatial.warp(warped, factor * step / step.abs().max(), padding="border"))
        for factor in (-0.5, 0.0, 0.5)
    ]
    assert values[0] < values[1] < values[2]


def test_inverted_contrast_pulls_the_same_way_and_pairs_do_not_mix():
    first, second = smooth_image(SHAPES[3]), smooth_image(SHAPES[3], seed=1)
    force = matching_force(first, second)
    assert torch.allclose(matching_force(1.0 - first, second), force, atol=1e-3)
    both = matching_force(torch.cat([second, first]), torch.cat([first, second]))
    assert torch.allclose(both[1:], force, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_guided_network_follows_the_force(dims):
    first, second = smooth_image(SHAPES[dims]), smooth_image(SHAPES[dims], seed=1)
    net = MomentumNet(dims, width=4, scale=0.05, guided=True)
    with torch.no_grad():
        momentum = -net(first, second)
    half = tuple((n + 1) // 2 for n in SHAPES[dims])
    inner = (slice(None), slice(None), *(slice(2, n - 3) for n in half))
    force = (
        matching_force(first, second)[..., ::2, ::2] if dims == 2 else matching_force(first, second)[..., ::2, ::2, ::2]
    )
    close = torch.corrcoef(torch.stack([momentum[inner].flatten(), force[inner].flatten()]))[0, 1]
    assert float(close) > 0.8


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0), (-1.0, 0.0)])
def test_the_best_length_of_a_momentum_is_found(dims, factor, expected):
    """A constant momentum is a translation; the smoother passes it on as it is."""
    shape = SHAPES[dims]
    half = half_shape(shape)
    fixed = smooth_image(shape)
    where = identity_map(shape, fixed).clone()
    where[:, 1] += 0.06
    moving = warp_by_map(fixed, where)
    truth = torch.zeros(1, dims, *half)
    truth[:, 1] = 0.06
    start = identity_map(half, fixed)
    found = best_length(VSVF(4), factor * truth, start, moving, fixed)
    assert found == expected


def test_each_pair_of_a_batch_gets_its_own_length():
    shape = SHAPES[3]
    fixed = torch.cat([smooth_image(shape), smooth_image(shape, seed=1)])
    where = identity_map(shape, fixed).repeat(2, 1, 1, 1, 1)
    where[:1, 1] += 0.06
    where[1:, 1] += 0.03
    momentum = torch.zeros(2, 3, *half_shape(shape))
    momentum[:, 1] = 0.06
    start = identity_map(half_shape(shape), fixed).expand(2, -1, -1, -1, -1)
    moving = warp_by_map(fixed, where)
    found = best_lengths(VSVF(4), momentum, start, moving, fixed)
    alone = [best_length(VSVF(4), *(t[n : n + 1] for t in (momentum, start, moving, fixed))) for n in range(2)]
    assert found.shape == (2, 1, 1, 1, 1) and found.flatten().tolist() == alone and alone[0] != alone[1]


def test_a_fresh_guided_network_brings_images_closer_and_can_learn():
    fixed, other = smooth_image(SHAPES[3]), smooth_image(SHAPES[3], seed=1)
    moving = 0.8 * fixed + 0.2 * other
    where = identity_map(SHAPES[3], fixed).clone()
    where[:, 1] += 0.05
    moving = warp_by_map(moving, where)
    config = AVSMConfig(
        image_shape=SHAPES[3], affine_steps=1, momentum_steps=3, momentum_width=4, momentum_scale=0.05,
        momentum_guided=True, time_steps=4,
    )  # fmt: skip
    model = AVSM(config)
    output = model(moving, fixed, initial_affine=identity_affine(1, 3, fixed), search=True)
    assert (output["warped"] - fixed).abs().mean() < 0.7 * (moving - fixed).abs().mean()
    (output["warped"] - fixed).square().mean().backward()
    assert float(model.momentum.last.weight.grad.abs().max()) > 0


def test_the_search_ends_where_no_momentum_helps():
    fixed = smooth_image(SHAPES[3])
    model = AVSM(AVSMConfig(image_shape=SHAPES[3], affine_steps=1, momentum_steps=3, momentum_width=4)).eval()
    nn.init.constant_(model.momentum.last.bias, 0.05)
    with torch.no_grad():
        free = model(fixed, fixed, initial_affine=identity_affine(1, 3, fixed))
        searched = model(fixed, fixed, initial_affine=identity_affine(1, 3, fixed), search=True)
    assert len(free["aux"]["momenta"]) == 3 and len(searched["aux"]["momenta"]) == 0
    assert torch.allclose(searched["transform"], identity_map(SHAPES[3], fixed), atol=1e-6)
