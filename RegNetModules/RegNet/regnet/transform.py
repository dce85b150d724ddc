"""Transforms in the world: functions from fixed points to moving points (the resampling, "pull", direction), LPS mm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .errors import InputError
from .image import SLAB_VOXELS, Grid, apply_matrix

if TYPE_CHECKING:
    import SimpleITK


class Transform:
    """A function of world points, (N, 3) to (N, 3), in LPS millimetres."""

    ndim: int = 3

    @property
    def parts(self) -> tuple[Affine | DisplacementField, ...]:
        """The elementary transforms, the one applied first comes first."""
        raise TypeError(f"{type(self).__name__} does not name its parts")

    def __call__(self, points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        for part in self.parts:
            points = part.apply(points)
        return points

    def then(self, other: Transform) -> Transform:
        """First this transform, then ``other``; neighbouring affines become one."""
        merged: list[Affine | DisplacementField] = []
        for part in (*self.parts, *other.parts):
            if merged and isinstance(part, Affine) and isinstance(merged[-1], Affine):
                merged[-1] = Affine(part.matrix @ merged[-1].matrix, self.ndim)
            else:
                merged.append(part)
        return merged[0] if len(merged) == 1 else Composite(tuple(merged))

    def inverse(self) -> Transform:
        """The moving-to-fixed transform; a displacement field is inverted on its own lattice."""
        inverted = [part.inverted() for part in reversed(self.parts)]
        return inverted[0] if len(inverted) == 1 else Composite(tuple(inverted))

    def to_field(self, grid: Grid) -> DisplacementField:
        """The whole transform as one displacement field on ``grid``."""
        field = np.empty((*grid.shape, 3), dtype=np.float32)
        identity = GridMapper(grid, None, None)
        mapper = GridMapper(grid, None, self)
        for start, stop in _slabs(grid):
            moved = mapper.slab(start, stop) - identity.slab(start, stop)
            field[start:stop] = moved[0].flip(0).permute(1, 2, 3, 0).numpy()
        return DisplacementField(field, grid)

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """Determinant of the derivative at every point of ``grid``, (D, H, W); not positive means a fold."""
        result = np.empty(grid.shape, dtype=np.float32)
        mapper = GridMapper(grid, grid, self)
        identity = GridMapper(grid, grid, None)
        for start, stop in _slabs(grid):
            low, high = max(start - 1, 0), min(stop + 1, grid.shape[0])
            displacement = mapper.slab(low, high) - identity.slab(low, high)
            if grid.ndim == 2:
                determinant = spatial.jacobian_determinant(displacement[:, 1:, 0])[:, None]
            else:
                determinant = spatial.jacobian_determinant(displacement)
            result[start:stop] = determinant[0, start - low : stop - low].numpy()
        return result

    def to_sitk(self) -> SimpleITK.Transform:
        """The same function as a SimpleITK transform of dimension ``ndim``."""
        import SimpleITK as sitk

        parts = [part.elementary_sitk() for part in self.parts]
        # A composite of ITK applies the transform added last first.
        return parts[0] if len(parts) == 1 else sitk.CompositeTransform(parts[::-1])

    def write(self, path: str | os.PathLike) -> None:
        """Write for ITK and Slicer: ``.h5`` and ``.tfm`` keep the parts, ``.nii.gz`` and ``.nrrd`` hold one field.

        Raises:
            InputError: unknown ending, a dense transform for ``.mat``, or a place that cannot be written.
        """
        from .transform_files import write_transform

        write_transform(self, Path(path))


class Affine(Transform):
    """``x -> A x + b`` as a homogeneous 4x4 float64 matrix.

    >>> Affine.identity().inverse()(np.array([[1.0, 2.0, 3.0]])).tolist()
    [[1.0, 2.0, 3.0]]
    """

    def __init__(self, matrix: np.ndarray, ndim: int = 3) -> None:
        self.matrix = np.array(matrix, dtype=np.float64).reshape(4, 4)
        self.ndim = ndim

    @staticmethod
    def identity(ndim: int = 3) -> Affine:
        return Affine(np.eye(4), ndim)

    @property
    def parts(self) -> tuple[Affine | DisplacementField, ...]:
        return (self,)

    def apply(self, points: np.ndarray) -> np.ndarray:
        return apply_matrix(self.matrix, points)

    def inverted(self) -> Affine:
        return Affine(np.linalg.inv(self.matrix), self.ndim)

    def elementary_sitk(self) -> SimpleITK.Transform:
        import SimpleITK as sitk

        n = self.ndim
        transform = sitk.AffineTransform(n)
        transform.SetMatrix(self.matrix[:n, :n].ravel().tolist())
        transform.SetTranslation(self.matrix[:n, 3].tolist())
        return transform


class DisplacementField(Transform):
    """``x -> x + u(x)``, u linear between the points of ``grid`` and zero outside, as in ITK.

    ``displacement`` is (D, H, W, 3) float32, components x, y, z in LPS mm.
    """

    def __init__(self, displacement: np.ndarray, grid: Grid) -> None:
        self.displacement = np.ascontiguousarray(displacement, dtype=np.float32)
        if self.displacement.shape != (*grid.shape, 3):
            raise InputError(f"A field of shape {self.displacement.shape} does not fit a grid of {grid.shape}.")
        self.grid = grid
        self.ndim = grid.ndim

    @property
    def parts(self) -> tuple[Affine | DisplacementField, ...]:
        return (self,)

    @property
    def channels(self) -> Tensor:
        """(1, 3, D, H, W) view of the displacement, components still x, y, z."""
        return torch.from_numpy(self.displacement).permute(3, 0, 1, 2)[None]

    def apply(self, points: np.ndarray) -> np.ndarray:
        index = apply_matrix(self.grid.world_to_index, points)[:, ::-1]
        lattice = torch.from_numpy(np.ascontiguousarray(index.T, dtype=np.float32)).view(1, 3, 1, 1, -1)
        return points + _sample_field(self, lattice)[0, :, 0, 0].T.double().numpy()

    def inverted(self) -> DisplacementField:
        """Inverse by fixed-point iteration on the lattice, which is grown so that it holds the image of the field."""
        reach = self.voxel_displacement().abs().amax(dim=(0, 2, 3, 4)).ceil().int().numpy() + 1
        grid = self.grid.padded(tuple(np.minimum(reach, np.array(self.grid.shape))))
        grown = self.to_field(grid)
        displacement = spatial.invert(grown.voxel_displacement())
        return DisplacementField.from_voxels(displacement, grid)

    def voxel_displacement(self) -> Tensor:
        """The same field as (1, 3, D, H, W) in voxels of its grid, components in array order."""
        return torch.matmul(
            torch.from_numpy(self.grid.world_to_index[:3, :3][::-1].astype(np.float32)),
            self.channels[0].reshape(3, -1),
        ).view(1, 3, *self.grid.shape)

    @staticmethod
    def from_voxels(displacement: Tensor, grid: Grid) -> DisplacementField:
        """From (1, 3, D, H, W), or (1, 2, H, W) for a 2D grid, in voxels of ``grid`` and array order."""
        flat = displacement[0].detach().cpu().reshape(displacement.shape[1], -1)
        linear = grid.index_to_world[:3, :3][:, ::-1][:, 3 - flat.shape[0] :].astype(np.float32)
        world = torch.matmul(torch.from_numpy(np.ascontiguousarray(linear)), flat)
        return DisplacementField(world.t().reshape(*grid.shape, 3).numpy(), grid)

    def elementary_sitk(self) -> SimpleITK.Transform:
        import SimpleITK as sitk

        return sitk.DisplacementFieldTransform(self.to_image())

    def to_image(self) -> SimpleITK.Image:
        """The field as a float64 vector image of dimension ``ndim``."""
        import SimpleITK as sitk

        n = self.ndim
        array = self.displacement[..., :n].astype(np.float64)
        image = sitk.GetImageFromArray(array[0] if n == 2 else array, isVector=True)
        spacing = self.grid.spacing[:n]
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(self.grid.index_to_world[:n, 3].tolist())
        image.SetDirection((self.grid.index_to_world[:n, :n] / spacing).ravel().tolist())
        return image


class Composite(Transform):
    """Several transforms in a row, the first one applied first."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)
        self.ndim = self.transforms[0].ndim

    @property
    def parts(self) -> tuple[Affine | DisplacementField, ...]:
        return tuple(part for transform in self.transforms for part in transform.parts)


