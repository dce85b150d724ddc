"""A flow that carries points to their targets, cannot fold, and leaves everything beyond a radius where it is.

A velocity made of Wendland's compactly supported kernels (Wendland 1995, smoothness C2, positive definite in three
dimensions) is interpolated exactly at the points' present places, followed for a step short enough to be invertible,
and made anew: landmark matching by a flow, as of Joshi and Miller (2000), with a kernel that ends. Lengths are mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .image import Grid, apply_matrix
from .transform import DisplacementField

STEEPEST = 2.11
"""Largest slope of the kernel, in values per radius: 20 r (1 - r)^3 at r = 1/4."""
LONGEST_STEP = 0.4
"""Largest derivative of one step's displacement; below 1 the step is invertible."""
MOST_STEPS = 60
NEAR = 1e-6
"""Distance, in radii, at which a target counts as met."""
JITTER = 1e-9
"""On the diagonal of the kernel matrix: points given twice are no reason to fail."""
PART = 1 << 15
"""Lattice points moved at a time, so that what belongs to them stays in a CPU's cache."""


@dataclass(frozen=True)
class Flow:
    """``steps`` of (centres (N, 3), weights (N, 3)): x goes to x + sum of weight * kernel(|x - centre| / radius)."""

    steps: tuple[tuple[np.ndarray, np.ndarray], ...]
    radius: float


def wendland(distance: np.ndarray) -> np.ndarray:
    """(1 - r)^4 (4 r + 1), zero from r = 1 on."""
    return np.maximum(1.0 - distance, 0.0) ** 4 * (4.0 * distance + 1.0)


def kernel_matrix(points: np.ndarray, radius: float) -> np.ndarray:
    """(N, N) kernel between all ``points`` (N, 3)."""
    return wendland(np.linalg.norm(points[:, None] - points[None], axis=-1) / radius)


def softened(points: np.ndarray, targets: np.ndarray, radius: float, stiffness: float) -> np.ndarray:
    """Targets (N, 3) that a field of finite energy would choose, were the given ones uncertain (kriging).

    ``stiffness`` is the variance of a target beside that of the field: a lone point goes 1 / (1 + stiffness) of its
    way; neighbours that contradict each other meet between.
    """
    if stiffness <= 0.0:
        return targets
    gram = kernel_matrix(points, radius)
    return points + gram @ np.linalg.solve(gram + stiffness * np.eye(len(points)), targets - points)


def flow_to(points: np.ndarray, targets: np.ndarray, radius: float) -> Flow | None:
    """The flow that takes ``points`` (N, 3) to ``targets``; None where it does not get there in :data:`MOST_STEPS`,
    because points would have to pass through each other, or there is no ``radius``."""
    if radius <= 0.0:
        return None
    here, steps = points.copy(), []
    for _ in range(MOST_STEPS):
        left = targets - here
        if np.linalg.norm(left, axis=1).max() < NEAR * radius:
            return Flow(tuple(steps), radius)
        gram = kernel_matrix(here, radius)
        weights = np.linalg.solve(gram + JITTER * np.eye(len(here)), left)
        apart = np.linalg.norm(here[:, None] - here[None], axis=-1)
        lengths = np.linalg.norm(weights, axis=1)
        slope = STEEPEST / radius * float(((apart < 2.0 * radius) @ lengths).max())
        weights *= min(1.0, LONGEST_STEP / slope)
        steps.append((here, weights))
        here = here + gram @ weights
    return None


def flow_field(flow: Flow, grid: Grid, reach: float, tick: Callable[[], None] = lambda: None) -> DisplacementField:
    """The flow on ``grid``, exactly zero farther than ``reach`` from where each of its points starts.

    ``tick`` is called now and then; it may raise to stop.
    """
    field = np.zeros((*grid.shape, 3), dtype=np.float32)
    if not flow.steps:
        return DisplacementField(field, grid)
    starts = flow.steps[0][0]
    index = np.flatnonzero(near_points(grid, starts, reach))
    centre = starts.mean(axis=0)
    steps = [(torch.from_numpy(places - centre).float(), torch.from_numpy(w).float()) for places, w in flow.steps]
    flat = field.reshape(-1, 3)
    for start in range(0, len(index), PART):
        tick()
        mine = index[start : start + PART]
        ijk = np.stack(np.unravel_index(mine, grid.shape)[::-1], axis=1)
        positions = torch.from_numpy(apply_matrix(grid.index_to_world, ijk) - centre).float()
        flat[mine] = _followed(positions.T.contiguous(), steps, flow.radius).T.numpy()
    return DisplacementField(field, grid)


