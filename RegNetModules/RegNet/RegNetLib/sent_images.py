"""The volumes that the worker was given, as files that the next run on the same pair finds again.

A file is written on another thread, from a copy: the window goes on, and whatever happens to the volume meanwhile, the
run is about what it was. A volume that has changed since, in its voxels or by a transform that bends it, is written
anew; one that was only moved or turned is not, because the request says where it lies.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import slicer

from . import conversion
from .private_folder import PrivateFolder

MOST_FILES = 6
"""Three pairs."""
MOST_BYTES = 2 << 30
"""Of all files together; the two newest stay whatever their size."""
PREFIX = "regnet-images-"


class SentImages:
    """Files in a private folder, made when it is needed first and removed by :meth:`clear`; the oldest give way."""

    def __init__(self, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
        self._most_files, self._most_bytes = most_files, most_bytes
        self._folder: PrivateFolder | None = None
        self._sent: OrderedDict[tuple, _Sent] = OrderedDict()
        self._count = 0

    @property
    def folder(self) -> PrivateFolder:
        if self._folder is not None and not self._folder.path.is_dir():
            self.clear()  # somebody has tidied up the temporary folder
        if self._folder is None:
            self._folder = PrivateFolder(slicer.app.temporaryPath, PREFIX)
        return self._folder

    def entry(self, volume, parent) -> dict:
        """A volume below ``parent`` (a transform node or None) as the worker's protocol has it, to lie in
        :attr:`folder` as soon as :meth:`are_written`."""
        key, folder = _state(volume, parent), self.folder
        if key in self._sent and not self._sent[key].is_usable(folder):
            self._remove(key)
        if key not in self._sent:
            self._sent[key] = self._write(conversion.volume_to_array(volume, parent))
        self._sent.move_to_end(key)
        self._let_go()
        sent = self._sent[key]
        place = sent.index_to_world if conversion.bends(parent) else conversion.place_in_world(volume, parent)
        return {"file": sent.file, "index_to_world": place.tolist(), "ndim": sent.ndim, "kept": True}

    def are_written(self) -> bool:
        """Whether all files are complete.

        Raises:
            OSError, MemoryError: one could not be written; then none is left, to make room.
        """
        writings = [sent.writing for sent in self._sent.values()]
        if any(writing.is_alive() for writing in writings):
            return False
        error = next((writing.error for writing in writings if writing.error is not None), None)
        if error is not None:
            self.clear()
            raise error
        return True

    def clear(self) -> None:
        """Leave nothing, on the disk either. Clearing twice is fine."""
        for sent in self._sent.values():
            sent.writing.join()
        self._sent.clear()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _write(self, image: conversion.ImageArray) -> _Sent:
        self._count += 1
        writing = _Writing(self.folder, f"image-{self._count}", image.array)
        return _Sent(writing, image.index_to_world, image.ndim, image.array.nbytes)

    def _let_go(self) -> None:
        while len(self._sent) > 2 and (
            len(self._sent) > self._most_files or sum(sent.size for sent in self._sent.values()) > self._most_bytes
        ):
            self._remove(next(iter(self._sent)))

    def _remove(self, key: tuple) -> None:
        sent = self._sent.pop(key)
        sent.writing.join()
        (self.folder.path / sent.file).unlink(missing_ok=True)


class _Writing(threading.Thread):
    """Writes an array; afterwards ``error`` is what went wrong, None for nothing."""

    def __init__(self, folder: PrivateFolder, name: str, array: np.ndarray) -> None:
        super().__init__(name=f"RegNet {name}", daemon=True)
        self.file = f"{name}.npy"
        self.error: OSError | MemoryError | None = None
        self._folder, self._stem, self._array = folder, name, array
        self.start()

    def run(self) -> None:
        try:
            self._folder.save(self._stem, self._array)
        except (OSError, MemoryError) as error:
            self.error = error
        self._array = None


@dataclass(frozen=True)
class _Sent:
    """What was written, where it lay in the world then, and its bytes."""

    writing: _Writing
    index_to_world: np.ndarray
    ndim: int
    size: int

    @property
    def file(self) -> str:
        return self.writing.file

    def is_usable(self, folder: PrivateFolder) -> bool:
        """Whether the file is whole, or on its way."""
        return self.writing.is_alive() or self.writing.error is None and (folder.path / self.file).is_file()


def _state(volume, parent) -> tuple:
    """Another one whenever the voxels to send would be others."""
    voxels = (volume.GetID(), volume.GetImageData().GetMTime())
    if not conversion.bends(parent):
        return voxels
    above = []
    while parent is not None:
        above.append((parent.GetID(), parent.GetMTime(), parent.GetTransformToWorldMTime()))
        parent = parent.GetParentTransformNode()
    return (*voxels, conversion.own_place(volume).tobytes(), *above)
