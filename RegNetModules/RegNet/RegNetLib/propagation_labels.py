"""Segments between a segmentation node and label maps: one layer per shared label map, as Slicer keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from . import conversion

LABELMAP, SURFACE = "Binary labelmap", "Closed surface"
GEOMETRY = "Reference image geometry"
"""The conversion parameter that says on which lattice a segmentation lies."""


@dataclass(frozen=True)
class SegmentEntry:
    """A segment's voxels: those of ``layer`` with the ``value``; ``about`` is a vtkSegment without voxels."""

    identity: str
    value: int
    layer: int
    about: object

    @property
    def name(self) -> str:
        return self.about.GetName() or self.identity

    def described(self) -> dict:
        """As the worker's protocol has it."""
        return {"value": self.value, "layer": self.layer, "name": self.name}


@dataclass(frozen=True)
class SegmentLabels:
    """``array`` is (layers, D, H, W) of whole numbers; ``index_to_world`` is in the segmentation's own LPS mm."""

    array: np.ndarray
    index_to_world: np.ndarray
    entries: tuple[SegmentEntry, ...]


def read_labels(node, chosen: Sequence[str], volume) -> SegmentLabels:
    """The ``chosen`` segments of a segmentation node; the node stays as it is.

    Args:
        volume: gives the lattice where segments are only known as surfaces.

    Raises:
        ValueError: none of them has a voxel; with one sentence for the user.
    """
    segmentation = _with_labelmaps(node, volume)
    common, names = slicer.vtkOrientedImageData(), vtk.vtkStringArray()
    for identity in chosen:
        names.InsertNextValue(identity)
    found = segmentation.SetImageGeometryFromCommonLabelmapGeometry(
        common, names, slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
    )
    grouped = _by_layer(segmentation, chosen)
    layers = [_layer(segmentation, layer, grouped[layer], common) for layer in grouped] if found else []
    if not any(layer.any() for layer in layers):
        text = _("Segmentation “{name}” is empty: none of the ticked segments has a voxel.")
        raise ValueError(text.format(name=node.GetName()))
    array = np.stack(layers)
    return SegmentLabels(array, conversion.oriented_place(common), _entries(segmentation, chosen, grouped, array))


def fill_segmentation(node, array: np.ndarray, entries: Sequence[SegmentEntry], volume) -> None:
    """Put label maps (layers, D, H, W) on the lattice of ``volume`` into a segmentation node.

    Segments of the same identity are replaced and keep how they are displayed; others stay, behind these.
    """
    images = [_cropped(layer, conversion.own_place(volume)) for layer in array]  # what can fail comes first
    segmentation = node.GetSegmentation()
    surfaces = segmentation.ContainsRepresentation(SURFACE)
    was_modifying = node.StartModify()
    try:
        segmentation.SetSourceRepresentationName(LABELMAP)
        segmentation.RemoveRepresentation(SURFACE)
        for entry in entries:
            _put(segmentation, entry, images[entry.layer])
        ours = {entry.identity for entry in entries}
        others = [identity for identity in segmentation.GetSegmentIDs() if identity not in ours]
        segmentation.ReorderSegments([entry.identity for entry in entries] + others)
        segmentation.SetConversionParameter(GEOMETRY, _geometry(volume))
        if surfaces:  # shown in 3D: the surface has to follow
            segmentation.CreateRepresentation(SURFACE)
    finally:
        node.EndModify(was_modifying)


def partners(labels: SegmentLabels, node) -> list[str]:
    """Identities of the segments of ``node`` that have the names of those in ``labels``."""
    names = {entry.name for entry in labels.entries}
    segmentation = node.GetSegmentation()
    found = {identity: segmentation.GetSegment(identity).GetName() for identity in segmentation.GetSegmentIDs()}
    return [identity for identity, name in found.items() if name in names]


