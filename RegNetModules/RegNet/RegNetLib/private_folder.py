"""Arrays on their way to the worker and back, in a folder that only this user can read."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np


class PrivateFolder:
    """A temporary folder (mode 0700) of .npy files. ``remove`` leaves nothing of it; removing twice is fine."""

    def __init__(self, parent: str | Path | None = None, prefix: str = "regnet-") -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=str(parent) if parent else None))
        self.path.chmod(0o700)

    def save(self, name: str, array: np.ndarray) -> str:
        """Write ``array`` and return the file's name inside the folder."""
        file_name = f"{name}.npy"
        np.save(self.path / file_name, np.ascontiguousarray(array), allow_pickle=False)
        return file_name

    def load(self, file_name: str) -> np.ndarray:
        """Read an array. Only plain file names inside the folder are accepted, and never pickles."""
        if Path(file_name).name != file_name:
            raise ValueError(f"{file_name!r} is not a plain file name")
        return np.load(self.path / file_name, allow_pickle=False)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
