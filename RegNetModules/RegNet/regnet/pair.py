"""A pair of images on one working grid: what models and refinement work on. Tensors in voxels, no millimetres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .image import Grid, Image
from .local_change import part_around
from .transform import Affine

if TYPE_CHECKING:
    from .region import Region

FOREGROUND = 0.02
"""Normalised intensity above which a voxel is content rather than background."""
MARGIN_MM = 4.0
CONTENT_STEPS = 64
LEAST_WINDOW = 16
"""Voxels that a crop keeps on every axis, for the similarity to have something to work in."""
LEAST_STEPS = 8
"""No axis of a pyramid level gets fewer voxels than this, or than the image has."""
BYTES_PER_VOXEL = 250
"""Peak of a dense run beyond the images themselves, measured."""
LINEAR_MB = 150.0
"""Memory, and so voxels, of a pair that only a linear transform is to be told from: 600,000 of them."""


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

    @property
    def spacing_of_finest(self) -> float:
        return min(self.spacing)

    def level_grid(self, shape: tuple[int, ...]) -> Grid:
        """The grid of ``shape`` (spatial axes only) over this pair's corners."""
        return self.grid.resized((1, *shape) if len(shape) == 2 else tuple(shape))

    def level_shape(self, factor: float) -> tuple[int, ...]:
        """Of :meth:`level`."""
        wanted = factor * min(self.spacing)
        return tuple(
            max(min(n, LEAST_STEPS), round((n - 1) * step / max(step, wanted)) + 1)
            for n, step in zip(self.shape, self.spacing, strict=True)
        )

    def level(self, factor: float) -> Pair:
        """The pair with voxels about ``factor`` times the finest spacing, smoothed against aliasing.

        Axes that are coarser already stay as they are, so anisotropic grids become isotropic on the way down.
        """
        shape = self.level_shape(factor)
        if shape == self.shape:
            return self
        return Pair(
            spatial.reduce(self.fixed, shape),
            spatial.reduce(self.moving, shape),
            self.level_grid(shape),
            None if self.fixed_weight is None else spatial.resize(self.fixed_weight, shape),
            None if self.moving_weight is None else spatial.resize(self.moving_weight, shape),
        )


def make_pair(
    fixed: Image,
    moving: Image,
    alignment: Affine,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    memory_mb: float,
    device: torch.device,
    region: Region | None = None,
) -> Pair:
    """Crop the fixed lattice to where either image has content, coarsen it if memory asks for it, and fill it.

    With a ``region`` it is cropped to the region's window instead, only that part of the images is worked on, and the
    fixed weight leaves out what is not to be compared.

    Raises:
        InputError: the aligned images do not overlap, there or anywhere, or a mask excludes everything.
    """
    if region is None:
        target, source = fixed.normalized(), moving.normalized()
        grid = fixed.grid.cropped(*_content(target, source, alignment))
        spacing = _affordable_spacing(grid, memory_mb)
    else:
        grid = fixed.grid.cropped(*region.window(LEAST_WINDOW))
        spacing = _affordable_spacing(grid, memory_mb)
        target, source = _shown_on(grid, fixed, None, spacing), _shown_on(grid, moving, alignment, spacing)
    if spacing is None:
        first = target.cropped(target.grid.place_of(grid), grid.shape).data
        second = source.resample(grid, alignment).data
    else:
        grid = grid.with_spacing(spacing)
        first = _smoothed(target, spacing).resample(grid).data
        second = _smoothed(source, spacing).resample(grid, alignment).data

    def prepared(data: Tensor) -> Tensor:
        data = data[:, 0] if fixed.ndim == 2 else data
        return data[None].float().contiguous().to(device)

    def allowed(mask: Image | None, how: Affine | None, whose: str) -> Tensor | None:
        if mask is None:
            return None
        inside = mask.resample(grid, how, labels=True).data > 0
        if not inside.any():
            raise _excluded(whose, "where the images overlap" if region is None else "in the region")
        return inside

    fixed_weight, moving_weight = allowed(fixed_mask, None, "fixed"), allowed(moving_mask, alignment, "moving")
    if region is not None:
        fixed_weight = _compared(region, grid, fixed_weight, second)
    weights = (None if weight is None else prepared(weight) for weight in (fixed_weight, moving_weight))
    return Pair(prepared(first), prepared(second), grid, *weights)


