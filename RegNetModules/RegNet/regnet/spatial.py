"""The tensor mathematics under the transforms: sampling, composing, smoothing, inverting. Voxel units throughout.

Tensors are ``(B, C, *shape)`` with shape ``(D, H, W)`` or ``(H, W)``. Displacements have one channel per axis in array
order (z, y, x), in voxels of their own grid, and pull: ``warped(x) = image(x + u(x))``. Corners of the sampling grid
are voxel centres (``align_corners=True``) everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

NARROW = 0.6
"""Below this width in voxels a Gaussian is applied as five taps."""
PARALLEL_POINTS = 20_000
"""Fewer points than this are sampled sooner than a second thread is awake."""


def identity(shape: Sequence[int], like: Tensor) -> Tensor:
    """Voxel coordinates of a grid, ``(1, d, *shape)``, in the dtype and on the device of ``like``."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def sample(image: Tensor, coordinates: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Read ``image`` (B, C, *n) at voxel ``coordinates`` (B, d, *m): result (B, C, *m)."""
    sizes = image.shape[2:]
    factors = [2.0 / (n - 1) if n > 1 else 0.0 for n in sizes]
    shifts = [-1.0 if n > 1 else 0.0 for n in sizes]
    d = len(sizes)
    if torch.is_grad_enabled() and coordinates.requires_grad:
        scaled = [coordinates[:, axis] * factors[axis] + shifts[axis] for axis in range(d)]
        lattice = torch.stack(scaled[::-1], dim=1)
    else:
        lattice = torch.empty_like(coordinates, memory_format=torch.contiguous_format)
        for axis in range(d):
            torch.mul(coordinates[:, axis], factors[axis], out=lattice[:, d - 1 - axis]).add_(shifts[axis])
    image = image.expand(lattice.shape[0], *image.shape[1:])
    parts = _shares(lattice) if not image.requires_grad else 1
    if parts > 1:
        return _sample_in_parts(image, lattice, parts, mode, padding)
    # The sampler reads its lattice through strides: planes per component spare an interleaving copy.
    return functional.grid_sample(image, lattice.movedim(1, -1), mode, padding, align_corners=True)


def _shares(lattice: Tensor) -> int:
    """In how many equal parts to sample. On a CPU the sampler gives each thread a member of the batch: one image
    alone would keep one thread busy."""
    threads, points = torch.get_num_threads(), lattice[0, 0].numel()
    if lattice.device.type != "cpu" or lattice.ndim != 5 or lattice.shape[0] > 1 or threads == 1:
        return 1
    if points < PARALLEL_POINTS:
        return 1
    return next((parts for parts in range(4 * threads, 1, -1) if points % parts == 0), 1)


def _sample_in_parts(image: Tensor, lattice: Tensor, parts: int, mode: str, padding: str) -> Tensor:
    """The points dealt out as a batch; the image is repeated without being copied."""
    points = lattice.reshape(3, parts, -1, 1, 1).movedim(0, -1)
    found = functional.grid_sample(image.expand(parts, *image.shape[1:]), points, mode, padding, align_corners=True)
    return found.transpose(0, 1).reshape(1, image.shape[1], *lattice.shape[2:])


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
@torch.inference_mode(False)
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
@torch.inference_mode(False)
def gaussian_matrix(n: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(n, n)`` Gaussian filter over a line, weights renormalised at the ends so that constants stay."""
    index = torch.arange(n, dtype=torch.float64)
    matrix = torch.exp(-0.5 * ((index[:, None] - index[None]) / sigma) ** 2)
    matrix /= matrix.sum(dim=1, keepdim=True)
    return matrix.to(device=device, dtype=dtype)


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def box_matrix(n: int, radius: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(m, n)`` moving average over ``2 * radius + 1`` voxels, shorter at the ends, at every ``stride``-th voxel."""
    first = (n - 1) % stride // 2
    middles = torch.arange(first, n, stride)
    matrix = ((middles[:, None] - torch.arange(n)[None]).abs() <= radius).to(torch.float64)
    matrix /= matrix.sum(dim=1, keepdim=True)
    return matrix.to(device=device, dtype=dtype)


def gaussian(tensor: Tensor, sigma: float | Sequence[float]) -> Tensor:
    """Gaussian smoothing with ``sigma`` in voxels, one for all axes or one per axis; 0 leaves an axis alone."""
    sigmas = [float(sigma)] * (tensor.ndim - 2) if isinstance(sigma, (int, float)) else list(sigma)
    for axis, width in enumerate(sigmas):
        n = tensor.shape[axis + 2]
        if width <= 0 or n == 1:
            continue
        if width < NARROW and n > 4 and not tensor.requires_grad:
            tensor = _narrow_gaussian(tensor, axis, width)
        else:
            tensor = along_axis(tensor, gaussian_matrix(n, float(width), tensor.dtype, tensor.device), axis)
    return tensor


def _narrow_gaussian(tensor: Tensor, axis: int, sigma: float) -> Tensor:
    """Five taps, border voxels repeated: for very narrow kernels shifted sums beat the dense product."""
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(3)]
    total = taps[0] + 2 * (taps[1] + taps[2])
    position, n = axis + 2, tensor.shape[axis + 2]
    result = tensor * (taps[0] / total)
    for k in (1, 2):
        weight = taps[k] / total
        if weight < 1e-6:
            break
        result.narrow(position, k, n - k).add_(tensor.narrow(position, 0, n - k), alpha=weight)
        result.narrow(position, 0, n - k).add_(tensor.narrow(position, k, n - k), alpha=weight)
        result.narrow(position, 0, k).add_(tensor.narrow(position, 0, 1), alpha=weight)
        result.narrow(position, n - k, k).add_(tensor.narrow(position, n - 1, 1), alpha=weight)
    return result