def read_transform(path: str | os.PathLike) -> Transform:
    """Read ``.h5``, ``.tfm``, ``.txt``, ``.mat`` (ITK) or a displacement field image.

    Raises:
        InputError: missing, damaged, or of a kind that RegNet does not know.
    """
    from .transform_files import read_transform_file

    return read_transform_file(Path(path))


def _slabs(grid: Grid) -> list[tuple[int, int]]:
    depth = max(1, SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    return [(start, min(start + depth, grid.shape[0])) for start in range(0, grid.shape[0], depth)]


def _sample_field(field: DisplacementField, index: Tensor) -> Tensor:
    """Displacement (1, 3, *m) in mm at array-order voxel ``index`` (1, 3, *m); zero beyond half a voxel outside."""
    from .image import sample_inside

    return sample_inside(field.channels, index, "bilinear", 0.0)


class GridMapper:
    """Maps the points of ``grid`` through a transform into voxel indices of ``target`` (or into the world), by slabs.

    A position is kept as "matrix times lattice index, plus a remainder tensor": affine steps then cost next to
    nothing, and a field whose axes run along the grid's is interpolated by one matrix product per axis.
    """

    def __init__(self, grid: Grid, target: Grid | None, transform: Transform | None) -> None:
        self.grid = grid
        self.parts = transform.parts if transform is not None else ()
        self.to_target = target.world_to_index if target is not None else np.eye(4)

    def slab(self, start: int, stop: int) -> Tensor:
        """(1, 3, stop - start, H, W) coordinates in array order (z, y, x) for slices ``start`` to ``stop``."""
        matrix, remainder = self.grid.index_to_world, None
        for part in self.parts:
            if isinstance(part, Affine):
                matrix, remainder = part.matrix @ matrix, _rotate(part.matrix, remainder)
            else:
                moved = self._displacement(part, matrix, remainder, start, stop)
                remainder = moved if remainder is None else remainder + moved
        matrix, remainder = self.to_target @ matrix, _rotate(self.to_target, remainder)
        position = self._lattice(matrix[::-1][1:], start, stop)
        return position if remainder is None else position.add_(remainder.flip(1))

    def _lattice(self, rows: np.ndarray, start: int, stop: int) -> Tensor:
        """Affine ``rows`` (3, 4) of the lattice indices (i, j, k)."""
        depth, height, width = stop - start, *self.grid.shape[1:]
        k = torch.arange(start, stop, dtype=torch.float64).view(-1, 1, 1)
        j = torch.arange(height, dtype=torch.float64).view(-1, 1)
        i = torch.arange(width, dtype=torch.float64)
        result = torch.empty((1, 3, depth, height, width))
        for channel, (a, b, c, shift) in enumerate(rows):
            torch.add((a * i + shift + b * j).float(), (c * k).float(), out=result[0, channel])
        return result

    def _displacement(
        self, field: DisplacementField, matrix: np.ndarray, remainder: Tensor | None, start: int, stop: int
    ) -> Tensor:
        to_index = field.grid.world_to_index @ matrix
        off_axis = np.abs(to_index[:3, :3] - np.diag(np.diag(to_index[:3, :3]))).max() * max(self.grid.shape)
        if remainder is None and off_axis < 1e-3:
            return self._separable(field, to_index, start, stop)
        index = self._lattice(to_index[::-1][1:], start, stop)
        if remainder is not None:
            index += _rotate(field.grid.world_to_index, remainder).flip(1)
        return _sample_field(field, index)

    def _separable(self, field: DisplacementField, to_index: np.ndarray, start: int, stop: int) -> Tensor:
        ranges = ((start, stop), (0, self.grid.shape[1]), (0, self.grid.shape[2]))
        values = field.channels
        # The slab's axis first: it leaves the least to do for the other two.
        for axis, (first, last) in enumerate(ranges):
            world_axis = 2 - axis
            positions = to_index[world_axis, world_axis] * np.arange(first, last) + to_index[world_axis, 3]
            values = spatial.along_axis(values, line_weights(positions, field.grid.shape[axis]), axis)
        return values


def line_weights(positions: np.ndarray, n: int) -> Tensor:
    """(m, n) linear interpolation at ``positions`` on a line of n points; zero rows more than half a step outside."""
    inside = (positions >= -0.5) & (positions <= n - 0.5)
    clamped = np.clip(positions, 0, n - 1)
    low = np.minimum(clamped.astype(int), max(n - 2, 0))
    weight = clamped - low
    matrix = np.zeros((len(positions), n), dtype=np.float32)
    rows = np.arange(len(positions))
    matrix[rows, low] = (1 - weight) * inside
    if n > 1:
        matrix[rows, low + 1] += weight * inside
    return torch.from_numpy(matrix)


def _rotate(matrix: np.ndarray, vectors: Tensor | None) -> Tensor | None:
    """Apply the linear part of ``matrix`` to (1, 3, D, H, W) vectors."""
    if vectors is None:
        return None
    linear = torch.from_numpy(matrix[:3, :3].astype(np.float32))
    return torch.matmul(linear, vectors[0].reshape(3, -1)).view(vectors.shape)
