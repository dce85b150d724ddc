"""DDIM's recipe: what its losses say of known pairs, that it learns, and that what is exported is what was trained."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import InputError
from regnet.models import get_recipe
from regnet.networks.ddim import DDIM
from regnet.networks.maps import affine_map, displacement_to_map
from regnet.training.data import Draws
from regnet.training.schedule import Schedule
from training_runs import SHAPES, small_config

VIEWS = {"affine": {"degrees": 15.0, "scale": 0.1, "shear": 0.05, "shift": 0.1}, "largest": [0.0, 0.0]}


def recipe_and_pair(shape=(24, 32), batch=3, contrast=0.0, **options):
    source = SHAPES | {"settings": SHAPES["settings"] | {"views": VIEWS, "different_contrast": contrast}}
    stage = {"name": "one", "steps": 2, "batch": batch, "sources": [source], "options": options}
    network = {"width": 6, "hidden": 16}
    config = small_config(model="ddim", shape=list(shape), stages=[stage], network=network)
    recipe, draws = get_recipe("ddim")(config), Draws(config, [])
    source, samples = draws.samples(0, 0, range(batch))
    pair = draws.stages[0][source].make(samples, torch.device("cpu"))
    return recipe, pair, recipe.options(config.stages[0]), Schedule(config).place(0, 0)


@pytest.mark.parametrize("shape", [(24, 32), (18, 24, 20)])
def test_the_error_is_the_mean_distance_to_the_truth(shape):
    """A fresh network predicts nothing, so its error is how far the points of the lattice lie apart."""
    recipe, pair, options, place = recipe_and_pair(shape, intensity=0.0)
    losses = recipe.losses(recipe.build(), pair, options, place)
    assert losses.keys() == {"error", "total"}
    # The truth is affine: its mean length over a coarse lattice is close to that over all voxels, not equal.
    moved = pair["displacement"].norm(dim=1).flatten(1)
    assert float(losses["error"].detach()) == pytest.approx(float(moved.mean()), rel=0.25)
    corners = [
        pair["displacement"][(slice(None), slice(None), *place)] for place in ([0] * len(shape), [-1] * len(shape))
    ]
    assert float(torch.stack(corners).norm(dim=2).mean()) > float(losses["error"].detach())


def test_a_right_answer_has_no_error():
    recipe, pair, _, _ = recipe_and_pair()
    network = recipe.build()
    output = network(pair["fixed"], pair["moving"])
    truth = displacement_to_map(pair["displacement"])
    # The affine transform that gives the map of the truth, by least squares over all voxels.
    shape = tuple(truth.shape[2:])
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    points = torch.stack([*axes, torch.ones(shape, dtype=torch.float64)]).flatten(1).T
    values = (2 * truth - 1).flatten(2).transpose(1, 2).double()
    solved = torch.linalg.lstsq(points.expand(len(values), -1, -1), values).solution.transpose(1, 2).float()
    torch.testing.assert_close(affine_map(solved, shape), truth, atol=1e-4, rtol=0)
    right = type(output)(solved, [solved] * 3, output.warped, output.residuals, output.reconstruction)
    assert float(recipe._error(right, pair)) < 0.01 < float(recipe._error(output, pair).detach())


def test_intensities_count_for_pairs_of_one_contrast_only():
    recipe, pair, options, place = recipe_and_pair()
    network = recipe.build()
    names = {"residual", "similarity", "reconstruction", "closeness"}
    pair["same_contrast"] = torch.tensor([True, True, True])
    whole = recipe.losses(network, pair, options, place)
    assert whole.keys() == names | {"error", "total"}
    pair["same_contrast"] = torch.tensor([True, False, False])
    part = recipe.losses(network, pair, options, place)
    expected = torch.nn.functional.mse_loss(pair["fixed"][:1], pair["moving"][:1]) / 3
    assert float(part["similarity"].detach()) == pytest.approx(float(expected), rel=1e-4)
    pair["same_contrast"] = torch.tensor([False, False, False])
    none = recipe.losses(network, pair, options, place)
    assert none.keys() == {"residual", "error", "total"} and float(none["residual"].detach()) == 0.0
    torch.testing.assert_close(none["error"], whole["error"])


def test_it_learns_one_batch_and_passes_improve_on_each_other():
    torch.manual_seed(0)
    recipe, pair, options, place = recipe_and_pair((32, 40), passes=1)
    network = recipe.build()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    errors = []
    for step in range(80):
        pair["seed"] = torch.tensor([step])  # even: one pass, odd: from where a first one has led
        losses = recipe.losses(network, pair, options, place)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        errors.append(float(losses["error"].detach()))
    assert errors[-1] < 0.3 * errors[0]
    # While one pass does not yet do it all, a second one goes on from the first.
    once, twice = errors[10:40:2], errors[11:41:2]
    assert sum(twice) < sum(once)
    left = recipe.displacement(network, pair, options) - pair["displacement"]
    assert float(left.norm(dim=1).mean()) < 0.35 * float(pair["displacement"].norm(dim=1).mean())


def test_exported_weights_are_the_network():
    recipe, pair, _, _ = recipe_and_pair()
    network = recipe.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    state, config = recipe.export(network)
    assert config["image_shape"] == [24, 32] and config["dims"] == 2
    again = DDIM.from_config(config)
    again.load_state_dict(state)
    torch.testing.assert_close(
        again.align(pair["fixed"], pair["moving"]), network.align(pair["fixed"], pair["moving"]), rtol=0, atol=0
    )


def test_options_are_checked():
    with pytest.raises(InputError, match="similarity"):
        recipe_and_pair(similarity="nmi")
    with pytest.raises(InputError, match="passes"):
        recipe_and_pair(passes=-1)
