"""Reading and writing image files through SimpleITK: every failure becomes one sentence, no half-written file stays."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .nifti import is_complete, is_nifti, read_checked

SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".h5",
    ".tfm",
    ".txt",
    ".mat",
)


def read_sitk(path: Path) -> sitk.Image:
    """Read one 2D or 3D image; a folder is read as a DICOM series.

    Raises:
        InputError: missing, damaged, not an image, more than one volume or series, or not a right-angled lattice.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {str(path)!r}; check the path.")
    if path.is_dir():
        image = _read_series(path)
    else:
        try:
            image = read_checked(path, lambda: sitk.ReadImage(str(path)))
        except RuntimeError as error:
            raise InputError(_reading_failed(path, error)) from None
    return _one_volume(image, path)


def require_whole_numbers(image: sitk.Image, path: Path) -> None:
    """Raise an :class:`InputError` unless the image read from ``path`` can be a label image."""
    if "float" in image.GetPixelIDTypeAsString():
        values = sitk.GetArrayViewFromImage(image)
        if not np.array_equal(values, np.rint(values)):
            raise InputError(f"{str(path)!r} has values that are not whole numbers, so it is not a label image.")


def _reading_failed(path: Path, error: Exception) -> str:
    if "orthonormal" in str(error):
        return f"{str(path)!r} has axes that are not at right angles; resample it to a regular grid first."
    return f"{str(path)!r} cannot be read as an image; it may be damaged or of an unknown format."


def _read_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(
            f"The folder {str(folder)!r} holds no DICOM series; give a folder of DICOM files or one image file."
        )
    if len(series) > 1:
        raise InputError(
            f"The folder {str(folder)!r} holds {len(series)} DICOM series; put the one to read into its own folder."
        )
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    try:
        return reader.Execute()
    except RuntimeError:
        raise InputError(
            f"The DICOM series in {str(folder)!r} cannot be read; a file may be damaged or missing."
        ) from None


def _one_volume(image: sitk.Image, path: Path) -> sitk.Image:
    if image.GetDimension() == 4:
        frames = image.GetSize()[3]
        if frames != 1:
            raise InputError(f"{str(path)!r} is 4D with {frames} frames; give one 3D frame of it.")
        image = image[:, :, :, 0]
    if image.GetDimension() not in (2, 3):
        raise InputError(f"{str(path)!r} has {image.GetDimension()} dimensions; give a 2D or 3D image.")
    return image


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, with its suffix, that takes its place on success and vanishes on failure.

    Raises:
        InputError: the folder is missing or not writable, or the disk is full.
    """
    suffix = next((end for end in SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "the disk may be full or the folder not writable"
        )
        raise InputError(f"{str(path)!r} cannot be written: {reason}; choose another place.") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_sitk(image: sitk.Image, path: Path) -> None:
    """Write ``image`` in the format of the file's ending, compressed where the format can."""
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path.name!r} has no known image ending; use .nii.gz, .nrrd or .mha.")
    with replacing(path) as temporary:
        # Level 1 halves the time of NIfTI and NRRD and costs a few percent of size.
        sitk.WriteImage(image, str(temporary), useCompression=True, compressionLevel=1)
        # ITK does not notice a full disk when it writes NIfTI.
        if not temporary.exists() or temporary.stat().st_size == 0:
            raise RuntimeError
        if is_nifti(temporary) and not is_complete(temporary):
            raise RuntimeError