def _shown_on(grid: Grid, image: Image, alignment: Affine | None, spacing: float | None) -> Image:
    """The part of an image that is needed to fill ``grid``, after smoothing for ``spacing`` mm, scaled as the whole."""
    seen = grid if alignment is None else Grid(grid.shape, alignment.matrix @ grid.index_to_world, grid.ndim)
    start, end = part_around(image.grid, seen)
    margin = [2 + math.ceil(2.0 * (spacing or 0.0) / step) for step in image.spacing[::-1]]
    start = np.maximum(start - margin, 0)
    end = np.minimum(end + margin, image.grid.shape)
    if (end <= start).any():
        raise _nothing_there()
    return image.cropped(start.tolist(), (end - start).tolist()).scaled(*image.limits())


def _compared(region: Region, grid: Grid, allowed: Tensor | None, moving: Tensor) -> Tensor:
    """Where in the region, (1, *shape) bool, images are compared that are ``allowed`` to be compared somewhere."""
    compared = region.compared(grid).data > 0
    if not (moving[compared] > FOREGROUND).any():
        raise _nothing_there()
    if allowed is not None:
        compared &= allowed
        if not compared.any():
            raise _excluded("fixed", "in the region")
    return compared


def _excluded(whose: str, where: str) -> InputError:
    return InputError(f"The {whose} mask excludes everything {where}; give a larger one.")


def _nothing_there() -> InputError:
    return InputError(
        "After the initial alignment the moving image shows nothing in the region; choose another region, or another "
        "alignment."
    )


def _content(fixed: Image, moving: Image, alignment: Affine) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First array index and shape of the part, with a margin, that holds either image's foreground.

    Looked for on a coarse lattice, whose step then belongs to the margin.
    """
    whole = fixed.grid
    coarse = whole.resized(tuple(min(n, CONTENT_STEPS) for n in whole.shape))
    moved = moving.resample(coarse, alignment).data[0] > FOREGROUND
    if not bool(moved.any()):
        raise InputError(
            "After the initial alignment the images do not overlap in space; try --align centres or affine, or check "
            "that both images are of the same region."
        )
    foreground = moved | (fixed.resample(coarse).data[0] > FOREGROUND)
    start, shape = [], []
    for axis, step in enumerate(whole.spacing[::-1]):
        n = whole.shape[axis]
        ratio = (n - 1) / max(coarse.shape[axis] - 1, 1)
        line = torch.nonzero(foreground.amax(dim=[other for other in range(3) if other != axis])).ravel()
        margin = MARGIN_MM / float(step) + ratio
        low = max(math.floor(int(line[0]) * ratio - margin), 0)
        high = min(math.ceil(int(line[-1]) * ratio + margin) + 1, n)
        if high - low < LEAST_WINDOW:
            low = max(0, min(low, n - LEAST_WINDOW))
            high = min(n, low + LEAST_WINDOW)
        start.append(low)
        shape.append(high - low)
    return tuple(start), tuple(shape)


def _affordable_spacing(grid: Grid, memory_mb: float) -> float | None:
    """The spacing in mm that makes ``grid`` fit in ``memory_mb``, or None if it fits as it is."""
    voxels = memory_mb * 1e6 / BYTES_PER_VOXEL
    if math.prod(grid.size) <= voxels:
        return None
    content = math.prod(grid.size) * math.prod(grid.spacing[: grid.ndim].tolist())
    return max(float(grid.spacing[: grid.ndim].min()), (content / voxels) ** (1.0 / grid.ndim))


def _smoothed(image: Image, spacing: float) -> Image:
    ratios = [max(spacing / step, 1.0) for step in image.spacing[::-1]]
    sigmas = [0.42 * math.sqrt(ratio * ratio - 1) for ratio in ratios]
    return Image(spatial.gaussian(image.data[None].float(), sigmas)[0], image.index_to_world, image.ndim)
