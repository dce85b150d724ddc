"""AVSM's recipe: which parts learn, that they do, and that what is exported is what was trained."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import InputError, ModelError
from regnet.models import get_recipe
from regnet.training.data import Batches, Draws, Sample
from regnet.training.precision import choose, in_low_precision
from regnet.training.schedule import Schedule
from training_runs import SHAPES, small_config

DENSE = {"part": "momentum", "momentum_steps": 2, "similarity": "ncc", "energy": 0.01}


TURNED = {"affine": {"degrees": 15.0, "scale": 0.1, "shear": 0.0, "shift": 0.1}, "largest": [0.0, 0.5]}


def stage(**options):
    views = SHAPES["settings"]["views"] if options["part"] == "momentum" else TURNED
    source = SHAPES | {"settings": SHAPES["settings"] | {"views": views}}
    return {"name": "one", "steps": 2, "batch": 2, "sources": [source], "options": options}


def recipe_and_pair(shape=(24, 32), network=None, **options):
    changes = {"network": network} if network else {}
    config = small_config(shape=list(shape), stages=[stage(**options)], **changes)
    recipe, draws = get_recipe("avsm")(config), Draws(config, [])
    samples = Batches(draws, 0, 0, 1)[0]["samples"]
    pair = draws.stages[0][0].make([Sample(**sample) for sample in samples], torch.device("cpu"))
    return recipe, pair, recipe.options(config.stages[0]), Schedule(config).place(0, 0)


@pytest.mark.parametrize(
    ("options", "learns", "terms"),
    [
        ({"part": "affine", "affine_steps": 2}, "affine", {"similarity", "regularity", "dice", "error"}),
        ({"part": "affine", "symmetric": True, "error": 0}, "affine", {"similarity", "regularity", "dice", "symmetry"}),
        (DENSE | {"dice": 0}, "momentum", {"similarity", "momentum", "error"}),
        (DENSE | {"similarity": "mind", "dice": 0}, "momentum", {"similarity", "momentum", "error"}),
        (DENSE | {"symmetric": True}, "momentum", {"similarity", "momentum", "dice", "error", "symmetry"}),
        ({"part": "both", "affine_steps": 1}, "", {"similarity", "momentum", "dice", "error"}),
    ],
)
def test_a_stage_trains_its_part(options, learns, terms):
    torch.manual_seed(0)
    recipe, pair, checked, place = recipe_and_pair(**options)
    network = recipe.build()
    with torch.no_grad():
        # Away from the start, where everything but the last layers has no gradient.
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    trained = {id(parameter) for parameter in recipe.parameters(network, checked)}
    expected = {name for name, _ in network.named_parameters() if name.startswith(learns)}
    assert {name for name, one in network.named_parameters() if id(one) in trained} == expected
    losses = recipe.losses(network, pair, checked, place)
    assert losses.keys() == terms | {"total"}
    total = sum(value for name, value in losses.items() if name != "total")
    torch.testing.assert_close(losses["total"], total)
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        if name in expected:
            assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize(
    "options", [{"part": "both", "affine_steps": 1, "symmetric": True}, {"part": "momentum", "warm_steps": 3}]
)
def test_gradients_of_a_batch_are_the_mean_of_its_samples(options):
    torch.manual_seed(0)
    recipe, pair, options, place = recipe_and_pair(**options, labels=2)
    pair["same_contrast"] = torch.tensor([True, False])
    network = recipe.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)

    def gradient(*entries: int) -> torch.Tensor:
        network.zero_grad()
        part = {name: tensor[list(entries)] for name, tensor in pair.items()}
        recipe.losses(network, part, options, place)["total"].backward()
        return torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])

    torch.testing.assert_close(gradient(0, 1), (gradient(0) + gradient(1)) / 2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{"part": "affine", "affine_steps": 2, "similarity": "ncc"}, DENSE])
def test_learns_one_pair(options):
    torch.manual_seed(0)
    recipe, pair, checked, place = recipe_and_pair(**options)
    network = recipe.build()
    optimizer = torch.optim.Adam(recipe.parameters(network, checked), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = recipe.losses(network, pair, checked, place)["total"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_warm_steps_go_ahead_of_the_one_that_learns():
    torch.manual_seed(0)
    guided = {"momentum_width": 4, "momentum_scale": 0.05, "momentum_guided": True}
    recipe, pair, options, place = recipe_and_pair((48, 64), guided, part="momentum", warm_steps=3)
    network = recipe.build()
    similarity = []
    for seed in (0, 3):
        pair["seed"] = torch.full((2,), seed)
        losses = recipe.losses(network, pair, options, place)
        similarity.append(float(losses["similarity"].detach()))
        losses["total"].backward()
    assert similarity[1] < 0.95 * similarity[0]


def test_predicts_in_voxels_and_only_what_the_stage_does():
    recipe, pair, options, _ = recipe_and_pair(part="momentum", momentum_steps=1)
    network = recipe.build()
    with torch.no_grad():
        network.affine.net.head[-1].bias[2] = 0.2  # a shift that a momentum stage does not use
        displacement = recipe.displacement(network, pair, options)
        assert displacement.shape == (2, 2, 24, 32) and float(displacement.abs().max()) < 1e-4
        recipe, pair, options, _ = recipe_and_pair(part="affine")
        displacement = recipe.displacement(network, pair, options)
    torch.testing.assert_close(displacement[:, 0], torch.full((2, 24, 32), 0.2 * 23 / 2), rtol=1e-4, atol=1e-4)
    assert float(displacement[:, 1].abs().max()) < 1e-4


def test_a_descriptor_that_is_not_there_is_not_replaced_in_silence():
    """There are no learned descriptors of planes; another loss than the one asked for would be no answer."""
    recipe, pair, checked, place = recipe_and_pair(**(DENSE | {"similarity": "dsir", "dice": 0}))
    with pytest.raises(ModelError, match="no trained descriptor for 2D images"):
        recipe.losses(recipe.build(), pair, checked, place)


def test_options_are_checked():
    with pytest.raises(InputError, match="options of stage 'one' has an unknown key 'dise'"):
        recipe_and_pair(part="affine", dise=1.0)
    with pytest.raises(InputError, match="'part' is 'linear'"):
        recipe_and_pair(part="linear")
    with pytest.raises(InputError, match="warm_steps go with part: momentum"):
        recipe_and_pair(part="affine", warm_steps=1)


def test_low_precision_only_inside_the_networks():
    recipe, pair, options, place = recipe_and_pair(part="momentum", momentum_steps=1, similarity="ncc")
    torch.manual_seed(0)
    network = recipe.build()
    with torch.no_grad():
        network.momentum.last.weight.normal_(0.0, 0.01)
    exact = recipe._forward(network, pair, options, False)["transform"]
    seen = []
    network.momentum.first.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    in_low_precision(network, recipe.parts, choose("bf16", "cpu"))
    coarse = recipe._forward(network, pair, options, False)["transform"]
    assert set(seen) == {torch.bfloat16} and coarse.dtype == torch.float32
    assert 0 < (coarse - exact).abs().max().item() < 0.1 * exact.abs().max().item()
    assert choose("auto", "cpu") is None and choose("32", "cuda") is None
    recipe.losses(network, pair, options, place)["total"].backward()
    assert network.momentum.last.weight.grad.dtype == torch.float32
