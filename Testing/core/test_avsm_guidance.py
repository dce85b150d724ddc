"""The force that guides the momentum network: which way it points, and that the network uses it."""

from __future__ import annotations

import pytest
import torch
from regnet import spatial
from regnet.losses.local_correlation import LocalCorrelation
from regnet.networks.avsm_momentum import MomentumNet
from regnet.networks.guidance import LIMIT, matching_force
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
    assert 0.1 < float(force.square().mean().sqrt()) < 3.0 and float(force.abs().max()) <= LIMIT
    assert float(matching_force(fixed, fixed).abs().max()) < 0.05 * float(force.abs().max())
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
def test_a_guided_network_sees_the_force_in_its_last_layer(dims):
    first, second = smooth_image(SHAPES[dims]), smooth_image(SHAPES[dims], seed=1)
    net = MomentumNet(dims, width=4, scale=0.05, guided=True)
    assert torch.equal(net(first, second), torch.zeros_like(net(first, second)))
    middle = (slice(None), slice(None), *(1,) * dims)
    with torch.no_grad():
        for axis in range(dims):
            net.last.weight[middle][axis, 4 + axis] = 1.0
        momentum = net(first, second)
    half = tuple((n + 1) // 2 for n in SHAPES[dims])
    inner = (slice(None), slice(None), *(slice(2, n - 3) for n in half))
    force = (
        matching_force(first, second)[..., ::2, ::2] if dims == 2 else matching_force(first, second)[..., ::2, ::2, ::2]
    )
    close = torch.corrcoef(torch.stack([momentum[inner].flatten(), force[inner].flatten()]))[0, 1]
    assert float(close) > 0.8
