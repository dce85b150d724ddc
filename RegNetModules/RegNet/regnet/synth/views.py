"""Where the two images of a pair read their anatomy: shared pose and box, and each side's own deformation.

Three coordinate systems, all in voxels: the output grid x; its box in the input volume, p = B x, with one zoom per
axis; and the input volume itself, q = S p with the pose S that both sides share. A side that is deformed by the affine
map A and the diffeomorphism phi reads its input at q(x) = S A B phi(x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import spatial
from ..errors import InputError
from .deform import AffineRange, random_affine, random_diffeomorphism, transform_points, voxel_affine
from .draws import Draws

CONTENT_VOXELS = 48
"""Content is found in volumes thinned to this many voxels per axis,"""
CONTENT_POINTS = 32
BEYOND = 0.15
"""read on a lattice of so many points per axis, which reaches beyond the input by this fraction of it."""


@dataclass(frozen=True)
class ViewSettings:
    """Ranges of the geometry of a pair.

    Attributes:
        affine, largest: the deformation between the sides, or of each where there is no known truth: an affine map and
            a diffeomorphism whose largest displacement lies between these two, in voxels of the output grid.
        smoothness: see :func:`~regnet.synth.deform.random_diffeomorphism`.
        pose: an affine map that both sides share.
        flips: axes that are mirrored on both sides every other time.
        common: like ``largest``, for a diffeomorphism that both sides share: more shapes out of few anatomies.
        room: extent of the output grid per axis as a multiple of what holds the content of both sides.
    """

    affine: AffineRange | None = AffineRange()
    largest: tuple[float, float] = (0.0, 6.0)
    smoothness: tuple[float, float] = (8.0, 24.0)
    pose: AffineRange = AffineRange(degrees=8.0, scale=0.1, shear=0.03, shift=0.02)
    flips: tuple[int, ...] = ()
    common: tuple[float, float] = (0.0, 0.0)
    room: tuple[float, float] = (1.03, 1.3)


@dataclass(frozen=True)
class Views:
    """``fixed`` and ``moving``: voxel coordinates (B, d, *shape) in the input volumes, one per voxel of the output.

    ``displacement`` (B, d, *shape) takes fixed to moving, in voxels of the output, where that is known.
    ``zoom`` (B, d): input voxels per output voxel.
    """

    fixed: Tensor
    moving: Tensor
    displacement: Tensor | None
    zoom: Tensor


def draw_views(
    fixed_content: Tensor,
    moving_content: Tensor,
    size: Sequence[int],
    shape: Sequence[int],
    known: bool,
    settings: ViewSettings,
    draws: Draws,
) -> Views:
    """Draw the geometry of a batch of pairs.

    Args:
        fixed_content, moving_content: (B, 1, *any) bool, what has to stay in the box, over the corners of the input.
        size, shape: of the input volumes and of the output grid.
        known: deform the fixed side only, so that the displacement is known.
    """
    d, device = len(shape), draws.device
    pose = _pose(size, settings, draws).to(device)
    first = _affine(size, settings.affine, draws).to(device)
    second = _affine(size, None if known else settings.affine, draws).to(device)
    low, high = _content_box([(fixed_content, pose @ first), (moving_content, pose @ second)], size)
    room = draws.put(draws.uniform(*settings.room, d))
    start = low - (high - low) * (room - 1) * draws.put(draws.uniform(0.0, 1.0, d))
    zoom = (high - low) * room / torch.tensor([max(n - 1, 1) for n in shape], device=device)
    box = torch.diag_embed(torch.cat([zoom, torch.ones_like(zoom[:, :1])], dim=1))
    box[:, :d, d] = start
    grid = spatial.identity(shape, zoom)
    unbox = torch.linalg.inv_ex(box).inverse
    moved = [_deformed(grid, unbox @ first @ box, settings, draws)]
    moved.append(grid if known else _deformed(grid, unbox @ second @ box, settings, draws))
    displacement = moved[0] - grid if known else None
    common = draws.uniform(*settings.common)
    if settings.common[1] > 0:
        shared = random_diffeomorphism(shape, common, settings.smoothness, draws)
        moved = [points + spatial.sample(shared, points.expand_as(shared), padding="border") for points in moved]
    fixed, moving = (transform_points(pose @ box, points) for points in moved)
    return Views(fixed, moving, displacement, zoom)


def content(labels_or_image: Tensor, is_content: Callable[[Tensor], Tensor]) -> Tensor:
    """``is_content`` of a thinned volume (B, 1, *s) whose corners are about the volume's own."""
    index = []
    for axis, n in enumerate(labels_or_image.shape[2:], start=3):
        line = torch.linspace(0, n - 1, min(n, CONTENT_VOXELS), device=labels_or_image.device)
        index.append(line.round().long().view(-1, *(1,) * (labels_or_image.ndim - axis)))
    return is_content(labels_or_image[(slice(None), slice(None), *index)])


