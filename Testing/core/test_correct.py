"""Click to correct: points met exactly or nearly, no folds, and nothing changed beyond the reach."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import blob_image, oblique_grid, random_affine, seconds_to_stop, smooth_field
from regnet.correct import SOFT, correct
from regnet.errors import InputError
from regnet.image import Grid, Image
from regnet.local_change import local_grid, preceded, preimages
from regnet.metrics import tre
from regnet.point_flow import flow_field, flow_to, nudged, softened, wendland
from regnet.transform import Affine, Composite, DisplacementField
from scipy.interpolate import RBFInterpolator

GRID = oblique_grid((30, 46, 40), (1.5, 1.2, 3.0), (10, -14, 8), (3, -10, 20), flip=(1, -1, 1))
AFFINE = random_affine(1)
FIELD = smooth_field(GRID, 4.0, sigma=5.0)
TRANSFORMS = {
    "affine": AFFINE,
    "field": FIELD,
    "field, affine": Composite((FIELD, AFFINE)),
    "affine, field": Composite((Affine(np.linalg.inv(AFFINE.matrix)), FIELD)),
    "two fields": Composite((FIELD, AFFINE, smooth_field(GRID.padded(4), 2.0, seed=5, sigma=6.0))),
}


@pytest.fixture(scope="module")
def image() -> Image:
    return blob_image(GRID, 1, 26)


@pytest.fixture
def pairs():
    """``pairs(transform, count, sigma)``: fixed points, and moving ones that are off by some millimetres."""

    def make(transform, count: int = 5, sigma: float = 2.5, seed: int = 3):
        generator = np.random.default_rng(seed)
        extent = np.array(GRID.size) * GRID.spacing
        index = (0.5 + generator.uniform(-0.25, 0.25, (count, 3))) * extent / GRID.spacing
        points = index @ GRID.index_to_world[:3, :3].T + GRID.index_to_world[:3, 3]
        return points, transform(points) + generator.normal(0, sigma, (count, 3))

    return make


def far_points(points: np.ndarray, reach: float) -> np.ndarray:
    """Of a cloud around the image, those farther than ``reach`` from all ``points``, many of them barely."""
    generator = np.random.default_rng(0)
    cloud = GRID.center() + generator.uniform(-1.2, 1.2, (6000, 3)) * np.array([40.0, 40.0, 60.0])
    directions = generator.normal(size=(3000, 3))
    shell = points[generator.integers(len(points), size=3000)] + directions / np.linalg.norm(
        directions, axis=1, keepdims=True
    ) * reach * generator.uniform(1.0, 1.1, (3000, 1))
    cloud = np.concatenate([cloud, shell])
    return cloud[np.linalg.norm(cloud[:, None] - points, axis=-1).min(axis=1) > reach]


def smallest_determinant(transform, around: np.ndarray, reach: float, step: float = 1.1) -> float:
    """By differences of points in the world, independent of every lattice."""
    lines = [np.arange(low - reach, high + reach, step) for low, high in zip(around.min(0), around.max(0), strict=True)]
    lattice = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    mapped = transform(lattice.reshape(-1, 3)).reshape(lattice.shape)
    return float(np.linalg.det(np.stack(np.gradient(mapped, step, axis=(0, 1, 2)), -1)).min())


@pytest.mark.parametrize("name", TRANSFORMS)
def test_exact_points_are_met_and_the_rest_stays(image, pairs, name):
    transform = TRANSFORMS[name]
    points, targets = pairs(transform)
    found = correct(image, image, transform, points, targets, mode="exact", reach=24.0)
    rows = found.report["points"]
    np.testing.assert_allclose([row["before_mm"] for row in rows], tre(transform, points, targets), atol=1e-9)
    after = tre(found.transform, points, targets)
    assert after.max() < 0.01 and min(row["before_mm"] for row in rows) > 1.0
    np.testing.assert_allclose([row["after_mm"] for row in rows], after, atol=1e-9)
    far = far_points(points, found.report["reach_mm"])
    assert len(far) > 1000 and np.abs(found.transform(far) - transform(far)).max() < 1e-4
    assert found.report["folding_percent"] == 0.0 and found.report["warnings"] == []
    assert smallest_determinant(found.transform, points, 20.0) > 0.1


def test_far_away_a_field_is_the_same_to_the_bit(image, pairs):
    points, targets = pairs(FIELD, count=2)
    answer = correct(image, image, FIELD, points, targets, mode="exact", reach=30.0)
    found, reach = answer.transform, answer.report["reach_mm"]
    offset = np.rint(FIELD.grid.world_to_index @ found.grid.index_to_world[:, 3]).astype(int)[:3]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in FIELD.grid.shape], indexing="ij"), -1)
    same = (found.displacement[tuple(np.moveaxis(index - offset[::-1], -1, 0))] == FIELD.displacement).all(-1)
    away = np.linalg.norm(GRID.points()[..., None, :] - points, axis=-1).min(-1) > reach
    assert same[away].all() and away.sum() > 1000 and not same[~away].all()


def test_a_linear_transform_gets_a_local_field(image, pairs):
    """Memory as the working grid needs it, not as the image does."""
    points, targets = pairs(AFFINE, count=1)
    found = correct(image, image, AFFINE, points, targets, reach=20.0)
    field, behind = found.transform.parts
    assert isinstance(field, DisplacementField) and np.array_equal(behind.matrix, AFFINE.matrix)
    assert max(field.grid.shape) < 45 and np.abs(field.grid.center() - points[0]).max() < 3.0
    border = np.ones(field.grid.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert not field.displacement[border].any()


def test_soft_points_are_met_nearly(image, pairs):
    points, targets = pairs(AFFINE)
    found = correct(image, image, AFFINE, points, targets, mode="soft")
    for row in found.report["points"]:
        assert 0.02 * row["before_mm"] < row["after_mm"] < 0.4 * row["before_mm"]
    one = correct(image, image, AFFINE, points[:1], targets[:1], mode="soft").report["points"][0]
    np.testing.assert_allclose(one["after_mm"] / one["before_mm"], SOFT / (1 + SOFT), 0.01)


def test_a_second_correction_keeps_the_first(image, pairs):
    """Corrections of corrections stay one field and one linear part."""
    points, targets = pairs(AFFINE, count=2, sigma=1.5)
    ends = [points[:1] - [0, 0, 25.0], points[1:] + [0, 0, 25.0]]
    first = correct(
        image, image, AFFINE, ends[0], targets[:1] + AFFINE(ends[0]) - AFFINE(points[:1]), mode="exact", reach=16
    )
    goal = first.transform(ends[1]) + [1.0, 2.0, -1.0]
    second = correct(image, image, first.transform, ends[1], goal, mode="exact", reach=16)
    assert tre(second.transform, ends[1], goal).max() < 0.01
    np.testing.assert_allclose(second.transform(ends[0]), first.transform(ends[0]), atol=1e-4)
    assert [type(part) for part in second.transform.parts] == [DisplacementField, Affine]


@pytest.mark.parametrize(("apart", "off"), [(0.0, 8.0), (1.0, 8.0), (2.5, 12.0)])
@pytest.mark.parametrize("name", ["affine", "field, affine"])
def test_points_that_contradict_each_other_do_not_fold(image, name, apart, off):
    transform, middle = TRANSFORMS[name], GRID.center()
    points = np.array([middle, middle + [apart, 0, 0]])
    targets = transform(points) + [[off, 0.0, 0.0], [-off, 1.0, 0.0]]
    found = correct(image, image, transform, points, targets, mode="exact")
    assert smallest_determinant(found.transform, points, 15.0) > 0.0
    assert found.report["folding_percent"] == 0.0
    assert any("would have folded" in text for text in found.report["warnings"])
    if apart > 2.0:  # what is nearly at one place cannot go to two
        assert all(row["after_mm"] < row["before_mm"] for row in found.report["points"])


@pytest.mark.parametrize("off", [15.0, 24.0])
def test_a_large_error_is_followed_without_folding(image, off):
    """The reach grows with it; an explicit one that is too short is made longer."""
    point = GRID.center()[None]
    target = FIELD(point) + off * np.array([[0.6, -0.5, 0.6244998]])
    for reach in (None, 10.0):
        found = correct(image, image, FIELD, point, target, mode="exact", reach=reach)
        assert found.report["points"][0]["after_mm"] < 0.01
        assert smallest_determinant(found.transform, point, 1.2 * off, step=1.6) > 0.0
        assert bool(found.report["warnings"]) == (reach is not None)
        assert found.report["reach_mm"] > 2.5 * off


def test_a_point_that_is_right_changes_nothing(image):
    point = GRID.center()[None]
    found = correct(image, image, FIELD, point, FIELD(point), mode="exact")
    np.testing.assert_allclose(found.transform(GRID.corners()), FIELD(GRID.corners()), atol=1e-5)
    assert found.report["largest_change_mm"] < 1e-3


def test_points_of_planes_stay_in_the_plane():
    grid = Grid((1, 60, 48), np.diag([1.2, 0.9, 3.0, 1.0]), 2)
    plane = Image.from_numpy(np.random.default_rng(0).random(grid.shape).astype(np.float32), grid.index_to_world, 2)
    turn = np.eye(4)
    turn[:2, :2] = [[0.98, -0.1], [0.1, 0.98]]
    transform, points = Affine(turn, 2), np.array([[25.0, 30.0, 0.0], [35.0, 20.0, 0.0]])
    targets = transform(points) + [[3.0, -2.0, 0.7], [-1.0, 2.0, -0.4]]
    found = correct(plane, plane, transform, points, targets, mode="exact")
    assert np.abs(found.transform(points) - targets)[:, :2].max() < 0.01
    assert found.transform.ndim == 2 and found.report["points"][0]["after_mm"] < 0.01


def test_the_field_of_a_small_step_is_a_radial_basis_interpolant():
    """For small displacements the flow is the interpolant by the same kernel, made by a solver of its own."""
    generator = np.random.default_rng(2)
    points = GRID.center() + generator.uniform(-12, 12, (6, 3))
    moves = generator.normal(0, 0.01, (6, 3))
    flow = flow_to(points, points + moves, 30.0)
    grid = local_grid(GRID, points, 30.0, 2.0)
    field = flow_field(flow, grid, 45.0)
    gram = np.array([[max(1 - d, 0) ** 4 * (4 * d + 1) for d in row] for row in _distances(points, points) / 30.0])
    where = grid.points().reshape(-1, 3)[::37]
    expected = wendland(_distances(where, points) / 30.0) @ np.linalg.solve(gram, moves)
    np.testing.assert_allclose(field.displacement.reshape(-1, 3)[::37], expected, atol=5e-4 * np.abs(moves).max())
    smooth = RBFInterpolator(points, moves, kernel="gaussian", epsilon=1 / 14.0)(points)
    np.testing.assert_allclose(field(points) - points, smooth, atol=0.05 * np.abs(moves).max())


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first[:, None] - second, axis=-1)


def test_soft_targets_follow_the_formula():
    points = np.array([[0.0, 0, 0], [50.0, 0, 0]])
    moved = softened(points, points + [[2.0, 0, 0], [0, 4.0, 0]], 20.0, 0.25)
    np.testing.assert_allclose(moved - points, [[1.6, 0, 0], [0, 3.2, 0]])  # out of each other's reach
    close = softened(points * 0.01, points * 0.01 + [[3.0, 0, 0], [-3.0, 0, 0]], 20.0, 0.25)
    assert np.abs(close - points * 0.01).max() < 0.1


def test_a_nudge_is_exact_between_lattice_points():
    points = GRID.center() + np.array([[0.3, 0.2, 0.7], [7.0, -3.0, 5.0]])
    missing = np.array([[0.2, -0.1, 0.05], [-0.1, 0.1, 0.1]])
    changed = nudged(FIELD, points, missing, 15.0)
    np.testing.assert_allclose(changed(points) - FIELD(points), missing, atol=1e-5)
    far = far_points(points, 15.0 + float(np.linalg.norm(GRID.spacing)))
    np.testing.assert_array_equal(changed(far), FIELD(far))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_preimages_are_found(name):
    transform = TRANSFORMS[name]
    points = GRID.center() + np.random.default_rng(1).uniform(-15, 15, (20, 3))
    found = preimages(transform, transform(points), points + 3.0, 1.2)
    np.testing.assert_allclose(transform(found), transform(points), atol=1e-3)


@pytest.mark.parametrize("coarsest", [0.5, 10.0])
def test_a_step_before_a_transform(coarsest):
    """Kept apart before a field that is too coarse for it, worked in where it is fine enough."""
    transform = TRANSFORMS["field, affine"]
    step = flow_field(
        flow_to(GRID.center()[None], GRID.center()[None] + 3.0, 25.0),
        local_grid(GRID, GRID.center()[None], 33, 2),
        33.0,
    )
    changed = preceded(transform, step, coarsest)
    assert len(changed.parts) == (3 if coarsest < 1 else 2)
    lattice = GRID.points().reshape(-1, 3)
    np.testing.assert_allclose(changed(lattice), transform(step(lattice)), atol=2e-3)


REFUSED = {
    "no pairs": ({"moving_points": [[0, 0, 0]] * 2}, "1 fixed and 2 moving points; they must be pairs"),
    "outside": ({"fixed_points": [[900, 0, 0]]}, "Point 1 lies outside of the fixed image, at 900.0, 0.0, 0.0 mm"),
    "moving outside": ({"moving_points": [[0, 900, 0]]}, "Point 1 lies outside of the moving image"),
    "not finite": ({"fixed_points": [[np.nan, 0, 0]]}, "rows of three finite coordinates"),
    "nothing": ({"fixed_points": None, "moving_points": None}, "nothing to correct by"),
    "mode": ({"mode": "hard"}, "no mode 'hard'; choose from soft, exact"),
    "reach": ({"reach": -3.0}, "The reach is -3.0 mm; give a number above 0"),
    "similarity": ({"images": True, "similarity": "ssd"}, "no comparison named 'ssd'; choose from mind, dsir, lncc"),
    "too many": ({"fixed_points": [[3, -10, 20]] * 501, "moving_points": [[3, -10, 20]] * 501}, "at most 500"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence(image, case):
    changes, text = REFUSED[case]
    given = {"fixed_points": [[3.0, -10, 20]], "moving_points": [[4.0, -10, 20]], **changes}
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        correct(image, image, AFFINE, **given)


def test_dimensions_must_agree(image):
    with pytest.raises(InputError, match="The transform is 2D and the images are 3D"):
        correct(image, image, Affine.identity(2), [[3.0, -10, 20]], [[4.0, -10, 20]])


def test_a_cancel_is_obeyed_soon(image, pairs):
    points, targets = pairs(FIELD, count=20)

    def work(events):
        while True:  # quicker than the clock
            correct(image, image, FIELD, points, targets, mode="exact", events=events)

    assert seconds_to_stop(work) < 0.5
