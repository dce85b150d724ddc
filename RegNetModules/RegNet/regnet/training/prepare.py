"""Subjects in one working space: aligned once onto a template, resampled, and kept as small files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import spatial
from ..align import align
from ..demo import ATLAS, find_demo_data
from ..errors import InputError
from ..files import replacing
from ..image import Grid, Image
from ..orientation import Orientation
from ..synth.schemes import SCHEMES, t1_picture
from ..transform import Affine, Transform
from .config import Data
from .manifest import Subject

VERSION = 2
"""Of the way in which subjects are prepared; kept files of another version are made again."""


@dataclass(frozen=True)
class Prepared:
    """A subject in the working space: a safetensors file with ``images`` (C, *shape) float16 in [0, 1], in the order of
    ``columns``, and, if ``labelled``, ``labels`` (1, *shape) with the ids of the manifest's file."""

    id: str
    path: Path
    columns: tuple[str, ...]
    labelled: bool
    scheme: str
    split: str

    def load(self) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(str(self.path))


def prepare(
    subjects: Sequence[Subject], settings: Data, data: Path, cache: Path, say: Callable[[str], None] = lambda _: None
) -> list[Prepared]:
    """Bring every subject to the working space, unless a file in ``cache`` made from the same bytes is there already.

    A subject is aligned onto the template by its first image, of which only what its labels call brain is used where
    there are labels; or, without an image, by a picture of its labels.

    Raises:
        InputError: a file cannot be read.
    """
    template_path = data / settings.template if settings.template else find_demo_data() / ATLAS
    template = Image.read(template_path)
    grid = working_grid(template, settings)
    common = _digest(template_path) + json.dumps([VERSION, settings.spacing, settings.shape])
    cache.mkdir(parents=True, exist_ok=True)
    prepared = []
    for number, subject in enumerate(subjects):
        path = cache / f"{subject.id}-{_key(common, subject)}.safetensors"
        if not path.exists():
            say(f"preparing {subject.id} ({number + 1} of {len(subjects)})")
            if subject.align == "native":
                _write(path, subject, own_grid(subject, settings.spacing), Affine.identity(template.ndim))
            else:
                _write(path, subject, grid, _onto_template(subject, template))
        columns = tuple(column for column, _ in subject.images)
        prepared.append(Prepared(subject.id, path, columns, subject.labels is not None, subject.scheme, subject.split))
    return prepared


def working_grid(template: Image, settings: Data) -> Grid:
    """The grid of ``settings`` around the template's middle, along the template's axes in canonical order."""
    shape = tuple(settings.shape) if template.ndim == 3 else (1, *settings.shape)
    if len(settings.shape) != template.ndim:
        raise InputError(f"The data's shape {list(settings.shape)} does not fit a {template.ndim}D template.")
    return _grid_around(template.grid, _directions(template.grid), shape, settings.spacing)


def own_grid(subject: Subject, spacing: float) -> Grid:
    """The subject's own field of view along its own axes, in canonical order, with the given spacing in mm."""
    source = Image.read(subject.images[0][1]).grid if subject.images else Image.read(subject.labels, labels=True).grid
    directions = _directions(source)
    extent = np.abs(np.linalg.inv(directions) @ (source.index_to_world[:3, :3] @ (np.array(source.size) - 1.0)))
    size = np.maximum(np.round(extent / spacing).astype(int) + 1, 1)
    return _grid_around(source, directions, tuple(int(n) for n in size[::-1]), spacing)


def _directions(grid: Grid) -> np.ndarray:
    """Unit vectors (3, 3) along the grid's axes, in canonical order."""
    return Orientation.of(grid).directions(grid.index_to_world[:3, :3] / grid.spacing)


def _grid_around(source: Grid, directions: np.ndarray, shape: tuple[int, ...], spacing: float) -> Grid:
    """A grid of ``shape`` along ``directions`` with the middle of ``source``."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * spacing
    matrix[:3, 3] = source.center() - matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, matrix, source.ndim)


def _onto_template(subject: Subject, template: Image) -> Transform:
    """From the template's points to the subject's."""
    labels = Image.read(subject.labels, labels=True) if subject.labels else None
    if subject.images:
        picture = Image.read(subject.images[0][1])
        if labels is not None:
            inside = _brain(labels.resample(picture.grid, labels=True), subject.scheme)
            lowest = float(picture.data[inside].min()) if inside.any() else 0.0
            data = torch.where(inside, picture.data - min(lowest, 0.0), 0.0)
            picture = Image(data, picture.index_to_world, picture.ndim)
    else:
        picture = _picture(labels, subject.scheme)
    return align(template, picture.normalized(), subject.align)


def _brain(labels: Image, scheme: str) -> Tensor:
    outside = SCHEMES[scheme].not_brain if scheme in SCHEMES else ()
    return (labels.data > 0) & ~torch.isin(labels.data, torch.tensor(outside, dtype=labels.data.dtype))


def _picture(labels: Image, scheme: str) -> Image:
    """The brain's labels as in a T1 image where that is known, else each in a grey of its own: mutual information
    needs no more."""
    inside = _brain(labels, scheme)
    if scheme in SCHEMES:
        return Image(t1_picture(labels.data, SCHEMES[scheme]) * inside, labels.index_to_world, labels.ndim)
    ids, place = torch.unique(torch.where(inside, labels.data, 0), return_inverse=True)
    return Image(place.float() / max(len(ids) - 1, 1), labels.index_to_world, labels.ndim)


def _write(path: Path, subject: Subject, grid: Grid, transform: Transform) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    if subject.images:
        images = [_resampled(Image.read(place), grid, transform) for _, place in subject.images]
        tensors["images"] = torch.cat(images)
    if subject.labels:
        labels = Image.read(subject.labels, labels=True).resample(grid, transform, labels=True).data
        tensors["labels"] = labels.to(torch.uint8 if int(labels.max()) < 256 else torch.int16)
    # A 2D image has no first axis in what the networks see.
    flat = {name: (tensor[:, 0] if grid.ndim == 2 else tensor).contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(flat, str(temporary))


def _resampled(image: Image, grid: Grid, transform: Transform) -> Tensor:
    """Normalised, smoothed against aliasing where the grid is coarser, float16 (1, *shape)."""
    image = image.normalized()
    ratios = [max(float(wide / fine), 1.0) for wide, fine in zip(grid.spacing, image.spacing, strict=True)][::-1]
    sigmas = [0.42 * math.sqrt(ratio * ratio - 1) for ratio in ratios]
    data = image.data if max(sigmas) == 0 else spatial.gaussian(image.data[None], sigmas)[0]
    return Image(data, image.index_to_world, image.ndim).resample(grid, transform).data[:1].clamp(0, 1).half()


def _key(common: str, subject: Subject) -> str:
    """Of everything that the prepared file depends on."""
    files = [path for _, path in subject.images] + ([subject.labels] if subject.labels else [])
    parts = [common, subject.align, subject.scheme, *(column for column, _ in subject.images), *map(_digest, files)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"The file {str(path)!r} cannot be read: {error.strerror}.") from None