def _pose(size: Sequence[int], settings: ViewSettings, draws: Draws) -> Tensor:
    d = len(size)
    turned = draws.uniform(0.0, 1.0, d) < 0.5
    signs = torch.ones(draws.batch, d)
    for axis in settings.flips:
        if not 0 <= axis < d:
            raise InputError(f"A volume of {d} axes has no axis {axis} to mirror; flips may hold 0 to {d - 1}.")
        signs[:, axis] = 1.0 - 2.0 * turned[:, axis].float()
    mirror = torch.diag_embed(torch.cat([signs, torch.ones(draws.batch, 1)], dim=1))
    mirror[:, :d, d] = (1 - signs) / 2 * (torch.tensor([float(n) for n in size]) - 1)
    return mirror @ voxel_affine(random_affine(d, settings.pose, draws), size)


def _affine(size: Sequence[int], ranges: AffineRange | None, draws: Draws) -> Tensor:
    d = len(size)
    if ranges is None:
        return torch.eye(d + 1).expand(draws.batch, d + 1, d + 1)
    return voxel_affine(random_affine(d, ranges, draws), size)


def _deformed(grid: Tensor, matrix: Tensor, settings: ViewSettings, draws: Draws) -> Tensor:
    shape = grid.shape[2:]
    u = random_diffeomorphism(shape, draws.uniform(*settings.largest), settings.smoothness, draws)
    return transform_points(matrix, grid + u)


def _content_box(sides: Sequence[tuple[Tensor, Tensor]], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """First and last coordinate p of every axis, (B, d) each, at which a side's content is read; all if there is none.

    Args:
        sides: content (B, 1, *any) bool and the matrix (B, d + 1, d + 1) from p to the input's voxels.
    """
    device, d = sides[0][1].device, len(size)
    lines = [torch.linspace(-BEYOND, 1 + BEYOND, CONTENT_POINTS, device=device) * (n - 1) for n in size]
    points = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
    seen: Tensor | None = None
    for mask, matrix in sides:
        inner = torch.tensor(
            [(m - 1) / max(n - 1, 1) for m, n in zip(mask.shape[2:], size, strict=True)], device=device
        )
        where = transform_points(matrix, points) * inner.view(1, d, *(1,) * d)
        found = spatial.sample(mask.float(), where, "nearest") > 0.5
        seen = found if seen is None else seen | found
    low, high = [], []
    for axis, line in enumerate(lines):
        others = [other + 2 for other in range(d) if other != axis]
        hit = seen.amax(dim=others)[:, 0] if others else seen[:, 0]
        none = ~hit.any(dim=1)
        first, last = hit.int().argmax(dim=1), CONTENT_POINTS - 1 - hit.flip(1).int().argmax(dim=1)
        half = 0.5 * (line[1] - line[0])
        low.append(torch.where(none, 0.0, line[first] - half))
        high.append(torch.where(none, float(size[axis] - 1), line[last] + half))
    return torch.stack(low, dim=1), torch.stack(high, dim=1)