def reduce(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample to fewer voxels over the same corners, after a Gaussian that removes what they could not hold."""
    for axis, n in enumerate(shape):
        old = tensor.shape[axis + 2]
        if old != n:
            tensor = along_axis(tensor, reduction_matrix(old, int(n), tensor.dtype, tensor.device), axis)
    return tensor


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)
def reduction_matrix(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(new, old)``: Gaussian against aliasing and linear interpolation in one product."""
    matrix = interpolation_matrix(old, new, torch.float64, torch.device("cpu"))
    ratio = (old - 1) / (new - 1) if new > 1 else 1.0
    if ratio > 1.01:
        matrix = matrix @ gaussian_matrix(old, 0.42 * math.sqrt(ratio * ratio - 1), torch.float64, torch.device("cpu"))
    return matrix.to(device=device, dtype=dtype)


def box(tensor: Tensor, radius: int, stride: int = 1) -> Tensor:
    """Mean over a window of ``2 * radius + 1`` voxels per axis, at every ``stride``-th voxel."""
    for axis, n in enumerate(tensor.shape[2:]):
        tensor = along_axis(tensor, box_matrix(n, radius, stride, tensor.dtype, tensor.device), axis)
    return tensor


def box_transpose(tensor: Tensor, shape: Sequence[int], radius: int, stride: int = 1) -> Tensor:
    """The transpose of :func:`box` on a grid of ``shape``: every voxel gathers from the windows it lies in."""
    for axis in reversed(range(len(shape))):
        matrix = box_matrix(int(shape[axis]), radius, stride, tensor.dtype, tensor.device)
        tensor = along_axis(tensor, matrix.t(), axis)
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


def logarithm(displacement: Tensor, steps: int = 7, iterations: int = 6, sigma: float = 0.7) -> Tensor:
    """A smooth velocity whose :func:`exponential` is about ``displacement`` (Bossa and Olmos 2008).

    Each round adds what is left, ``exp(-v) o (id + u)``, smoothed by ``sigma`` voxels; what of the displacement no
    smooth velocity can make, folds above all, stays behind.
    """
    velocity = gaussian(displacement, sigma)
    for _ in range(iterations):
        left = compose(exponential(-velocity, steps), displacement)
        velocity = velocity + gaussian(left, sigma)
    return velocity


def invert(
    displacement: Tensor,
    iterations: int = 30,
    tolerance: float = 1e-3,
    each: Callable[[float], object] | None = None,
) -> Tensor:
    """Displacement ``v`` with ``v(x) = -u(x + v(x))``, by fixed-point iteration (Chen 2008); stops at ``tolerance``.

    ``each`` is called before every iteration with the share of them that is done; it may raise to end the work.
    """
    inverse = -displacement
    for done in range(iterations):
        if each is not None:
            each(done / iterations)
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
