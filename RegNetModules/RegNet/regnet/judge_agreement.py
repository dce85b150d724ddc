"""Whether two images fit where a transform puts them, whatever their contrasts.

Descriptors are MIND-SSC (Heinrich et al., MICCAI 2013), vectors of unit length that look alike in all modalities. What
they agree by chance differs from pair to pair, so agreement is counted from there: ``(a - c) / (1 - c)``, with the mean
scalar product ``a`` at a place and ``c`` far from where the transform puts it; 0 is chance, 1 are equal images.

A transform that is right has nothing better near it. So each neighbourhood of the fixed image is looked for around
where the transform puts it, and so is the whole image, and the image mirrored. The share of neighbourhoods that are
*settled*, found where the transform puts them, tells right from wrong far better than a value of similarity does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .events import Events
from .image import Grid, Image, apply_matrix
from .losses.nmi import normalized_mutual_information
from .matching import unit
from .networks.mind import mind_ssc
from .transform import Affine, Transform

MOST_VOXELS = 300_000
"""Of the judging grid: 2 mm for a head."""
CONTENT = 0.1
"""Normalised intensity above which a voxel is content."""
CONTENT_VOXELS = 250_000
LENGTHS = (1, 2, 4, 8)
"""Voxels by which it is looked for a better place."""
REACH = max(LENGTHS)
SETTLED = 2
"""Voxels from where it was put within which a neighbourhood has to fit best."""
RADIUS, STRIDE = 4, 4
"""Neighbourhoods are 9 voxels wide, and one is looked at every 4 voxels."""
BORDER = 2
"""Voxels at the border of an image whose descriptors know of it."""
LEAST_FILLED = 0.3
"""Share of a neighbourhood that must be comparable foreground."""
INNER, LEAST_INNER = 0.97, 0.03
"""Share of foreground from which on a neighbourhood is inner, and share of all that must be so to be asked alone."""


@dataclass(frozen=True)
class Fit:
    """What :func:`look` finds. Shares are in [0, 1]; what could not be found out is None.

    ``settled`` is the share of neighbourhoods that fit best where they are put, see :func:`_settled`.
    ``better_shift`` is the vector (x, y, z), LPS mm, from where the whole image is put to where it fits better by
    ``better_gain`` of the agreement above chance. ``misfit`` tells of each neighbourhood how far, in mm, it fits best
    from where it is put.
    """

    spacing: float
    compared: float
    nmi: float | None = None
    agreement: float | None = None
    settled: float | None = None
    better_shift: tuple[float, float, float] | None = None
    better_gain: float | None = None
    mirrored_gain: float | None = None
    misfit: Image | None = None


@dataclass(frozen=True)
class Seen:
    """A moving image on the padded judging grid: brightness, descriptors, and where there are any, all (1, C, *)."""

    brightness: Tensor
    descriptor: Tensor
    inside: Tensor
    valid: Tensor


def foreground(image: Image) -> Image:
    """Where an image shows something, holes filled, on a lattice of at most :data:`CONTENT_VOXELS`: (1, D, H, W) uint8.

    All of it where no background can be told from it.
    """
    from scipy import ndimage

    spacing = np.maximum(image.spacing, _even_spacing(image.grid, CONTENT_VOXELS))
    grid = image.grid.with_spacing(spacing)
    content = spatial.reduce(image.normalized().data[None], grid.shape)[0, 0].numpy() > CONTENT
    flat = grid.ndim == 2
    shown = ndimage.binary_closing(np.pad(content[0] if flat else content, 2), iterations=2)
    shown = ndimage.binary_fill_holes(shown)[(slice(2, -2),) * shown.ndim]
    if not 0.001 < shown.mean() < 0.99:
        shown = np.ones_like(shown)
    return Image(torch.from_numpy(shown.reshape(grid.shape).astype(np.uint8))[None], grid.index_to_world, grid.ndim)


def content_box(grid: Grid, content: Image) -> Grid:
    """The part of ``grid`` that holds the foreground ``content``, with a margin of two voxels where there are more."""
    found = np.argwhere(content.data[0].numpy())
    corners = np.array(list(itertools.product(*zip(found.min(axis=0) - 1, found.max(axis=0) + 1, strict=True))))
    world = apply_matrix(content.index_to_world, corners[:, ::-1].astype(float))
    index = apply_matrix(grid.world_to_index, world)[:, ::-1]
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - 2, 0, np.array(grid.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 3, low + 1, grid.shape)
    return grid.cropped(tuple(low), tuple(high - low))


class Looker:
    """The fixed side: descriptors once, to compare them with the moving image through several transforms.

    Args:
        fixed, moving: of one channel, of one dimension.
        content: the fixed image's :func:`foreground`.
    """

    def __init__(self, fixed: Image, moving: Image, content: Image) -> None:
        box = content_box(fixed.grid, content)
        self.step = max(float(fixed.spacing[: fixed.ndim].min()), _even_spacing(box, MOST_VOXELS))
        self.grid = box.with_spacing(np.maximum(fixed.spacing, self.step))
        self.wide = self.grid.padded(REACH)
        self.moving = _reduced(moving, self.step)
        self.whole = Image(torch.ones_like(moving.data), moving.index_to_world, moving.ndim)
        image = _reduced(fixed, self.step).resample(self.wide).data[None]
        everywhere = Image(torch.ones_like(fixed.data), fixed.index_to_world, fixed.ndim)
        own = everywhere.resample(self.wide, labels=True).data[None] > 0
        self.brightness = self._at(self._axes(image))
        self.descriptor = self._at(unit(mind_ssc(self._axes(image))))
        shown = self._axes(content.resample(self.wide, labels=True).data[None].float())
        self.content = self._at(shown)
        self.weight = self.content * self._at(_eroded(self._axes(own.float())))

    def see(self, transform: Transform | None) -> Seen:
        image = self._axes(self.moving.resample(self.wide, transform).data[None])
        inside = self._axes(self.whole.resample(self.wide, transform, labels=True).data[None].float())
        return Seen(image, unit(mind_ssc(image)), inside, _eroded(inside))

    def nmi(self, seen: Seen) -> float | None:
        """Normalised mutual information over the fixed foreground that maps inside."""
        used = (self.content * self._at(seen.inside)).flatten() > 0
        if int(used.sum()) < 100:
            return None
        sides = [image.flatten()[used][None] for image in (self.brightness, self._at(seen.brightness))]
        return float(normalized_mutual_information(*sides, torch.ones_like(sides[0])))

    def compared(self, seen: Seen) -> float:
        """Share of the fixed foreground that can be compared."""
        return float((self.weight * self._at(seen.valid)).sum() / self.content.sum().clamp(min=1))

    def products(self, seen: Seen, shift: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Scalar products with what is ``shift`` voxels away, and how much each counts; (1, 1, *)."""
        weight = self.weight * self._at(seen.valid, shift)
        return (self.descriptor * self._at(seen.descriptor, shift)).sum(dim=1, keepdim=True) * weight, weight

    def mean(self, seen: Seen, shift: tuple[int, ...]) -> float:
        product, weight = self.products(seen, shift)
        return float(product.sum() / weight.sum().clamp(min=1e-6))

    @property
    def dims(self) -> int:
        return self.grid.ndim

    def millimetres(self, shift: tuple[int, ...]) -> np.ndarray:
        """A shift in voxels, array order, as a vector (x, y, z) in LPS mm."""
        index = np.zeros(3)
        index[: self.dims] = shift[::-1]
        return self.grid.index_to_world[:3, :3] @ index

    def _axes(self, tensor: Tensor) -> Tensor:
        return tensor[:, :, 0] if self.dims == 2 else tensor

    def _at(self, wide: Tensor, shift: tuple[int, ...] | None = None) -> Tensor:
        """The view of a padded tensor ``shift`` voxels away."""
        for axis in range(self.dims):
            start = REACH + (shift[axis] if shift else 0)
            wide = wide.narrow(axis + 2, start, wide.shape[axis + 2] - 2 * REACH)
        return wide


