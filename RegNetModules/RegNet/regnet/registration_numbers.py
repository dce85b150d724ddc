"""What a registration's report says of the transform, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import spatial
from .image import Image
from .losses.local_correlation import LocalCorrelation
from .metrics import folding_percent, sdlogj
from .pair import Pair
from .transform import Affine, DisplacementField, Transform

SIMILARITY_METRIC = "mean squared local correlation"


def numbers(
    pair: Pair, moving: Image, transform: Transform, alignment: Affine, dense: DisplacementField | None
) -> dict[str, Any]:
    """The working grid, how alike the images were and are, and how regular ``transform`` is.

    Args:
        alignment, dense: the parts of ``transform``; ``dense`` None if it is linear.
    """
    before, after = similarity(pair, moving, transform)
    determinant = np.full(1, np.linalg.det(alignment.matrix[:3, :3]))
    if dense is not None:
        determinant = dense.jacobian_determinant(pair.grid) * determinant
    return {
        "working_grid": {
            "shape": list(pair.grid.shape),
            "spacing": [round(float(step), 4) for step in pair.grid.spacing],
        },
        "similarity_metric": SIMILARITY_METRIC,
        "similarity_before": round(before, 5),
        "similarity_after": round(after, 5),
        "folding_percent": folding_percent(determinant),
        "sdlogj": round(sdlogj(determinant), 5),
    }


def similarity(pair: Pair, moving: Image, transform: Transform) -> tuple[float, float]:
    """Of the images as they were given, and after registration, at twice the working spacing."""
    level = pair.level(2.0)
    weight = None if level.fixed_weight is None else level.fixed_weight.cpu()
    measure = LocalCorrelation(level.fixed.cpu(), 2, weight)
    moving = moving.normalized()
    coarse = moving.grid.with_spacing(np.maximum(moving.spacing, 2 * min(pair.spacing)))
    data = spatial.reduce(moving.data[None], coarse.shape)[0]
    moving = Image(data, coarse.index_to_world, moving.ndim)
    values = []
    for step in (None, transform):
        data = moving.resample(level.grid, step).data
        values.append(measure.value((data[:, 0] if level.grid.ndim == 2 else data)[None]))
    return values[0], values[1]
