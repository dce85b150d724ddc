"""The present state of a registration for a host that shows it: coarse, and no oftener than the work hardly feels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .image import Grid
from .pair import Pair
from .transform import Affine, DisplacementField, Transform

MOST_NODES = 20_000
"""Of a preview's grid, about 27 along each axis of a volume: what is seen of a deformation that is smooth."""
INTERVAL = 0.25
"""Least seconds from one preview to the next."""
SHARE = 0.05
"""Most of the time that has passed so far that previews may have taken."""


@dataclass(frozen=True)
class Preview:
    """A point x of the fixed image goes to ``alignment`` (x + ``field`` (x)), LPS mm.

    Outside its grid the field is meant to go on as at its border: it has no margin in which to fade.
    """

    field: DisplacementField
    alignment: Affine
    stage: str = ""

    @property
    def transform(self) -> Transform:
        return self.field.then(self.alignment)


class Previews:
    """Reduces the states that searches and optimisers offer, and hands on those for which there is time.

    Args:
        send: takes each :class:`Preview`; its time counts.
        interval, share: see :data:`INTERVAL` and :data:`SHARE`.
        clock: seconds, from any beginning.

    Attributes:
        alignment: what the pair's moving image was resampled through, set by who makes the pair.
        weight: of the displacement at the points of a grid, where it is wanted in a region only.
        count, seconds: previews sent, and what they took.
    """

    def __init__(
        self,
        send: Callable[[Preview], None],
        interval: float = INTERVAL,
        share: float = SHARE,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._send, self._interval, self._share, self._clock = send, interval, share, clock
        self._began = clock()
        self._last = -math.inf
        self.alignment: Affine | None = None
        self.weight: Callable[[Grid], np.ndarray] | None = None
        self.count, self.seconds = 0, 0.0

    def is_due(self) -> bool:
        """Whether the next state that is offered will be sent."""
        now = self._clock()
        return now - self._last >= self._interval and self.seconds <= self._share * (now - self._began)

    def offer(self, displacement: Tensor, pair: Pair, stage: str = "") -> None:
        """Send ``displacement``, (1, d, *any) in voxels of a grid over the corners of ``pair``, if it is due."""

        def made() -> Preview:
            field = reduced(displacement, pair)
            if self.weight is not None:
                field = DisplacementField(field.displacement * self.weight(field.grid)[..., None], field.grid)
            return Preview(field, self.alignment or Affine.identity(pair.grid.ndim), stage)

        self._hand_on(made)

    def offer_alignment(self, alignment: Affine, grid: Grid, stage: str = "") -> None:
        """Send ``alignment``, with no displacement over the corners of the fixed image's ``grid``, if it is due."""
        nodes = grid.resized(tuple(min(n, 2) for n in grid.shape))
        field = DisplacementField(np.zeros((*nodes.shape, 3), np.float32), nodes)
        self._hand_on(lambda: Preview(field, alignment, stage))

    def _hand_on(self, make: Callable[[], Preview]) -> None:
        if not self.is_due():
            return
        self._last = self._clock()
        try:
            self._send(make())
        finally:
            self.count += 1
            self.seconds += self._clock() - self._last


@torch.inference_mode()
def reduced(displacement: Tensor, pair: Pair) -> DisplacementField:
    """The displacement at the nodes of :func:`preview_shape`, or at its own on axes where it has fewer.

    It is smooth already: reading it at the nodes costs a tenth of what smoothing all of it against aliasing would.
    """
    displacement, old = displacement.detach(), tuple(displacement.shape[2:])
    shape = tuple(min(n, most) for n, most in zip(old, preview_shape(pair), strict=True))
    steps = [(n - 1) / (new - 1) if new > 1 else 1.0 for n, new in zip(old, shape, strict=True)]
    steps = displacement.new_tensor(steps).view(1, -1, *(1,) * len(shape))
    coarse = spatial.sample(displacement, spatial.identity(shape, displacement) * steps, padding="border")
    return DisplacementField.from_voxels(coarse / steps, pair.level_grid(shape))


def preview_shape(pair: Pair) -> tuple[int, ...]:
    """The finest of the pair's levels that has at most :data:`MOST_NODES`."""
    factor = max(1.0, (math.prod(pair.shape) / MOST_NODES) ** (1 / len(pair.shape)) / 2)
    while math.prod(pair.level_shape(factor)) > MOST_NODES:
        factor *= 1.05
    return pair.level_shape(factor)
