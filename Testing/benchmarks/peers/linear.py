"""What the peers of the affine benchmark share: one command line, and one way from a matrix to what is scored.

    python -m peers.NAME register FIXED MOVING OUT [options]  writes OUT/affine.json
    python -m peers.NAME apply FIXED MOVING OUT [options]     with --labels FILE: OUT/labels.nii.gz, not timed

``affine.json`` holds ``matrix``, 4×4, fixed to moving points in LPS mm, and what its :class:`Clock` says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path


class Clock:
    """Runs from its making, with both images in memory, to ``stop()``, with the transform found.

    So ``seconds``, and the processor time of all threads ``cpu_seconds``, are without starting the program, importing
    libraries, and reading files.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()
        self.seconds = self.cpu_seconds = 0.0

    def stop(self) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._started[0], time.process_time() - self._started[1]


def main(find: Callable, options: Callable[[argparse.ArgumentParser], None] | None = None) -> None:
    """Command line of a peer.

    Args:
        find: ``find(fixed, moving, out, options)``, paths → (matrix, stopped clock); ``out`` is a folder for its files.
        options: adds the peer's own arguments to a parser.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("register", "apply"))
    for name in ("fixed", "moving", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--labels", type=Path, help="label map of the moving image")
    if options is not None:
        options(parser)
    given = parser.parse_args()
    file = given.out / "affine.json"
    if given.action == "register":
        given.out.mkdir(parents=True, exist_ok=True)
        matrix, clock = find(given.fixed, given.moving, given.out, given)
        times = {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds}
        file.write_text(json.dumps({"matrix": [list(map(float, row)) for row in matrix], **times}))
    elif given.labels is not None:
        carry(json.loads(file.read_text())["matrix"], given.labels, given.fixed, given.out / "labels.nii.gz")


def carry(matrix: list[list[float]], labels: Path, fixed: Path, target: Path) -> None:
    """Write the moving ``labels`` on the grid of ``fixed``, by nearest neighbour."""
    import SimpleITK as sitk

    moving = sitk.ReadImage(str(labels))
    pull = sitk.AffineTransform(3)
    pull.SetMatrix([value for row in matrix[:3] for value in row[:3]])
    pull.SetTranslation([row[3] for row in matrix[:3]])
    reference = sitk.ReadImage(str(fixed))
    warped = sitk.Resample(moving, reference, pull, sitk.sitkNearestNeighbor, 0, moving.GetPixelID())
    sitk.WriteImage(warped, str(target))


def matrix_of(transform):
    """4×4 from a linear SimpleITK transform of any kind."""
    import numpy as np

    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        matrix[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - matrix[:3, 3]
    return matrix
