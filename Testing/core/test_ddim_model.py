"""DDIM as a model: a linear transform of the right direction, found, refined, written and used as an alignment."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import blob_image, corner_error, oblique_grid, random_affine
from regnet import zoo
from regnet.align import align, climb
from regnet.errors import InputError, ModelError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.models import ddim
from regnet.models.ddim_run import Cascade
from regnet.networks.ddim import DDIM, DDIMConfig
from regnet.networks.maps import affine_map, warp_by_map
from regnet.orientation import Orientation
from regnet.pair import make_pair
from regnet.register import register
from regnet.report_numbers import plain
from regnet.transform import Affine, read_transform

FIXED_GRID = oblique_grid((44, 50, 56), (1.6, 1.7, 1.8), (12, 5, -6), (2, 3, -4), (1, -1, 1))
MOVING_GRID = oblique_grid((52, 40, 60), (1.7, 1.9, 1.5), (-5, 9, 20), (6, 1, 2), (-1, 1, 1))
align_module = sys.modules[align.__module__]
SMALL = {"width": 4, "hidden": 8, "image_shape": (18, 24, 20)}


@functools.cache
def known_pair(seed: int, degrees: float, shift: float):
    truth = random_affine(seed, degrees=degrees, shift=shift)
    return blob_image(FIXED_GRID, 3, moved_by=truth), blob_image(MOVING_GRID, 3), truth


def planar_pair():
    """Two 2D images, the moving one turned by 9 degrees and shifted."""
    angle = np.deg2rad(9.0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:2, 3] = (3.0, -2.0)
    truth, grid = Affine(matrix, 2), Grid((1, 60, 74), np.diag([1.2, 1.1, 1.0, 1.0]), 2)
    image = blob_image(oblique_grid((1, 60, 74), (1.2, 1.1, 1.0)), 4)
    values = image.data[0].numpy()
    moving = Image.from_numpy(values, grid.index_to_world, 2)
    fixed = moving.resample(Grid((1, 60, 74), grid.index_to_world, 2), truth)
    return fixed, moving, truth


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr(zoo, "model_folders", list)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_what_the_network_says_of_the_turned_pair_is_what_happens_in_the_world(flips, monkeypatch):
    """The network's own warp, on its own grid, shows what resampling by the world matrix shows."""
    grid = oblique_grid((36, 40, 46), (2.0, 2.2, 1.8), (100, 8, -15), (5, -7, 3), flips)
    image = blob_image(grid, 7)
    pair = make_pair(image, image, Affine.identity(3), None, None, 4000.0, torch.device("cpu"))
    cascade = Cascade(DDIM(DDIMConfig(**SMALL)).state_dict(), SMALL, "cpu")
    said = torch.tensor([[[1.05, 0.1, -0.04, 0.12], [-0.06, 0.93, 0.05, -0.1], [0.02, 0.08, 1.0, 0.06]]])
    monkeypatch.setattr(cascade.network, "align", lambda fixed, moving, start: said)
    matrix = cascade.world_matrix(pair, 1, Events())
    turn, shape = Orientation.of(pair.grid), pair.shape
    seen = turn.apply(pair.moving)
    expected = warp_by_map(seen, affine_map(said, seen.shape[2:]))
    moved = Image(pair.moving[0], pair.grid.index_to_world, 3).resample(pair.grid, Affine(matrix, 3))
    found = turn.apply(moved.data[None])
    inner = (slice(None), slice(None), *(slice(6, n - 6) for n in seen.shape[2:]))
    assert float((found[inner] - expected[inner]).abs().max()) < 1e-4
    assert float((found[inner] - seen[inner]).abs().max()) > 0.1 and shape != seen.shape[2:] or flips == (1, 1, 1)


