"""Deform-GAN's trained networks on a pair: what they see, and what becomes of what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from deformgan_models import made, moving_model, shipped
from helpers import blob_image, oblique_grid, seconds_to_stop
from regnet.errors import Cancelled, ModelError
from regnet.events import Events
from regnet.image import Grid
from regnet.models.deformgan import dimension_of
from regnet.models.deformgan_run import SPACING as SPACINGS
from regnet.models.deformgan_run import Networks, synthetic
from regnet.networks.deformgan import DeformGAN
from regnet.orientation import Orientation
from regnet.pair import FOREGROUND, Pair
from torch import Tensor

CPU = torch.device("cpu")
GRID = oblique_grid((34, 48, 40), (1.2, 0.9, 1.4), (8, -5, 6), (3, -10, 20), (1, -1, 1))
FLAT = Grid((1, 60, 44), np.diag([1.3, 1.1, 1.0, 1.0]), 2)
KINDS = [{"resolution": "full"}, {"resolution": "half", "diffeomorphic": True}, {"matching": 6}]
"""Of registration networks: U-Nets, and one that matches edges."""


def pair_on(grid: Grid, seed: int = 3) -> Pair:
    """Two textured objects of different contrast."""
    extent = 0.45 * float((np.array(grid.size)[: grid.ndim] * grid.spacing[: grid.ndim]).min())
    where = Grid(grid.shape, grid.index_to_world.copy(), grid.ndim)
    where.index_to_world[:3, 3] -= where.center()
    fixed, moving = (blob_image(where, number, extent).normalized().data[None] for number in (seed, seed + 1))
    moving = torch.where(moving > 0.05, 1.0 - 0.8 * moving, 0.0)
    if grid.ndim == 2:
        fixed, moving = fixed[:, :, 0], moving[:, :, 0]
    return Pair(fixed, moving, grid)


def model_of(dims: int = 3, **options) -> DeformGAN:
    """A small one, not trained, that moves something."""
    return made(dims, **options) if options.get("matching") else moving_model(dims, **options)


def networks(dims: int = 3, **options) -> Networks:
    model = model_of(dims, **options)
    return Networks(shipped(model), model.config(), CPU)


def seen_shape(pair: Pair) -> tuple[int, ...]:
    return pair.level(SPACINGS[len(pair.shape)] / pair.spacing_of_finest).shape


# Displacements


@pytest.mark.parametrize("grid", [GRID, FLAT])
@pytest.mark.parametrize("kind", KINDS)
def test_the_displacement_is_on_the_networks_grid_over_the_pair(grid, kind):
    pair = pair_on(grid)
    found = networks(grid.ndim, **kind).displacement(pair, Events())
    shape = seen_shape(pair)
    assert found.shape == (1, grid.ndim, *shape) and shape != pair.shape
    steps = [(n - 1) * step / (m - 1) for n, m, step in zip(pair.shape, shape, pair.spacing, strict=True)]
    assert steps == pytest.approx([SPACINGS[grid.ndim]] * grid.ndim, rel=0.06)
    assert 0.1 < float(found.abs().max()) < 50 and not found.is_inference()
    assert float((found.flatten(2).std(dim=2)).min()) > 0.01


def test_coarse_pairs_are_seen_as_they_are():
    pair = pair_on(oblique_grid((24, 30, 27), (3.0, 3.2, 2.8)))
    assert networks().displacement(pair, Events()).shape[2:] == pair.shape


@pytest.mark.parametrize("flip", list(itertools.product((1, -1), repeat=3)))
def test_a_voxel_up_is_one_up_in_the_world(flip):
    """The network's axes run to superior, anterior and right, and its voxels are those of its grid."""
    grid = oblique_grid((28, 40, 34), (1.3, 1.0, 1.5), flip=flip)
    held, pair = networks(), pair_on(grid)
    with torch.no_grad():
        held.network.registration.flow.weight.zero_()
        held.network.registration.flow.bias.copy_(torch.tensor([1.0, -2.0, 0.5]))
    found = held.displacement(pair, Events())
    (voxels,) = np.unique(found[0].flatten(1).numpy(), axis=1).T
    level = pair.level_grid(tuple(found.shape[2:]))
    shift = level.index_to_world[:3, :3] @ voxels[::-1]
    # LPS: half a voxel to the right, two back, one up.
    right, back, up = level.spacing * [0.5, 2.0, 1.0]
    np.testing.assert_allclose(shift, [-right, back, up], atol=1e-5)


