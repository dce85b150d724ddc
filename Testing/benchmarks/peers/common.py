"""What every peer script shares: one command line, and one way from a transform to what is scored.

    python -m peers.NAME register FIXED MOVING OUT [options]  timed: from image files to a transform on disk
    python -m peers.NAME apply FIXED MOVING OUT [options]     not timed: displacement (and labels) on the fixed grid

``apply`` writes ``displacement.npy`` (D, H, W, 3), float32, LPS mm, fixed → moving, the *whole* transform at every
voxel of the fixed image. With ``--labels FILE`` it also writes ``labels.nii.gz``, the moving labels at those points by
nearest neighbour. The same code does it for every peer, so that none gains or loses by how its own tools resample.

They run as modules, in the folder above: run by path, ``ants.py`` would find itself when it imports ``ants``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path


def threads() -> int:
    """How many threads a peer may use; the runner sets it, with the variables that libraries read themselves."""
    return int(os.environ.get("BENCH_THREADS", "2"))


def main(register: Callable, dense: Callable, options: Callable[[argparse.ArgumentParser], None] | None = None) -> None:
    """Command line of a peer.

    Args:
        register: ``register(fixed, moving, out, options)``, paths; leaves its transform in the folder ``out``.
        dense: ``dense(fixed, moving, out, options)`` → displacement (D, H, W, 3) in LPS mm, or a SimpleITK transform
            of fixed to moving points.
        options: adds the peer's own arguments to a parser.
    """
    parser = argparse.ArgumentParser()
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("register", "apply"):
        sub = actions.add_parser(action)
        for name in ("fixed", "moving", "out"):
            sub.add_argument(name, type=Path)
        if action == "apply":
            sub.add_argument("--labels", type=Path, help="label map of the moving image")
        if options is not None:
            options(sub)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.action == "register":
        register(given.fixed, given.moving, given.out, given)
    else:
        apply(given.fixed, given.labels, given.out, dense(given.fixed, given.moving, given.out, given))


def apply(fixed: Path, labels: Path | None, out: Path, transform) -> None:
    """Write the displacement and the moving labels, if any, on the grid of ``fixed``; see the top of this file."""
    import numpy as np
    import SimpleITK as sitk

    reference = sitk.ReadImage(str(fixed))
    if isinstance(transform, sitk.Transform):
        field = sitk.TransformToDisplacementField(
            transform,
            sitk.sitkVectorFloat64,
            reference.GetSize(),
            reference.GetOrigin(),
            reference.GetSpacing(),
            reference.GetDirection(),
        )
    else:
        field = sitk.GetImageFromArray(np.asarray(transform, dtype=np.float64), isVector=True)
        field.CopyInformation(reference)
    np.save(out / "displacement.npy", sitk.GetArrayFromImage(field).astype(np.float32))
    if labels is None:
        return
    moving = sitk.ReadImage(str(labels))
    pull = sitk.DisplacementFieldTransform(field)
    warped = sitk.Resample(moving, reference, pull, sitk.sitkNearestNeighbor, 0, moving.GetPixelID())
    sitk.WriteImage(warped, str(out / "labels.nii.gz"))
