"""Deform-GAN's registration network that compares structure, and the edges it may compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.errors import ModelError
from regnet.losses.local_gradient import derivatives, window_sum
from regnet.models.deformgan_training import Recipe
from regnet.networks.deformgan import DeformGAN, DeformGANConfig
from regnet.networks.edges import NOISE, edge_descriptor
from regnet.training.config import make_config
from regnet.zoo import find_weights, load_state

SHAPE = (28, 36, 32)


def texture(seed: int = 0, shape: tuple[int, ...] = SHAPE, sigma: float = 1.5) -> torch.Tensor:
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = spatial.gaussian(noise, sigma)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize("shape", [(20, 26), (18, 24, 20)])
def test_edges_compare_directions_as_the_local_gradients_do(shape):
    first, second = texture(1, shape), texture(2, shape)
    d = len(shape)

    def normals(image):
        gradient = window_sum(derivatives(image), 3).double()
        length = gradient.norm(dim=1, keepdim=True)
        return gradient / (length + NOISE * length.mean())

    n, m = normals(first), normals(second)
    flat = (1 - n.square().sum(1)) * (1 - m.square().sum(1))
    expected = (n * m).sum(1).square() + flat
    sizes = [(v.square().sum(1).square() + (1 - v.square().sum(1)).square()).sqrt() for v in (n, m)]
    found = [edge_descriptor(image, (3,)) for image in (first, second)]
    assert found[0].shape == (1, d * (d + 1) // 2 + 1, *shape)
    assert torch.allclose((found[0] * found[1]).sum(1).double(), expected / (sizes[0] * sizes[1]), atol=1e-4)


def test_edges_do_not_mind_contrast():
    image = texture()
    seen = edge_descriptor(image)
    assert torch.allclose(seen, edge_descriptor(0.9 - 0.6 * image), atol=1e-3)
    assert float((seen * edge_descriptor(texture(5))).sum(1).mean()) < 0.8
    assert torch.isfinite(edge_descriptor(torch.full_like(image, 0.4))).all()


@pytest.mark.parametrize(("descriptor", "left"), [("edges", 0.85), ("mind", 0.6)])
def test_a_fresh_network_finds_a_displacement_across_contrasts(descriptor, left):
    moving = texture(3, sigma=2.5)
    rows = torch.linspace(0, np.pi, SHAPE[1]).sin().view(1, 1, 1, -1, 1).expand(1, 1, *SHAPE)
    truth = torch.cat([rows * 2.0, rows * 0.0, rows * -1.5], dim=1)
    fixed = 1.0 - 0.8 * spatial.warp(moving, truth, padding="border")
    torch.manual_seed(0)
    network = DeformGAN(DeformGANConfig(matching=8, descriptor=descriptor, generator_depth=2))
    with torch.no_grad():
        found = network.register(fixed, moving)
    inner = (slice(None), slice(None), *(slice(5, -5),) * 3)
    before, after = (v[inner].norm(dim=1).mean() for v in (truth, found - truth))
    assert found.shape == (1, 3, *SHAPE) and float(after) < left * float(before)
    assert float(spatial.jacobian_determinant(found).min()) > 0


def test_a_batch_is_its_samples_and_only_the_matcher_learns():
    network = DeformGAN(DeformGANConfig(dims=2, matching=6, descriptor="mind"))
    fixed, moving = texture(1, (2, 24, 30))[0, 0, :, None], texture(2, (2, 24, 30))[0, 0, :, None]
    both = network.register(fixed, moving)
    for index in range(2):
        alone = network.register(fixed[index : index + 1], moving[index : index + 1])
        assert torch.allclose(both[index : index + 1], alone, atol=1e-5)
    both.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.registration.parameters())


def config(**network):
    stage = {"name": "one", "steps": 1, "sources": [{"maker": "Shapes"}]}
    return make_config({"model": "deformgan", "shape": [24, 26, 28], "network": network, "stages": [stage]})


def test_training_begins_as_masr():
    record = find_weights("masr")
    width = record.config["matcher_width"]
    network = Recipe(config(matching=width, descriptor="dsir", generator_depth=2)).build()
    state = load_state(record)
    for name, tensor in state.items():
        own = "registration." + (name if name.startswith("matcher.") else f"descriptor.{name}")
        assert torch.equal(network.state_dict()[own], tensor.float()), name
    learning = {name for name, parameter in network.registration.named_parameters() if parameter.requires_grad}
    assert learning and all(name.startswith("matcher.") for name in learning)
    other = Recipe(config(matching=width + 1, descriptor="dsir", generator_depth=2)).build()
    assert not float(other.registration.matcher.last.weight.detach().abs().max())


def test_without_masr_it_does_not_begin(monkeypatch):
    monkeypatch.setattr("regnet.models.masr_weights.find_weights", lambda *_: None)
    with pytest.raises(ModelError, match="install them"):
        Recipe(config(matching=4, descriptor="dsir", generator_depth=2)).build()


def test_an_unknown_descriptor_is_refused():
    with pytest.raises(ModelError, match="no descriptor 'sift'"):
        DeformGANConfig(matching=4, descriptor="sift")