def turned(pair: Pair, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Pair:
    """The same pair in the world, its arrays stored another way: axis n is what was axis order[n], perhaps mirrored."""
    back = np.zeros((4, 4))
    back[3, 3] = 1.0
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        back[2 - source, 2 - axis] = -1.0 if flip else 1.0
        back[2 - source, 3] = pair.shape[source] - 1 if flip else 0.0
    fixed, moving = (turned_volume(image, order, flips) for image in (pair.fixed, pair.moving))
    grid = Grid(tuple(fixed.shape[2:]), pair.grid.index_to_world @ back)
    assert np.abs(np.sort(grid.corners(), axis=0) - np.sort(pair.grid.corners(), axis=0)).max() < 1e-9
    return Pair(fixed.contiguous(), moving.contiguous(), grid)


def turned_volume(volume: Tensor, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Tensor:
    return volume.permute(0, 1, *(axis + 2 for axis in order)).flip([n + 2 for n, flip in enumerate(flips) if flip])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (True, False, False)), ((2, 0, 1), (False, True, True)), ((1, 0, 2), (True, True, True))],
)
def test_another_way_of_storing_a_pair_turns_the_displacement_with_it(kind, order, flips):
    held, pair = networks(**kind), pair_on(GRID)
    plain = held.displacement(pair, Events())
    found = held.displacement(turned(pair, order, flips), Events())
    signs = torch.tensor([-1.0 if flip else 1.0 for flip in flips]).view(1, 3, 1, 1, 1)
    expected = turned_volume(plain[:, list(order)], order, flips) * signs
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    assert float(plain.abs().max()) > 0.5


def test_the_network_sees_both_images_as_they_are_in_their_order():
    held, pair = networks(), pair_on(GRID)
    seen = []
    held.network.registration.register_forward_pre_hook(lambda _, given: seen.append(given))
    held.displacement(pair, Events())
    level, turn = pair.level(SPACINGS[len(pair.shape)] / pair.spacing_of_finest), Orientation.of(GRID)
    ((fixed, moving),) = seen
    assert torch.equal(fixed, turn.apply(level.fixed)) and torch.equal(moving, turn.apply(level.moving))
    assert fixed.shape[2:] != level.shape or not torch.equal(fixed, level.fixed)


# Translation


@pytest.mark.parametrize("grid", [GRID, FLAT])
def test_a_translation_is_the_generators_and_what_is_empty_stays_empty(grid):
    held, pair = networks(grid.ndim), pair_on(grid)
    turn, image = Orientation.of(grid), pair.moving
    found = held.translation(image, turn, Events())
    assert found.shape == image.shape and not found.is_inference()
    with torch.no_grad():
        made_of_it = turn.back(held.network.generator(turn.apply(image)))
    empty = image <= FOREGROUND
    assert 0.05 < float(empty.float().mean()) < 0.95
    assert bool((found[empty] == 0).all()) and torch.equal(found[~empty], made_of_it[~empty])
    assert float(made_of_it[empty].abs().max()) > 0.05 and float(found.max()) <= 1.0


def test_another_way_of_storing_an_image_turns_its_translation_with_it():
    held, pair = networks(), pair_on(GRID)
    order, flips = (2, 0, 1), (False, True, True)
    other = turned(pair, order, flips)
    plain = held.translation(pair.moving, Orientation.of(pair.grid), Events())
    found = held.translation(other.moving, Orientation.of(other.grid), Events())
    torch.testing.assert_close(found, turned_volume(plain, order, flips), rtol=0, atol=1e-4)


