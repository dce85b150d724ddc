"""An alignment that is watched: soon, better and better, and the same in the end as one that is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers import blob_image, oblique_grid, random_affine
from regnet.align import align, center_of_mass
from regnet.events import Events
from regnet.image import Image
from regnet.previews import Preview, Previews
from regnet.register import register
from regnet.transform import Affine

GRID = oblique_grid((44, 50, 56), (1.0, 1.1, 1.2), (12, 5, -6), (2, 3, -4), (1, -1, 1))
MOVING_GRID = oblique_grid((52, 40, 60), (1.2, 1.1, 1.3), (-5, 9, 20), (6, 1, 2), (-1, 1, 1))


@pytest.fixture(scope="module")
def pair():
    """Images on different lattices, far apart, and the truth between them."""
    shift = np.eye(4)
    shift[:3, 3] = (30.0, -18.0, 9.0)
    truth = random_affine(4, degrees=9, shift=3).then(Affine(shift))
    fixed, moving = blob_image(GRID, 3, moved_by=random_affine(4, degrees=9, shift=3)), blob_image(MOVING_GRID, 3)
    return fixed, Image(moving.data, shift @ moving.index_to_world), truth


def watched(kept: list[Preview]) -> Events:
    return Events(previews=Previews(kept.append, interval=0.0, share=float("inf")))


def test_it_snaps_into_place(pair):
    fixed, moving, truth = pair
    kept: list[Preview] = []
    found = align(fixed, moving, "affine", events=watched(kept), precise=False)
    points = GRID.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.1][::7]
    far = [np.linalg.norm(one.transform(points) - truth(points), axis=1).mean() for one in kept]
    start = np.linalg.norm(points - truth(points), axis=1).mean()
    assert start > 30 and far[0] < 0.3 * start  # the first guess is most of the way
    assert far[-1] < 1.0 and np.linalg.norm(kept[-1].transform(points) - found(points), axis=1).max() < 0.5
    for one in kept:
        assert not one.field.displacement.any() and one.field.grid.shape == (2, 2, 2)
        np.testing.assert_allclose(one.field.grid.corners(), GRID.corners(), atol=1e-9)
    assert {one.stage for one in kept} >= {"align at level 2", "align at level 3"}


@pytest.mark.parametrize("method", ["nearest", "affine"])
def test_watching_changes_nothing(pair, method):
    fixed, moving, _ = pair
    kept: list[Preview] = []
    found = align(fixed, moving, method, events=watched(kept), precise=False)
    np.testing.assert_array_equal(found.matrix, align(fixed, moving, method, precise=False).matrix)
    assert kept


def test_the_first_guess_comes_before_the_images_are_prepared(monkeypatch):
    """Of large images, that takes most of the time."""
    values = np.zeros((150, 140, 160), np.float32)
    values[40:110, 30:100, 50:120] = np.random.default_rng(0).random((70, 70, 70))
    fixed, moving = (Image.from_numpy(np.roll(values, by), np.diag([0.4, 0.5, 0.6, 1.0])) for by in (0, 20))
    sizes, normalized = [], Image.normalized
    monkeypatch.setattr(
        Image, "normalized", lambda self, *how: sizes.append(self.data.numel()) or normalized(self, *how)
    )

    class SeenEnough(Exception):
        pass

    def send(preview: Preview) -> None:
        raise SeenEnough

    with pytest.raises(SeenEnough):
        align(fixed, moving, "affine", events=Events(previews=Previews(send)))
    assert sizes and max(sizes) < fixed.data.numel() / 7


def test_nobody_looks_and_nothing_is_tried(pair, monkeypatch):
    def never(*_):
        raise AssertionError("a first guess was made for nobody")

    monkeypatch.setattr(sys.modules["regnet.align"], "_show_first", never)
    align(pair[0], pair[1], "nearest", events=Events(), precise=False)


def test_images_that_do_not_overlap_are_refused_as_ever(pair):
    from regnet.errors import InputError

    mask = Image(pair[0].data * 0 + 1, pair[0].index_to_world + np.eye(4, k=3) * 4000.0)
    with pytest.raises(InputError, match="leaves nothing to compare"):
        align(pair[0], pair[1], "affine", fixed_mask=mask, events=watched([]))


def test_the_alignment_is_shown_before_the_model_begins(pair):
    """Also one that is not searched for."""
    fixed, moving, _ = pair
    kept: list[Preview] = []
    register(fixed, moving, align="moments", parameters={"weights": "none", "iterations": 1}, refine="off",
             events=watched(kept))  # fmt: skip
    assert kept[0].stage == "align" and kept[0].field.grid.shape == (2, 2, 2)
    expected = center_of_mass(moving) - center_of_mass(fixed)
    np.testing.assert_allclose(kept[0].alignment.matrix[:3, 3], expected)


def test_single_slices_stay_in_their_plane():
    flat = [Image.from_numpy(blob_image(GRID, 3, moved_by=move).data[0, 20:21].numpy(), np.eye(4), 2)
            for move in (random_affine(1, 3, 2), None)]  # fmt: skip
    kept: list[Preview] = []
    align(*flat, "affine", events=watched(kept))
    assert {one.field.grid.shape for one in kept} == {(1, 2, 2)}
    for one in kept:
        np.testing.assert_allclose(one.alignment.matrix[2], [0, 0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("shape", [(130, 64, 200), (1, 300, 127)])
def test_thinned_voxels_lie_where_they_lay(shape):
    matrix = oblique_grid(shape, (0.7, 1.1, 2.3), (20, -10, 30), (5, -8, 3), (-1, 1, 1)).index_to_world
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(np.float32)
    whole = Image.from_numpy(index, matrix, 2 if shape[0] == 1 else 3)  # every voxel holds its own index
    thin = whole.thinned()
    assert all(n <= m < 2 * 64 for n, m in zip((min(n, 64) for n in shape), thin.data.shape[1:], strict=True))
    own = thin.data.numpy()[::-1].reshape(3, -1).T.astype(float)
    np.testing.assert_allclose(thin.grid.points().reshape(-1, 3), own @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-9)
