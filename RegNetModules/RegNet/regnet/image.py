"""Images in the world: a tensor and the matrix that says where its voxels lie, in LPS millimetres."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .colour import rgb_to_ycbcr

if TYPE_CHECKING:
    import SimpleITK

    from .transform import Transform

SLAB_VOXELS = 2_000_000
"""Voxels that :meth:`Image.resample` handles at a time, so that its scratch memory stays under 100 MB."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of points in the world.

    ``shape`` is (D, H, W), array order; ``index_to_world`` takes voxel index (i, j, k, 1), i along W, to LPS mm.
    A 2D grid has D = 1 and ``ndim == 2``.
    """

    shape: tuple[int, int, int]
    index_to_world: np.ndarray
    ndim: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "index_to_world", np.asarray(self.index_to_world, dtype=np.float64))

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along i, j, k in mm."""
        return np.linalg.norm(self.index_to_world[:3, :3], axis=0)

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""
        return self.shape[::-1]

    @property
    def world_to_index(self) -> np.ndarray:
        return np.linalg.inv(self.index_to_world)

    def center(self) -> np.ndarray:
        """World position of the middle of the grid."""
        return apply_matrix(self.index_to_world, (np.array([self.size]) - 1) / 2)[0]

    def corners(self) -> np.ndarray:
        """World positions of the eight corner voxel centres, (8, 3)."""
        steps = np.stack(np.meshgrid(*[(0, n - 1) for n in self.size], indexing="ij"), axis=-1)
        return apply_matrix(self.index_to_world, steps.reshape(-1, 3))

    def points(self) -> np.ndarray:
        """World positions of all voxel centres, (D, H, W, 3)."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.size], indexing="ij"), axis=-1)
        return apply_matrix(self.index_to_world, index.reshape(-1, 3)).reshape(*self.size, 3).transpose(2, 1, 0, 3)

    def resized(self, shape: tuple[int, int, int]) -> Grid:
        """A grid of another shape over the same corners."""
        factors = [(old - 1) / (new - 1) if new > 1 else 1.0 for old, new in zip(self.size, shape[::-1], strict=True)]
        return Grid(shape, self.index_to_world @ np.diag([*factors, 1.0]), self.ndim)

    def with_spacing(self, millimetres: float | np.ndarray) -> Grid:
        """A grid over the same corners whose spacing is as near to ``millimetres`` as whole voxels allow."""
        wanted = np.broadcast_to(np.asarray(millimetres, dtype=np.float64), 3)
        extent = (np.array(self.size) - 1) * self.spacing
        size = np.maximum(np.round(extent / wanted).astype(int) + 1, np.minimum(self.size, 2))
        return self.resized(tuple(int(n) for n in size[::-1]))

    def padded(self, voxels: int | tuple[int, int, int]) -> Grid:
        """The same lattice with ``voxels`` more on both sides of each axis (D, H, W); negative values crop."""
        margin = np.broadcast_to(np.asarray(voxels, dtype=int), 3).copy()
        if self.ndim == 2:
            margin[0] = 0
        origin = np.eye(4)
        origin[:3, 3] = -margin[::-1]
        shape = tuple(int(n + 2 * m) for n, m in zip(self.shape, margin, strict=True))
        return Grid(shape, self.index_to_world @ origin, self.ndim)

    def cropped(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The part of the lattice that begins at array index ``start`` (D, H, W)."""
        origin = np.eye(4)
        origin[:3, 3] = start[::-1]
        return Grid(shape, self.index_to_world @ origin, self.ndim)

    def place_of(self, part: Grid) -> tuple[int, int, int]:
        """The array index at which ``part``, cropped from this lattice, begins."""
        first = apply_matrix(self.world_to_index, part.index_to_world[None, :3, 3])[0, ::-1]
        return tuple(int(index) for index in np.rint(first))

    def same_as(self, other: Grid, tolerance: float = 1e-4) -> bool:
        """Whether both lattices have the same points, to ``tolerance`` mm."""
        return self.shape == other.shape and np.abs(self.corners() - other.corners()).max() < tolerance