@pytest.mark.parametrize("grid", [GRID, FLAT])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_what_is_translated_is_the_moving_image_where_the_displacement_reads_it(grid, factor, monkeypatch):
    """Whatever the displacement's grid; here it is of three voxels along one axis and two back along another."""
    monkeypatch.setattr(Networks, "translation", lambda self, image, *rest: image)
    pair, model = pair_on(grid), made(grid.ndim)
    level = pair.level(SPACINGS[len(pair.shape)] / pair.spacing_of_finest)
    shape = [round(factor * (n - 1)) + 1 for n in level.shape]
    shift = torch.zeros(1, grid.ndim, *shape)
    for axis, voxels in ((0, 3.0), (grid.ndim - 1, -2.0)):
        shift[:, axis] = voxels * (shape[axis] - 1) / (level.shape[axis] - 1)
    found = synthetic(pair, shift, shipped(model), model.config(), Events())
    expected = level.moving.roll((-3, 2), (2, grid.ndim + 1))
    inner = (..., *(slice(3, -3) for _ in level.shape))
    assert found.shape == level.moving.shape
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-3)
    assert float((found - level.moving)[inner].abs().mean()) > 0.02


# Refusals and cancelling


def test_halved_weights_are_taken():
    model = moving_model(3)
    pair = pair_on(GRID)
    plain = Networks(shipped(model), model.config(), CPU).displacement(pair, Events())
    halved = {name: tensor.half() for name, tensor in shipped(model).items()}
    found = Networks(halved, model.config(), CPU).displacement(pair, Events())
    assert found.dtype == torch.float32 and 0 < float((found - plain).abs().max()) < 0.05 * float(plain.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused_in_a_sentence(kind):
    model = made(3, **kind)
    state, config = shipped(model), model.config()
    lacking = {name: tensor for name, tensor in state.items() if name != "generator.last.bias"}
    whole = dict(model.state_dict())
    other = {**config, "matching": 0 if kind.get("matching") else 6}
    wide = {**config, "generator_width": 5}
    for wrong, settings in ((lacking, config), (whole, config), (state, wide), (state, other), (state, {})):
        with pytest.raises(ModelError, match=r"^These Deform-GAN weights do not fit their configuration; [^.:\n]+\.$"):
            Networks(wrong, settings, CPU)
    with pytest.raises(ModelError, match=r"no setting 'depth'; .*\.$"):
        Networks(state, {**config, "depth": 4}, CPU)


def test_images_of_another_dimension_are_refused_in_a_sentence():
    for dims, grid in ((3, FLAT), (2, GRID)):
        sentence = f"^These Deform-GAN weights are for {dims}D images, not for {5 - dims}D ones\\.$"
        with pytest.raises(ModelError, match=sentence):
            networks(dims).displacement(pair_on(grid), Events())
    assert dimension_of({}) == 3 and dimension_of({"dims": 2}) == 2


@pytest.mark.parametrize(
    "kind", [{"encoder": (16, 32, 32), "decoder": (32, 32, 32), "last": (32, 16)}, {"matching": 24}]
)
def test_a_cancel_takes_effect_within_the_networks(kind):
    model = made(3, generator_width=32, **kind)
    held = Networks(shipped(model), model.config(), CPU)
    image = torch.rand(1, 1, 60, 64, 56, generator=torch.Generator().manual_seed(0))
    pair = Pair(image, image.flip(2), Grid((60, 64, 56), np.diag([SPACINGS[3]] * 3 + [1.0])))
    assert seconds_to_stop(lambda events: held.displacement(pair, events)) < 0.5
    turn = Orientation.of(pair.grid)
    assert seconds_to_stop(lambda events: held.translation(image, turn, events)) < 0.5
    assert not any(module._forward_hooks for module in held.network.modules())
    with pytest.raises(Cancelled):
        held.translation(image, turn, Events(is_cancelled=lambda: True))
