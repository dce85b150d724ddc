"""Deform-GAN's three steps: the terms of each loss, who learns from them, and that together they learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from deformgan_models import SHAPES, SMALL, moving_model, smooth_flow, texture
from regnet import spatial
from regnet.losses.adversarial import ImagePool
from regnet.losses.lncc import LNCC
from regnet.losses.local_gradient import LocalGradient
from regnet.losses.roughness import roughness
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
from torch import nn


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
