"""Colours for the values of an image, as a viewer shows them: a PET in orange, say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError

ENTRIES = 256
"""Of a table made from a named map."""


@dataclass(frozen=True)
class ColourTable:
    """``colours``: rows of red, green, blue in [0, 1], the first for values up to ``low``, the last from ``high`` on;
    in between they are interpolated linearly.

    >>> table = ColourTable(0.0, 10.0, ((0, 0, 0), (1, 0.5, 0)))
    >>> table.apply(torch.tensor([-3.0, 5.0, 20.0]).view(1, 1, 3)).squeeze().tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.25, 0.5], [0.0, 0.0, 0.0]]

    Raises:
        InputError: fewer than two colours, values outside [0, 1], or ``high`` not above ``low``.
    """

    low: float
    high: float
    colours: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        rows = tuple(tuple(float(value) for value in row) for row in self.colours)
        if len(rows) < 2 or any(len(row) != 3 or not all(0.0 <= value <= 1.0 for value in row) for row in rows):
            raise InputError("A colour table is two or more rows of red, green and blue, each from 0 to 1.")
        if not self.high > self.low:
            raise InputError(f"A colour table begins at {self.low:g} and has to end above, not at {self.high:g}.")
        object.__setattr__(self, "colours", rows)

    @classmethod
    def named(cls, name: str, low: float, high: float) -> ColourTable:
        """The colour map of that name in matplotlib, for values from ``low`` to ``high``.

        Raises:
            InputError: there is none.
        """
        import matplotlib

        try:
            found = matplotlib.colormaps[name].resampled(ENTRIES)
        except KeyError:
            raise InputError(
                f"There is no colour map {name!r}; inferno, hot, viridis and the others of matplotlib can be had."
            ) from None
        return cls(low, high, [found(entry)[:3] for entry in range(ENTRIES)])

    @property
    def is_grey(self) -> bool:
        """Whether every entry is a grey."""
        return all(max(row) - min(row) < 1e-3 for row in self.colours)

    def apply(self, values: Tensor) -> Tensor:
        """``values`` (1, *shape) in colour, (3, *shape) float32 in [0, 1]."""
        table = torch.tensor(self.colours, dtype=torch.float32, device=values.device)
        place = ((values[0].float() - self.low) / (self.high - self.low)).clamp(0.0, 1.0) * (len(table) - 1)
        below = place.floor().long().clamp_(max=len(table) - 2)
        part = (place - below)[..., None]
        return (table[below] * (1.0 - part) + table[below + 1] * part).movedim(-1, 0)