def look(looker: Looker, transform: Transform | None, events: Events) -> Fit:
    """Everything that can be told of the place where ``transform`` puts the moving image.

    Raises:
        Cancelled: ``events`` asked to stop.
    """
    seen, zero = looker.see(transform), (0,) * looker.dims
    compared = looker.compared(seen)
    if compared * float(looker.content.sum()) < (2 * RADIUS + 1) ** looker.dims:
        return Fit(looker.step, compared, looker.nmi(seen))
    shifts = [zero, *_shifts(looker.dims)]
    values, blocks = [], []
    for done, shift in enumerate(shifts):
        product, weight = looker.products(seen, shift)
        values.append(float(product.sum() / weight.sum().clamp(min=1e-6)))
        blocks.append(_blocks(product) / _blocks(weight).clamp(min=1e-3))
        events.progress(0.9 * done / len(shifts))
    far = [value for value, shift in zip(values, shifts, strict=True) if _length(shift) > 0.9 * REACH]
    chance = float(np.mean(far))
    room = max(1.0 - chance, 1e-6)
    best = int(np.argmax(values[1:])) + 1
    filled = (_blocks(looker.weight * looker._at(seen.valid)) > LEAST_FILLED)[0, 0]
    places = torch.cat(blocks, dim=1)[0].argmax(dim=0)
    settled = torch.tensor([_length(shift) <= SETTLED + 0.5 for shift in shifts])[places]
    inner = filled & (_blocks(looker.content)[0, 0] >= INNER)
    mirrored = max(_mirrored(looker, transform))
    events.progress(1.0)
    return Fit(
        spacing=looker.step,
        compared=compared,
        nmi=looker.nmi(seen),
        agreement=(values[0] - chance) / room,
        settled=_settled(settled, filled, inner),
        better_shift=tuple(looker.millimetres(shifts[best]).tolist()),
        better_gain=max((values[best] - values[0]) / room, 0.0),
        mirrored_gain=max((mirrored - values[0]) / room, 0.0),
        misfit=_misfit(looker, shifts, places, filled),
    )


