"""The images that the worker holds on to between registrations: the last few, within a share of the free memory."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
from torch import Tensor

from . import protocol
from . import worker_files as files
from .image import Image

MOST_IMAGES = 4
"""Two pairs."""
SHARE_OF_FREE = 0.1
"""Of the memory that is free, or would be without them: what all of them together may take."""


class KeptImages:
    """Reads a request's images, those that are kept from memory where they were read before.

    A file is known by its path, its size and when it was written: one that was written again is read again.
    """

    def __init__(self, most: int = MOST_IMAGES, share: float = SHARE_OF_FREE) -> None:
        self._most, self._share = most, share
        self._held: OrderedDict[tuple, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def read(self, job: protocol.RegisterRequest) -> dict[str, Image]:
        """The images and masks of a request by name.

        Raises:
            InputError: as for :func:`regnet.worker_files.read_array`.
        """
        folder = files.private_folder(job.folder)
        found = {}
        for name in ("fixed", "moving", "fixed_mask", "moving_mask", "region"):
            entry = getattr(job, name)
            if entry is None:
                continue
            if getattr(entry, "kept", False):
                found[name] = self._kept(files.private_folder(job.kept_folder or ""), entry)
            else:
                found[name] = files.read_array(folder, entry, mask=name not in ("fixed", "moving"))
        self._let_go()
        return found

    def forget(self) -> None:
        self._held.clear()

    def _kept(self, folder: Path, entry: protocol.ImageFile) -> Image:
        """The voxels are held, their place in the world is the request's."""
        path = files.inside(folder, entry.file)
        if not path.is_file():  # gone: read_array says so
            return files.read_array(folder, entry)
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in self._held:
            self._held[key] = files.read_array(folder, entry).data
        self._held.move_to_end(key)
        return Image(self._held[key], np.array(entry.index_to_world, np.float64), entry.ndim)

    def _let_go(self) -> None:
        """Of the oldest, until the rest is within bounds; what a running request reads it has itself."""
        import psutil

        sizes = {key: data.numel() * data.element_size() for key, data in self._held.items()}
        most = self._share * (psutil.virtual_memory().available + sum(sizes.values()))
        while self._held and (len(self._held) > self._most or sum(sizes.values()) > most):
            key, _data = self._held.popitem(last=False)
            del sizes[key]
