"""Instance optimisation recovers known deformations, stays without folds, honours masks and cancels."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers import blob_image, oblique_grid, smooth_field
from regnet import spatial
from regnet.errors import Cancelled, InputError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.pair import make_pair
from regnet.refine import AFTER_NETWORK, Schedule, after_network, refine, schedule_for, unfold
from regnet.tapering import tapered
from regnet.transform import Affine, DisplacementField

GRID = oblique_grid((44, 50, 56), (1.0, 1.1, 1.2), (4, 5, -6), (2, 3, -4))
PLENTY = 1e5


def pair_of(fixed, moving, fixed_mask=None, moving_mask=None, memory_mb=PLENTY):
    identity = Affine.identity(fixed.ndim)
    return make_pair(fixed, moving, identity, fixed_mask, moving_mask, memory_mb, torch.device("cpu"))


@functools.cache
def known_pair(seed=2, millimetres=4.0):
    """A fixed image that is the moving one read through a known smooth field, and that field."""
    truth = smooth_field(GRID, millimetres, seed, sigma=6.0)
    return blob_image(GRID, 3, moved_by=truth), blob_image(GRID, 3), truth


def remaining_error(pair, displacement, truth, fixed, where=None):
    """Mean distance in mm from the true map, found and to begin with, over the object or the voxels of ``where``."""
    found = tapered(spatial.resize_displacement(displacement, pair.shape), pair.grid)
    inside = (fixed.data[0].numpy() > 0.1).ravel() if where is None else (where > 0).ravel()
    points = GRID.points().reshape(-1, 3)[inside]
    return (
        np.linalg.norm(found(points) - truth(points), axis=1).mean(),
        np.linalg.norm(points - truth(points), axis=1).mean(),
    )


def start(pair):
    return torch.zeros(1, len(pair.shape), *pair.level(4.0).shape)


def test_a_known_field_is_recovered_without_folds():
    fixed, moving, truth = known_pair()
    pair = pair_of(fixed, moving)
    found = refine(pair, start(pair), Schedule(), Events())
    after, before = remaining_error(pair, found, truth, fixed)
    assert before > 1.2
    assert after < 0.4 * before
    assert float(spatial.jacobian_determinant(found).min()) > 0.1


def test_identical_images_stay_where_they_are():
    image = blob_image(GRID, 3)
    pair = pair_of(image, image)
    assert refine(pair, start(pair), Schedule(), Events()).abs().max() < 0.25


def test_more_strength_is_stiffer():
    fixed, moving, _ = known_pair()
    pair = pair_of(fixed, moving)
    spread = []
    for strength in (0.25, 1.0, 10.0):
        found = refine(pair, start(pair), Schedule(), Events(), strength)
        spread.append(float(spatial.jacobian_determinant(found).clamp(min=1e-3).log().std()))
    assert spread[0] > spread[1] > spread[2] > 0


def test_a_mask_keeps_a_lesion_from_pulling():
    fixed, moving, truth = known_pair()
    lesion = fixed.data.clone()
    lesion[:, 18:28, 20:32, 26:38] = 0.0
    spoiled = Image(lesion, fixed.index_to_world)
    mask = np.ones(GRID.shape, np.uint8)
    mask[16:30, 18:34, 24:40] = 0
    errors = []
    for fixed_mask in (None, Image.from_numpy(mask, GRID.index_to_world)):
        pair = pair_of(spoiled, moving, fixed_mask)
        errors.append(remaining_error(pair, refine(pair, start(pair), Schedule(), Events()), truth, fixed, 1 - mask)[0])
    assert errors[1] < 0.7 * errors[0]


def test_the_moving_mask_is_carried_along():
    fixed, moving, truth = known_pair()
    data = moving.data.clone()
    data[:, 18:28, 20:32, 26:38] = 1.3
    mask = np.ones(GRID.shape, np.uint8)
    mask[16:30, 18:34, 24:40] = 0
    errors = []
    for moving_mask in (None, Image.from_numpy(mask, GRID.index_to_world)):
        pair = pair_of(fixed, Image(data, moving.index_to_world), None, moving_mask)
        errors.append(remaining_error(pair, refine(pair, start(pair), Schedule(), Events()), truth, fixed, 1 - mask)[0])
    assert errors[1] < 0.7 * errors[0]


def test_two_dimensional_images():
    matrix = np.diag([1.0, 1.2, 1.0, 1.0])
    grid = Grid((1, 64, 76), matrix, 2)
    generator = np.random.default_rng(0)
    from scipy import ndimage

    field = np.zeros((1, 64, 76, 3), np.float32)
    for axis in range(2):
        field[0, ..., axis] = ndimage.gaussian_filter(generator.normal(size=(64, 76)), 9)
    truth = DisplacementField(field / np.abs(field).max() * 4.0, grid)
    texture = ndimage.gaussian_filter(generator.random((64, 76)), 2.0)
    moving = Image.from_numpy((texture - texture.min())[None].astype(np.float32), matrix, 2)
    fixed = moving.resample(grid, truth)
    pair = pair_of(fixed, moving)
    found = refine(pair, torch.zeros(1, 2, 16, 19), Schedule(), Events())
    error = (spatial.warp(pair.moving, found, padding="border") - pair.fixed).abs()[..., 8:-8, 8:-8].mean()
    assert error < 0.5 * (pair.moving - pair.fixed).abs()[..., 8:-8, 8:-8].mean()


def test_progress_grows_and_cancel_stops_at_once():
    fixed, moving, _ = known_pair()
    pair = pair_of(fixed, moving)
    seen = []
    refine(pair, start(pair), Schedule(iterations=(4, 4, 2, 1)), Events(emit=seen.append))
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    count = []
    with pytest.raises(Cancelled):
        refine(pair, start(pair), Schedule(), Events(emit=count.append, is_cancelled=lambda: len(count) > 7))
    assert len(count) == 8


def test_what_refine_accepts():
    assert schedule_for("off") is None and schedule_for(0) is None
    assert schedule_for("auto") == Schedule()
    assert schedule_for(40).iterations[-1] == 40 and schedule_for("40") == schedule_for(40)
    for wrong in ("fast", -3, "1e9"):
        with pytest.raises(InputError, match="give auto, off, or a number"):
            schedule_for(wrong)


def test_coarse_predictions_get_more_iterations():
    image = Image(torch.rand(1, 24, 48, 36), np.eye(4))
    pair = make_pair(image, image, Affine.identity(), None, None, 4000.0, torch.device("cpu"))

    def iterations(factor: int) -> tuple[int, ...]:
        return after_network(pair, [n // factor for n in pair.shape]).iterations

    assert iterations(1) == iterations(2) == AFTER_NETWORK.iterations
    assert iterations(3) == (12, 15, 12, 8)
    assert iterations(6) == tuple(2 * count for count in AFTER_NETWORK.iterations)


def test_unfold_removes_folds_and_leaves_the_rest():
    u = torch.zeros(1, 3, 20, 24, 28)
    u[0, 0, 10, 12, 14], u[0, 0, 8, 12, 14] = -2.5, 2.5
    assert float(spatial.jacobian_determinant(u).min()) < 0
    mended = unfold(u)
    assert float(spatial.jacobian_determinant(mended).min()) > 0
    assert mended[0, :, :3].abs().max() < 1e-6
    smooth = torch.sin(spatial.identity((20, 24, 28), u) / 6)
    assert torch.equal(unfold(smooth), smooth)


def test_the_working_grid_adapts_to_memory_and_keeps_its_place():
    fixed, moving, _ = known_pair()
    whole, small = pair_of(fixed, moving), pair_of(fixed, moving, memory_mb=4)
    assert small.grid.spacing.min() > 1.5 * whole.grid.spacing.min()
    assert small.fixed.numel() * 250 < 6e6
    middle = small.grid.center()[None]
    for image, data in ((fixed, small.fixed), (moving, small.moving)):
        at_middle = float(Image(data[0], small.grid.index_to_world).resample(Grid((1, 1, 1), _at(middle))).data)
        expected = float(image.normalized().resample(Grid((1, 1, 1), _at(middle))).data)
        assert at_middle == pytest.approx(expected, abs=0.12)
    assert np.linalg.norm(small.grid.center() - whole.grid.center()) < 2.0


def _at(point):
    matrix = np.eye(4)
    matrix[:3, 3] = point[0]
    return matrix


def test_the_tapered_field_fades_to_zero_without_folding():
    grid = oblique_grid((20, 24, 28), (1.0, 1.0, 2.0), (10, 0, 5))
    u = torch.full((1, 3, 20, 24, 28), 3.0)
    field = tapered(u, grid)
    assert np.abs(field.displacement[[0, -1]]).max() == 0
    assert np.abs(field.displacement[:, :, [0, -1]]).max() == 0
    assert field.jacobian_determinant(field.grid).min() > 0.1
    inside = grid.points().reshape(-1, 3)
    shift = grid.index_to_world[:3, :3] @ np.full(3, 3.0)
    assert np.abs(field(inside) - inside - shift).max() < 1e-4
