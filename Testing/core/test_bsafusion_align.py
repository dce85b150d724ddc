"""BSAFusion's alignment: its layers, how levels add up, which way and how far they move."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from bsafusion_models import SHAPES, inside, made, moving_model, smooth_flow, steady, texture
from regnet import spatial
from regnet.errors import ModelError
from regnet.networks.bsafusion_align import Raise, RegistrationLayer, StepwiseAlignment, accumulated, raised, twice

SCALES = ("exact", "powers")


def attended(layer, own, other):
    """Cross attention of one order, written out: a softmax over the voxels of each channel gates ``own``."""
    width = own.shape[1]
    convolve = functional.conv2d if own.ndim == 4 else functional.conv3d
    weight, bias = layer.attention.weight, layer.attention.bias
    query = convolve(own, weight[:width], bias[:width], padding=1).relu()
    key = convolve(other, weight[width:], bias[width:], padding=1).relu()
    product = query * key
    gate = product.exp() / product.exp().flatten(2).sum(-1).view(*product.shape[:2], *(1,) * (own.ndim - 2))
    return own + own * gate


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 6)])
def test_a_layer_is_as_specified(shape, side):
    torch.manual_seed(0)
    layer = RegistrationLayer(len(shape), 6, 4).double()
    torch.nn.init.normal_(layer.flow.weight, std=0.5)
    images = torch.randn(2, 2, 6, *shape, dtype=torch.float64)
    context = torch.randn(2, 6, *shape, dtype=torch.float64)
    own, other = images[side], images[1 - side]
    x = torch.einsum("oi,bi...->bo...", layer.joint.weight, torch.cat([own, other], dim=1))
    x = functional.leaky_relu(x + layer.joint.bias.view(-1, *(1,) * len(shape)), 0.2) + context
    x = x + attended(layer, own, other) + attended(layer, other, own)
    x = x + functional.leaky_relu(layer.residual(x), 0.2)
    field, onward = layer(images.flatten(0, 1), side, context)
    torch.testing.assert_close(field, torch.tanh({2: 0.1, 3: 0.01}[len(shape)] * layer.flow(x)), rtol=0, atol=1e-10)
    # The next level's context is raised ahead of the 1x1 convolution, which gives the same.
    fine = spatial.resize(x, [2 * n for n in shape])
    expected = torch.einsum("oi,bi...->bo...", layer.onward.weight, fine)
    expected = functional.leaky_relu(expected + layer.onward.bias.view(-1, *(1,) * len(shape)), 0.2)
    torch.testing.assert_close(onward, expected, rtol=0, atol=1e-10)
    assert RegistrationLayer(2, 6, 0)(torch.randn(2, 6, 4, 5), 0)[1] is None


def test_features_are_raised_and_normed():
    torch.manual_seed(0)
    stage, features = Raise(2, 6, 4), torch.randn(3, 6, 5, 7)
    with torch.no_grad():
        found = stage(features)
        x = stage.smooth(twice(stage.narrow(features)))
    expected = functional.leaky_relu(functional.instance_norm(x), 0.2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.shape == (3, 4, 10, 14)


@pytest.mark.parametrize("shape", [(4, 7), (3, 5, 2)])
def test_twice_keeps_the_corners(shape):
    features = torch.randn(2, 3, *shape)
    fine = twice(features)
    torch.testing.assert_close(fine, spatial.resize(features, [2 * n for n in shape]), rtol=0, atol=1e-5)
    corner = (..., *(-1 for _ in shape))
    torch.testing.assert_close(fine[corner], features[corner])


# A fresh network, directions, limits


@pytest.mark.parametrize("accumulate", ["sum", "compose"])
@pytest.mark.parametrize("shape", [(192, 256), (18, 9, 40)])
def test_a_fresh_network_moves_nothing(shape, accumulate):
    model = made(len(shape), accumulate=accumulate)
    fixed, moving = texture(shape, 0), texture(shape, 1)
    with torch.no_grad():
        found = model.align(model.encode(fixed, moving))
    assert found.displacement.shape == (1, len(shape), *shape)
    assert bool((found.displacement == 0).all())
    torch.testing.assert_close(spatial.warp(moving, found.displacement), moving, rtol=0, atol=1e-5)
    moving = moving.double()
    torch.testing.assert_close(spatial.warp(moving, found.displacement.double()), moving, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_have_their_own_grids(shape):
    model = moving_model(len(shape))
    found = model.align(model.encode(texture(shape, 0, batch=2), texture(shape, 1, batch=2)))
    padded = [-(-n // 16) * 16 for n in shape]
    for side in (found.fixed_levels, found.moving_levels):
        assert [tuple(field.shape) for field in side] == [
            (2, len(shape), *(n // divisor for n in padded)) for divisor in (16, 8, 4, 2, 1)
        ]
        assert all(float(field.detach().abs().max()) <= 1.0 for field in side)
    assert float(found.displacement.detach().abs().max()) > 1.0


@pytest.mark.parametrize("shape", [(96, 64), (32, 16, 48)])
def test_neither_side_moves_more_than_31_voxels(shape):
    """With powers of two: 16 + 8 + 4 + 2 + 1, reached where every flow layer is at its end."""
    model = made(len(shape), level_scale="powers")
    with torch.no_grad():
        for layer in model.alignment.reverse_layers:
            layer.flow.bias.fill_(1e4)
    image = texture(shape)
    for how in ("sum", "compose"):
        found = model.align(model.encode(image, image), how).displacement
        torch.testing.assert_close(found, torch.full_like(found, 31.0), rtol=0, atol=1e-4)
    torch.manual_seed(1)
    for layer in [*model.alignment.forward_layers, *model.alignment.reverse_layers]:
        torch.nn.init.normal_(layer.flow.weight, std=100.0)
    aligned = model.align(model.encode(image, texture(shape, 1)))
    for side in (aligned.fixed_levels, aligned.moving_levels):
        total = sum(raised(field.detach(), shape, "powers") for field in side)
        assert 10.0 < float(total.abs().max()) <= 31.0 + 1e-4


@pytest.mark.parametrize("dims", [2, 3])
def test_raised_displacements_are_in_voxels_of_the_finer_grid(dims):
    coarse, fine = (3, 4, 2)[:dims], (24, 32, 16)[:dims]
    # What moves a point from one corner to the opposite one does so on every grid.
    across = torch.tensor([n - 1.0 for n in coarse]).view(1, -1, *(1,) * dims).expand(1, dims, *coarse)
    exact = raised(across, fine, "exact")
    for axis, n in enumerate(fine):
        torch.testing.assert_close(exact[0, axis], torch.full(fine, n - 1.0), rtol=0, atol=1e-4)
    powers = torch.tensor([8.0 * (n - 1) for n in coarse]).view(1, -1, *(1,) * dims).expand_as(exact)
    torch.testing.assert_close(raised(across, fine, "powers"), powers, rtol=0, atol=1e-4)
    field = smooth_flow(fine, 2.0)
    torch.testing.assert_close(raised(field, coarse, "powers"), spatial.resize(field, coarse) / 8.0)


@pytest.mark.parametrize("how", ["sum", "compose"])
@pytest.mark.parametrize("shape", [(48, 64), (16, 32, 48)])
def test_constant_levels_are_one_translation(shape, how):
    d = len(shape)
    random = torch.Generator().manual_seed(0)
    steps = torch.randint(-7, 8, (2, 5, d), generator=random) / 8.0
    grids = [[n // divisor for n in shape] for divisor in (16, 8, 4, 2, 1)]
    levels = tuple(
        [step.view(1, d, *(1,) * d).expand(1, d, *grid) for step, grid in zip(side, grids, strict=True)]
        for side in steps
    )
    powers = torch.tensor([16.0, 8.0, 4.0, 2.0, 1.0])
    total = ((steps[1] - steps[0]) * powers[:, None]).sum(0).view(1, d, *(1,) * d)
    found = accumulated(levels, shape, how, "powers")
    assert float(total.abs().max()) > 4.0
    total = total.expand(1, d, *shape)
    torch.testing.assert_close(found, total, rtol=0, atol=1e-4)
    image, there = texture(shape), inside(shape, 1)
    first, second = (spatial.warp(image, field, padding="border")[there] for field in (found, total))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 53), (18, 9, 40)])
def test_displacements_pull_the_moving_image_to_the_fixed_one(shape):
    """The moving side a voxel of the second level one way, the fixed side half of one of the fourth the other way."""
    d = len(shape)
    fixed, moving = torch.zeros(5, d), torch.zeros(5, d)
    moving[1, 0], fixed[3, d - 1] = 0.5, 0.5
    model = steady(made(d, level_scale="powers"), fixed, moving)
    image = texture(shape)
    with torch.no_grad():
        found = model(texture(shape, 1), image)
    shift = torch.zeros(d)
    shift[0], shift[d - 1] = 4.0, -1.0
    torch.testing.assert_close(found.displacement, shift.view(1, -1, *(1,) * d).expand(1, d, *shape), rtol=0, atol=1e-5)
    rolled = image.roll((-4, 1), (2, d + 1))
    torch.testing.assert_close(found.warped[inside(shape, 5)], rolled[inside(shape, 5)], rtol=0, atol=1e-4)


# Both directions


@pytest.mark.parametrize("shape", SHAPES)
def test_with_tied_weights_swapping_the_images_turns_the_displacement_around(shape):
    model = moving_model(len(shape))
    model.alignment.reverse_layers.load_state_dict(model.alignment.forward_layers.state_dict())
    first, second = model.representation.transfers
    second.load_state_dict(first.state_dict())
    fixed, moving = texture(shape, 0), 1.0 - texture(shape, 1)
    with torch.no_grad():
        there, back = model.register(fixed, moving), model.register(moving, fixed)
    assert float(there.abs().max()) > 0.2
    torch.testing.assert_close(back, -there, rtol=0, atol=1e-4)
    model.alignment.forward_layers.load_state_dict(
        moving_model(len(shape), seed=3).alignment.forward_layers.state_dict()
    )
    with torch.no_grad():
        assert float((model.register(moving, fixed) + model.register(fixed, moving)).abs().max()) > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_features_of_both_sides_take_their_levels_step_before_they_are_raised(shape):
    d = len(shape)
    fixed, moving = torch.zeros(5, d), torch.zeros(5, d)
    fixed[0, 0], moving[0, d - 1] = 1 - 1e-7, -(1 - 1e-7)
    model = steady(made(d), fixed, moving)
    seen = []
    model.alignment.decoder[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        encoded = model.encode(texture(shape, 0), texture(shape, 1))
        model.align(encoded)
    first, second = seen[0].chunk(2)
    own, other = encoded.transferred
    last, start = own.shape[2] - 1, 0
    after = own.index_select(2, torch.tensor([*range(1, last + 1), last]))
    before = other.index_select(d + 1, torch.tensor([start, *range(other.shape[d + 1] - 1)]))
    torch.testing.assert_close(first, after, rtol=0, atol=1e-4)
    torch.testing.assert_close(second, before, rtol=0, atol=1e-4)
    assert float((after - own).abs().max()) > 0.01 and float((before - other).abs().max()) > 0.01


def test_each_level_knows_what_the_one_before_saw():
    """Only by its context: the features themselves are unmoved."""
    torch.manual_seed(0)
    network = StepwiseAlignment(2, (12, 8, 6, 4, 4))
    seen = []
    for layer in network.forward_layers:
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    network(torch.randn(1, 12, 3, 4), torch.randn(1, 12, 3, 4))
    assert seen[0] is None
    assert [tuple(given.shape) for given in seen[1:]] == [(1, 8, 6, 8), (1, 6, 12, 16), (1, 4, 24, 32), (1, 4, 48, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_level_of_both_sides_learns(shape):
    model = moving_model(len(shape), accumulate="compose")
    found = model.register(texture(shape, 0), texture(shape, 1))
    found.square().mean().backward()
    idle = [
        name for name, entry in model.alignment.named_parameters() if entry.grad is None or not bool(entry.grad.any())
    ]
    assert idle == []


def test_other_ways_to_accumulate_are_refused():
    model, image = made(), texture(SHAPES[0])
    encoded = model.encode(image, image)
    with pytest.raises(ModelError, match="choose from sum, compose"):
        model.align(encoded, "average")
    with pytest.raises(ModelError, match="transferred tokens"):
        model.align(model.encode(image, image, transfer=False))
