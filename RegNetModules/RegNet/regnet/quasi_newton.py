"""BFGS for a handful of numbers (Nocedal and Wright, Numerical Optimization, algorithm 6.1), counted in evaluations.

``scipy.optimize`` takes longer to import than the alignment that would use it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LEAST_DECREASE = 1e-4
"""Of the decrease that the slope promises: Armijo's condition."""
SHORTEST = 1e-3
"""A step cut down to this part of itself ends the work."""
CURVATURE = 1e-10


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, evaluations: int, longest: float
) -> np.ndarray:
    """Where ``function``, which gives its value and gradient, is least among the points visited from ``start`` (n,).

    Args:
        evaluations: of the function, at most, the first one included.
        longest: the first step's length, and the greatest of any.
    """
    point = np.asarray(start, dtype=np.float64)
    value, gradient = function(point)
    inverse: np.ndarray | None = None
    left = evaluations - 1
    while left > 0 and np.linalg.norm(gradient) > 0:
        direction = -gradient if inverse is None else -inverse @ gradient
        slope = float(direction @ gradient)
        if slope >= 0:
            direction, inverse, slope = -gradient, None, -float(gradient @ gradient)
        length = float(np.linalg.norm(direction))
        share = longest / length if inverse is None else min(1.0, longest / length)
        first = share
        while left > 0 and share > SHORTEST * first:
            left -= 1
            reached = point + share * direction
            new_value, new_gradient = function(reached)
            if new_value <= value + LEAST_DECREASE * share * slope:
                break
            # The minimum of the parabola through both values and the first slope, within reason.
            bend = 2.0 * (new_value - value - share * slope)
            share *= float(np.clip(-share * slope / bend, 0.1, 0.5)) if bend > 0 else 0.5
        else:
            if inverse is None or left <= 0:
                break
            inverse = None
            continue
        inverse = _updated(inverse, reached - point, new_gradient - gradient)
        point, value, gradient = reached, new_value, new_gradient
    return point


def _updated(inverse: np.ndarray | None, step: np.ndarray, change: np.ndarray) -> np.ndarray | None:
    """The approximation of the inverse Hessian after a ``step`` over which the gradient changed by ``change``."""
    product = float(step @ change)
    if product <= CURVATURE * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return inverse
    if inverse is None:
        inverse = np.eye(len(step)) * (product / float(change @ change))
    left = np.eye(len(step)) - np.outer(step, change) / product
    return left @ inverse @ left.T + np.outer(step, step) / product
