"""The tensor mathematics under the transforms: sampling, composing, smoothing, inverting. Voxel units throughout.

Tensors are ``(B, C, *shape)`` with shape ``(D, H, W)`` or ``(H, W)``. Displacements have one channel per axis in array
order (z, y, x), in voxels of their own grid, and pull: ``warped(x) = image(x + u(x))``. Corners of the sampling grid
are voxel centres (``align_corners=True``) everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor


def identity(shape: Sequence[int], like: Tensor) -> Tensor:
    """Voxel coordinates of a grid, ``(1, d, *shape)``, in the dtype and on the device of ``like``."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def sample(image: Tensor, coordinates: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Read ``image`` (B, C, *n) at voxel ``coordinates`` (B, d, *m): result (B, C, *m)."""
    sizes = image.shape[2:]
    scaled = [
        coordinates[:, axis] * (2.0 / (n - 1)) - 1.0 if n > 1 else torch.zeros_like(coordinates[:, axis])
        for axis, n in enumerate(sizes)
    ]
    lattice = torch.stack(scaled[::-1], dim=-1)
    return functional.grid_sample(
        image.expand(lattice.shape[0], *image.shape[1:]), lattice, mode, padding, align_corners=True
    )


def warp(image: Tensor, displacement: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """``image(x + u(x))`` on the displacement's grid, which is the image's own."""
    return sample(image, identity(displacement.shape[2:], displacement) + displacement, mode, padding)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Displacement of ``(id + outer) o (id + inner)``: ``inner(x) + outer(x + inner(x))``."""
    return inner + warp(outer, inner, padding="border")


def resize(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Linear interpolation to another grid over the same corners, by one matrix product per axis."""
    for axis, n in enumerate(shape):
        old = tensor.shape[axis + 2]
        if old != n:
            tensor = along_axis(tensor, interpolation_matrix(old, n, tensor.dtype, tensor.device), axis)
    return tensor


def resize_displacement(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    """:func:`resize`, with each component scaled to voxels of the new grid, ``(n' - 1) / (n - 1)``."""
    resized = resize(displacement, shape)
    factors = [
        (new - 1) / (old - 1) if old > 1 else 1.0 for old, new in zip(displacement.shape[2:], shape, strict=True)
    ]
    scale = torch.tensor(factors, device=resized.device, dtype=resized.dtype)
    return resized * scale.view(1, -1, *(1,) * len(shape))


def along_axis(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply every line of ``tensor`` (B, C, *shape) along spatial ``axis`` by ``matrix`` (m, n).

    A dense product is the fastest separable filter there is on a CPU for lines of a few hundred voxels.
    """
    position = axis + 2
    shape = list(tensor.shape)
    if position == tensor.ndim - 1:
        return torch.matmul(tensor, matrix.t())
    after = math.prod(shape[position + 1 :])
    lines = tensor.reshape(-1, shape[position], after)
    shape[position] = matrix.shape[0]
    return torch.matmul(matrix, lines).reshape(shape)


@functools.lru_cache(maxsize=256)
def interpolation_matrix(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(new, old)`` matrix of linear interpolation with matching corners."""
    position = torch.linspace(0, old - 1, new, dtype=torch.float64)
    low = position.floor().clamp(0, max(old - 2, 0)).long()
    weight = position - low
    matrix = torch.zeros(new, old, dtype=torch.float64)
    rows = torch.arange(new)
    matrix[rows, low] = 1 - weight
    if old > 1:
        matrix[rows, low + 1] += weight
    return matrix.to(device=device, dtype=dtype)


@functools.lru_cache(maxsize=256)
def gaussian_matrix(n: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(n, n)`` Gaussian filter over a line, weights renormalised at the ends so that constants stay."""
    index = torch.arange(n, dtype=torch.float64)
    matrix = torch.exp(-0.5 * ((index[:, None] - index[None]) / sigma) ** 2)
    matrix /= matrix.sum(dim=1, keepdim=True)
    return matrix.to(device=device, dtype=dtype)


@functools.lru_cache(maxsize=256)
def box_matrix(n: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(n, n)`` moving average over ``2 * radius + 1`` voxels, shorter at the ends."""
    index = torch.arange(n)
    matrix = ((index[:, None] - index[None]).abs() <= radius).to(torch.float64)
    matrix /= matrix.sum(dim=1, keepdim=True)
    return matrix.to(device=device, dtype=dtype)


def gaussian(tensor: Tensor, sigma: float | Sequence[float]) -> Tensor:
    """Gaussian smoothing with ``sigma`` in voxels, one for all axes or one per axis; 0 leaves an axis alone."""
    sigmas = [float(sigma)] * (tensor.ndim - 2) if isinstance(sigma, (int, float)) else list(sigma)
    for axis, width in enumerate(sigmas):
        n = tensor.shape[axis + 2]
        if width > 0 and n > 1:
            tensor = along_axis(tensor, gaussian_matrix(n, float(width), tensor.dtype, tensor.device), axis)
    return tensor


def box(tensor: Tensor, radius: int | Sequence[int]) -> Tensor:
    """Moving average over a window of ``2 * radius + 1`` voxels per axis."""
    radii = [radius] * (tensor.ndim - 2) if isinstance(radius, int) else list(radius)
    for axis, reach in enumerate(radii):
        n = tensor.shape[axis + 2]
        if reach > 0 and n > 1:
            tensor = along_axis(tensor, box_matrix(n, int(reach), tensor.dtype, tensor.device), axis)
    return tensor


def gradient(tensor: Tensor) -> Tensor:
    """Central differences of a one-channel tensor, one-sided at the ends: (B, 1, *shape) to (B, d, *shape)."""
    axes = range(1, tensor.ndim - 1)
    flat = tensor[:, 0]
    parts = [torch.gradient(flat, dim=axis)[0] if flat.shape[axis] > 1 else torch.zeros_like(flat) for axis in axes]
    return torch.stack(parts, dim=1)


def exponential(velocity: Tensor, steps: int = 7) -> Tensor:
    """Displacement of ``exp(velocity)`` by scaling and squaring (Arsigny 2006)."""
    displacement = velocity * 2.0**-steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def invert(displacement: Tensor, iterations: int = 30, tolerance: float = 1e-3) -> Tensor:
    """Displacement ``v`` with ``v(x) = -u(x + v(x))``, by fixed-point iteration (Chen 2008); stops at ``tolerance``."""
    inverse = -displacement
    for _ in range(iterations):
        updated = -warp(displacement, inverse, padding="border")
        change = (updated - inverse).abs().max()
        inverse = updated
        if change < tolerance:
            break
    return inverse


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """``det(I + Du)`` by central differences, one-sided at the ends: (B, d, *shape) to (B, *shape)."""
    d = displacement.shape[1]
    rows = [gradient(displacement[:, axis : axis + 1]) for axis in range(d)]
    for axis in range(d):
        rows[axis][:, axis] += 1.0
    if d == 2:
        (a, b), (c, e) = rows[0].unbind(1), rows[1].unbind(1)
        return a * e - b * c
    (a, b, c), (e, f, g), (h, i, j) = (row.unbind(1) for row in rows)
    return a * (f * j - g * i) - b * (e * j - g * h) + c * (e * i - f * h)