def nudged(field: DisplacementField, points: np.ndarray, missing: np.ndarray, radius: float) -> DisplacementField:
    """``field`` with ``missing`` (N, 3) added at ``points`` (N, 3), and less around them up to ``radius``.

    Exact for the field as it is read, linear between its lattice points; for amounts that are small beside the radius.
    """
    corners, shares = _cells(field.grid, points)
    spread = np.linalg.norm(corners[:, :, None] - points, axis=-1) / radius
    gram = (wendland(spread) * shares[:, :, None]).sum(axis=1)
    weights = np.linalg.solve(gram + JITTER * np.eye(len(points)), missing).astype(np.float32)
    values = field.displacement.copy()
    for point, weight in zip(points, weights, strict=True):
        window, box = _box(field.grid, point, radius)
        if values[window].size:
            distance = np.linalg.norm(box.points() - point, axis=-1) / radius
            values[window] += wendland(distance).astype(np.float32)[..., None] * weight
    return DisplacementField(values, field.grid)


def _cells(grid: Grid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners (N, 8, 3) in mm of the cells that ``points`` lie in, and each one's share (N, 8) of the value."""
    place = apply_matrix(grid.world_to_index, points)
    low = np.clip(np.floor(place), 0, np.maximum(np.array(grid.size) - 2, 0))
    fraction = np.where(np.array(grid.size) > 1, place - low, 0.0)[:, None]
    sides = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    shares = np.where(sides, fraction, 1.0 - fraction).prod(axis=-1)
    corners = apply_matrix(grid.index_to_world, (low[:, None] + sides).reshape(-1, 3))
    return corners.reshape(len(points), 8, 3), shares


def _box(grid: Grid, point: np.ndarray, radius: float) -> tuple[tuple[slice, ...], Grid]:
    """The part of ``grid`` around the ball at ``point``: its window in arrays, and its lattice."""
    middle = apply_matrix(grid.world_to_index, point[None])[0]
    extent = radius * np.linalg.norm(grid.world_to_index[:3, :3], axis=1)
    low = np.clip(np.floor(middle - extent).astype(int), 0, grid.size)[::-1]
    high = np.clip(np.ceil(middle + extent).astype(int)[::-1] + 1, low, grid.shape)
    window = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return window, grid.cropped(tuple(low), tuple(high - low))


def near_points(grid: Grid, points: np.ndarray, reach: float) -> np.ndarray:
    """(D, H, W) bool: the lattice points at most ``reach`` from one of ``points`` (N, 3)."""
    inside = np.zeros(grid.shape, dtype=bool)
    for point in points:
        window, box = _box(grid, point, reach)
        if inside[window].size:
            inside[window] |= np.linalg.norm(box.points() - point, axis=-1) <= reach
    return inside


def _followed(positions: Tensor, steps: Sequence[tuple[Tensor, Tensor]], radius: float) -> Tensor:
    """Displacement (3, n) of ``positions`` (3, n) along the flow; those that it passes by keep an exact zero."""
    moved = torch.zeros_like(positions)
    for places, weights in steps:
        here = positions + moved
        low, high = here.amin(dim=1) - radius, here.amax(dim=1) + radius
        close = ((places > low) & (places < high)).all(dim=1)
        for place, weight in zip(places[close], weights[close], strict=True):
            distance = (here - place[:, None]).square_().sum(dim=0).sqrt_().div_(radius)
            value = (1.0 - distance).clamp_(min=0.0).pow_(4).mul_(distance.mul_(4.0).add_(1.0))
            moved.addcmul_(weight[:, None], value)
    return moved
