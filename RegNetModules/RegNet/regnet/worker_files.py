"""The arrays of the worker's protocol: ``.npy`` files inside a request's private folder, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .colour_table import ColourTable
from .errors import InputError
from .image import Grid, Image
from .protocol import ArrayFile, Colours, DoneResult, FusedResult, Lattice, PropagatedResult, SegmentEntry, Step
from .report_numbers import plain
from .segmentation import Segment, Segmentation
from .segmentation_files import small
from .transform import Affine, DisplacementField, Transform

if TYPE_CHECKING:
    from .fusing import Fusion
    from .previews import Preview
    from .propagate import Propagated
    from .register import Registration

RESULT_FILES = ("displacement.npy", "warped.npy", "fused.npy", "synthetic.npy", "labels.npy")
NUMBERED_FILE = re.compile(r"preview-\d+\.npy|map-\w+\.npy|corrected-\d+\.npy")
"""Of previews, of a judgement's maps, and of a corrected transform."""
KEPT_PREVIEWS = 2
"""Files of previews that stay: a host may still be reading the one before the last."""


def private_folder(name: str) -> Path:
    """The request's folder, resolved.

    Raises:
        InputError: not an absolute path of a folder that exists.
    """
    folder = Path(name)
    if not folder.is_absolute() or not folder.is_dir():
        raise InputError(f"The request's folder {name!r} is not an existing folder with an absolute path.")
    return folder.resolve()


def inside(folder: Path, name: str) -> Path:
    """The path of ``name`` in ``folder``, after links were followed.

    Raises:
        InputError: it lies outside.
    """
    path = (folder / name).resolve()
    if path == folder or not path.is_relative_to(folder):
        raise InputError(f"The file {name!r} lies outside the request's folder; the worker reads only inside it.")
    return path


def read_array(folder: Path, entry: ArrayFile, *, mask: bool = False) -> Image:
    """The image in a ``.npy`` file of the request, float32, or with its integers if it is a ``mask``.

    Raises:
        InputError: outside the folder, missing, not an array of plain numbers, or of the wrong number of axes.
    """
    path = inside(folder, entry.file)
    if path.name in RESULT_FILES or NUMBERED_FILE.fullmatch(path.name):
        raise InputError(f"The name {path.name!r} is kept for results; give the input another name.")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise InputError(f"The file {entry.file!r} of the request is missing or is not a .npy array.") from None
    usable = isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and array.ndim in (3, 4) and array.size
    if not usable:
        raise InputError(f"The file {entry.file!r} does not hold numbers of shape (D, H, W) or (C, D, H, W).")
    if not mask:
        array = array.astype(np.float32, copy=False)
    return Image.from_numpy(array, np.array(entry.index_to_world), entry.ndim)


def read_displacement(folder: Path, entry: ArrayFile | None) -> DisplacementField | None:
    """The displacement field (D, H, W, 3) of a request, None where it has none.

    Raises:
        InputError: as for :func:`read_array`, or of another shape.
    """
    if entry is None:
        return None
    field = read_array(folder, entry)
    if field.data.ndim != 4 or field.data.shape[3] != 3:
        raise InputError(f"The file {entry.file!r} does not hold displacements of shape (D, H, W, 3).")
    data = field.data.numpy()
    return DisplacementField(data, Grid(data.shape[:3], field.index_to_world, field.ndim))


def read_segmentation(folder: Path, entry: ArrayFile, segments: Sequence[SegmentEntry]) -> Segmentation:
    """The label maps of a request.

    Raises:
        InputError: as for :func:`read_array`, no whole numbers, or a segment of a layer that is not there.
    """
    labels = read_array(folder, entry, mask=True)
    if labels.data.is_floating_point():
        raise InputError(f"The file {entry.file!r} does not hold whole numbers, so it is no label map.")
    if any(segment.layer >= labels.data.shape[0] for segment in segments):
        raise InputError(f"The file {entry.file!r} has {labels.data.shape[0]} layers; a segment names another one.")
    return Segmentation.of(labels, [Segment(segment.value, segment.layer, segment.name) for segment in segments])


