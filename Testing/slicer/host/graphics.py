"""Checks that a machine without a screen can draw, and says which packages are missing when it cannot."""

from __future__ import annotations

import ctypes
import os
import sys

# What PySide6 and VTK open at run time on Debian and Ubuntu (names of Debian 12).
DEBIAN_PACKAGES = "libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon0 fonts-dejavu-core"
_LIBRARIES = ("libEGL.so.1", "libGL.so.1", "libfontconfig.so.1", "libdbus-1.so.3", "libxkbcommon.so.0", "libglib-2.0.so.0")


class GraphicsError(RuntimeError):
    """The machine lacks a library without which no panel and no slice view can be drawn."""


def prepare() -> None:
    """Choose off-screen drawing, and fail with one clear sentence where a system library is missing."""
    if sys.platform.startswith("linux"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        # Without a display VTK first tries X and prints a warning for every window.
        if not os.environ.get("DISPLAY"):
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        missing = [name for name in _LIBRARIES if not _loads(name)]
        if missing:
            raise GraphicsError(
                f"The Slicer tests draw real panels and slice views, but {', '.join(missing)} cannot be loaded: "
                f"run `apt-get install {DEBIAN_PACKAGES}` (Debian, Ubuntu) and start the tests again"
            )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def check_window(window) -> None:
    """An OpenGL driver must answer: Mesa's software driver is enough."""
    if not window.SupportsOpenGL():
        raise GraphicsError(
            f"No OpenGL driver answers ({window.GetOpenGLSupportMessage()}): run `apt-get install {DEBIAN_PACKAGES}` (Debian, Ubuntu)"
        )
