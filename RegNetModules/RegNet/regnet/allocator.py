"""The C library's memory allocator, told to keep what is freed while a registration runs.

By default glibc hands every large block back to the system and takes it anew, page by page: for tensors that come and
go with every iteration that costs up to a fifth of the time. Elsewhere than on glibc nothing happens here.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 1 << 30


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None


def keep_freed_memory() -> None:
    """From now on freed blocks below 1 GiB stay with the process."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory() -> None:
    """Give back what is kept, for processes that live on after the work."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