@dataclass(frozen=True, eq=False)
class Image:
    """``data`` is (C, D, H, W); ``index_to_world`` is a 4x4 float64 matrix from index (i, j, k) to LPS mm.

    >>> image = Image.from_numpy(np.zeros((30, 40, 50), np.float32), np.diag([1.0, 1.0, 2.0, 1.0]))
    >>> image.grid.size, image.spacing.tolist()
    ((50, 40, 30), [1.0, 1.0, 2.0])
    """

    data: Tensor
    index_to_world: np.ndarray
    ndim: int = 3

    @property
    def grid(self) -> Grid:
        return Grid(tuple(self.data.shape[1:]), self.index_to_world, self.ndim)

    @property
    def spacing(self) -> np.ndarray:
        return self.grid.spacing

    @staticmethod
    def from_numpy(array: np.ndarray, index_to_world: np.ndarray, ndim: int = 3) -> Image:
        """From (D, H, W) or (C, D, H, W). Floats become float32; integers keep a signed integer type."""
        array = np.asarray(array)
        if array.ndim == 3:
            array = array[None]
        if array.dtype.kind == "b":
            array = array.astype(np.uint8)
        elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
        elif array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        return Image(torch.from_numpy(array), np.asarray(index_to_world, dtype=np.float64), ndim)

    @staticmethod
    def from_sitk(image: SimpleITK.Image, *, labels: bool = False) -> Image:
        """From a 2D or 3D SimpleITK image; scalar data become float32, or int32 with ``labels``."""
        import SimpleITK as sitk

        ndim = image.GetDimension()
        array = sitk.GetArrayFromImage(image)
        if image.GetNumberOfComponentsPerPixel() > 1:
            array = np.moveaxis(array, -1, 0)
        else:
            array = array[None]
        if ndim == 2:
            array = array[:, None]
        matrix = np.eye(4)
        direction = np.array(image.GetDirection()).reshape(ndim, ndim)
        matrix[:ndim, :ndim] = direction * np.array(image.GetSpacing())
        matrix[:ndim, 3] = image.GetOrigin()
        return Image.from_numpy(array.astype(np.int32 if labels else np.float32), matrix, ndim)

    def to_sitk(self) -> SimpleITK.Image:
        """A SimpleITK image of dimension ``ndim``."""
        import SimpleITK as sitk

        array, n = self.data.cpu().numpy(), self.ndim
        vector = array.shape[0] > 1
        array = np.moveaxis(array, 0, -1) if vector else array[0]
        image = sitk.GetImageFromArray(array[0] if n == 2 else array, isVector=vector)
        spacing = self.spacing[:n]
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(self.index_to_world[:n, 3].tolist())
        image.SetDirection((self.index_to_world[:n, :n] / spacing).ravel().tolist())
        return image

    @staticmethod
    def read(path: str | os.PathLike, *, labels: bool = False) -> Image:
        """Read NIfTI, NRRD, MHA, any other format of ITK, or a folder with one DICOM series.

        Raises:
            InputError: the file is missing, damaged, or holds more than one volume.
        """
        from .files import read_sitk

        return Image.from_sitk(read_sitk(Path(path)), labels=labels)

    def write(self, path: str | os.PathLike) -> None:
        """Write in the format that the file's name ends in; label types are stored as small as they fit."""
        from .files import write_sitk

        image = self
        if not self.data.is_floating_point():
            low, high = int(self.data.min()), int(self.data.max())
            dtype = np.uint8 if low >= 0 and high < 256 else np.int16 if low >= -32768 and high < 32768 else np.int32
            image = Image(torch.from_numpy(self.data.cpu().numpy().astype(dtype)), self.index_to_world, self.ndim)
        write_sitk(image.to_sitk(), Path(path))

    def resample(
        self, grid: Grid, transform: Transform | None = None, *, labels: bool = False, default: float = 0.0
    ) -> Image:
        """Read this image at ``transform(x)`` for every point ``x`` of ``grid``; linear, or nearest for ``labels``.

        Points more than half a voxel outside the image get ``default``, as in ITK. Linear interpolation of an
        integer image gives float32; labels keep their type.
        """
        mode = "nearest" if labels else "bilinear"
        source = self.data.float()[None]
        result = torch.empty((self.data.shape[0], *grid.shape), dtype=torch.float32)
        for start, points in index_slabs(grid, self.grid, transform):
            values = sample_inside(source, points, mode, default)
            result[:, start : start + values.shape[2]] = values[0]
        if labels:
            result = result.round_().to(self.data.dtype)
        return Image(result, grid.index_to_world, grid.ndim)

    def luminance(self) -> Image:
        """The image itself; or of one in red, green and blue how bright it is, in its own range of values."""
        if self.data.shape[0] != 3:
            return self
        return Image(rgb_to_ycbcr(self.data[None].float())[0, :1], self.index_to_world, self.ndim)

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Image:
        """The part that begins at array index ``start`` (D, H, W); it shares its memory with the whole."""
        window = tuple(slice(first, first + n) for first, n in zip(start, shape, strict=True))
        grid = self.grid.cropped(tuple(start), tuple(shape))
        return Image(self.data[(slice(None), *window)], grid.index_to_world, self.ndim)

    def thinned(self, most: int = 64) -> Image:
        """Every so many-th voxel along each axis, not smoothed, so that fewer than twice ``most`` are left of it."""
        strides = [max(1, n // most) for n in self.data.shape[1:]]
        first = np.eye(4)
        first[:3, 3] = [stride // 2 for stride in reversed(strides)]
        place = self.index_to_world @ first @ np.diag([*map(float, reversed(strides)), 1.0])
        window = tuple(slice(stride // 2, None, stride) for stride in strides)
        return Image(self.data[(slice(None), *window)].contiguous(), place, self.ndim)

    def normalized(self, low: float = 0.1, high: float = 99.9) -> Image:
        """Intensities scaled so that the ``low`` and ``high`` percentiles become 0 and 1, and clamped there."""
        return self.scaled(*self.limits(low, high))

    def limits(self, low: float = 0.1, high: float = 99.9) -> tuple[float, float]:
        """The ``low`` and ``high`` percentiles; of an image that is nearly constant its least and largest value."""
        bottom, top = percentiles(self.data, (low, high))
        return (bottom, top) if top > bottom else (float(self.data.min()), float(self.data.max()))

    def scaled(self, bottom: float, top: float) -> Image:
        """Intensities scaled so that ``bottom`` and ``top`` become 0 and 1, and clamped there."""
        scaled = (self.data.float() - bottom).div_(max(top - bottom, 1e-12)).clamp_(0.0, 1.0)
        return Image(scaled, self.index_to_world, self.ndim)


def apply_matrix(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homogeneous 4x4 ``matrix`` to (N, 3) points."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def percentiles(values: Tensor, levels: tuple[float, ...], most: int = 500_000) -> list[float]:
    """Percentiles of a regular subsample of at most ``most`` values: exact enough, and quick on large images."""
    flat = values.detach().reshape(-1)
    stride = max(1, flat.numel() // most)
    return [float(value) for value in np.percentile(flat[::stride].float().cpu().numpy(), levels)]


def sample_inside(source: Tensor, index: Tensor, mode: str, default: float) -> Tensor:
    """Sample (1, C, D, H, W) at voxel ``index`` (1, 3, *m); ``default`` beyond half a voxel outside, as ITK does."""
    values = spatial.sample(source, index, mode, "border")
    sizes = source.shape[2:]
    outside = torch.zeros(index.shape[2:], dtype=torch.bool, device=index.device)
    for axis, n in enumerate(sizes):
        line = index[0, axis]
        outside |= (line < -0.5) | (line > n - 0.5)
    return values.masked_fill_(outside, default)


def index_slabs(grid: Grid, target: Grid, transform: Transform | None) -> Iterator[tuple[int, Tensor]]:
    """Voxel indices in ``target``, (1, 3, d, H, W) in array order, of ``transform`` applied to ``grid``'s points.

    Yields slab by slab along D, as (first slice, indices), to keep memory small.
    """
    from .transform import GridMapper

    mapper = GridMapper(grid, target, transform)
    depth = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], depth):
        yield start, mapper.slab(start, min(start + depth, grid.shape[0]))
