"""A synthetic volume whose picture is easy to predict."""

from __future__ import annotations

import numpy as np

SHAPE = (20, 26, 32)


def add_block(name: str, box=((6, 14), (7, 19), (9, 23)), value: float = 100.0):
    """A block of constant intensity on a black ground; 1 mm voxels, RAS axes."""
    import slicer

    data = np.zeros(SHAPE, "float32")
    data[tuple(slice(*edges) for edges in box)] = value
    node = slicer.util.addVolumeFromArray(data, np.diag([1.0, 1.0, 1.0, 1.0]), name)
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(200.0, 100.0)
    return node
