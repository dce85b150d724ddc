"""Deform-GAN's generator with a stem ahead of it, and its registration by structural descriptors."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from deformgan_models import SHAPES, layers, made, moving_model, texture
from pydantic import ValidationError
from regnet.descriptors import mind
from regnet.errors import ModelError
from regnet.losses.descriptor import DescriptorLoss
from regnet.losses.lncc import LNCC
from regnet.models.deformgan_training import Options
from regnet.networks.blocks import parameter_count
from regnet.networks.deformgan import (
    Deformed,
    DeformGAN,
    DeformGANConfig,
    DeformGANWeights,
    generator_loss,
    registration_loss,
)
from regnet.networks.deformgan_parts import Translator


def translator(dims: int, stem: int, width: int = 3, depth: int = 3, seed: int = 0) -> Translator:
    torch.manual_seed(seed)
    return Translator(dims, width, depth, stem)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_stem_is_one_convolution_and_a_skip_of_its_own(dims):
    three, four = (3,) * dims, (4,) * dims
    network = translator(dims, 5)
    assert layers([network.stem]) == [(1, 5, three, 1)]
    assert layers(network.down) == [(a, b, four, 2) for a, b in ((5, 3), (3, 6), (6, 12))]
    assert layers([*network.up, network.last]) == [
        (a, b, three, 1) for a, b in ((12 + 6, 6), (6 + 3, 3), (3 + 5, 1), (1, 1))
    ]
    plain = translator(dims, 0)
    taps = 3**dims
    # The stem itself, what the first layer reads more of it, and what the last skip does.
    more = (taps + 1) * 5 + (5 - 1) * 3 * 4**dims + (5 - 1) * taps
    assert parameter_count(network) == parameter_count(plain) + more


@pytest.mark.parametrize("dims", [2, 3])
def test_without_one_the_network_is_what_it_was(dims):
    """Weights of before there were stems fit, and a fresh network draws the same ones."""
    plain = translator(dims, 0)
    assert plain.stem is None
    names = [f"{part}.{kind}" for part in ("down.0", "down.1", "down.2", "up.0", "up.1", "up.2", "last")
             for kind in ("weight", "bias")]  # fmt: skip
    assert list(plain.state_dict()) == names
    torch.manual_seed(0)
    again = Translator(dims, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), again.parameters(), strict=True))
    config = DeformGANConfig(dims=dims).plain()
    assert config["generator_stem"] == 0
    del config["generator_stem"]
    old = DeformGAN.from_config(config)
    assert old.generator.stem is None and parameter_count(old.generator) == parameter_count(Translator(dims))


@pytest.mark.parametrize("shape", [(40, 33), (9, 41), (5, 9, 7), (16, 16, 16), (17, 24, 12)])
def test_any_size_is_translated_to_its_own(shape):
    network = translator(len(shape), 4)
    given = texture(shape, batch=2)
    kept = given.clone()
    found = network(given)
    assert found.shape == given.shape and torch.equal(given, kept)
    assert 0.0 < float(found.detach().amin()) < float(found.detach().amax()) < 1.0
    alone = network(given[1:])
    torch.testing.assert_close(alone, found[1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_part_of_it_learns(dims):
    model = made(dims, generator_stem=4)
    fixed, moving = texture(SHAPES[dims - 2], 0), texture(SHAPES[dims - 2], 1)
    terms = generator_loss(model, fixed, model.deform(fixed, moving))
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.generator.named_parameters():
        # A bias just ahead of a norm changes nothing.
        if name.startswith("stem.") or name.endswith(".weight"):
            assert float(parameter.grad.abs().max()) > 1e-6, name
    assert all(parameter.grad is None for parameter in model.registration.parameters())


def test_it_is_stored_with_the_configuration():
    model = made(2, generator_stem=4)
    again = DeformGAN.from_config(json.loads(json.dumps(model.config())))
    again.load_state_dict(model.state_dict())
    image = texture(SHAPES[0])
    assert torch.equal(again.generator(image), model.generator(image))
    with pytest.raises(RuntimeError, match="stem"):
        made(2).load_state_dict(model.state_dict())
    with pytest.raises(ModelError, match=r"generator_stem and matching are 0 channels or more\.$"):
        DeformGANConfig(generator_stem=-1)


# Registration by descriptors


def deformed(dims: int) -> tuple[DeformGAN, torch.Tensor, Deformed]:
    model = moving_model(dims)
    fixed, moving = texture(SHAPES[dims - 2], 0), texture(SHAPES[dims - 2], 1)
    return model, fixed, model.deform(fixed, moving)


BY_MIND = DeformGANWeights(alpha=0, beta=0, similarity=0, direct=0.7, direct_with="mind")


def direct(model: DeformGAN, fixed: torch.Tensor, moved: Deformed, weights: DeformGANWeights = BY_MIND) -> float:
    terms = registration_loss(model, fixed, moved, weights)
    assert list(terms) == ["direct"]
    return float(terms["direct"].detach())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_direct_distance_is_that_of_the_descriptors(dims):
    model, fixed, moved = deformed(dims)
    warped = moved.warped.detach()
    assert direct(model, fixed, moved) == pytest.approx(0.7 * float(DescriptorLoss(mind())(fixed, warped)), rel=1e-6)
    plain = dataclasses.replace(BY_MIND, direct_with="lncc")
    assert direct(model, fixed, moved, plain) == pytest.approx(0.7 * float(LNCC(9)(fixed, warped)), rel=1e-6)
    assert DeformGANWeights().direct_with == "lncc"


@pytest.mark.parametrize("dims", [2, 3])
def test_an_inverted_moving_image_is_as_far_away(dims):
    model, fixed, moved = deformed(dims)
    inverted = dataclasses.replace(moved, warped=1.0 - moved.warped)
    assert direct(model, fixed, moved) == pytest.approx(direct(model, fixed, inverted), rel=1e-4)
    assert direct(model, fixed, dataclasses.replace(moved, warped=1.0 - fixed)) < 0.01 * direct(model, fixed, moved)


def test_the_registration_learns_from_it_and_nobody_else():
    model, fixed, moved = deformed(2)
    registration_loss(model, fixed, moved, BY_MIND)["direct"].backward()
    assert all(bool(torch.isfinite(one.grad).all()) for one in model.registration.parameters())
    assert float(model.registration.flow.weight.grad.abs().max()) > 0
    assert all(one.grad is None for part in (model.generator, model.discriminator) for one in part.parameters())


def test_what_it_can_be_measured_with():
    with pytest.raises(ModelError, match=r"no distance 'nmi'; choose from lncc, mind\.$"):
        DeformGANWeights(direct_with="nmi")
    with pytest.raises(ModelError, match="direct is -1"):
        DeformGANWeights(direct=-1, direct_with="mind")
    with pytest.raises(ValidationError, match="direct_with"):
        Options(direct_with="nmi")
    with pytest.raises(ValidationError, match="direct"):
        Options(direct=-0.5)
    assert Options(direct=0.3, direct_with="mind").weights() == DeformGANWeights(direct=0.3, direct_with="mind")
