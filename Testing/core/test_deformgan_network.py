"""Deform-GAN's networks, and its three losses: what each is made of, and whom its gradient reaches."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from regnet import spatial
from regnet.errors import ModelError
from regnet.losses.adversarial import ImagePool
from regnet.losses.lncc import LNCC
from regnet.losses.local_gradient import LocalGradient
from regnet.losses.roughness import roughness
from regnet.networks.blocks import parameter_count
from regnet.networks.deformgan import (
    Deformed,
    DeformGAN,
    DeformGANConfig,
    DeformGANWeights,
    discriminator_loss,
    frozen,
    generator_loss,
    registration_loss,
)
from regnet.networks.deformgan_parts import Discriminator, RegistrationNet, Translator
from torch import nn

SMALL = {"encoder": (4, 6, 6), "decoder": (6, 6, 6), "last": (6, 4)}
SMALL_GAN = {"generator_width": 3, "generator_depth": 3, "discriminator_width": 4}
VARIANTS = [(resolution, diffeomorphic) for resolution in ("full", "half") for diffeomorphic in (False, True)]
SHAPES = [(33, 46), (26, 29, 24)]


def texture(shape, seed=0, sigma=1.5, batch=1):
    """Smooth noise (batch, 1, *shape) in [0, 1]."""
    noise = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = spatial.gaussian(noise, sigma)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def smooth_flow(shape, size, seed=0, sigma=3.0, closed=False):
    """Random, (1, d, *shape), its largest component ``size``; ``closed``: 0 at the border, so nothing flows across."""
    flow = spatial.gaussian(torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(seed)), sigma)
    for axis, n in enumerate(shape) if closed else ():
        line = torch.sin(torch.linspace(0, torch.pi, n)).clamp(min=0)
        flow = flow * line.view(-1, *(1,) * (len(shape) - 1 - axis))
    return flow / flow.abs().max() * size


def made(dims=2, seed=0, **options):
    torch.manual_seed(seed)
    return DeformGAN(DeformGANConfig(dims=dims, **{**SMALL, **SMALL_GAN, **options}))


def moving_model(dims=2, **options):
    """One whose registration does something."""
    model = made(dims, **options)
    with torch.no_grad():
        model.registration.flow.weight.mul_(3e4)
    return model


class Given(nn.Module):
    """Stands for a layer and returns what it was made with."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


# Networks


def layers(modules):
    return [(one.in_channels, one.out_channels, one.kernel_size, one.stride[0]) for one in modules]


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
    with pytest.raises(ModelError, match="no entry 'widht'"):
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


# Losses


def stepped(dims=2, **options):
    """A model, a pair and what the model makes of it."""
    model = moving_model(dims, **options)
    fixed, moving = texture(SHAPES[dims - 2], 0), texture(SHAPES[dims - 2], 1)
    return model, fixed, moving, model.deform(fixed, moving)


def total(terms):
    return torch.stack(list(terms.values())).sum()


def values(terms):
    return {name: float(term.detach()) for name, term in terms.items()}


WEIGHTS = DeformGANWeights(
    alpha=0.3,
    beta=2.0,
    mu=4.0,
    lambda_=20.0,
    similarity=1.5,
    direct=0.7,
    cgan=0.5,
    lncc_window=5,
    gradient_windows=(3, 5),
)


def test_published_structure_is_the_default():
    model, fixed, _, deformed = stepped()
    assert list(discriminator_loss(model, fixed, deformed)) == ["real", "fake"]
    assert list(generator_loss(model, fixed, deformed)) == ["adversarial", "structure", "intensity"]
    assert list(registration_loss(model, fixed, deformed)) == ["similarity", "structure", "smoothness"]
    weights = DeformGANWeights()
    assert (weights.alpha, weights.beta, weights.mu, weights.lambda_) == (1, 1, 10, 100)
    assert (weights.lncc_window, weights.adversarial, weights.direct) == (9, "bce", 0)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_terms_are_those_of_the_formulas(dims, conditional):
    model, fixed, moving, deformed = stepped(dims, conditional=conditional)
    warped = spatial.warp(moving, deformed.displacement)
    made_up = model.generator(warped)
    judge = model.discriminator

    def score(image):
        return judge(torch.cat([warped, image], dim=1) if conditional else image)

    found = values(discriminator_loss(model, fixed, deformed, WEIGHTS))
    expected = {
        "real": -functional.logsigmoid(score(fixed)).mean(),
        "fake": -functional.logsigmoid(-score(made_up)).mean(),
    }
    assert found == pytest.approx(values(expected), rel=1e-5)
    found = values(generator_loss(model, fixed, deformed, WEIGHTS))
    expected = {
        "adversarial": -0.5 * functional.logsigmoid(score(made_up)).mean(),
        "structure": 4.0 * LocalGradient((3, 5))(made_up, warped),
        "intensity": 20.0 * (made_up - fixed).abs().mean(),
    }
    assert found == pytest.approx(values(expected), rel=1e-5)
    found = values(registration_loss(model, fixed, deformed, WEIGHTS, ramp=0.5))
    expected = {
        "similarity": 0.75 * LNCC(5)(fixed, made_up),
        "direct": 0.7 * LNCC(5)(fixed, warped),
        "structure": 2.0 * LocalGradient((3, 5))(fixed, warped),
        "smoothness": 0.3 * roughness(deformed.displacement),
    }
    assert found == pytest.approx(values(expected), rel=1e-5)