def test_passes_go_on_from_each_other(monkeypatch):
    cascade = Cascade(DDIM(DDIMConfig(**SMALL)).state_dict(), SMALL, "cpu")
    image = blob_image(FIXED_GRID, 3)
    pair = make_pair(image, image, Affine.identity(3), None, None, 4000.0, torch.device("cpu"))
    starts = []

    def step(fixed, moving, start):
        assert tuple(fixed.shape) == (1, 1, *SMALL["image_shape"])
        starts.append(start)
        return torch.eye(3, 4)[None] + 0.01 * len(starts)

    monkeypatch.setattr(cascade.network, "align", step)
    cascade.world_matrix(pair, 3, Events())
    assert starts[0] is None and [float(start[0, 0, 1]) for start in starts[1:]] == pytest.approx([0.01, 0.02])


def test_refined_the_transform_is_that_of_the_truth(no_weights):
    fixed, moving, truth = known_pair(3, degrees=5, shift=4)
    result = register(fixed, moving, "ddim", align="centres")
    assert isinstance(result.transform, Affine)
    before = corner_error(align(fixed, moving, "centres"), truth, FIXED_GRID)
    assert corner_error(result.transform, truth, FIXED_GRID) < 0.1 * before
    # Direction: pull. The other one is as far away as nothing at all.
    assert corner_error(result.transform.inverse(), truth, FIXED_GRID) > 0.8 * before
    assert result.warped.grid.same_as(fixed.grid)
    report = plain(result.report)
    assert report["folding_percent"] == 0.0 and report["sdlogj"] == 0.0 and report["align"] == "centres"
    assert report["similarity_after"] > report["similarity_before"] + 0.05
    assert any("are not installed" in sentence for sentence in report["warnings"])


def test_not_refined_and_without_weights_it_is_the_alignment(no_weights):
    fixed, moving, _ = known_pair(3, degrees=5, shift=4)
    result = register(fixed, moving, "ddim", refine="off", parameters={"weights": "none"})
    np.testing.assert_allclose(result.transform.matrix, align(fixed, moving, "nearest").matrix, atol=1e-9)
    assert result.report["align"] == "nearest" and result.report["warnings"] == []


def test_nearest_is_the_most_alike_of_none_centres_and_moments():
    for seed, shift in ((3, 4.0), (8, 40.0)):
        fixed, moving, truth = known_pair(seed, degrees=4, shift=shift)
        found = corner_error(align(fixed, moving, "nearest"), truth, FIXED_GRID)
        others = [corner_error(align(fixed, moving, one), truth, FIXED_GRID) for one in ("none", "centres", "moments")]
        assert found in others and found < 1.5 * min(others)


@pytest.mark.parametrize("refine", ["off", "auto"])
def test_a_wild_proposal_is_not_taken(refine, monkeypatch, no_weights):
    """Not even where the images it leads to do not overlap at all."""
    wild = np.eye(4)
    wild[:3, 3] = (3000.0, 0.0, 0.0)
    monkeypatch.setattr(ddim, "improve_affine", lambda *arguments: wild)
    fixed, moving, truth = known_pair(3, degrees=5, shift=4)
    result = register(fixed, moving, "ddim", refine=refine)
    before = corner_error(align(fixed, moving, "nearest"), truth, FIXED_GRID)
    assert corner_error(result.transform, truth, FIXED_GRID) < (1.01 if refine == "off" else 0.2) * before


def test_the_better_of_some_starts_is_climbed_from():
    fixed, moving, truth = known_pair(4, degrees=6, shift=5)
    far = np.eye(4)
    far[:3, 3] = (60.0, -50.0, 40.0)
    off = np.eye(4)
    off[:3, 3] = (2.0, 1.0, -2.0)
    near = Affine(off).then(truth)
    for starts in ([Affine(far), near], [near, Affine(far)]):
        found = climb(fixed, moving, starts)
        assert corner_error(found, truth, FIXED_GRID) < 0.2 * corner_error(near, truth, FIXED_GRID)