def lattice(entry: Lattice) -> Grid:
    return Grid(tuple(entry.shape), np.array(entry.index_to_world), entry.ndim)


def read_steps(folder: Path, steps: Sequence[Step], grid: Grid) -> Transform:
    """The transforms of a request in a row, from points of ``grid``; none are the identity.

    However many there are, no more than a few of their fields are held at a time.
    """
    from .propagate import bounded

    transform: Transform = Affine.identity(grid.ndim)
    for step in steps:
        field = read_displacement(folder, step.displacement)
        if field is not None:
            transform = bounded(transform.then(field), grid)
        transform = transform.then(Affine(np.array(step.affine), grid.ndim))
    return transform


def write_labels(folder: Path, propagated: Propagated) -> PropagatedResult:
    """Write label maps into ``folder`` and describe them."""
    labels = small(propagated.segmentation.labels)
    save_all(folder, {"labels.npy": labels.data.numpy()})
    return PropagatedResult(labels=placed("labels.npy", labels.grid), report=plain(propagated.report))


def write_result(folder: Path, registration: Registration, fixed: Image) -> DoneResult:
    """Write the arrays of a result into ``folder`` and describe them; all of them, or none is left."""
    affine, field = split_transform(registration.transform, fixed)
    arrays = {"warped.npy": registration.warped.data.cpu().numpy()}
    if field is not None:
        arrays["displacement.npy"] = field.displacement
    if registration.fused is not None:
        arrays["fused.npy"] = registration.fused.data.cpu().numpy()
    if registration.synthetic is not None:
        arrays["synthetic.npy"] = registration.synthetic.data.cpu().numpy()
    save_all(folder, arrays)
    return DoneResult(
        affine=affine.tolist(),
        displacement=None if field is None else placed("displacement.npy", field.grid),
        warped=placed("warped.npy", registration.warped.grid),
        fused=None if registration.fused is None else placed("fused.npy", registration.fused.grid),
        synthetic=None if registration.synthetic is None else placed("synthetic.npy", registration.synthetic.grid),
        report=plain(registration.report),
    )


def write_preview(folder: Path, number: int, preview: Preview) -> ArrayFile:
    """Write the field of the preview with this ``number``, remove the one that no host will read any more, and describe
    it.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    name = preview_name(number)
    _save(folder / name, preview.field.displacement)
    (folder / preview_name(number - KEPT_PREVIEWS)).unlink(missing_ok=True)
    return placed(name, preview.field.grid)


def preview_name(number: int) -> str:
    return f"preview-{number}.npy"


def write_fusion(folder: Path, fusion: Fusion) -> FusedResult:
    """Write a fused image into ``folder`` and describe it."""
    save_all(folder, {"fused.npy": fusion.image.data.cpu().numpy()})
    return FusedResult(fused=placed("fused.npy", fusion.image.grid), report=plain(fusion.report))


def colour_table(given: Colours | None) -> ColourTable | None:
    """The table that a request names.

    Raises:
        InputError: it is not one.
    """
    return None if given is None else ColourTable(given.low, given.high, given.colours)


def split_transform(transform: Transform, fixed: Image) -> tuple[np.ndarray, DisplacementField | None]:
    """``transform`` as (4x4 matrix, displacement field or None), the field applied first."""
    kinds = [type(part) for part in transform.parts]
    if kinds == [Affine]:
        return transform.parts[0].matrix, None
    if kinds == [DisplacementField, Affine]:
        return transform.parts[1].matrix, transform.parts[0]
    if kinds == [DisplacementField]:
        return np.eye(4), transform.parts[0]
    return np.eye(4), transform.to_field(fixed.grid)


def save_all(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """All of them, or none is left."""
    written: list[Path] = []
    try:
        for name, array in arrays.items():
            path = folder / name
            written.append(path)
            _save(path, array)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = error.strerror or "the disk may be full"
        raise InputError(f"The result cannot be written to {str(folder)!r}: {reason}.") from None


def _save(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as stream:
            np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def placed(name: str, grid: Grid) -> ArrayFile:
    return ArrayFile(file=name, index_to_world=grid.index_to_world.tolist(), ndim=grid.ndim)
