"""The affine, or rigid, transform under which descriptors agree most."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .affine_ascent import ascend, rim_to_world
from .described import Described, described_level
from .descriptors import mind
from .events import Events
from .matching import Match
from .pair import Pair

FACTOR = 2.0
"""Of the descriptors' spacing: a matrix has few numbers, and many voxels to tell them."""
ITERATIONS = 60


def improve_affine(described: Described, events: Events, *, rigid: bool = False) -> np.ndarray:
    """The world matrix (4, 4) to apply before the present alignment."""
    with torch.inference_mode():
        fixed, moving, index, pair = described.level(FACTOR)
        match = Match(fixed, moving, index, None, pair.moving_weight)
        d = len(pair.shape)
        middle = torch.tensor([(n - 1) / 2 for n in pair.shape], device=fixed.device)[:, None]
        reach = float(middle.max())
        points = (torch.stack(torch.unravel_index(index, pair.shape)) - middle) / reach
        rim = torch.cat([points, torch.ones_like(points[:1])])
        chosen = torch.arange(len(index), device=fixed.device)

        def evaluate(matrix: Tensor) -> tuple[float, Tensor]:
            moved = (matrix.to(rim) @ rim)[:d] * reach + middle
            value, gradient = match.value_and_gradient(moved, chosen)
            # Of T o (id + B): the points move by the linear part of T times what B does.
            return float(value), (matrix[:d, :d].to(rim).T @ gradient) @ rim.T

        best = ascend(torch.eye(d + 1, dtype=torch.float64), evaluate, 1.0 / reach, ITERATIONS, events, rigid=rigid)
    return rim_to_world(best.numpy(), pair.grid, reach, d)


def improve_by_mind(pair: Pair, events: Events) -> np.ndarray:
    """:func:`improve_affine` by MIND-SSC, which needs no weights."""
    return improve_affine(Described(described_level(pair), mind(), events), events)
