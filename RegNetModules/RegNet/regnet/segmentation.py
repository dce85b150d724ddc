"""Segmentations: label maps in one or several layers, and what is known of each segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .errors import InputError
from .image import Image

LISTED = 20
"""So many segments are named in a sentence that says which there are."""


@dataclass(frozen=True)
class Segment:
    """The voxels of ``layer`` that have the ``value``.

    ``fields`` are what else a .seg.nrrd file says of it, by the ends of their keys: ID, Color, Tags (terminology), …
    """

    value: int
    layer: int = 0
    name: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name, or else its label value."""
        return self.name or str(self.value)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """``labels`` is (layers, D, H, W) int32; segments of different layers may overlap. ``header`` holds the fields of a
    .seg.nrrd file that belong to no single segment.

    >>> image = Image.from_numpy(np.array([[[0, 7, 7, 3]]], np.int32), np.eye(4))
    >>> [segment.title for segment in Segmentation.of(image).segments]
    ['3', '7']
    """

    labels: Image
    segments: tuple[Segment, ...]
    header: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(labels: Image, segments: Sequence[Segment] = (), header: Mapping[str, str] | None = None) -> Segmentation:
        """With the ``segments`` in their order; then, by value, those that occur in ``labels`` and are not listed."""
        known = {(segment.layer, segment.value) for segment in segments}
        data = labels.data.int()
        found = [(layer, int(value)) for layer, part in enumerate(data) for value in part[part != 0].unique()]
        others = [Segment(value, layer) for layer, value in found if (layer, value) not in known]
        return Segmentation(Image(data, labels.index_to_world, labels.ndim), (*segments, *others), dict(header or {}))

    @property
    def is_named(self) -> bool:
        """Whether anything is known of the segments beyond their values."""
        return any(segment.name or segment.fields for segment in self.segments)

    @property
    def layers(self) -> int:
        return self.labels.data.shape[0]

    def mask(self, segment: Segment) -> torch.Tensor:
        """(D, H, W), true in the segment."""
        return self.labels.data[segment.layer] == segment.value

    def counts(self) -> list[int]:
        """Voxels of each segment."""
        found: dict[tuple[int, int], int] = {}
        for layer, part in enumerate(self.labels.data):
            values, numbers = part[part != 0].unique(return_counts=True)
            found.update({(layer, int(v)): int(n) for v, n in zip(values, numbers, strict=True)})
        return [found.get((segment.layer, segment.value), 0) for segment in self.segments]

    def of_layer(self, layer: int) -> list[int]:
        """The values of one layer's segments in their order."""
        return [segment.value for segment in self.segments if segment.layer == layer]

    def select(self, wanted: Sequence[str]) -> Segmentation:
        """Only the segments that ``wanted`` names, by name or by label value, in their own order; all for none.

        Layers that are left without a segment go.

        Raises:
            InputError: there is no such segment.
        """
        if not wanted:
            return self
        chosen: set[int] = set()
        for text in wanted:
            places = [n for n, segment in enumerate(self.segments) if segment.name == text]
            places = places or [n for n, segment in enumerate(self.segments) if str(segment.value) == text.strip()]
            if not places:
                raise InputError(f"There is no segment {text!r} in the segmentation; it has {self._listing()}.")
            chosen.update(places)
        kept = [self.segments[n] for n in sorted(chosen)]
        used = sorted({segment.layer for segment in kept})
        layers = []
        for layer in used:
            part = self.labels.data[layer]
            values = torch.tensor([segment.value for segment in kept if segment.layer == layer], dtype=part.dtype)
            layers.append(torch.where(torch.isin(part, values), part, 0))
        labels = Image(torch.stack(layers), self.labels.index_to_world, self.labels.ndim)
        return Segmentation(
            labels, tuple(replace(segment, layer=used.index(segment.layer)) for segment in kept), self.header
        )

    def _listing(self) -> str:
        titles = [f"{s.name} ({s.value})" if s.name else str(s.value) for s in self.segments]
        return ", ".join(titles[:LISTED]) + (f" and {len(titles) - LISTED} more" if len(titles) > LISTED else "")


def extents(part: torch.Tensor) -> str:
    """First and last index along i, j, k of what is not 0 in (D, H, W), as .seg.nrrd files say it."""
    array = part.numpy() != 0
    ranges = []
    for axis in (2, 1, 0):
        line = np.flatnonzero(array.any(axis=tuple(other for other in range(3) if other != axis)))
        ranges += [int(line[0]), int(line[-1])] if line.size else [0, -1]
    return " ".join(str(n) for n in ranges)
