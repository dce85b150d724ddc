"""A registration improved by the images in one place, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import blob_image, oblique_grid, seconds_to_stop, smooth_field
from regnet.correct import correct
from regnet.correct_images import Place
from regnet.errors import InputError
from regnet.image import Image
from regnet.transform import Affine, Composite, DisplacementField

GRID = oblique_grid((34, 52, 46), (1.2, 1.0, 1.7), (10, -14, 8), (3, -10, 20))
SHIFT = Affine(np.array([[1.0, 0, 0, -3], [0, 1, 0, 10], [0, 0, 1, -20], [0, 0, 0, 1]]))
TRUTH = Composite((smooth_field(GRID, 2.0, sigma=8.0), SHIFT))
MIDDLE = GRID.center() + np.array([4.0, -6.0, 3.0])
RADIUS, REACH = 9.0, 11.0


class Case:
    """A pair, and a registration that is right but for one place."""

    def __init__(self) -> None:
        self.fixed = blob_image(GRID, 0, 22, moved_by=TRUTH)
        self.moving = blob_image(oblique_grid((50, 56, 60), (1.1, 1.2, 1.3)), 0, 22)
        self.points = GRID.points()
        self.away = np.linalg.norm(self.points - MIDDLE, axis=-1)
        self.region = Image.from_numpy((self.away < RADIUS).astype(np.uint8), GRID.index_to_world)

    def start(self, millimetres: float) -> Composite:
        """The truth with a bump of so many mm in the region."""
        distance = self.away / 18.0
        bump = (np.clip(1 - distance, 0, None) ** 4 * (4 * distance + 1))[..., None] * [1.0, -0.6, 0.5]
        bumped = DisplacementField((bump * millimetres).astype(np.float32), GRID)
        return Composite((bumped.then(TRUTH.parts[0]).to_field(GRID), *TRUTH.parts[1:]))

    def error(self, transform, inside: np.ndarray) -> float:
        points = self.points[inside]
        return float(np.linalg.norm(transform(points) - TRUTH(points), axis=1).mean())


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("similarity", ["mind", "lncc"])
def test_a_region_is_improved_and_the_rest_stays(case, similarity):
    start = case.start(4.0)
    found = correct(case.fixed, case.moving, start, region=case.region, reach=REACH, similarity=similarity)
    inside = case.away < RADIUS
    assert case.error(found.transform, inside) < 0.5 * case.error(start, inside)
    beyond = case.points[case.away > RADIUS + REACH]
    np.testing.assert_allclose(found.transform(beyond), start(beyond), atol=1e-5)
    report = found.report
    assert report["similarity_after"] > report["similarity_before"] + 0.1 and report["folding_percent"] == 0.0
    assert found.transform.jacobian_determinant(GRID).min() > 0.1 and report["points"] == []


def test_points_and_images_together(case):
    """The points stay met, and around them it fits better than without the images."""
    start, point = case.start(7.0), MIDDLE[None]
    pair = {"fixed_points": point, "moving_points": TRUTH(point), "mode": "exact", "reach": 24.0}
    alone = correct(case.fixed, case.moving, start, **pair)
    both = correct(case.fixed, case.moving, start, **pair, images=True, similarity="lncc")
    near = case.away < 12.0
    assert case.error(alone.transform, near) < case.error(start, near)
    assert case.error(both.transform, near) < 0.92 * case.error(alone.transform, near)
    assert both.report["points"][0]["after_mm"] < 0.01
    beyond = case.points[case.away > 24.0]
    np.testing.assert_allclose(both.transform(beyond), start(beyond), atol=1e-5)


def test_a_region_thinner_than_the_lattice_counts():
    """A single painted slice of fine voxels."""
    fine = oblique_grid((60, 60, 60), (0.4, 0.4, 0.4), (10, -14, 8), tuple(MIDDLE))
    painted = np.zeros(fine.shape, np.uint8)
    painted[30, 10:50, 12:48] = 1
    place = Place(np.empty((0, 3)), Image.from_numpy(painted, fine.index_to_world), 8.0)
    weight = place.weight(GRID)
    assert weight.max() == 1.0
    world = fine.points()[painted > 0]
    voxel = float(np.linalg.norm(GRID.spacing))
    distance = np.array([np.linalg.norm(world - point, axis=1).min() for point in GRID.points()[weight > 0][::40]])
    assert distance.max() < 8.0 + voxel
    assert (np.abs(place.core().mean(axis=0) - world.mean(axis=0)) < 1.0).all()


def test_the_weight_falls_from_one_to_zero():
    place = Place(MIDDLE[None], None, 12.0)
    weight, distance = place.weight(GRID), np.linalg.norm(GRID.points() - MIDDLE, axis=-1)
    assert (weight[distance >= 12.0] == 0).all() and weight[distance < 2.0].min() > 0.9
    order = np.argsort(distance.ravel())
    assert (np.diff(weight.ravel()[order]) <= 1e-6).all()


def test_unusable_regions_are_refused(case):
    empty = Image.from_numpy(np.zeros(GRID.shape, np.uint8), GRID.index_to_world)
    with pytest.raises(InputError, match="region mask excludes everything"):
        correct(case.fixed, case.moving, TRUTH, region=empty)
    elsewhere = GRID.index_to_world.copy()
    elsewhere[:3, 3] += 900.0
    with pytest.raises(InputError, match="lies outside of the fixed image"):
        correct(case.fixed, case.moving, TRUTH, region=Image(case.region.data, elsewhere))
    with pytest.raises(InputError, match="A region says where the images have to agree"):
        correct(case.fixed, case.moving, TRUTH, region=case.region, images=False)


def test_a_cancel_is_obeyed_soon(case):
    start = case.start(4.0)

    def work(events):
        correct(case.fixed, case.moving, start, region=case.region, reach=REACH, events=events)

    assert seconds_to_stop(work, 0.4) < 0.5
