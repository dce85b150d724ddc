"""Label maps and shifts that the tests of carrying segmentations share."""

from __future__ import annotations

import numpy as np
from regnet.image import Grid, Image
from regnet.transform import Affine


def shift(x: float, y: float, z: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return Affine(matrix)


def cells(grid: Grid, count: int = 9, seed: int = 0) -> Image:
    """Touching regions (the nearest of some points) inside a ball, background around."""
    generator = np.random.default_rng(seed)
    points = grid.points().reshape(-1, 3) - grid.center()
    radius = 0.4 * ((np.array(grid.size) - 1) * grid.spacing).min()
    seeds = generator.uniform(-radius, radius, (count, 3))
    labels = 1 + np.linalg.norm(points[:, None] - seeds, axis=2).argmin(axis=1)
    labels[np.linalg.norm(points, axis=1) > radius] = 0
    return Image.from_numpy(labels.astype(np.int32).reshape(grid.shape), grid.index_to_world)
