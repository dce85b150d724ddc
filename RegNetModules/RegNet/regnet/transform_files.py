"""Transform files of ITK and Slicer, in and out."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .files import read_sitk, replacing
from .image import Grid, Image
from .transform import Affine, Composite, DisplacementField, Transform

TRANSFORM_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat", ".xfm")
FIELD_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_transform(transform: Transform, path: Path) -> None:
    """See :meth:`Transform.write`."""
    name = path.name.lower()
    if name.endswith(FIELD_SUFFIXES):
        grid = next((part.grid for part in transform.parts if isinstance(part, DisplacementField)), None)
        if grid is None:
            raise InputError(f"A linear transform has no lattice to be stored on as {path.name!r}; use .h5 or .tfm.")
        image = transform.to_field(grid).to_image()
        with replacing(path) as temporary:
            sitk.WriteImage(sitk.Cast(image, sitk.sitkVectorFloat32), str(temporary))
        return
    if not name.endswith(TRANSFORM_SUFFIXES):
        raise InputError(f"{path.name!r} has no known transform ending; use .h5, .tfm, .mat, .nii.gz or .nrrd.")
    if name.endswith(".mat") and not isinstance(transform, Affine):
        raise InputError(f"{path.name!r} can hold a linear transform only; use .h5 for a dense one.")
    with replacing(path) as temporary:
        _reserve(temporary, transform)
        sitk.WriteTransform(transform.to_sitk(), str(temporary))


def _reserve(path: Path, transform: Transform) -> None:
    """Make sure that the disk has room, before HDF5 finds out: a failed write there crashes the process at its end.

    Raises:
        OSError: it has not.
    """
    fields = [part.displacement.size for part in transform.parts if isinstance(part, DisplacementField)]
    size = 8 * sum(fields) + 16_384
    if hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_transform_file(path: Path) -> Transform:
    """See :func:`regnet.transform.read_transform`."""
    if not path.is_file():
        raise InputError(f"There is no transform file {str(path)!r}; check the path.")
    name = path.name.lower()
    if name.endswith(FIELD_SUFFIXES):
        return _from_field_image(read_sitk(path), path)
    if not name.endswith(TRANSFORM_SUFFIXES):
        raise InputError(f"{path.name!r} is not a transform file; give .h5, .tfm, .mat or a displacement field image.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError:
        raise InputError(
            f"{str(path)!r} cannot be read as a transform; it may be damaged or of another kind."
        ) from None
    parts = _convert(transform.Downcast(), path)
    return parts[0] if len(parts) == 1 else Composite(tuple(parts))


def _convert(transform: sitk.Transform, path: Path) -> list[Affine | DisplacementField]:
    """The elementary parts of an ITK transform, the one applied first comes first."""
    if isinstance(transform, sitk.CompositeTransform):
        count = transform.GetNumberOfTransforms()
        nested = [_convert(transform.GetNthTransform(n).Downcast(), path) for n in reversed(range(count))]
        return [part for parts in nested for part in parts] or [Affine.identity(transform.GetDimension())]
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return [_from_field_image(transform.GetDisplacementField(), path)]
    if transform.IsLinear():
        return [_from_linear(transform)]
    raise InputError(
        f"{str(path)!r} holds a {transform.GetName()}, which RegNet cannot use; convert it to a displacement field."
    )


def _from_linear(transform: sitk.Transform) -> Affine:
    """Read the matrix off the images of the origin and the unit vectors: works for every linear kind."""
    n = transform.GetDimension()
    origin = np.array(transform.TransformPoint([0.0] * n))
    columns = [np.array(transform.TransformPoint(np.eye(n)[axis].tolist())) - origin for axis in range(n)]
    matrix = np.eye(4)
    matrix[:n, :n] = np.stack(columns, axis=1)
    matrix[:n, 3] = origin
    return Affine(matrix, n)


def _from_field_image(image: sitk.Image, path: Path) -> DisplacementField:
    n = image.GetDimension()
    if image.GetNumberOfComponentsPerPixel() != n:
        raise InputError(
            f"{str(path)!r} is an image with {image.GetNumberOfComponentsPerPixel()} value(s) per voxel, not a "
            f"displacement field with {n}; give a transform."
        )
    read = Image.from_sitk(image)
    vectors = np.zeros((*read.grid.shape, 3), dtype=np.float32)
    vectors[..., :n] = np.moveaxis(read.data.numpy(), 0, -1)
    if not np.isfinite(vectors).all():
        raise InputError(f"The displacement field {str(path)!r} contains NaN or infinite values; it cannot be used.")
    return DisplacementField(vectors, Grid(read.grid.shape, read.index_to_world, n))
