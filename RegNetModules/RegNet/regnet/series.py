"""Sequences of images that are read when they are asked for: files in a row, or the frames of one 4D file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import SimpleITK as sitk

from .errors import InputError
from .nifti import read_checked

T = TypeVar("T")


class Files(Sequence[T], Generic[T]):
    """What ``read`` makes of each path; nothing is kept."""

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], T]) -> None:
        self.paths, self.read = tuple(paths), read

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Files[T]: ...
    def __getitem__(self, place: int | slice) -> T | Files[T]:
        if isinstance(place, slice):
            return Files(self.paths[place], self.read)
        return self.read(self.paths[place])


class Frames(Sequence[T], Generic[T]):
    """What ``make`` makes of each 3D frame of a 4D ``image``, which is kept as it is stored."""

    def __init__(self, image: sitk.Image, make: Callable[[sitk.Image], T]) -> None:
        self.image, self.make = image, make

    def __len__(self) -> int:
        return self.image.GetSize()[3]

    def __getitem__(self, place: int) -> T:  # type: ignore[override]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self.make(self.image[:, :, :, place])


def frame_count(path: Path) -> int:
    """How many volumes a file holds; 1 for what is no 4D file, or none that can be read."""
    if not path.is_file():
        return 1
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 1
    return reader.GetSize()[3] if reader.GetDimension() == 4 else 1


def read_4d(path: Path) -> sitk.Image:
    """A 4D image.

    Raises:
        InputError: it cannot be read, or is not 4D.
    """
    try:
        image = read_checked(path, lambda: sitk.ReadImage(str(path)))
    except RuntimeError:
        raise InputError(f"{str(path)!r} cannot be read as an image; it may be damaged.") from None
    if image.GetDimension() != 4:
        raise InputError(f"{str(path)!r} is not a 4D file; give one volume per frame, or one 4D file.")
    return image


def join_frames(frames: Sequence[sitk.Image], like: sitk.Image) -> sitk.Image:
    """3D images as one 4D image with the times of ``like``."""
    return sitk.JoinSeries(list(frames), like.GetOrigin()[3], like.GetSpacing()[3])
