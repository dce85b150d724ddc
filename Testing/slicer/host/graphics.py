"""Checks that a machine without a screen can draw, and says which packages are missing when it cannot."""

from __future__ import annotations

import ctypes
import os
import sys

# What PySide6 and VTK open at run time on Debian and Ubuntu (names of Debian 12).
DEBIAN_PACKAGES = (
    "libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon0 fonts-dejavu-core"
)
_EGL_PLATFORM_DEVICE = 0x313F
_LIBRARIES = (
    "libEGL.so.1",
    "libGL.so.1",
    "libfontconfig.so.1",
    "libdbus-1.so.3",
    "libxkbcommon.so.0",
    "libglib-2.0.so.0",
)


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
        if not os.environ.get("DISPLAY") and not _opengl_driver_answers():
            raise GraphicsError(
                "The Slicer tests draw real slice views, but no OpenGL driver answers without a screen: "
                f"run `apt-get install {DEBIAN_PACKAGES}` (Debian, Ubuntu; Mesa's software driver is enough)"
            )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _opengl_driver_answers() -> bool:
    """Whether EGL can open a device without a screen, asked as VTK asks it (VTK crashes where there is none)."""
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    if not all(addresses):
        return False
    query_type = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
    display_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
    query_type(addresses[0])(16, devices, ctypes.byref(count))
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    displays = [display_type(addresses[1])(_EGL_PLATFORM_DEVICE, devices[i], None) for i in range(count.value)]
    return any(display and egl.eglInitialize(display, None, None) for display in displays)
