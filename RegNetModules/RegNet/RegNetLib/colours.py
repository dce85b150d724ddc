"""The colours in which Slicer shows a volume, for models that keep them."""

from __future__ import annotations

import numpy as np

LEVELS = 256
"""Of the slice views: window and level make a byte of each value, which the colour table colours."""
LEAST_COLOUR = 1e-3
"""Red, green and blue of a grey differ by less."""


def colours_of(volume) -> dict | None:
    """A volume's colour table between the ends of its window, as the worker's protocol has it.

    None for a volume that is shown in greys, or not as one value per voxel.
    """
    display = volume.GetDisplayNode()
    if display is None or not display.IsA("vtkMRMLScalarVolumeDisplayNode"):
        return None
    node = display.GetColorNode()
    table = node.GetLookupTable() if node is not None else None
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    if table is None or low == high:
        return None
    rows = _rows(table)
    if np.ptp(rows, axis=1).max() < LEAST_COLOUR:
        return None
    if bool(display.GetInvertDisplayScalarRange()) != (high < low):  # a window that runs backwards inverts, too
        rows = rows[::-1]
    return {"low": min(low, high), "high": max(low, high), "colours": rows.tolist()}


def _rows(table) -> np.ndarray:
    """Red, green and blue in [0, 1] of every level, (LEVELS, 3), with the steps of a table of few colours."""
    own = table.NewInstance()
    own.DeepCopy(table)
    own.SetRange(0.0, LEVELS - 1.0)
    rows, colour = np.empty((LEVELS, 3)), [0.0, 0.0, 0.0]
    for level in range(LEVELS):
        own.GetColor(float(level), colour)
        rows[level] = colour
    return rows
