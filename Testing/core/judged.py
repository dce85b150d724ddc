"""Pairs of small textured images of two contrasts whose right transform is known, to be judged."""

from __future__ import annotations

import functools

import numpy as np
from helpers import oblique_grid, rotation
from regnet.image import Grid, Image
from regnet.judge import Judgement, judge
from regnet.transform import Affine, Transform
from scipy import ndimage
from scipy.spatial import cKDTree

FIXED = oblique_grid((28, 32, 38), (1.5, 1.4, 1.7), (6, -4, 8), flip=(1, -1, 1))
MOVING = oblique_grid((36, 30, 38), (1.6, 1.7, 1.5), (0, -10, 5))
FLAT = Grid((1, 70, 62), np.diag([1.0, 0.9, 1.0, 1.0]), 2)
IDENTITY = Affine.identity()
RADII = np.array([23.0, 18.0, 19.0])
CELLS = 450


def cells(points: np.ndarray, other: bool, seed: int = 0) -> np.ndarray:
    """Anatomy at world points (N, 3): cells of tissue about 4 mm wide in an ellipsoid, each in a grey of its own.

    The ``other`` contrast shows dark what is bright, and no two cells alike.
    """
    generator = np.random.default_rng(seed)
    middles = generator.uniform(-1, 1, (CELLS, 3)) * RADII
    greys = generator.uniform(0.25, 1.0, CELLS)
    if other:
        greys = 1.3 - greys**1.5 + generator.uniform(-0.05, 0.05, CELLS)
    inside = ((points / RADII) ** 2).sum(axis=1) < 1
    return np.where(inside, greys[cKDTree(middles).query(points)[1]], 0.0)


def anatomy(grid: Grid, other: bool, moved_by: Transform | None = None, seed: int = 0) -> Image:
    """:func:`cells` on ``grid``, read at ``moved_by(x)`` if a transform is given, and slightly blurred."""
    points = grid.points().reshape(-1, 3)
    values = cells(points if moved_by is None else moved_by(points), other, seed).reshape(grid.shape)
    sigma = [0.6 if n > 1 else 0.0 for n in grid.shape]
    return Image.from_numpy(ndimage.gaussian_filter(values, sigma).astype(np.float32), grid.index_to_world, grid.ndim)


@functools.cache
def fixed_image() -> Image:
    return anatomy(FIXED, False)


@functools.cache
def moving_image() -> Image:
    return anatomy(MOVING, True)


def shift(x: float, y: float, z: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return Affine(matrix)


def turn(degrees: float) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((0, 0, degrees))
    return Affine(matrix)


def flipped(image: Image, axis: int) -> Image:
    """The values the other way round along an array axis of (C, D, H, W), on the same lattice."""
    return Image(image.data.flip(axis), image.index_to_world, image.ndim)


@functools.cache
def judged_right() -> Judgement:
    """The judgement of a pair that lies on each other."""
    return judge(fixed_image(), moving_image(), IDENTITY)
