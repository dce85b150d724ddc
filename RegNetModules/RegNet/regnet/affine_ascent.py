"""An affine transform climbed to the best of any similarity, in coordinates in which all its entries are of one size.

Rim coordinates have their origin in the middle of a grid and are 1 at the end of its longest axis, in array order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .adam import Adam
from .events import Events
from .image import Grid


def ascend(
    start: Tensor,
    evaluate: Callable[[Tensor], tuple[float, Tensor]],
    rate: float,
    iterations: int,
    events: Events,
    *,
    rigid: bool = False,
) -> Tensor:
    """The best matrix (d + 1, d + 1) met on the way up from ``start``.

    Args:
        evaluate: value and gradient (d, d + 1) by ``B`` of the similarity under ``matrix @ (I + B)``.
        rate: length of the first step in rim coordinates; it falls to nothing.
        rigid: only turn and shift.
    """
    d = len(start) - 1
    matrix, best, best_value = start, start.clone(), -float("inf")
    adam = Adam(torch.zeros(d, d + 1))
    for number in range(iterations):
        value, gradient = evaluate(matrix)
        if value > best_value:
            best, best_value = matrix.clone(), value
        change = torch.zeros(d + 1, d + 1, dtype=torch.float64)
        gradient = gradient.cpu()
        if rigid:
            gradient = torch.cat([gradient[:, :d] - gradient[:, :d].T, gradient[:, d:]], dim=1)
        change[:d] = rate * (1 - number / iterations) * adam.step(gradient)
        matrix = matrix @ torch.linalg.matrix_exp(change)
        events.progress((number + 1) / iterations, f"similarity {value:.4f}")
    return best


def at_rim(affine: Tensor, extents: Tensor) -> Tensor:
    """``[A | b]`` in [-1, 1] as a homogeneous matrix where each axis reaches as far as ``extents`` says."""
    d = len(affine)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d] = affine.double().cpu()
    scale = torch.diag(torch.cat([extents.double().cpu(), torch.ones(1, dtype=torch.float64)]))
    return scale @ matrix @ torch.linalg.inv(scale)


def to_world(affine: Tensor, grid: Grid) -> np.ndarray:
    """``[A | b]`` (d, d + 1) in coordinates [-1, 1] of ``grid`` as a matrix on world points."""
    d = len(affine)
    sizes = torch.tensor([n - 1.0 for n in grid.shape[3 - d :]])
    reach = float(sizes.max()) / 2
    return rim_to_world(at_rim(affine, sizes / 2 / reach).numpy(), grid, reach, d)


def rim_to_world(rim_matrix: np.ndarray, grid: Grid, reach: float, d: int) -> np.ndarray:
    """A matrix on rim coordinates (array order) as a matrix on world points."""
    to_rim = np.eye(4)
    for axis in range(d):
        n = grid.shape[3 - d + axis]
        to_rim[axis, axis] = 1.0 / reach
        to_rim[axis, 3] = -(n - 1) / 2 / reach
    in_rim = np.eye(4)
    in_rim[:d, :d], in_rim[:d, 3] = rim_matrix[:d, :d], rim_matrix[:d, d]
    order = np.eye(4)
    order[:d, :d] = np.eye(d)[::-1]
    index = order @ np.linalg.inv(to_rim) @ in_rim @ to_rim @ order
    return grid.index_to_world @ index @ np.linalg.inv(grid.index_to_world)
