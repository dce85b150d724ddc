"""What a registration gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .image import Image
from .transform import Affine, Transform


@dataclass
class Registration:
    """What a registration gives: a transform from fixed to moving points in LPS mm, the moving image on the fixed
    lattice, a fused image from models that fuse, a synthetic one (the registered moving image in another contrast, in
    [0, 1]) from models that translate, and the numbers."""

    transform: Transform
    warped: Image
    report: dict[str, Any]
    alignment: Affine
    fused: Image | None = None
    synthetic: Image | None = None

    @cached_property
    def inverse(self) -> Transform:
        """Moving to fixed points; computed when first asked for."""
        return self.transform.inverse()
