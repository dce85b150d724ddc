"""The momentum network: its size, its grid, its start, and that gradients reach it through the map equation."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import ModelError
from regnet.networks.avsm_momentum import MomentumNet, half_shape
from regnet.networks.blocks import pad_to_multiple, parameter_count
from regnet.networks.maps import affine_map, identity_affine, warp_by_map
from regnet.networks.vsvf import VSVF
from regnet.spatial import resize
from torch import nn


def images(shape, batch=1, seed=0, dtype=torch.float32):
    return torch.rand(2, batch, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def learnt(dims, seed=0, **options):
    """A momentum network whose last layer is not zero any more."""
    torch.manual_seed(seed)
    net = MomentumNet(dims, **options)
    nn.init.normal_(net.last.weight, std=0.012)
    return net


def test_has_the_published_size():
    assert parameter_count(MomentumNet(3)) == 5_938_515
    assert round(parameter_count(MomentumNet(3)) / 1e6, 2) == 5.94


@pytest.mark.parametrize("shape", [(16, 32, 48), (17, 33, 20), (35, 30), (16, 16)])
def test_momentum_is_at_half_resolution_and_zero_at_first(shape):
    warped, fixed = images(shape, batch=2)
    momentum = MomentumNet(len(shape))(warped, fixed)
    assert momentum.shape == (2, len(shape), *half_shape(shape))
    assert torch.equal(momentum, torch.zeros_like(momentum))


@pytest.mark.parametrize("shape", [(17, 33, 20), (35, 30)])
def test_other_sizes_are_padded_inside(shape):
    """The same as padding with zeros by hand and leaving out what lies beyond the image."""
    warped, fixed = images(shape)
    net = learnt(len(shape))
    momentum = net(warped, fixed)
    padded = net(pad_to_multiple(warped, 16), pad_to_multiple(fixed, 16))
    assert all(n % 8 == 0 for n in padded.shape[2:])
    index = (slice(None), slice(None), *(slice(0, n) for n in half_shape(shape)))
    assert torch.allclose(momentum, padded[index], atol=1e-6)
    assert float(momentum.detach().abs().max()) > 1e-4


def test_padding_adds_zeros_behind_and_nothing_else():
    image = torch.rand(1, 1, 5, 8, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 1, 8, 8, 4)
    assert torch.equal(padded[..., :5, :8, :3], image)
    assert float(padded.sum()) == pytest.approx(float(image.sum()), rel=1e-6)
    assert pad_to_multiple(padded, 4) is padded


def test_pairs_of_a_batch_do_not_mix_and_order_matters():
    warped, fixed = images((16, 18, 17), batch=2)
    net = learnt(3)
    both = net(warped, fixed)
    assert torch.allclose(both[1:], net(warped[1:], fixed[1:]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both, net(fixed, warped), atol=1e-3)


def test_clamp_limits_the_momentum():
    warped, fixed = images((16, 18, 17))
    free = learnt(3)(warped, fixed)
    limit = 0.5 * float(free.detach().abs().max())
    assert torch.allclose(learnt(3, clamp=limit)(warped, fixed), free.clamp(-limit, limit), atol=1e-6)


def test_refuses_images_of_another_kind():
    with pytest.raises(ModelError, match="one shape"):
        MomentumNet(3)(*images((16, 16)))
    with pytest.raises(ModelError, match="one shape"):
        MomentumNet(2)(torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16))


def through(net, unit, moving, fixed):
    """Squared difference after the momentum has moved the map through ten RK4 steps."""
    shape = tuple(fixed.shape[2:])
    start = affine_map(identity_affine(len(fixed), len(shape), fixed), half_shape(shape))
    half, _ = unit(net(moving, fixed), start)
    return (warp_by_map(moving, resize(half, shape)) - fixed).square().sum()


def test_gradient_reaches_the_network_through_ten_steps():
    """In double precision, against finite differences along random directions of its parameters."""
    moving, fixed = images((16, 18, 17), dtype=torch.float64)
    net, unit = learnt(3).double(), VSVF(steps=10)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(through(net, unit, moving, fixed), parameters)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
    generator = torch.Generator().manual_seed(1)
    for layer in (net.last.weight, net.merge.weight, net.down_half.keep[1].weight, net.first.weight):
        place = next(i for i, parameter in enumerate(parameters) if parameter is layer)
        direction = torch.randn(layer.shape, generator=generator, dtype=torch.float64)
        values = []
        with torch.no_grad():
            for step in (1e-8, -1e-8):
                layer.add_(step * direction)
                values.append(float(through(net, unit, moving, fixed)))
                layer.sub_(step * direction)
        slope = (values[0] - values[1]) / 2e-8
        assert slope == pytest.approx(float((gradients[place] * direction).sum()), rel=1e-5, abs=1e-4)


def test_a_fresh_network_learns_from_its_last_layer_on():
    """Its last layer is zero, so at first only that one has a gradient; after one step all have."""
    moving, fixed = images((16, 18, 17))
    net, unit = MomentumNet(3), VSVF()
    optimiser = torch.optim.SGD(net.parameters(), 1e-9)
    through(net, unit, moving, fixed).backward()
    assert float(net.last.weight.grad.abs().max()) > 0
    assert float(net.first.weight.grad.abs().max()) == 0
    optimiser.step()
    optimiser.zero_grad()
    through(net, unit, moving, fixed).backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in net.parameters())
