"""A pair of images on one working grid: what models and refinement work on. Tensors in voxels, no millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .image import Grid, Image
from .transform import Affine

FOREGROUND = 0.02
"""Normalised intensity above which a voxel is content rather than background."""
MARGIN_MM = 8.0
LEAST_STEPS = 8
"""No axis of a pyramid level gets fewer voxels than this, or than the image has."""
BYTES_PER_VOXEL = 140
"""Peak of a dense run, measured: about 35 float32 values per voxel of the working grid."""


@dataclass(frozen=True, eq=False)
class Pair:
    """``fixed`` and ``moving`` are (1, 1, *shape) in [0, 1] on ``grid``, the moving one after the initial alignment.

    ``fixed_weight`` and ``moving_weight`` are (1, 1, *shape) masks in {0, 1}, or None. For 2D images the tensors have
    two spatial axes. ``spacing`` is in mm per axis in array order.
    """

    fixed: Tensor
    moving: Tensor
    grid: Grid
    fixed_weight: Tensor | None = None
    moving_weight: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.fixed.shape[2:])

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(float(step) for step in self.grid.spacing[::-1][3 - len(self.shape) :])

    def level_grid(self, shape: tuple[int, ...]) -> Grid:
        """The grid of ``shape`` (spatial axes only) over this pair's corners."""
        return self.grid.resized((1, *shape) if len(shape) == 2 else tuple(shape))

    def level(self, factor: float) -> Pair:
        """The pair with voxels about ``factor`` times the finest spacing, smoothed against aliasing.

        Axes that are coarser already stay as they are, so anisotropic grids become isotropic on the way down.
        """
        wanted = factor * min(self.spacing)
        shape = tuple(
            max(min(n, LEAST_STEPS), round((n - 1) * step / max(step, wanted)) + 1)
            for n, step in zip(self.shape, self.spacing, strict=True)
        )
        if shape == self.shape:
            return self
        return Pair(
            reduce(self.fixed, shape),
            reduce(self.moving, shape),
            self.level_grid(shape),
            None if self.fixed_weight is None else spatial.resize(self.fixed_weight, shape),
            None if self.moving_weight is None else spatial.resize(self.moving_weight, shape),
        )


def reduce(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Resample to fewer voxels over the same corners, after a Gaussian that removes what they could not hold."""
    ratios = [(old - 1) / (new - 1) if new > 1 else 1.0 for old, new in zip(tensor.shape[2:], shape, strict=True)]
    sigmas = [0.42 * math.sqrt(ratio * ratio - 1) if ratio > 1.01 else 0.0 for ratio in ratios]
    return spatial.resize(spatial.gaussian(tensor, sigmas), shape)


def make_pair(
    fixed: Image,
    moving: Image,
    alignment: Affine,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    memory_mb: float,
    device: torch.device,
) -> Pair:
    """Crop the fixed lattice to where either image has content, coarsen it if memory asks for it, and fill it.

    Raises:
        InputError: the aligned images do not overlap, or a mask excludes everything.
    """
    target, source = fixed.normalized(), moving.normalized()
    moved = source.resample(fixed.grid, alignment)
    grid = _content(target, moved)
    spacing = _affordable_spacing(grid, memory_mb)
    if spacing is None:
        start = _start(fixed.grid, grid)
        window = (slice(None), *(slice(a, a + n) for a, n in zip(start, grid.shape, strict=True)))
        first, second = target.data[window], moved.data[window]
    else:
        coarse = grid.with_spacing(spacing)
        first, second = (_smoothed(image, spacing).resample(coarse, how).data for image, how in ((target, None), (source, alignment)))
        grid = coarse

    def prepared(data: Tensor) -> Tensor:
        data = data[:, 0] if fixed.ndim == 2 else data
        return data[None].float().contiguous().to(device)

    def weight(mask: Image | None, how: Affine | None, whose: str) -> Tensor | None:
        if mask is None:
            return None
        inside = mask.resample(grid, how, labels=True).data > 0
        if not inside.any():
            raise InputError(f"The {whose} mask excludes everything where the images overlap; give a larger one.")
        return prepared(inside)

    return Pair(
        prepared(first),
        prepared(second),
        grid,
        weight(fixed_mask, None, "fixed"),
        weight(moving_mask, alignment, "moving"),
    )


def _content(fixed: Image, moved: Image) -> Grid:
    """The part of the lattice, with a margin, that holds either image's foreground."""
    foreground = (fixed.data[0] > FOREGROUND) | (moved.data[0] > FOREGROUND)
    if not bool((moved.data[0] > FOREGROUND).any()):
        raise InputError(
            "After the initial alignment the images do not overlap in space; try --align centres or affine, or check "
            "that both images are of the same region."
        )
    start, stop = [], []
    for axis, step in enumerate(fixed.spacing[::-1]):
        others = [a for a in range(3) if a != axis]
        line = torch.nonzero(foreground.amax(dim=others)).ravel()
        margin = math.ceil(MARGIN_MM / step)
        low, high = int(line[0]) - margin, int(line[-1]) + 1 + margin
        low, high = max(low, 0), min(high, foreground.shape[axis])
        if high - low < 16:  # Keep a window that the similarity can work in.
            low = max(0, min(low, foreground.shape[axis] - 16))
            high = min(foreground.shape[axis], low + 16)
        start.append(low)
        stop.append(high)
    return fixed.grid.cropped(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True)))


def _start(whole: Grid, part: Grid) -> list[int]:
    """Array index in ``whole`` of the first voxel of ``part``."""
    offset = whole.world_to_index @ part.index_to_world[:, 3]
    return [int(round(value)) for value in offset[:3][::-1]]


def _affordable_spacing(grid: Grid, memory_mb: float) -> float | None:
    """The spacing in mm that makes ``grid`` fit in ``memory_mb``, or None if it fits as it is."""
    spacing = grid.spacing[: grid.ndim]
    extent = math.prod(grid.size) * math.prod(grid.spacing.tolist())
    voxels = memory_mb * 1e6 / BYTES_PER_VOXEL
    if math.prod(grid.size) <= voxels:
        return None
    return max(float(spacing.min()), (extent / voxels) ** (1.0 / grid.ndim))


def _smoothed(image: Image, spacing: float) -> Image:
    ratios = [max(spacing / step, 1.0) for step in image.spacing[::-1]]
    sigmas = [0.42 * math.sqrt(ratio * ratio - 1) for ratio in ratios]
    return Image(spatial.gaussian(image.data[None].float(), sigmas)[0], image.index_to_world, image.ndim)
