"""Scores one registration and prints one line of JSON; OUT holds what ``peers/linear.py`` writes.

python affine_score.py warped FOLDER OUT                        FOLDER as affine_prepare.py leaves it
python affine_score.py pair MOVING_LABELS FIXED_LABELS OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def warped(folder: Path, out: Path) -> dict[str, float]:
    """The mean corner error in mm, with what it was before."""
    from affine_warps import error

    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    known, corners = np.array(truth["matrix"]), np.array(truth["corners"])
    found = _found(out)
    matrix = np.array(found["matrix"])
    return {
        "error_mm": error(matrix, known, corners),
        "before_mm": error(np.eye(4), known, corners),
        **_times(found),
    }


def pair(moving_labels: str, fixed_labels: str, out: Path) -> dict[str, float]:
    """The mean Dice of the labels that both images have."""
    from regnet import metrics

    files = (fixed_labels, moving_labels, out / "labels.nii.gz")
    truth, moving, carried = (sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files)
    labels = metrics.shared_labels(truth, moving)
    dice = list(metrics.dice(truth, carried, labels).values())
    return {"dice": float(np.mean(dice)), "labels": len(labels), **_times(_found(out))}


def _found(out: Path) -> dict:
    return json.loads((out / "affine.json").read_text(encoding="utf-8"))


def _times(found: dict) -> dict[str, float]:
    return {key: found[key] for key in ("seconds", "cpu_seconds")}


if __name__ == "__main__":
    kind, *arguments, last = sys.argv[1:]
    print(json.dumps(warped(Path(*arguments), Path(last)) if kind == "warped" else pair(*arguments, Path(last))))
