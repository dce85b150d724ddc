"""RegNet's headless core: deep and classical image registration in world space, without Slicer.

Importing this package is cheap: nothing below is loaded before it is used.

>>> import regnet
>>> result = regnet.register("fixed.nii.gz", "moving.nii.gz", model="avsm")  # doctest: +SKIP
>>> result.transform.write("transform.h5")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ._version import __version__

_HOMES = {
    "Image": "image",
    "Grid": "image",
    "Transform": "transform",
    "Affine": "transform",
    "DisplacementField": "transform",
    "Composite": "transform",
    "read_transform": "transform",
    "align": "align",
    "register": "register",
    "Registration": "register",
    "Events": "events",
    "RegNetError": "errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