def test_least_squares_reach_both_players():
    model, fixed, _, deformed = stepped()
    weights = dataclasses.replace(WEIGHTS, adversarial="lsgan")
    judge = model.discriminator
    real, fake = (judge(judge.inputs(deformed.warped, x)) for x in (fixed, model.generator(deformed.warped)))
    found = values(discriminator_loss(model, fixed, deformed, weights))
    assert found == pytest.approx(values({"real": (real - 1).square().mean() / 2, "fake": fake.square().mean() / 2}))
    found = values(generator_loss(model, fixed, deformed, weights))
    assert found["adversarial"] == pytest.approx(0.25 * float((fake.detach() - 1).square().mean()), rel=1e-5)


def test_terms_of_no_weight_are_left_out_with_what_they_need():
    model, fixed, _, deformed = stepped()
    nothing = DeformGANWeights(0, 0, 0, 0, 0, 0, 0)
    model.discriminator = None
    assert discriminator_loss(model, fixed, deformed, nothing) == {}
    only = {
        "structure": dataclasses.replace(nothing, mu=2.0),
        "intensity": dataclasses.replace(nothing, lambda_=2.0),
    }
    for name, weights in only.items():
        assert list(generator_loss(model, fixed, deformed, weights)) == [name]
    model.generator = None
    only = {
        "direct": dataclasses.replace(nothing, direct=2.0),
        "structure": dataclasses.replace(nothing, beta=2.0),
        "smoothness": dataclasses.replace(nothing, alpha=2.0),
    }
    for name, weights in only.items():
        assert list(registration_loss(model, fixed, deformed, weights)) == [name]
    assert list(registration_loss(model, fixed, deformed, ramp=0.0)) == ["structure", "smoothness"]


STEPS = {
    "discriminator": discriminator_loss,
    "generator": generator_loss,
    "registration": registration_loss,
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("step", STEPS)
def test_each_step_trains_its_own_network_alone(step, dims):
    """Even if one optimiser held all parameters: no gradient reaches the others."""
    model, fixed, moving, _ = stepped(dims)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    total(STEPS[step](model, fixed, model(fixed, moving))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(step), name
        assert parameter.requires_grad
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
    for layer in getattr(model, step).modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            assert float(layer.weight.grad.abs().max()) > 0.0
    optimiser.step()
    for name, tensor in model.state_dict().items():
        changed = not torch.equal(tensor, before[name])
        assert not changed if not name.startswith(step) else changed or name.endswith("bias"), name


def test_the_similarity_reaches_the_displacement_through_the_frozen_generator():
    model, fixed, moving, _ = stepped()
    weights = DeformGANWeights(alpha=0, beta=0, lncc_window=5)
    displacement = smooth_flow(SHAPES[0], 2.0).requires_grad_()
    terms = registration_loss(model, fixed, Deformed(displacement, spatial.warp(moving, displacement)), weights)
    (found,) = torch.autograd.grad(total(terms), displacement)
    assert list(terms) == ["similarity"] and float(found.abs().max()) > 1e-7
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.generator.parameters())
    # What is derived: the composition itself.
    whole = LNCC(5)(fixed, model.generator(spatial.warp(moving, displacement)))
    (expected,) = torch.autograd.grad(whole, displacement)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9)
    way = torch.randn(displacement.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ends = [
            LNCC(5)(fixed, model.generator(spatial.warp(moving, displacement + sign * 1e-3 * way))) for sign in (1, -1)
        ]
    assert float((found * way).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-3, rel=0.1)
    # What a detached translation, or one made under no_grad, would teach: nothing.
    with frozen(model.generator):
        cut = LNCC(5)(fixed, model.generator(spatial.warp(moving, displacement).detach()))
        with torch.no_grad():
            blind = model.generator(spatial.warp(moving, displacement))
    assert not cut.requires_grad and not LNCC(5)(fixed, blind).requires_grad


def test_the_translation_of_the_registration_step_is_of_the_generator_as_it_is():
    model, fixed, moving, _ = stepped()
    stale = model(fixed, moving)
    with torch.no_grad():
        model.generator.last.weight.mul_(-1.0)
    fresh = Deformed(stale.displacement, stale.warped)
    for loss in (generator_loss, registration_loss):
        assert values(loss(model, fixed, stale)) == values(loss(model, fixed, fresh))
    assert values(discriminator_loss(model, fixed, stale)) != values(discriminator_loss(model, fixed, fresh))


def test_freezing_ends_and_leaves_what_was_frozen():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].weight.requires_grad_(False)
    given = torch.ones(1, 2, requires_grad=True)
    with pytest.raises(ValueError, match="inside"), frozen(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        result = network(given)
        raise ValueError("inside")
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]
    result.backward()
    assert given.grad is not None and all(parameter.grad is None for parameter in network.parameters())


