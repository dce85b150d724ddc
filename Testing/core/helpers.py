"""Small images and transforms that the tests share: never cubic, usually oblique and anisotropic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from regnet.errors import Cancelled
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.transform import Affine, DisplacementField
from scipy import ndimage


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """3x3 rotation about x, then y, then z."""
    x, y, z = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def oblique_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    flip: tuple[int, int, int] = (1, 1, 1),
) -> Grid:
    """A grid with its middle at ``center``; spacing and flips along i, j, k."""
    linear = rotation(degrees) @ np.diag(np.array(spacing) * flip)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(center) - linear @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, matrix)


def blob_values(points: np.ndarray, seed: int = 0, extent: float = 20.0) -> np.ndarray:
    """A smooth, textured, asymmetric function of world points (..., 3), in [0, about 1.5]."""
    generator = np.random.default_rng(seed)
    x, y, z = np.ascontiguousarray(points.reshape(-1, 3).T)
    sizes = extent * np.array([0.9, 0.7, 0.55])
    value = np.exp(-((x / sizes[0]) ** 2 + (y / sizes[1]) ** 2 + (z / sizes[2]) ** 2))
    for number in range(70):
        middle = generator.uniform(-0.75, 0.75, 3) * extent
        width = (generator.uniform(0.12, 0.3) if number < 14 else generator.uniform(0.08, 0.14)) * extent
        height = generator.choice([-0.4, 0.5])
        # Further away than six widths a blob is below rounding.
        near = np.flatnonzero(np.abs(x - middle[0]) < 6 * width)
        near = near[np.abs(y[near] - middle[1]) < 6 * width]
        near = near[np.abs(z[near] - middle[2]) < 6 * width]
        squares = (x[near] - middle[0]) ** 2 + (y[near] - middle[1]) ** 2 + (z[near] - middle[2]) ** 2
        value[near] += height * np.exp(squares / -(width**2))
    return np.clip(value, 0, None).reshape(points.shape[:-1])


def blob_image(grid: Grid, seed: int = 0, extent: float = 20.0, moved_by=None) -> Image:
    """:func:`blob_values` sampled on ``grid``, read at ``moved_by(x)`` if a transform is given."""
    points = grid.points().reshape(-1, 3)
    if moved_by is not None:
        points = moved_by(points)
    values = blob_values(points, seed, extent).reshape(grid.shape)
    return Image.from_numpy(values.astype(np.float32), grid.index_to_world, grid.ndim)


def smooth_field(grid: Grid, millimetres: float, seed: int = 0, sigma: float = 4.0) -> DisplacementField:
    """A random smooth displacement with its largest component ``millimetres``, zero at the border of ``grid``."""
    generator = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(generator.normal(size=grid.shape), sigma) for _ in range(3)], axis=-1)
    window = np.ones(grid.shape)
    for axis, n in enumerate(grid.shape):
        line = np.sin(np.pi * np.arange(n) / (n - 1)).clip(0, None) ** 0.5
        window *= np.moveaxis(line.reshape(-1, 1, 1), 0, axis)
    field *= window[..., None]
    return DisplacementField((field / np.abs(field).max() * millimetres).astype(np.float32), grid)


def random_affine(seed: int = 0, degrees: float = 8.0, shift: float = 3.0) -> Affine:
    generator = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(tuple(generator.uniform(-degrees, degrees, 3))) @ np.diag(
        generator.uniform(0.93, 1.07, 3)
    )
    matrix[:3, 3] = generator.uniform(-shift, shift, 3)
    return Affine(matrix)


def corner_error(first, second, grid: Grid) -> float:
    """Largest distance in mm between two transforms at the corners of ``grid``."""
    return float(np.linalg.norm(first(grid.corners()) - second(grid.corners()), axis=1).max())


def histogram_nmi(first: np.ndarray, second: np.ndarray, bins: int) -> float:
    """Normalised mutual information less one, by the definition, from integer values below ``bins``."""
    joint = np.histogram2d(first, second, bins=bins, range=[[0, bins], [0, bins]])[0]
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint.ravel()) - 1


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """With so many threads of torch, whatever the tests around run with: `make test` gives each process one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_to_stop(work: Callable[[Events], object], fraction: float | None = None) -> float:
    """How long ``work`` goes on after a cancel at ``fraction`` of it, or a fiftieth of a second after its beginning.

    Processor time of this thread, the least of three tries: a busy machine is not the program's fault.
    """

    def once() -> float:
        asked: list[float] = []

        def emit(event: object) -> None:
            if not asked and fraction is not None and getattr(event, "fraction", 0.0) >= fraction:
                asked.append(time.thread_time())

        def is_cancelled() -> bool:
            if not asked and fraction is None and time.thread_time() > began + 0.02:
                asked.append(began + 0.02)
            return bool(asked)

        began = time.thread_time()
        with pytest.raises(Cancelled):
            work(Events(emit=emit, is_cancelled=is_cancelled))
        return time.thread_time() - asked[0]

    for _ in range(3):
        if (seconds := once()) < 0.5:
            break
    return seconds
