"""The last level of an alignment: linear transforms to a tenth of a voxel, for those who ask for it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import blob_image, corner_error, oblique_grid, random_affine, rotation
from regnet import align_search, zoo
from regnet.align import align, climb
from regnet.errors import InputError
from regnet.events import Events
from regnet.image import Grid, Image, apply_matrix
from regnet.register import register
from regnet.transform import Affine
from scipy import ndimage

align_module = sys.modules[align.__module__]
FINEST = "align at level 4"
PLANE = Grid((1, 56, 70), np.diag([1.2, 1.1, 1.0, 1.0]), 2)


def textured_pair(
    truth: Affine, ndim: int, seed: int = 1, sigma: float = 3.0, inverted: bool = False
) -> tuple[Image, Image]:
    """Two images of many and anisotropic voxels along one axis, of other lattices: ``fixed(x) = moving(truth(x))``.

    The texture is random, some voxels fine, and lies within an ellipsoid; where it is read it is interpolated by cubic
    splines. ``inverted`` is another contrast.
    """
    if ndim == 2:
        fixed_grid = oblique_grid((1, 260, 340), (0.6, 0.8, 1.0), (0, 0, -5), flip=(1, -1, 1))
        grid = oblique_grid((1, 250, 350), (0.62, 0.75, 1.0), (0, 0, 7), (1, -2, 0), (-1, 1, 1))
    else:
        fixed_grid = oblique_grid((38, 44, 230), (0.8, 1.2, 1.5), (5, -3, 4), flip=(1, -1, 1))
        grid = oblique_grid((36, 46, 240), (0.84, 1.1, 1.6), (-4, 6, 3), (1, -2, 3), (-1, 1, 1))
    noise, values = np.random.default_rng(seed).normal(size=grid.shape), np.ones(grid.shape)
    for width in (sigma, 3 * sigma):
        smooth = ndimage.gaussian_filter(noise, [width if n > 1 else 0 for n in grid.shape])
        values += 0.2 * smooth / smooth.std()
    lines = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in grid.shape]
    radius = np.sqrt(sum(line**2 for line in np.meshgrid(*lines, indexing="ij"))) / 0.95
    values = values.clip(0.1, None) / (1 + np.exp(12 * (radius - 1)))
    places = apply_matrix(grid.world_to_index, truth(fixed_grid.points().reshape(-1, 3)))[:, ::-1].T
    read = ndimage.map_coordinates(values, places, order=3).reshape(fixed_grid.shape).clip(0, None)
    if inverted:
        read = np.where(read > 0.02, 1.5 / (0.5 + read), 0.0)
    arrays = ((read, fixed_grid), (values, grid))
    return tuple(Image.from_numpy(one.astype(np.float32), where.index_to_world, ndim) for one, where in arrays)


def known(kind: str, ndim: int) -> Affine:
    if kind == "affine":
        matrix = random_affine(3, degrees=6, shift=3).matrix
    else:
        matrix = np.eye(4)
        matrix[:3, :3] = rotation((0, 0, 8) if ndim == 2 else (5, -6, 7))
        matrix[:3, 3] = (4, -3, 2)
    if ndim == 2:
        matrix[2], matrix[:, 2] = [0, 0, 1, 0], [0, 0, 1, 0]
    return Affine(matrix, ndim)


def voxels(found: Affine, truth: Affine, fixed: Image) -> float:
    """Largest error at the corners in units of the smallest side of a voxel."""
    return corner_error(found, truth, fixed.grid) / float(fixed.spacing[: fixed.ndim].min())


@pytest.mark.parametrize(
    ("kind", "ndim", "inverted"),
    [("affine", 3, False), ("rigid", 3, False), ("affine", 2, True), ("rigid", 2, True)],
)
def test_precise_is_a_tenth_of_a_voxel(kind, ndim, inverted):
    truth = known(kind, ndim)
    fixed, moving = textured_pair(truth, ndim, sigma=3.0 if kind == "affine" else 2.0, inverted=inverted)
    rough, precise = (align(fixed, moving, kind, precise=choice) for choice in (False, True))
    assert voxels(precise, truth, fixed) < 0.1
    assert voxels(precise, truth, fixed) < 0.6 * voxels(rough, truth, fixed)
    # Direction: pull. The other one is voxels away.
    assert voxels(precise.inverse(), truth, fixed) > 3.0
    for found in (rough, precise):
        linear = found.matrix[:3, :3]
        if kind == "rigid":
            np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)
            assert np.linalg.det(linear) > 0
        if ndim == 2:
            np.testing.assert_allclose(found.matrix[2], [0, 0, 1, 0], atol=1e-12)
            np.testing.assert_allclose(found.matrix[:2, 2], 0, atol=1e-12)
            assert found.ndim == 2


def flat_pair() -> tuple[Image, Image, Affine]:
    middle = Affine(np.eye(4), 2)
    middle.matrix[:3, 3] = -PLANE.center()
    truth = middle.then(known("affine", 2)).then(middle.inverse())
    moving = blob_image(PLANE, 4, 26.0, moved_by=middle)
    return blob_image(PLANE, 4, 26.0, moved_by=truth.then(middle)), moving, truth


def levels_of(work: Callable[[Events], object]) -> set[str]:
    """The stages of the descent that ``work`` goes through."""
    events = Events()
    work(events)
    return {name for name in events.seconds if name.startswith("align at level")}


def test_full_resolution_is_for_those_who_ask_for_it():
    fixed, moving, _ = flat_pair()
    levels = {f"align at level {number}" for number in (2, 3, 4)}
    assert levels_of(lambda events: align(fixed, moving, events=events)) == levels
    assert levels_of(lambda events: align(fixed, moving, "rigid", events=events, precise=False)) == levels - {FINEST}
    assert levels_of(lambda events: climb(fixed, moving, [Affine.identity(2)], events=events)) == levels


def test_a_descriptor_takes_the_place_of_the_finest_level():
    truth = known("affine", 2)
    fixed, moving = textured_pair(truth, 2, inverted=True)
    events = Events()
    found = align(fixed, moving, similarity="mind", precise=True, events=events)
    assert FINEST not in events.seconds and events.seconds["align at level 3"] > 0
    assert voxels(found, truth, fixed) < 0.6


@pytest.fixture
def spied(monkeypatch):
    """The precision that ``register`` asks the alignment for."""
    asked = []
    register_module = sys.modules[register.__module__]

    def watched(*arguments, **options):
        asked.append(options["precise"])
        return align(*arguments, **options)

    monkeypatch.setattr(zoo, "model_folders", list)
    monkeypatch.setattr(register_module, "find_alignment", watched)
    return asked


@pytest.mark.parametrize("model", ["avsm", "masr", "deformgan"])
def test_dense_models_do_without_the_finest_level(spied, model):
    fixed, moving, _ = flat_pair()
    quick = {"weights": "none"} | ({} if model == "deformgan" else {"iterations": 0})
    stages = levels_of(lambda events: register(fixed, moving, model, refine="off", parameters=quick, events=events))
    assert spied == [False] and stages == {"align at level 2", "align at level 3"}


@pytest.mark.parametrize("alignment", ["auto", "affine"])
def test_a_linear_model_ends_precise(spied, alignment):
    truth = known("affine", 2)
    fixed, moving = textured_pair(truth, 2)
    events = Events()
    found = register(fixed, moving, "ddim", align=alignment, parameters={"weights": "none"}, events=events)
    # The alignment that it begins with need not be, and the work is not done twice.
    assert spied == [False] and FINEST in events.seconds
    assert voxels(found.transform, truth, fixed) < 0.1


def moved(first: Affine, x: float, y: float, degrees: float = 0.0) -> Affine:
    """``first`` after a turn about the middle of the plane, and then a shift."""
    off, middle = np.eye(4), np.eye(4)
    off[:3, :3], off[:2, 3], middle[:3, 3] = rotation((0, 0, degrees)), (x, y), PLANE.center()
    return Affine(middle @ off @ np.linalg.inv(middle), 2).then(first)


def test_the_better_start_is_climbed_from_and_the_others_do_no_harm():
    fixed, moving, truth = flat_pair()
    near = moved(truth, 2.0, -1.5)
    useless = [moved(truth, 500.0, 0.0), moved(truth, 25.0, -20.0), moved(truth, 3.0, 2.0, 150.0)]
    alone = climb(fixed, moving, [near])
    assert corner_error(alone, truth, PLANE) < 0.2 and alone.ndim == 2
    for starts in ([*useless, near], [near, *useless], [useless[0], near]):
        np.testing.assert_allclose(climb(fixed, moving, starts).matrix, alone.matrix, atol=1e-3)
    with pytest.raises(InputError, match="nothing to compare"):
        climb(fixed, moving, useless[:1])


@pytest.mark.parametrize("iterations", [None, 1, 3])
def test_iterations_are_those_at_full_detail(monkeypatch, iterations):
    fixed, moving, truth = flat_pair()
    allowed, minimise = [], align_search.minimise

    def watched(function, start, evaluations, longest):
        count = 0

        def counted(point):
            nonlocal count
            count += 1
            return function(point)

        found = minimise(counted, start, evaluations, longest)
        assert count <= evaluations
        allowed.append(evaluations)
        return found

    monkeypatch.setattr(align_search, "minimise", watched)
    found = climb(fixed, moving, [moved(truth, 1.0, -1.0)], iterations=iterations)
    assert allowed == [*align_search.EVALUATIONS[1:3], iterations or align_search.EVALUATIONS[3]]
    assert corner_error(found, truth, PLANE) < 0.5


def test_masks_hold_at_full_resolution_too():
    """Half of the fixed image is nonsense, and the mask says so."""
    truth = known("affine", 2)
    fixed, moving = textured_pair(truth, 2)
    spoilt = fixed.data.clone()
    spoilt[..., 220:] = 2 * torch.rand(spoilt[..., 220:].shape, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(fixed.data)
    mask[..., 218:] = 0
    where = fixed.index_to_world
    found = align(Image(spoilt, where, 2), moving, fixed_mask=Image(mask, where, 2))
    inside = Grid((1, 260, 218), where, 2)
    assert corner_error(found, truth, inside) < 0.1


@pytest.mark.parametrize("seed", [1, 3])
def test_a_plane_is_not_shrunk_to_where_little_is_seen(seed):
    """A head with its neck, and of the same slice the brain alone, as PET shows it: mutual information would rather
    have it at half its area."""
    random, (y, x) = np.random.default_rng(seed), np.mgrid[:96, :112].astype(float)
    head = ((y - 50) / 44) ** 2 + ((x - 56) / 40) ** 2 < 1
    brain = ((y - 40) / 24) ** 2 + ((x - 56) / 28) ** 2 < 1
    folds = ndimage.gaussian_filter(random.normal(size=head.shape), 3)
    folds /= folds.std()
    around = 200 + 160 * ndimage.gaussian_filter(random.normal(size=head.shape), 1.5)
    shown = np.where(brain, 120 + 25 * folds, np.where(head, around, 0)), np.where(brain, 150 - 30 * folds, 0)
    images = [
        Image.from_numpy(np.clip(array, 0, None)[None].astype(np.float32), np.diag([2.0, 2.0, 1.0, 1.0]), ndim=2)
        for array in (shown[0], ndimage.gaussian_filter(shown[1], 2.0))
    ]
    found = np.asarray(align(*images, "affine").matrix)
    assert 0.85 < np.linalg.det(found[:2, :2]) < 1.1