def _settled(settled: Tensor, filled: Tensor, inner: Tensor) -> float | None:
    """The share of the filled neighbourhoods that are settled, or of the inner ones if that is less: an outline alone
    may fit where nothing inside it does."""
    if not filled.any():
        return None
    shares = [settled[filled].float().mean()]
    if float(inner.sum()) >= LEAST_INNER * float(filled.sum()):
        shares.append(settled[inner].float().mean())
    return float(min(shares))


def agreement(looker: Looker, transform: Transform | None, events: Events) -> tuple[float | None, float | None]:
    """Agreement above chance, and normalised mutual information, without looking for better places."""
    seen = looker.see(transform)
    if looker.compared(seen) * float(looker.content.sum()) < (2 * RADIUS + 1) ** looker.dims:
        return None, looker.nmi(seen)
    far = [shift for shift in _shifts(looker.dims) if _length(shift) > 0.9 * REACH]
    values = []
    for done, shift in enumerate(far):
        values.append(looker.mean(seen, shift))
        events.progress(done / len(far))
    chance = float(np.mean(values))
    return (looker.mean(seen, (0,) * looker.dims) - chance) / max(1.0 - chance, 1e-6), looker.nmi(seen)


def _shifts(dims: int) -> list[tuple[int, ...]]:
    """All directions at each of the lengths, in voxels and array order."""
    directions = [d for d in itertools.product((-1, 0, 1), repeat=dims) if any(d)]
    return [
        tuple(int(round(length * step / np.linalg.norm(direction))) for step in direction)
        for length in LENGTHS
        for direction in directions
    ]


def _length(shift: tuple[int, ...]) -> float:
    return float(np.linalg.norm(shift))


def _mirrored(looker: Looker, transform: Transform | None) -> Iterator[float]:
    """Mean products with the moving image mirrored at the middle of the fixed foreground, or near it, axis by axis."""
    weight = looker.content[0, 0].numpy()
    middle = np.argwhere(weight > 0).mean(axis=0)
    for axis in range(looker.dims):
        index = looker.dims - 1 - axis
        flip = np.eye(4)
        flip[index, index], flip[index, 3] = -1.0, 2.0 * middle[axis]
        world = looker.grid.index_to_world @ flip @ looker.grid.world_to_index
        mirror = Affine(world, looker.grid.ndim)
        seen = looker.see(mirror if transform is None else mirror.then(transform))
        for step in sorted({sign * length for length in (0, *LENGTHS) for sign in (-1, 1)}):
            yield looker.mean(seen, tuple(step if other == axis else 0 for other in range(looker.dims)))


def _misfit(looker: Looker, shifts: list[tuple[int, ...]], places: Tensor, filled: Tensor) -> Image:
    """The distance of each neighbourhood's best place, on the lattice of the neighbourhoods; 0 where none is filled."""
    lengths = torch.tensor([float(np.linalg.norm(looker.millimetres(shift))) for shift in shifts])
    distance = torch.where(filled, lengths[places], 0.0).float()
    first = [(n - 1) % STRIDE // 2 for n in looker.weight.shape[2:]]
    to_index = np.eye(4)
    for axis in range(looker.dims):
        index = looker.dims - 1 - axis
        to_index[index, index], to_index[index, 3] = STRIDE, first[axis]
    data = distance[None, None] if looker.dims == 2 else distance[None]
    return Image(data, looker.grid.index_to_world @ to_index, looker.grid.ndim)


def _blocks(tensor: Tensor) -> Tensor:
    return spatial.box(tensor, RADIUS, STRIDE)


def _eroded(mask: Tensor) -> Tensor:
    return (spatial.box(mask, BORDER) > 1.0 - 1e-4).float()


def _even_spacing(grid: Grid, voxels: int) -> float:
    """The spacing in mm at which ``grid`` has so many voxels."""
    extent = np.array(grid.size[: grid.ndim]) * grid.spacing[: grid.ndim]
    return float((extent.prod() / voxels) ** (1.0 / grid.ndim))


def _reduced(image: Image, step: float) -> Image:
    """In [0, 1], with voxels of at least ``step`` mm, smoothed against aliasing."""
    image = image.normalized()
    grid = image.grid.with_spacing(np.maximum(image.spacing, step))
    return Image(spatial.reduce(image.data[None], grid.shape)[0], grid.index_to_world, image.ndim)
