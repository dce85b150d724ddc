"""Deform-GAN's networks: their layers, sizes, directions, and what they refuse."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as functional
from deformgan_models import SHAPES, SMALL, SMALL_GAN, VARIANTS, Given, layers, made, moving_model, smooth_flow, texture
from regnet import spatial
from regnet.errors import ModelError
from regnet.networks.blocks import parameter_count
from regnet.networks.deformgan import (
    Deformed,
    DeformGAN,
    DeformGANConfig,
    DeformGANWeights,
    registration_loss,
)
from regnet.networks.deformgan_parts import Discriminator, RegistrationNet, Translator
from torch import nn


@pytest.mark.parametrize("dims", [2, 3])
def test_layers_are_those_specified(dims):
    model = DeformGAN(DeformGANConfig(dims=dims))
    three, four = (3,) * dims, (4,) * dims
    unet, flow = model.registration.unet, model.registration.flow
    assert layers(unet.down) == [(a, b, three, 2) for a, b in ((2, 16), (16, 32), (32, 32), (32, 32))]
    assert layers(unet.up) == [(a, 32, three, 1) for a in (32, 64, 64, 48)]
    assert layers([*unet.last, flow]) == [
        (34, 32, three, 1),
        (32, 16, three, 1),
        (16, 16, three, 1),
        (16, dims, three, 1),
    ]
    down = [(a, b, four, 2) for a, b in ((1, 32), (32, 64), (64, 128), (128, 256), (256, 256))]
    up = [(a, b, three, 1) for a, b in ((512, 256), (384, 128), (192, 64), (96, 32), (33, 16), (16, 1))]
    assert layers(model.generator.down) == down
    assert layers([*model.generator.up, model.generator.last]) == up
    judged = [(2, 32, four, 2), (32, 64, four, 2), (64, 128, four, 2), (128, 256, four, 1), (256, 1, four, 1)]
    assert layers(model.discriminator.layers) == judged
    assert not any(isinstance(part, (nn.ConvTranspose2d, nn.ConvTranspose3d)) for part in model.modules())
    if dims == 3:
        assert parameter_count(model.registration) == 301_411
        half = RegistrationNet(resolution="half")
        assert layers(half.unet.last)[0] == (32, 32, three, 1)
        assert parameter_count(half) == 299_683


@pytest.mark.parametrize(("resolution", "diffeomorphic"), VARIANTS)
@pytest.mark.parametrize("shape", [(48, 32), (21, 34), (7, 50), (18, 26, 13)])
def test_a_fresh_network_moves_nothing_at_any_size(shape, resolution, diffeomorphic):
    torch.manual_seed(0)
    network = RegistrationNet(len(shape), resolution=resolution, diffeomorphic=diffeomorphic)
    fixed, moving = texture(shape, 0, batch=2), texture(shape, 1, batch=2)
    found = network(fixed, moving)
    assert found.shape == (2, len(shape), *shape)
    assert 0.0 < float(found.detach().abs().max()) < 1e-3
    assert bool((network.flow.bias == 0).all())
    assert float(network.flow.weight.detach().std()) == pytest.approx(1e-5, rel=0.15)
    torch.testing.assert_close(spatial.warp(moving, found.detach(), padding="border"), moving, rtol=0, atol=1e-3)
    assert torch.equal(network(fixed, moving), found)


@pytest.mark.parametrize(("resolution", "diffeomorphic"), VARIANTS)
@pytest.mark.parametrize("shape", [(25, 34), (18, 25, 13)])
def test_images_of_a_batch_do_not_mix(shape, resolution, diffeomorphic):
    model = moving_model(len(shape), resolution=resolution, diffeomorphic=diffeomorphic)
    fixed, moving = texture(shape, 0, batch=3), texture(shape, 1, batch=3)
    with torch.no_grad():
        together = model(fixed, moving)
        assert float(together.displacement.abs().max()) > 0.1
        pair = model.discriminator.inputs(fixed, moving) if min(shape) >= 24 else None
        for entry in range(3):
            alone = model(fixed[entry : entry + 1], moving[entry : entry + 1])
            for name in ("displacement", "warped", "translated"):
                expected = getattr(together, name)[entry : entry + 1]
                torch.testing.assert_close(getattr(alone, name), expected, rtol=0, atol=1e-4)
            if pair is not None:
                expected = model.discriminator(pair)[entry : entry + 1]
                torch.testing.assert_close(model.discriminator(pair[entry : entry + 1]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("resolution", "diffeomorphic"), VARIANTS)
@pytest.mark.parametrize("shape", [(24, 33), (14, 17, 12)])
def test_displacements_pull_in_voxels(shape, resolution, diffeomorphic):
    """A flow of 3 along one axis and -2 along another shows at x what the moving image has there."""
    model = made(len(shape), resolution=resolution, diffeomorphic=diffeomorphic)
    shift = torch.tensor([3.0, -2.0, 1.0][: len(shape)])
    with torch.no_grad():
        model.registration.flow.weight.zero_()
        model.registration.flow.bias.copy_(shift / 2 if resolution == "half" else shift)
        moving = texture(shape, 1)
        deformed = model.deform(texture(shape, 0), moving)
    expected = shift.view(1, -1, *(1,) * len(shape)).expand_as(deformed.displacement)
    torch.testing.assert_close(deformed.displacement, expected, rtol=0, atol=1e-4)
    rolled = torch.roll(moving, [-int(one) for one in shift], dims=tuple(range(2, moving.ndim)))
    inside = (..., *(slice(4, -4) for _ in shape))
    torch.testing.assert_close(deformed.warped[inside], rolled[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 17), (10, 7, 8)])
def test_at_half_resolution_each_second_voxel_keeps_its_flow(shape):
    half = [(n + 1) // 2 for n in shape]
    network = RegistrationNet(len(shape), **SMALL, resolution="half")
    network.unet, network.flow = Given(None), Given(smooth_flow(half, 2.0, sigma=1.0))
    found = network(texture(shape), texture(shape))
    assert tuple(found.shape[2:]) == shape
    even = (..., *(slice(None, None, 2) for _ in shape))
    torch.testing.assert_close(found[even], 2.0 * network.flow.value)
    between = found.select(2, 3)
    torch.testing.assert_close(between, 0.5 * (found.select(2, 2) + found.select(2, 4)))
    if shape[0] % 2 == 0:
        torch.testing.assert_close(found.select(2, shape[0] - 1), found.select(2, shape[0] - 2))


@pytest.mark.parametrize("resolution", ["full", "half"])
@pytest.mark.parametrize("shape", [(44, 57), (24, 29, 20)])
def test_the_diffeomorphic_variant_does_not_fold(shape, resolution):
    flow = smooth_flow([(n + 1) // 2 for n in shape] if resolution == "half" else shape, 6.0, closed=True)
    found = []
    for diffeomorphic in (False, True):
        network = RegistrationNet(len(shape), **SMALL, resolution=resolution, diffeomorphic=diffeomorphic)
        network.unet, network.flow = Given(None), Given(flow)
        found.append(network(texture(shape), texture(shape)))
    plain, integrated = found
    assert float(spatial.jacobian_determinant(plain).min()) < -0.5
    assert float(spatial.jacobian_determinant(integrated).min()) > 0.05
    assert float(integrated.norm(dim=1).max()) > 3.0


@pytest.mark.parametrize("shape", [(44, 57), (24, 29, 20)])
def test_the_flow_is_integrated_as_a_velocity(shape):
    """Integrated at half resolution it is near the exponential at full; fewer squarings are another map."""
    flow, found = smooth_flow(shape, 3.0, sigma=5.0), {}
    for squarings in (7, 1):
        network = RegistrationNet(len(shape), **SMALL, diffeomorphic=True, squarings=squarings)
        network.unet, network.flow = Given(None), Given(flow)
        found[squarings] = network(texture(shape), texture(shape))
    exact = spatial.exponential(flow, 10)
    assert float((found[7] - exact).norm(dim=1).max()) < 0.15
    assert float((found[7] - exact).norm(dim=1).mean()) < 0.5 * float((flow - exact).norm(dim=1).mean())
    assert float((found[7] - found[1]).norm(dim=1).max()) > 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_what_forward_returns_belongs_together(dims):
    model = moving_model(dims)
    fixed, moving = texture(SHAPES[dims - 2], 0), texture(SHAPES[dims - 2], 1)
    output = model(fixed, moving)
    assert isinstance(output, Deformed) and model.dims == dims
    assert torch.equal(output.displacement, model.register(fixed, moving))
    assert torch.equal(output.displacement, model.registration(fixed, moving))
    seen = []
    model.registration.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    assert not torch.equal(output.displacement, model.register(moving, fixed))
    assert torch.equal(seen[0], torch.cat([moving, fixed], dim=1))
    assert torch.equal(output.warped, spatial.warp(moving, output.displacement))
    assert torch.equal(output.translated, model.generator(output.warped))
    assert model.deform(fixed, moving).translated is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        output.warped = moving


@pytest.mark.parametrize("shape", [(40, 33), (9, 41), (5, 33, 7)])
def test_translations_have_the_size_of_the_image_and_lie_in_its_range(shape):
    torch.manual_seed(0)
    generator = Translator(len(shape), width=2)
    given = texture(shape, batch=2)
    found = generator(given)
    assert found.shape == given.shape
    assert 0.0 < float(found.detach().amin()) < float(found.detach().amax()) < 1.0
    assert float(found.detach().std()) > 1e-3


def test_what_fills_up_a_size_repeats_the_border():
    torch.manual_seed(0)
    generator, given = Translator(2, width=2, depth=3), texture((37, 33))
    filled = functional.pad(given, (0, 7, 0, 3), mode="replicate")
    assert torch.equal(generator(given), generator(filled)[..., :37, :33])


def test_translation_does_not_depend_on_the_scale_of_its_features():
    """Instance normalisation after every layer but the first and the last."""
    torch.manual_seed(0)
    generator, given = Translator(2, width=4, depth=3), texture((40, 33))
    before = generator(given).detach()
    with torch.no_grad():
        for layer in [*generator.down[1:], *generator.up]:
            layer.weight.mul_(7.0)
            layer.bias.add_(3.0)
    torch.testing.assert_close(generator(given).detach(), before, rtol=0, atol=2e-3)
    with torch.no_grad():
        generator.down[0].weight.mul_(7.0)
    assert float((generator(given).detach() - before).abs().max()) > 1e-2


def test_scores_are_of_patches():
    torch.manual_seed(0)
    discriminator = Discriminator(2, width=4)
    given = torch.rand(1, 2, 120, 152)
    before = discriminator(given).detach()
    assert before.shape == (1, 1, 13, 17)
    # Without the norms, which see the whole image, a score sees 70 voxels.
    with torch.no_grad():
        given.requires_grad_()
    x = given
    for layer in discriminator.layers:
        x = layer(x)
    (seen,) = torch.autograd.grad(x[0, 0, 6, 8], given)
    rows, columns = (torch.nonzero(seen[0, 0].abs().sum(axis)).flatten() for axis in (1, 0))
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 69


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_discriminator_sees_the_source_if_it_is_to(shape, conditional):
    torch.manual_seed(0)
    discriminator = Discriminator(len(shape), 4, conditional)
    source, other, image = (texture(shape, seed) for seed in range(3))
    first, second = (discriminator(discriminator.inputs(one, image)).detach() for one in (source, other))
    assert torch.equal(first, second) is not conditional
    if conditional:
        assert torch.equal(discriminator.inputs(source, image), torch.cat([source, image], dim=1))


# Configuration


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dims": 2, "image_shape": (96, 112), "resolution": "half", "conditional": False},
        {"dims": 2, **SMALL, **SMALL_GAN, "diffeomorphic": True, "squarings": 5},
    ],
)
def test_configurations_come_back(options):
    model = DeformGAN(DeformGANConfig(**options))
    again = DeformGAN.from_config(json.loads(json.dumps(model.config())))
    assert again.settings == model.settings == DeformGANConfig(**options)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes
    assert again.registration.diffeomorphic == model.registration.diffeomorphic
    assert again.registration.squarings == options.get("squarings", 7)


def test_a_model_built_again_gives_the_same():
    model = moving_model(resolution="half", diffeomorphic=True)
    again = DeformGAN.from_config(model.config())
    again.load_state_dict(model.state_dict())
    fixed, moving = texture(SHAPES[0], 0), texture(SHAPES[0], 1)
    for name in ("displacement", "warped", "translated"):
        assert torch.equal(getattr(again(fixed, moving), name), getattr(model(fixed, moving), name))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dims": 4}, "2 or 3 dimensions"),
        ({"dims": 2, "image_shape": (8, 8, 8)}, "in 2D has an image shape"),
        ({"resolution": "quarter"}, "no resolution 'quarter'"),
        ({"encoder": (8, 8)}, "as many levels"),
        ({"last": ()}, "1 or more"),
        ({"encoder": (), "decoder": ()}, "1 or more"),
        ({"generator_depth": 0}, "1 or more"),
        ({"decoder": (8, 8, 0, 8)}, "1 or more"),
    ],
)
def test_configurations_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ModelError, match=sentence) as caught:
        DeformGANConfig(**options)
    assert str(caught.value).endswith(".")


def test_other_input_that_cannot_be_is_refused():
    with pytest.raises(ModelError, match="no setting 'widht'"):
        DeformGANConfig.from_dict({"widht": 8})
    with pytest.raises(ModelError, match="no adversarial loss"):
        DeformGANWeights(adversarial="wgan")
    with pytest.raises(ModelError, match="odd numbers"):
        DeformGANWeights(gradient_windows=(6,))
    with pytest.raises(ModelError, match="beta is -1"):
        DeformGANWeights(beta=-1)
    model, image = made(), texture(SHAPES[0])
    with pytest.raises(ModelError, match="one shape"):
        model(image, image[..., 1:])
    with pytest.raises(ModelError, match="one shape"):
        model.register(texture(SHAPES[1]), texture(SHAPES[1]))
    with pytest.raises(ModelError, match="2D generator takes"):
        model.generator(image.expand(1, 2, *SHAPES[0]))
    with pytest.raises(ModelError, match="2D discriminator takes"):
        model.discriminator(image)
    with pytest.raises(ModelError, match="more than 8 voxels"):
        model.generator(texture((8, 7)))
    with pytest.raises(ModelError, match="24 voxels or more"):
        model.discriminator(torch.rand(1, 2, 40, 23))
    assert model.discriminator(torch.rand(1, 2, 24, 24)).shape == (1, 1, 1, 1)
    assert model.generator(texture((9, 3))).shape == (1, 1, 9, 3)
    with pytest.raises(ModelError, match="ramp"):
        registration_loss(model, image, model.deform(image, image), ramp=1.1)
