"""None, True and False must not be counted to death."""

from __future__ import annotations

import ctypes
import sys

_MANY = 1 << 40


def protect_singletons() -> None:
    """Make the singletons as good as immortal on Python before 3.12.

    PySide6 6.12 is compiled against the limited interface of Python 3.12, where these objects are immortal and returned
    without counting a reference; an older Python counts every release and aborts when it reaches zero
    ("deallocating True or False"), after some thousand signals.
    """
    if sys.version_info >= (3, 12) or sys.implementation.name != "cpython":
        return
    for singleton in (None, True, False, NotImplemented):
        ctypes.c_ssize_t.from_address(id(singleton)).value += _MANY