def positions(labels: SegmentLabels, most: int = 2000) -> np.ndarray:
    """(N, 3): where some of the voxels lie, in the segmentation's own LPS mm."""
    where = np.flatnonzero(labels.array.any(axis=0))
    where = where[:: max(1, len(where) // most)]
    index = np.stack(np.unravel_index(where, labels.array.shape[1:])[::-1], axis=1)
    return index @ labels.index_to_world[:3, :3].T + labels.index_to_world[:3, 3]


def _with_labelmaps(node, volume):
    """The node's segmentation; a copy that has label maps where it has none."""
    segmentation = node.GetSegmentation()
    if segmentation.ContainsRepresentation(LABELMAP) or not segmentation.GetNumberOfSegments():
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if not copy.GetConversionParameter(GEOMETRY):
        copy.SetConversionParameter(GEOMETRY, _geometry(volume))
    if not copy.CreateRepresentation(LABELMAP):
        raise ValueError(_("Segmentation “{name}” cannot be made a label map.").format(name=node.GetName()))
    return copy


def _geometry(volume) -> str:
    matrix = conversion.array_to_place(conversion.own_place(volume))
    return slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, volume.GetImageData())


def _by_layer(segmentation, chosen: Sequence[str]) -> dict[int, list[str]]:
    """The chosen segments by Slicer's number of their layer; segments without a label map are left out."""
    grouped: dict[int, list[str]] = {}
    for identity in chosen:
        layer = segmentation.GetLayerIndex(identity, LABELMAP)
        if layer >= 0:
            grouped.setdefault(layer, []).append(identity)
    return grouped


def _layer(segmentation, number: int, identities: Sequence[str], common) -> np.ndarray:
    """(D, H, W): one layer on the ``common`` lattice, without the segments that were not chosen."""
    image = segmentation.GetLayerDataObject(number, LABELMAP)
    values = [segmentation.GetSegment(identity).GetLabelValue() for identity in identities]
    array = _on_lattice(image, common)
    array = array if np.issubdtype(array.dtype, np.integer) else array.astype(np.int32)
    return np.where(np.isin(array, values), array, array.dtype.type(0))


def _on_lattice(image, common) -> np.ndarray:
    extent = common.GetExtent()
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
    own = image.GetExtent()
    if image.IsEmpty() or own[0] > own[1]:
        return np.zeros(shape, np.uint8)
    resample = slicer.vtkOrientedImageDataResample
    if not resample.DoGeometriesMatch(image, common):
        moved = slicer.vtkOrientedImageData()
        resample.ResampleOrientedImageToReferenceOrientedImage(image, common, moved)
        image, own = moved, moved.GetExtent()
    part = conversion.oriented_to_array(image).array
    result = np.zeros(shape, part.dtype)
    into, out_of = [], []
    for axis in (2, 1, 0):
        low, high = extent[2 * axis], extent[2 * axis + 1]
        first, last = max(low, own[2 * axis]), min(high, own[2 * axis + 1]) + 1
        into.append(slice(first - low, max(first, last) - low))
        out_of.append(slice(first - own[2 * axis], max(first, last) - own[2 * axis]))
    result[tuple(into)] = part[tuple(out_of)]
    return result


def _entries(segmentation, chosen: Sequence[str], grouped, array: np.ndarray) -> tuple[SegmentEntry, ...]:
    """In the segmentation's order. A segment without a label map gets a value that does not occur."""
    places = {identity: place for place, layer in enumerate(grouped) for identity in grouped[layer]}
    values = {identity: int(segmentation.GetSegment(identity).GetLabelValue()) for identity in places}
    free = max(int(array.max()), *values.values()) + 1
    entries = []
    for identity in chosen:
        if identity not in places:
            places[identity], values[identity], free = 0, free, free + 1
        about = slicer.vtkSegment()
        about.DeepCopyMetadata(segmentation.GetSegment(identity))
        entries.append(SegmentEntry(identity, values[identity], places[identity], about))
    return tuple(entries)


def _cropped(layer: np.ndarray, place: np.ndarray):
    """A layer as Slicer keeps it: the box of what is not 0, on the lattice of the whole."""
    first, box = [0, 0, 0], [slice(0, 1)] * 3
    if layer.any():
        for axis in range(3):
            line = np.flatnonzero(layer.any(axis=tuple(other for other in range(3) if other != axis)))
            first[2 - axis], box[axis] = int(line[0]), slice(int(line[0]), int(line[-1]) + 1)
    return conversion.array_to_oriented(layer[tuple(box)], place, first)


def _put(segmentation, entry: SegmentEntry, image) -> None:
    segment = segmentation.GetSegment(entry.identity)
    is_new = segment is None
    if is_new:
        segment = slicer.vtkSegment()
    else:
        segment.RemoveAllRepresentations()
    segment.DeepCopyMetadata(entry.about)
    segment.SetLabelValue(entry.value)
    segment.AddRepresentation(LABELMAP, image)
    if is_new:
        segmentation.AddSegment(segment, entry.identity)
