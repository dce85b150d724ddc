"""BFGS of a handful of numbers beside SciPy's: as near in about as many evaluations, and never more than it may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from regnet.quasi_newton import minimise
from scipy import optimize

Valued = Callable[[np.ndarray], tuple[float, np.ndarray]]


def rosenbrock(point: np.ndarray) -> tuple[float, np.ndarray]:
    return float(optimize.rosen(point)), optimize.rosen_der(point)


def quadratic(n: int, condition: float, seed: int = 0) -> tuple[Valued, np.ndarray]:
    """A function of ``n`` numbers whose axes are turned, and where it is least."""
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.normal(size=(n, n)))
    matrix = turn @ np.diag(np.geomspace(1.0, condition, n)) @ turn.T
    middle = generator.normal(size=n)
    return lambda x: (float((x - middle) @ matrix @ (x - middle)) / 2, matrix @ (x - middle)), middle


class Watched:
    """A function that remembers where it was asked, and what it said."""

    def __init__(self, function: Valued) -> None:
        self.function = function
        self.points: list[np.ndarray] = []
        self.values: list[float] = []

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self.function(point)
        self.points.append(point.copy())
        self.values.append(value)
        return value, gradient


def descended(function: Valued, start: np.ndarray, evaluations: int, rate: float) -> float:
    """What steepest descent with steps of the best constant length reaches."""
    point = start
    for _ in range(evaluations):
        point = point - rate * function(point)[1]
    return function(point)[0]


@pytest.mark.parametrize("longest", [0.1, 1.0])
@pytest.mark.parametrize("start", [(-1.2, 1.0), (2.0, 2.0), (3.0, -2.0), (0.0, 0.0)])
def test_a_curved_valley_takes_no_longer_than_with_scipy(start, longest):
    theirs = optimize.minimize(rosenbrock, np.array(start), jac=True, method="BFGS")
    ours = Watched(rosenbrock)
    found = minimise(ours, np.array(start), int(1.5 * theirs.nfev), longest)
    assert rosenbrock(found)[0] < 1e-6
    assert np.abs(found - 1.0).max() < 1e-2 and theirs.fun < 1e-6


@pytest.mark.parametrize(("n", "condition", "evaluations"), [(2, 1e6, 10), (5, 1e4, 45), (12, 1e2, 55), (12, 1e4, 95)])
def test_a_badly_scaled_quadratic_is_solved(n, condition, evaluations):
    function, middle = quadratic(n, condition, n)
    start = np.zeros(n)
    found = minimise(function, start, evaluations, 1.0)
    assert function(found)[0] < 1e-8 * function(start)[0]
    assert np.abs(found - middle).max() < 1e-3
    assert descended(function, start, evaluations, 2.0 / (1.0 + condition)) > 1e4 * function(found)[0]


@pytest.mark.parametrize("function", [rosenbrock, quadratic(2, 1e4, seed=3)[0]])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 5, 12])
def test_evaluations_are_counted_and_no_point_is_worse_than_the_start(function, evaluations):
    start = np.array([-1.2, 1.0])
    watched = Watched(function)
    found = minimise(watched, start, evaluations, 0.5)
    assert len(watched.points) == evaluations or not function(found)[1].any()
    assert len(watched.points) >= min(evaluations, 5)
    assert np.array_equal(watched.points[0], start)
    # The best of the points that were visited, none that nobody looked at.
    assert function(found)[0] == min(watched.values)
    assert any(np.array_equal(found, point) for point in watched.points)
    assert np.array_equal(start, [-1.2, 1.0])
    if evaluations == 1:
        assert np.array_equal(found, start)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_first_step_is_as_long_as_told_whatever_the_slope_and_none_is_longer(scale):
    watched = Watched(lambda x: (scale * (np.sqrt(1.0 + x @ x) - 1.0), scale * x / np.sqrt(1.0 + x @ x)))
    found = minimise(watched, np.array([30.0, -40.0, 0.0]), 80, 2.0)
    steps = np.linalg.norm(np.diff(watched.points, axis=0), axis=1)
    np.testing.assert_allclose(watched.points[1], [30.0 - 1.2, -40.0 + 1.6, 0.0], atol=1e-9)
    assert steps.max() < 2.0 + 1e-9 and (steps > 1.99).sum() > 5
    assert np.linalg.norm(found) < 1e-3


def test_at_the_optimum_nothing_is_done():
    function, middle = quadratic(4, 100.0)
    watched = Watched(function)
    found = minimise(watched, middle, 20, 1.0)
    assert np.array_equal(found, middle) and len(watched.points) == 1
    watched = Watched(lambda x: (0.0, np.zeros(3)))
    assert np.array_equal(minimise(watched, np.ones(3), 20, 1.0), np.ones(3)) and len(watched.points) == 1


def test_numbers_that_do_not_count_stay():
    """Parameters that are held fixed have no gradient."""
    function, middle = quadratic(3, 50.0)

    def held(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(np.append(x[:2], middle[2]))
        return value, np.append(gradient[:2], 0.0)

    found = minimise(held, np.array([0.0, 0.0, 7.0]), 40, 1.0)
    assert found[2] == 7.0 and held(found)[0] < 1e-8


def test_a_gradient_that_leads_up_ends_the_work_where_it_began():
    watched = Watched(lambda x: (float(x @ x), -2.0 * x))
    start = np.array([1.0, -2.0])
    assert np.array_equal(minimise(watched, start, 200, 0.5), start)
    assert len(watched.points) < 20


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_value_and_gradient_does_no_harm(seed):
    function, middle = quadratic(6, 100.0, seed)
    generator = np.random.default_rng(seed)

    def noisy(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(x)
        size = 0.3 * np.linalg.norm(gradient)
        return value + 1e-4 * generator.normal(), gradient + size * generator.normal(size=6) / np.sqrt(6)

    watched = Watched(noisy)
    found = minimise(watched, middle + 1.0, 60, 1.0)
    assert np.isfinite(found).all() and len(watched.points) <= 60
    assert function(found)[0] < 0.05 * function(middle + 1.0)[0]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_where_the_function_has_no_value_it_does_not_go(bad):
    """Beyond a wall there are no numbers; the minimum lies just before it."""

    def walled(x: np.ndarray) -> tuple[float, np.ndarray]:
        if x[0] > 1.0:
            return bad, np.full(2, np.nan)
        return float((x[0] - 0.9) ** 2 + 10 * x[1] ** 2), np.array([2 * (x[0] - 0.9), 20 * x[1]])

    found = minimise(walled, np.array([-3.0, 1.0]), 60, 5.0)
    assert np.abs(found - [0.9, 0.0]).max() < 1e-3


def test_it_goes_on_where_the_surface_is_not_convex():
    """From the top of a hill's flank, where the curvature tells nothing of the minimum."""

    def waves(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(np.cos(x).sum() + 0.05 * x @ x), -np.sin(x) + 0.1 * x

    start = np.array([0.3, -0.2, 0.5])
    found = minimise(waves, start, 60, 0.3)
    assert np.abs(waves(found)[1]).max() < 1e-4
    assert waves(found)[0] < waves(start)[0] - 3.0


@pytest.mark.parametrize(("start", "longest"), [((0.0, 0.0), 0.5), ((0.0, 1.0), 0.3), ((2.0, -3.0), 10.0)])
def test_a_steep_wall_at_the_end_of_a_slope_is_met(start, longest):
    """On the slope the gradient is the same everywhere; what is learnt there is of no use at the wall."""

    def wall(x: np.ndarray) -> tuple[float, np.ndarray]:
        inside = max(0.0, x[0] - 3.3)
        return 0.5 * x[1] ** 2 - x[0] + 5e3 * inside**2, np.array([1e4 * inside - 1.0, x[1]])

    found = minimise(wall, np.array(start), 60, longest)
    assert wall(found)[0] < -3.29


@pytest.mark.parametrize("longest", [1.0, 10.0])
def test_a_kink_is_reached(longest):
    """There the curvature changes a millionfold from one step to the next."""

    def kink(x: np.ndarray) -> tuple[float, np.ndarray]:
        height = np.sqrt(x[0] ** 2 + 1e-12)
        return float(height + 0.5 * x[1] ** 2), np.array([x[0] / height, x[1]])

    found = minimise(kink, np.array([2.0, -3.0]), 60, longest)
    assert kink(found)[0] < 1e-5
