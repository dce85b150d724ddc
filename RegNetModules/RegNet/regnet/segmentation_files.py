"""Reading and writing segmentations: label maps of any format, and 3D Slicer's ``.seg.nrrd`` with all that it knows.

A ``.seg.nrrd`` file is an NRRD image with a text field per property: ``Segment0_Name``, ``Segment0_Color``, … Segments
that overlap lie in several layers, which are the first axis of a 4D array. Source: 3D Slicer's developer guide,
"Segmentations".
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .files import read_sitk, replacing, require_whole_numbers, write_sitk
from .image import Grid, Image
from .segmentation import Segment, Segmentation, extents

SEGMENTATION_ENDING = ".seg.nrrd"
GEOMETRY = "Reference image geometry"
_FIELD = re.compile(r"Segment(\d+)_(\w+)$")
_DERIVED = ("Name", "LabelValue", "Layer", "Extent")
"""Fields that are written from the voxels and not copied."""
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Slicer describes the reference geometry in RAS."""


def read_segmentation(path: Path) -> Segmentation:
    """A label map or a segmentation with its segments.

    Raises:
        InputError: it cannot be read, is no label map, or holds nothing.
    """
    return as_segmentation(read_sitk(path), path)


def as_segmentation(image: sitk.Image, path: Path) -> Segmentation:
    """See :func:`read_segmentation`; ``path`` is what an error names."""
    texts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    segments, header = _segments(texts, image.GetNumberOfComponentsPerPixel())
    if image.GetNumberOfComponentsPerPixel() > 1 and not segments:
        raise InputError(f"{str(path)!r} has several values per voxel; give a label image with one.")
    if "Fractional" in header.get("Segmentation_MasterRepresentation", ""):
        raise InputError(f"{str(path)!r} holds a fractional label map; export it as a binary one first.")
    require_whole_numbers(image, path)
    found = Segmentation.of(Image.from_sitk(image, labels=True), segments, header)
    if not bool((found.labels.data != 0).any()):
        raise InputError(f"The segmentation {str(path)!r} is empty: it has no voxel other than 0.")
    return found


def _segments(texts: dict[str, str], layers: int) -> tuple[list[Segment], dict[str, str]]:
    """The segments that a header describes, in its order, and its other fields."""
    described: dict[int, dict[str, str]] = {}
    header = {}
    for key, text in texts.items():
        if match := _FIELD.match(key):
            described.setdefault(int(match[1]), {})[match[2]] = text
        elif not key.startswith(("NRRD_", "ITK_")):
            header[key] = text
    segments = []
    for number, fields in sorted(described.items()):
        # Files from before Slicer 4.11 have a layer for each segment, and no word about it.
        layer = _whole(fields.get("Layer"), number if layers > 1 else 0)
        if layer < layers:
            kept = {name: text for name, text in fields.items() if name not in _DERIVED}
            segments.append(Segment(_whole(fields.get("LabelValue"), 1), layer, fields.get("Name", ""), kept))
    return segments, header


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"\s*-?\d+\s*", text) else default


def write_segmentation(segmentation: Segmentation, path: Path) -> None:
    """Write a ``.seg.nrrd`` with all that is known of the segments, or a label map in any other format.

    Raises:
        InputError: segments overlap and the format cannot hold that, or the place cannot be written.
    """
    if path.name.lower().endswith(SEGMENTATION_ENDING):
        _write_slicer(segmentation, path)
    elif segmentation.layers > 1:
        raise InputError(f"{path.name!r} cannot hold segments that overlap; write {SEGMENTATION_ENDING}.")
    else:
        write_sitk(small(segmentation.labels).to_sitk(), path)


def small(labels: Image) -> Image:
    """Labels in the smallest type of whole numbers that has room for them."""
    array = labels.data.numpy()
    low, high = int(array.min()), int(array.max())
    kinds = (np.uint8, np.int16, np.int32)
    kind = next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return Image.from_numpy(array.astype(kind), labels.index_to_world, labels.ndim)


def _write_slicer(segmentation: Segmentation, path: Path) -> None:
    labels = segmentation.labels
    # Slicer takes three axes also for a single slice.
    image = Image(small(labels).data, labels.index_to_world).to_sitk()
    for key, text in header_of(segmentation).items():
        image.SetMetaData(key, text)
    with replacing(path) as temporary:
        write_sitk(image, temporary)
        if segmentation.layers > 1:
            # ITK calls the axis of the layers a vector; readers of segmentations look for a list.
            head, blank, rest = temporary.read_bytes().partition(b"\n\n")
            temporary.write_bytes(head.replace(b"\nkinds: vector ", b"\nkinds: list ", 1) + blank + rest)


def header_of(segmentation: Segmentation) -> dict[str, str]:
    """The text fields of a ``.seg.nrrd`` file; what depends on the lattice is made anew."""
    texts = dict(segmentation.header)
    representation = texts.setdefault("Segmentation_MasterRepresentation", "Binary labelmap")
    texts.setdefault("Segmentation_ContainedRepresentationNames", f"{representation}|")
    texts["Segmentation_ConversionParameters"] = _parameters(
        texts.get("Segmentation_ConversionParameters", ""), segmentation.labels.grid
    )
    texts["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    # All segments of a layer share its extent.
    boxes = [extents(part) for part in segmentation.labels.data]
    for number, segment in enumerate(segmentation.segments):
        fields = {
            "ID": f"Segment_{segment.value}" if segmentation.layers == 1 else f"Segment_{number + 1}",
            "NameAutoGenerated": "0" if segment.name else "1",
            "ColorAutoGenerated": "0" if "Color" in segment.fields else "1",
            **segment.fields,
            "Name": segment.name or f"Segment_{segment.value}",
            "LabelValue": str(segment.value),
            "Layer": str(segment.layer),
            "Extent": boxes[segment.layer],
        }
        fields.setdefault("Color", _colour(number))
        texts.update({f"Segment{number}_{name}": text for name, text in fields.items()})
    return texts


def _parameters(text: str, grid: Grid) -> str:
    """Slicer's conversion parameters with ``grid`` as the reference geometry, in place of the old one."""
    others = [entry for entry in text.split("&") if entry and not entry.startswith(f"{GEOMETRY}|")]
    numbers = [f"{value:.17g}" for value in (_FLIP @ grid.index_to_world).ravel()]
    numbers += [str(n) for size in grid.size for n in (0, size - 1)]
    return "&".join([f"{GEOMETRY}|{';'.join(numbers)};|Image geometry of the segmentation", *others]) + "&"


def _colour(number: int) -> str:
    """A colour for a segment that has none: hues a golden angle apart are never alike for neighbours."""
    import colorsys

    return " ".join(f"{part:.3f}" for part in colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.55, 0.9))
