"""What ITK's NIfTI reader and writer keep to themselves: files cut short, damaged bytes, values that are not finite.

ITK (niftilib) reads a truncated or damaged file without a word, fills what is missing, replaces NaN and infinities by
zero, and calls a file written that a full disk cut off. A registration must not go on with any of that.
Source: NIfTI-1 and NIfTI-2 header definitions (nifti1.h, nifti2.h); gzip is RFC 1952.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

CHUNK = 4 << 20
FLOAT_TYPES = {16: "f4", 64: "f8", 32: "f4", 1792: "f8"}
"""NIfTI data types with floating-point values, complex ones as pairs."""


@dataclass(frozen=True)
class Layout:
    """Where the values of a single-file NIfTI are, and of which type if they are floating-point."""

    start: int
    size: int
    dtype: np.dtype | None

    @staticmethod
    def parse(header: bytes) -> Layout | None:
        """From a file's first 540 bytes; ``None`` if it is not a single-file NIfTI."""
        for order in "<>":
            if header[:4] == struct.pack(order + "i", 348) and header[344:347] == b"n+1":
                shape = struct.unpack_from(order + "8h", header, 40)
                kind, bits = struct.unpack_from(order + "2h", header, 70)
                (start,) = struct.unpack_from(order + "f", header, 108)
            elif header[:4] == struct.pack(order + "i", 540) and header[4:7] == b"n+2" and len(header) >= 176:
                kind, bits = struct.unpack_from(order + "2h", header, 12)
                shape = struct.unpack_from(order + "8q", header, 16)
                (start,) = struct.unpack_from(order + "q", header, 168)
            else:
                continue
            count = prod(max(n, 1) for n in shape[1 : 1 + max(0, min(shape[0], 7))])
            dtype = np.dtype(order + FLOAT_TYPES[kind]) if kind in FLOAT_TYPES else None
            return Layout(int(start), count * bits // 8, dtype)
        return None


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_nifti(path: Path, *, finite: bool = True) -> None:
    """Read all bytes of a NIfTI file once and make sure that they are there, intact and, if asked, finite.

    Takes about as long as ITK's own reading and lets go of the interpreter's lock, so it can run beside it.

    Raises:
        InputError: the file is cut short or damaged, or holds NaN or infinite values.
    """
    damaged = f"{str(path)!r} cannot be read as an image; it is damaged or cut short. Copy or export it again."
    # ``seen`` counts the bytes of the voxels; what follows them is of no concern.
    header, seen, bad, rest = b"", 0, 0, b""
    layout: Layout | None = None
    try:
        for chunk in _contents(path):
            if layout is None:
                header += chunk
                if len(header) < 540:
                    continue
                chunk, layout = header, Layout.parse(header[:540])
                if layout is None:
                    return  # A header and image pair, or not NIfTI at all: ITK says so itself.
                chunk = chunk[layout.start :]
            chunk = chunk[: max(layout.size - seen, 0)]
            seen += len(chunk)
            if finite and layout.dtype is not None:
                rest += chunk
                whole = len(rest) // layout.dtype.itemsize * layout.dtype.itemsize
                values = np.frombuffer(rest[:whole], layout.dtype)
                bad += int(values.size - np.count_nonzero(np.isfinite(values)))
                rest = rest[whole:]
    except (OSError, EOFError, zlib.error):
        raise InputError(damaged) from None
    if layout is None or seen < layout.size:
        raise InputError(damaged)
    if bad:
        raise InputError(f"{str(path)!r} contains NaN or infinite values ({bad} of them); replace them first.")


def is_complete(path: Path) -> bool:
    """Whether a NIfTI file that was just written has all its bytes; reads only its two ends."""
    with open(path, "rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            layout = Layout.parse(stream.read(540))
    except (OSError, EOFError, zlib.error):
        return False
    if layout is None:
        return False
    if not gzipped:
        return path.stat().st_size >= layout.start + layout.size
    with open(path, "rb") as stream:
        stream.seek(-4, 2)
        # The last field of gzip: the unpacked length, modulo 2**32.
        return struct.unpack("<I", stream.read(4))[0] == (layout.start + layout.size) % 2**32


def read_checked(path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` gives of the file, with :func:`check_nifti` running beside it where it applies."""
    if not is_nifti(path) or not path.is_file():
        return read()
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(check_nifti, path)
        try:
            return read()
        finally:
            check.result()


def _contents(path: Path) -> Iterator[bytes]:
    """The file's bytes by chunks, unpacked if it is gzipped.

    Raises:
        EOFError: a gzip stream ends early. ``zlib.error``: it is damaged, by its checksum.
    """
    with open(path, "rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not gzipped:
            while chunk := stream.read(CHUNK):
                yield chunk
            return
        packed = stream.read(CHUNK)
        while packed.strip(b"\0"):  # Some writers pad with zeros; several streams may follow one another.
            inflater = zlib.decompressobj(wbits=31)
            while not inflater.eof:
                if not packed:
                    raise EOFError
                yield inflater.decompress(packed, CHUNK)
                packed = inflater.unconsumed_tail or (b"" if inflater.eof else stream.read(CHUNK))
            packed = inflater.unused_data or stream.read(CHUNK)
