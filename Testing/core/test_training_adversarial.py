"""Training of networks against each other: turns, who learns, what is resumed, and that Deform-GAN's recipe learns."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import InputError
from regnet.models.deformgan_training import POOL, Recipe
from regnet.networks.deformgan import DeformGAN
from regnet.training import run
from regnet.training.adversarial import AdversarialTraining
from regnet.training.checkpoints import LAST, load_checkpoint
from regnet.training.data import Draws
from regnet.training.run import Devices, Where, train
from regnet.training.schedule import Place
from regnet.training.validate import ValidationSet
from training_runs import SHAPES, assert_same, small_config

NETWORK = {
    "encoder": [4, 8],
    "decoder": [8, 8],
    "last": [8],
    "generator_width": 4,
    "generator_depth": 2,
    "discriminator_width": 4,
}
VIEWS = {"affine": None, "largest": [1.0, 3.0]}


def config(steps=2, accumulate=1, **options):
    source = SHAPES | {"settings": SHAPES["settings"] | {"views": VIEWS}}
    sizes = {"steps": steps, "batch": 1, "accumulate": accumulate, "warmup": 0, "lr": 1e-3}
    stage = {"name": "one", "sources": [source], "options": options, **sizes}
    return small_config(
        model="deformgan", shape=[32, 40], network=NETWORK, stages=[stage], steps_per_epoch=2, validate_every=2
    )


@pytest.fixture(autouse=True)
def known_recipe(monkeypatch):
    monkeypatch.setattr(run, "get_recipe", lambda name: Recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(folder, settings, **options):
    folder.mkdir(exist_ok=True)
    train(settings, Where(folder, folder), Devices("cpu", "1"), quiet=True, **options)
    return load_checkpoint(folder / LAST)


def part(state, player):
    return {name: tensor for name, tensor in state["state_dict"].items() if name.startswith(f"network.{player}.")}


def test_each_player_has_its_optimiser_and_its_pace(tmp_path):
    state = trained(tmp_path / "run", config(adversaries=3.0))
    groups = [entry["param_groups"][0] for entry in state["optimizer_states"]]
    assert [group["betas"] for group in groups] == [(0.5, 0.999), (0.5, 0.999), (0.9, 0.999)]
    assert groups[0]["lr"] == groups[1]["lr"] == pytest.approx(3 * groups[2]["lr"])
    for entry, player in zip(state["optimizer_states"], Recipe.players, strict=True):
        assert len(entry["state"]) == len(part(state, player)), player
    assert len(state["memory"]["images"]) == 2 and POOL == 50


def test_the_pace_is_the_stages_own():
    recipe = Recipe(config())
    options = [recipe.Options(adversaries=ratio) for ratio in (2.0, 5.0)]
    assert [recipe.rate("generator", 0.1, one) for one in options] == [0.2, 0.5]
    assert [recipe.rate("registration", 0.1, one) for one in options] == [0.1, 0.1]


def test_who_does_not_play_does_not_change(tmp_path):
    settings = config(players=["registration"], similarity=0.0)
    state = trained(tmp_path / "alone", settings)
    torch.manual_seed(settings.seed)
    fresh = {f"network.{name}": tensor for name, tensor in Recipe(settings).build().state_dict().items()}
    for player in ("discriminator", "generator"):
        assert all(torch.equal(tensor, fresh[name]) for name, tensor in part(state, player).items())
    assert not any(torch.equal(tensor, fresh[name]) for name, tensor in part(state, "registration").items())
    assert [bool(entry["state"]) for entry in state["optimizer_states"]] == [False, False, True]


def test_a_run_that_was_cut_goes_on_as_if_it_was_not(tmp_path):
    whole = trained(tmp_path / "whole", config(steps=4))
    trained(tmp_path / "cut", config(steps=4), minutes=1e-9)
    first = load_checkpoint(tmp_path / "cut" / LAST)
    assert first["epoch"] == 0
    again = trained(tmp_path / "cut", config(steps=4))
    assert_same(whole["state_dict"], again["state_dict"])
    assert_same(whole["memory"]["images"], again["memory"]["images"])


def test_turns_cannot_be_accumulated():
    settings = config(accumulate=2)
    recipe, draws = Recipe(settings), Draws(settings, [])
    with pytest.raises(InputError, match="accumulate to 1"):
        AdversarialTraining(settings, recipe, draws, ValidationSet(settings, [], draws))


def test_the_recipe_learns_and_exports_what_registers():
    torch.manual_seed(0)
    settings = config(steps=50, mu=1.0, lambda_=10.0)
    recipe, draws = Recipe(settings), Draws(settings, [])
    network, options = recipe.build(), recipe.options(settings.stages[0])
    source, samples = draws.samples(0, 0, range(1))
    pair = draws.stages[0][source].make(samples, torch.device("cpu"))
    optimizers = {
        player: recipe.optimizer(player, network.get_submodule(player).parameters(), 1e-3) for player in recipe.players
    }
    place, memory = Place(0, 50, 0, 25.0, 1.0), recipe.memory()
    first = last = None
    for _ in range(80):
        shared = recipe.begin(network, pair, options)
        for player, optimizer in optimizers.items():
            terms = recipe.turn(network, player, pair, shared, options, place, memory)
            optimizer.zero_grad()
            torch.stack([*terms.values()]).sum().backward()
            optimizer.step()
            if player == "generator":
                last = float(terms["intensity"].detach())
                first = last if first is None else first
    assert last < 0.8 * first
    state, values = recipe.export(network)
    assert not any(name.startswith("discriminator.") for name in state)
    again = DeformGAN.from_config(values)
    assert again.load_state_dict(state, strict=False).unexpected_keys == []
    found = recipe.displacement(network, pair, options)
    torch.testing.assert_close(again.register(pair["fixed"], pair["moving"]), found, rtol=0, atol=1e-6)
    assert found.shape == (1, 2, 32, 40)
