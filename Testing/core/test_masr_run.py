"""MASR-Net's registration with MIND-SSC in place of the learned descriptor: accuracy, direction, masks, and limits."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
import torch
from helpers import blob_image, oblique_grid, rotation, seconds_to_stop
from regnet import descriptors, spatial
from regnet.described import Described, described_level
from regnet.descriptor_affine import improve_affine
from regnet.discrete import search
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.losses.roughness import roughness
from regnet.models import get_model, masr_run
from regnet.models.masr import Parameters
from regnet.models.masr_optimise import LEVELS, MOST_STIFFER, STRAIN, Level, expected_stiffness, optimise
from regnet.models.masr_run import describe, improve, start
from regnet.networks.masr import DSIR
from regnet.pair import Pair
from regnet.register import register
from regnet.synth.shapes import random_shapes
from regnet.transform import Affine
from scipy import ndimage

SHAPES = [(70, 61), (34, 42, 30)]
MIND = Parameters(descriptor="mind", weights="none")
QUICK = (Level(2.0, 2.0, 25, 0.2, 100_000, 0.15), Level(1.0, 3.0, 10, 0.1, 100_000, 0.15))


def painted(shape, seed=0):
    """Two contrasts of one label map."""
    generator = torch.Generator().manual_seed(seed)
    labels = random_shapes(shape, generator, 30, (0.12, 0.2), 0.08)
    means = torch.rand(2, 31, generator=generator) * 0.9 + 0.1
    means[:, 0] = 0.0
    return [spatial.gaussian(means[side][labels].float(), 0.6) for side in (0, 1)]


def smooth_displacement(shape, largest, seed=1):
    values = np.random.default_rng(seed).normal(size=(len(shape), *shape))
    field = np.stack([ndimage.gaussian_filter(one, 7.0) for one in values])
    window = np.ones(shape)
    for axis, n in enumerate(shape):
        line = np.sin(np.pi * np.arange(n) / (n - 1)).clip(0, None) ** 0.5
        window = window * np.moveaxis(line.reshape(-1, *(1,) * (len(shape) - 1)), 0, axis)
    field = field * window
    return torch.tensor(field / np.linalg.norm(field, axis=0).max() * largest, dtype=torch.float32)[None]


def grid_of(shape, spacing=1.0):
    return Grid((1, *shape) if len(shape) == 2 else tuple(shape), np.diag([spacing] * 3 + [1.0]), len(shape))


def known_pair(shape, largest=3.0, seed=0):
    """``fixed(x) = moving(x + truth(x))`` but for the contrast."""
    first, second = painted(shape, seed)
    truth = smooth_displacement(shape, largest)
    return Pair(spatial.warp(first, truth), second, grid_of(shape)), truth


def error(found, truth, pair):
    """Mean distance to the truth where the fixed image has content, voxels."""
    fine = spatial.resize_displacement(found, truth.shape[2:])
    inside = pair.fixed > 0.05
    return float(((fine - truth).norm(dim=1, keepdim=True) * inside).sum() / inside.sum())


def described(pair):
    return Described(pair, descriptors.mind())


def none(shape):
    return torch.zeros(1, len(shape), *[max(4, n // 6) for n in shape])


@pytest.mark.parametrize("diffeomorphic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_deformation_is_found_across_contrasts(shape, diffeomorphic):
    pair, truth = known_pair(shape)
    before = error(none(shape), truth, pair)
    assert before > 1.0
    found = optimise(described(pair), none(shape), QUICK, Events(), diffeomorphic)
    assert error(found, truth, pair) < 0.7 * before
    assert found.dtype == torch.float32 and not found.requires_grad and not found.is_inference()
    if diffeomorphic:
        fine = spatial.resize_displacement(found, shape)
        assert float(spatial.jacobian_determinant(fine).min()) > 0


@pytest.mark.parametrize(("shape", "begin"), [(SHAPES[0], "none"), (SHAPES[0], "search"), (SHAPES[1], "search")])
def test_identical_images_stay_where_they_are(shape, begin):
    image = painted(shape)[0]
    pair = Pair(image, image, grid_of(shape))
    parameters = Parameters(descriptor="mind", weights="none", start=begin, iterations=10)
    first = start(pair, parameters, None, None, Events())
    assert float(first.abs().max()) < 1e-3
    found = improve(pair, first, parameters, None, None, Events(), "auto")
    assert error(found, torch.zeros(1, len(shape), *shape), pair) < 0.05
    inside = spatial.resize_displacement(found, shape).norm(dim=1, keepdim=True) * (image > 0.05)
    assert float(inside.max()) < 0.3


def test_a_start_that_is_right_already_is_kept():
    pair, truth = known_pair(SHAPES[0])
    found = optimise(described(pair), truth, QUICK, Events())
    assert error(found, truth, pair) < 0.75
    still = [dataclasses.replace(level, iterations=0, knots=1.0) for level in QUICK]
    assert error(optimise(described(pair), truth, still, Events()), truth, pair) < 0.3


def test_a_search_reaches_what_optimisation_alone_does_not():
    """The whole content lies 20 mm away."""
    shape = SHAPES[0]
    wide = [n + 48 for n in shape]
    first, second = (torch.nn.functional.pad(image, (24,) * 2 * len(shape)) for image in painted(shape))
    truth = torch.zeros(1, len(wide), *wide)
    truth[:, -1] = 20.0
    pair = Pair(spatial.warp(first, truth), second, grid_of(wide))
    found = {}
    for begin in ("none", "search"):
        parameters = Parameters(descriptor="mind", weights="none", start=begin, iterations=15)
        first_guess = start(pair, parameters, None, None, Events())
        assert (float(first_guess.abs().max()) == 0) == (begin == "none")
        found[begin] = error(improve(pair, first_guess, parameters, None, None, Events(), "auto"), truth, pair)
    assert found["search"] < 2.0
    assert found["search"] < 0.5 * found["none"]


def test_a_short_reach_is_kept_to():
    """Anatomy 16 mm away is not looked for by a search of 4 mm."""
    first, second = (torch.nn.functional.pad(image, (24, 24)) for image in painted(SHAPES[0]))
    pair = Pair(torch.roll(first, -16, 3), second, grid_of(first.shape[2:]))
    found = start(pair, Parameters(descriptor="mind", weights="none", reach=4.0), None, None, Events())
    moved = spatial.resize_displacement(found, pair.shape)
    assert float(moved.abs().max()) < 7.0


def test_masks_decide_what_is_compared():
    shape = SHAPES[0]
    pair, truth = known_pair(shape)
    spoilt = pair.fixed.clone()
    spoilt[..., 34:] = torch.rand(spoilt[..., 34:].shape, generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(spoilt)
    mask[..., 31:] = 0.0
    weighted = [Pair(image, pair.moving, pair.grid, mask) for image in (pair.fixed, spoilt)]
    found = [optimise(described(one), none(shape), QUICK, Events()) for one in weighted]
    free = optimise(described(Pair(spoilt, pair.moving, pair.grid)), none(shape), QUICK, Events())
    clean = optimise(described(pair), none(shape), QUICK, Events())
    kept = (..., slice(0, 20))
    under_mask, without = (float((a - b)[kept].abs().mean()) for a, b in (found, (clean, free)))
    assert under_mask < 0.3 * without and without > 0.02
    moving_mask = torch.zeros_like(spoilt)
    moving_mask[..., :30] = 1.0
    other = optimise(
        described(Pair(pair.fixed, pair.moving, pair.grid, None, moving_mask)), none(shape), QUICK, Events()
    )
    assert float((other - clean).abs().max()) > 0.05


def test_what_one_mask_leaves_may_be_very_little():
    shape = SHAPES[0]
    pair, _ = known_pair(shape)
    mask = torch.zeros_like(pair.fixed)
    mask[..., 31, 30] = 1.0
    for weights in ((mask, None), (None, mask), (mask, mask)):
        found = optimise(described(Pair(pair.fixed, pair.moving, pair.grid, *weights)), none(shape), QUICK, Events())
        assert bool(torch.isfinite(found).all())


def test_iterations_and_stiffness_are_those_of_the_parameters():
    pair, _ = known_pair(SHAPES[0])
    said = []
    events = Events(emit=said.append)
    few = Parameters(descriptor="mind", weights="none", iterations=2)
    begin = start(pair, dataclasses.replace(few, start="none"), None, None, Events())
    improve(pair, begin, few, None, None, events, "auto")
    levels = len(LEVELS)
    assert sum("likeness" in getattr(one, "text", "") for one in said) == 2 * levels
    said.clear()
    improve(pair, begin, few, None, None, events, 7)
    assert sum("likeness" in getattr(one, "text", "") for one in said) == 2 * (levels - 1) + 7
    rough = []
    for stiffness in (0.2, 5.0):
        parameters = Parameters(descriptor="mind", weights="none", iterations=12, regularization=stiffness)
        rough.append(float(improve(pair, begin, parameters, None, None, Events(), "auto").diff(dim=3).square().mean()))
    assert rough[1] < 0.7 * rough[0]


def test_images_are_described_once_and_forgotten_with_their_pair():
    pair, _ = known_pair(SHAPES[1])
    gc.collect()
    held = len(masr_run._described)
    first = describe(pair, MIND, None, None, Events())
    assert describe(pair, dataclasses.replace(MIND, iterations=3), None, None, Events()) is first
    assert describe(pair, dataclasses.replace(MIND, detail=2.0), None, None, Events()) is not first
    assert describe(pair, MIND, None, None, Events()).fixed.shape[2:] == pair.shape
    del first, pair
    gc.collect()
    assert len(masr_run._described) == held


def test_large_pairs_are_described_at_a_coarser_spacing():
    pair, _ = known_pair(SHAPES[1])
    assert described_level(pair) is pair
    coarse = described_level(pair, most=20_000)
    assert 10_000 < coarse.fixed.numel() <= 20_000
    assert described_level(pair, 2.0).shape == pair.level(2.0).shape


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_known_turn_and_shift_is_found_in_the_world(ndim):
    """The matrix maps points of the fixed image to those of the moving one."""
    shape, degrees = ((1, 84, 70), (0, 0, 6)) if ndim == 2 else ((36, 42, 32), (4, -3, 5))
    grid = Grid(shape, np.array([[0, -1.2, 0, 5], [1.1, 0, 0, -7], [0, 0, 1.3, 2], [0, 0, 0, 1.0]]), ndim)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    matrix[:3, 3] = grid.center() - matrix[:3, :3] @ grid.center() + np.array([2.0, -1.5, 0.0 if ndim == 2 else 1.0])
    first, second = (Image(image[0] if ndim == 3 else image[0][:, None], grid.index_to_world, ndim)
                     for image in painted(shape[3 - ndim :]))  # fmt: skip
    fixed = first.resample(grid, Affine(matrix, ndim)).data
    pair = Pair(
        (fixed[:, 0] if ndim == 2 else fixed)[None], (second.data[:, 0] if ndim == 2 else second.data)[None], grid
    )
    points = grid.points().reshape(-1, 3)[pair.fixed.flatten().numpy() > 0.1]

    def distance(found):
        there = points @ found[:3, :3].T + found[:3, 3]
        return float(np.linalg.norm(there - (points @ matrix[:3, :3].T + matrix[:3, 3]), axis=1).mean())

    assert distance(np.eye(4)) > 2.2
    assert distance(improve_affine(described(pair), Events())) < 0.9
    assert distance(improve_affine(described(pair), Events(), rigid=True)) < 0.9
    assert distance(get_model("masr").improve_affine(pair, MIND, None, None, Events())) < 0.9


def test_registered_in_the_world_in_the_right_direction():
    fixed_grid = oblique_grid((30, 34, 32), (1.5, 1.6, 1.7), (8, 5, -6), (2, 3, -4), (1, -1, 1))
    moving_grid = oblique_grid((33, 31, 36), (1.6, 1.5, 1.6), (-5, 9, 10), (3, 1, -2), (-1, 1, 1))
    matrix = np.eye(4)
    matrix[:3, 3] = (3.0, -4.0, 2.0)
    truth = Affine(matrix)
    fixed = blob_image(fixed_grid, 3, moved_by=truth)
    moving = blob_image(moving_grid, 3)
    other = Image(1.0 / (0.4 + moving.data) * (moving.data > 0.02), moving.index_to_world)
    choices = {"descriptor": "mind", "iterations": 10}
    result = register(fixed, other, model="masr", align="none", parameters=choices)
    inside = fixed_grid.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.15]
    before = np.linalg.norm(inside - truth(inside), axis=1).mean()
    after = np.linalg.norm(result.transform(inside) - truth(inside), axis=1).mean()
    assert after < 0.4 * before
    assert result.report["model"] == "masr" and result.report["folding_percent"] == 0
    off = register(fixed, other, model="masr", align="none", refine="off", parameters=choices)
    assert np.linalg.norm(off.transform(inside) - truth(inside), axis=1).mean() < 0.7 * before


def test_what_the_start_strains_little_is_expected_to_stay_so():
    assert expected_stiffness(torch.zeros(1, 3, 9, 10, 11)) == 1.0
    ramp = torch.linspace(0, 1, 11).expand(1, 1, 9, 10, 11)
    field = torch.cat([0 * ramp, 0 * ramp, ramp], dim=1)
    # A stretch along one axis by s per voxel has a mean squared strain of s^2, if the last voxels are left out.
    little, some, much = (expected_stiffness(scale * 10 * field) for scale in (0.01, 0.25, 1.0))
    assert little == MOST_STIFFER and much == 1.0 and 1.0 < some < MOST_STIFFER
    assert some == pytest.approx(STRAIN / float(roughness(2.5 * field)))


def test_avsm_can_be_refined_by_a_descriptor():
    fixed = blob_image(oblique_grid((36, 42, 40), (1.2, 1.3, 1.4)), 3)
    choices = {"weights": "none", "iterations": 2, "refine_with": "mind"}
    result = register(fixed, fixed, align="none", refine=2, parameters=choices)
    assert np.abs(result.transform(fixed.grid.corners()) - fixed.grid.corners()).max() < 0.5


def test_describing_and_searching_stop_within_half_a_second_of_a_cancel():
    """Both last for seconds: a network of many layers, and hundreds of shifts."""
    shape = (72, 80, 76)
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    pair = Pair(image, image.flip(2), grid_of(shape))
    network = descriptors.dsir(DSIR().state_dict(), {})
    assert seconds_to_stop(lambda events: Described(pair, network, events)) < 0.5
    held = torch.nn.functional.normalize(torch.rand(1, 24, 40, 44, 42), dim=1)
    assert seconds_to_stop(lambda events: search(held, held, 4, events.check)) < 0.5
    # Nothing of it is left on the network.
    assert not any(module._forward_hooks for module in network.modules())
