"""What the first registration by a model would wait for, loaded ahead: modules, weights, the kernels' first calls."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from .errors import RegNetError
from .events import Events

SIZE = 24
"""Voxels along each axis of the volumes that are registered for it: a second's work for the largest network."""


def warm_up(model: str, register: Callable[..., Any], ends: Callable[[], bool]) -> bool:
    """Register two small volumes as a user would begin to; whether that came to its end before ``ends`` did.

    It stands for nothing, so whatever goes wrong in it is for the first real registration to tell.
    """
    import numpy as np

    from .image import Image

    generator = np.random.default_rng(0)
    points = np.stack(np.meshgrid(*(np.linspace(-1.0, 1.0, SIZE),) * 3, indexing="ij"))

    def body(shift: float) -> Image:
        inside = ((points - shift) ** 2).sum(axis=0) < 0.5
        values = inside * (100.0 + 20.0 * np.sin(7.0 * points).prod(axis=0)) + generator.normal(size=inside.shape)
        return Image.from_numpy(values.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))

    try:
        register(body(0.0), body(0.05), model=model, refine=1, events=Events(is_cancelled=ends))
    except RegNetError:  # a cancel among them
        return False
    except Exception:
        traceback.print_exc()
        return False
    return True