def test_the_discriminator_sees_past_pairs_again():
    model, fixed, moving, deformed = stepped()
    pool = ImagePool(1, seed=0)
    discriminator_loss(model, fixed, deformed, pool=pool)
    past = torch.cat([deformed.warped, model.generator(deformed.warped)], dim=1).detach()
    torch.testing.assert_close(pool.images[0][None], past)
    other = model.deform(moving, fixed)
    fakes = set()
    for _ in range(12):
        kept = pool.images[0][None].clone()
        found = values(discriminator_loss(model, moving, other, pool=pool))["fake"]
        now = torch.cat([other.warped, model.generator(other.warped)], dim=1).detach()
        choices = [float(functional.softplus(model.discriminator(one)).mean().detach()) for one in (kept, now)]
        assert min(abs(found - choice) for choice in choices) < 1e-6
        fakes.add(round(found, 5))
    assert len(fakes) == 2 and not pool.images[0].requires_grad


def test_playing_the_three_steps_lowers_their_losses():
    """Of generator and registration on one pair, with the discriminator learning beside them."""
    torch.manual_seed(0)
    shape = (32, 40)
    model = DeformGAN(DeformGANConfig(dims=2, **SMALL, generator_width=6, generator_depth=3, discriminator_width=4))
    moving = texture(shape, 0, 2.0)
    fixed = spatial.warp(1.0 - moving, smooth_flow(shape, 2.0, 1, 6.0), padding="border")
    rates = {"discriminator": (2e-4, 0.5), "generator": (2e-3, 0.5), "registration": (1e-3, 0.9)}
    optimisers = {
        name: torch.optim.Adam(getattr(model, name).parameters(), lr=rate, betas=(beta, 0.999))
        for name, (rate, beta) in rates.items()
    }
    pool, history = ImagePool(8), []
    for step in range(40):
        deformed, sums = model.deform(fixed, moving), {}
        for name, optimiser in optimisers.items():
            more = {"pool": pool} if name == "discriminator" else {}
            more = {"ramp": min(1.0, step / 20)} if name == "registration" else more
            terms = STEPS[name](model, fixed, deformed, **more)
            optimiser.zero_grad()
            total(terms).backward()
            optimiser.step()
            sums |= {f"{name} {term}": value for term, value in values(terms).items()}
        history.append(sums)
    assert all(np.isfinite(list(sums.values())).all() for sums in history)
    assert history[-1]["generator intensity"] < 0.5 * history[0]["generator intensity"]
    assert history[-1]["generator structure"] < 0.5 * history[0]["generator structure"]
    assert history[-1]["registration structure"] < 0.9 * history[0]["registration structure"]


def test_local_gradients_alone_register_two_contrasts():
    """One pair whose contrasts are inverted and bent, T alone."""
    torch.manual_seed(0)
    shape = (48, 56)
    fixed = texture(shape, 0, 2.0)
    truth = smooth_flow(shape, 4.0, 1, 7.0, closed=True)
    other = 0.8 * (1.0 - fixed).square() + 0.1
    moving = spatial.warp(other, spatial.invert(truth, 100, 1e-5), padding="border")
    model = DeformGAN(DeformGANConfig(dims=2, generator_width=2, discriminator_width=2))
    weights = DeformGANWeights(alpha=0.1, similarity=0.0)
    optimiser = torch.optim.Adam(model.registration.parameters(), lr=2e-3)
    for _ in range(60):
        terms = registration_loss(model, fixed, model.deform(fixed, moving), weights)
        optimiser.zero_grad()
        total(terms).backward()
        optimiser.step()
    with torch.no_grad():
        error = (model.register(fixed, moving) - truth).norm(dim=1).mean()
    assert float(error) < 0.6 * float(truth.norm(dim=1).mean())
