"""What is shown of an optimisation while it goes on: the right field in its place, at a pace that costs little."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers import blob_image, oblique_grid, random_affine, smooth_field
from regnet import previews
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.models import avsm_optimise
from regnet.pair import Pair, make_pair
from regnet.previews import MOST_NODES, Preview, Previews, preview_shape, reduced
from regnet.register import register
from regnet.transform import Affine
from scipy import ndimage

GRID = oblique_grid((44, 50, 56), (1.0, 1.1, 1.2), (12, 5, -6), (2, 3, -4), (1, -1, 1))
MOVING_GRID = oblique_grid((52, 40, 60), (1.2, 1.1, 1.3), (-5, 9, 20), (6, 1, 2), (-1, 1, 1))
METHODS = {
    "avsm, refined": ("avsm", {"weights": "none", "iterations": 3}, 4),
    "avsm alone": ("avsm", {"weights": "none", "iterations": 6}, "off"),
    "avsm, refined by a descriptor": ("avsm", {"weights": "none", "iterations": 2, "refine_with": "mind"}, 6),
    "masr": ("masr", {"descriptor": "mind", "weights": "none", "iterations": 6}, 6),
}


@functools.cache
def world_pair():
    """Images on different oblique lattices, related by a known field and affine, with the truth."""
    truth = smooth_field(GRID, 3.5, 3, sigma=7.0).then(random_affine(3, degrees=6, shift=4))
    return blob_image(GRID, 3, moved_by=truth), blob_image(MOVING_GRID, 3), truth


def inside() -> np.ndarray:
    """World points of the object in the fixed image."""
    return GRID.points().reshape(-1, 3)[world_pair()[0].data[0].numpy().ravel() > 0.1][::7]


def often(kept: list[Preview]) -> Previews:
    """All that is offered, at once."""
    return Previews(kept.append, interval=0.0, share=float("inf"))


def empty_pair(grid: Grid) -> Pair:
    shape = grid.shape if grid.ndim == 3 else grid.shape[1:]
    return Pair(torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape), grid)


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("state_shape", [(60, 84, 70), (31, 40, 22), (9, 11, 7)])
def test_a_preview_is_the_states_own_field_in_the_world(state_shape):
    """Read with scipy from the state, whose components are in voxels of its grid and in array order."""
    pair = empty_pair(oblique_grid((60, 84, 70), (1.0, 1.4, 0.8), (20, -10, 30), (5, -8, 3), (-1, 1, -1)))
    generator = np.random.default_rng(5)
    coarse = generator.normal(size=(3, 5, 6, 4)) * np.array([3.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    zoom = [n / m for n, m in zip(state_shape, coarse.shape[1:], strict=True)]
    state = np.stack([ndimage.zoom(one, zoom, order=3, mode="nearest", grid_mode=True) for one in coarse])
    state = np.stack([ndimage.gaussian_filter(one, 1.5) for one in state])
    field = reduced(torch.tensor(state, dtype=torch.float32)[None], pair)

    assert np.prod(field.grid.shape) <= MOST_NODES and all(np.less_equal(field.grid.shape, state_shape))
    np.testing.assert_allclose(field.grid.corners(), pair.grid.corners(), atol=1e-9)
    to_state = pair.grid.resized(state_shape).world_to_index
    nodes = field.grid.points().reshape(-1, 3)
    index = (nodes @ to_state[:3, :3].T + to_state[:3, 3])[:, ::-1]
    read = np.stack([ndimage.map_coordinates(one, index.T, order=1, mode="nearest") for one in state], axis=1)
    world = read[:, ::-1] @ np.linalg.inv(to_state[:3, :3]).T
    error = np.linalg.norm(field.displacement.reshape(-1, 3) - world, axis=1)
    assert np.linalg.norm(world, axis=1).max() > 2.0 and error.max() < 1e-3


@pytest.mark.parametrize("shape", [(181, 217, 160), (20, 512, 480), (30, 24, 28), (1, 400, 330)])
def test_previews_are_small_and_not_too_small(shape):
    pair = empty_pair(Grid(shape, np.diag([0.8, 0.8, 3.0 if shape[0] == 20 else 0.8, 1.0]), 2 if shape[0] == 1 else 3))
    found = preview_shape(pair)
    assert 0.5 * MOST_NODES < np.prod(found) <= MOST_NODES or found == pair.shape
    assert len(found) == pair.grid.ndim


@pytest.mark.parametrize("method", ["avsm, refined", "avsm alone", "masr"])
def test_the_last_preview_is_nearly_the_result(method):
    fixed, moving, truth = world_pair()
    model, parameters, refine = METHODS[method]
    kept: list[Preview] = []
    how = {"align": "rigid", "refine": refine, "parameters": parameters}
    result = register(fixed, moving, model, **how, events=Events(previews=often(kept)))
    points = inside()
    distance = [np.linalg.norm(one.transform(points) - result.transform(points), axis=1).mean() for one in kept]
    assert len(kept) > 5
    assert not kept[0].field.displacement.any() and kept[-1].field.displacement.any()
    # Descriptors are followed by long steps, and what is shown is the state before the last of them.
    assert distance[-1] < (0.15 if model == "avsm" else 0.3)
    assert distance[-1] < 0.4 * distance[0]
    # And it is the way to the truth, not only to what the program thinks.
    errors = [np.linalg.norm(one.transform(points) - truth(points), axis=1).mean() for one in kept]
    assert errors[-1] < 0.8 * errors[0]


def test_single_slices_have_previews_in_their_plane():
    fixed, moving = (Image.from_numpy(blob_image(GRID, 3, moved_by=move).data[0, 20:21].numpy(), np.eye(4), 2)
                     for move in (random_affine(1, 3, 2), None))  # fmt: skip
    kept: list[Preview] = []
    register(fixed, moving, align="none", parameters={"weights": "none", "iterations": 2}, refine=2,
             events=Events(previews=often(kept)))  # fmt: skip
    field = kept[-1].field
    assert field.ndim == 2 and field.grid.shape[0] == 1
    assert field.displacement[..., :2].any() and not field.displacement[..., 2].any()


def test_nothing_is_done_and_nothing_changes_where_nobody_looks(monkeypatch):
    fixed, moving, _ = world_pair()
    pair = make_pair(fixed, moving, Affine.identity(), None, None, 1e5, torch.device("cpu"))
    parameters = avsm_optimise.Parameters(weights="none", iterations=3)
    made = []
    to_displacement = avsm_optimise.map_to_displacement
    monkeypatch.setattr(avsm_optimise, "map_to_displacement", lambda given: made.append(0) or to_displacement(given))
    kept: list[Preview] = []
    looked_at = avsm_optimise.optimise(pair, parameters, Events(previews=often(kept)))
    assert len(made) == len(kept) + 1 > 4

    def never(*_):
        raise AssertionError("a preview was made for nobody")

    monkeypatch.setattr(previews, "reduced", never)
    made.clear()
    assert torch.equal(avsm_optimise.optimise(pair, parameters, Events()), looked_at)
    assert len(made) == 1


@pytest.mark.parametrize("cost", [0.0, 0.004, 0.1])
def test_the_pace_is_kept_to(cost):
    """A state every 0.01 s for 20 s, by a clock of the test's own."""
    clock, sent = Clock(), []

    def send(preview: Preview) -> None:
        sent.append(clock.now)
        clock.now += cost

    sink = Previews(send, clock=clock)
    pair = empty_pair(Grid((20, 24, 30), np.eye(4)))
    events = Events(previews=sink)
    started, state = clock.now, torch.ones(1, 3, 10, 12, 15)
    while clock.now < started + 20.0:
        due = events.wants_preview()
        before = len(sent)
        events.preview(state, pair)
        assert (len(sent) > before) == due
        clock.now += 0.01
    elapsed = clock.now - started
    assert min(np.diff(sent)) >= 0.25 - 1e-9
    assert sink.count == len(sent) and sink.seconds == pytest.approx(cost * len(sent))
    assert sink.seconds <= 0.05 * elapsed + cost
    if cost < 0.01:
        assert len(sent) > 3.5 * elapsed
    else:
        assert 0.04 * elapsed < sink.seconds


def test_a_preview_that_fails_is_counted_and_told():
    def send(preview: Preview) -> None:
        raise OSError("full")

    sink = Previews(send)
    with pytest.raises(OSError, match="full"):
        sink.offer(torch.ones(1, 3, 5, 6, 7), empty_pair(Grid((20, 24, 30), np.eye(4))))
    assert sink.count == 1 and sink.seconds > 0