def test_planes_are_registered_in_their_plane(no_weights):
    fixed, moving, truth = planar_pair()
    result = register(fixed, moving, "ddim", align="none")
    corners = fixed.grid.corners()
    left = np.linalg.norm(result.transform(corners) - truth(corners), axis=1).mean()
    assert left < 0.15 * np.linalg.norm(corners - truth(corners), axis=1).mean()
    np.testing.assert_allclose(result.transform.matrix[2], [0, 0, 1, 0], atol=1e-12)
    assert result.transform.ndim == 2


def test_the_written_transform_is_one_affine_for_others(tmp_path, no_weights):
    fixed, moving, _ = known_pair(5, degrees=4, shift=3)
    result = register(fixed, moving, "ddim", align="centres", refine=3)
    result.transform.write(tmp_path / "transform.h5")
    other = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    points = FIXED_GRID.corners()
    np.testing.assert_allclose([other.TransformPoint(point) for point in points], result.transform(points), atol=1e-6)
    np.testing.assert_allclose(read_transform(tmp_path / "transform.h5")(points), result.transform(points), atol=1e-6)
    inside = sitk.Resample(moving.to_sitk(), fixed.to_sitk(), other, sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(inside), result.warped.data[0].numpy(), atol=2e-3)


def test_without_weights_the_alignment_searches_and_says_so(no_weights):
    fixed, moving, _ = known_pair(6, degrees=10, shift=8)
    events = Events()
    found = align(fixed, moving, "ddim", events=events)
    assert len(events.warnings) == 1 and "a search aligns instead" in events.warnings[0]
    np.testing.assert_allclose(found.matrix, align(fixed, moving, "affine").matrix, atol=1e-9)


def test_a_descriptor_has_the_last_word_here_too(monkeypatch):
    """What ``similarity`` asks for is not lost where the network takes the place of the search."""
    fixed, moving, truth = known_pair(3, degrees=5, shift=4)
    monkeypatch.setattr(ddim, "propose", lambda *arguments: truth)
    ended = []

    def polished(found, *arguments):
        ended.append(corner_error(found, truth, FIXED_GRID))
        return truth

    monkeypatch.setattr(align_module, "_polished", polished)
    assert align(fixed, moving, "ddim", similarity="mind") is truth
    assert len(ended) == 1 and ended[0] < 1.0


def test_a_wrong_proposal_does_no_harm(monkeypatch):
    """What the network says counts only if it makes the images more alike."""
    fixed, moving, truth = known_pair(3, degrees=5, shift=4)
    far = np.eye(4)
    far[:3, 3] = (40.0, 0.0, 0.0)
    monkeypatch.setattr(ddim, "propose", lambda *arguments: Affine(far))
    assert corner_error(align(fixed, moving, "ddim"), truth, FIXED_GRID) < 1.0


def test_other_dimensions_and_damaged_weights_are_refused():
    state = DDIM(DDIMConfig(**SMALL)).state_dict()
    cascade = Cascade(state, SMALL, "cpu")
    fixed, moving, _ = planar_pair()
    pair = make_pair(fixed, moving, Affine.identity(2), None, None, 4000.0, torch.device("cpu"))
    with pytest.raises(ModelError, match="for 3D images, not for 2D ones"):
        cascade.world_matrix(pair, 1, Events())
    with pytest.raises(ModelError, match="do not fit their configuration"):
        Cascade(state, {**SMALL, "width": 5}, "cpu")
    with pytest.raises(InputError, match="'passes' is 9"):
        register(fixed, moving, "ddim", parameters={"passes": 9})


def test_every_model_can_start_from_it(no_weights):
    fixed, moving, truth = known_pair(3, degrees=5, shift=4)
    result = register(
        fixed, moving, "avsm", align="ddim", refine="off", parameters={"weights": "none", "iterations": 2}
    )
    assert result.report["align"] == "ddim"
    assert corner_error(result.alignment, truth, FIXED_GRID) < 1.0
