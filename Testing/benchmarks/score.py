"""Scores one registration: ``python score.py FIXED MOVING_LABELS FIXED_LABELS OUT`` prints one line of JSON.

``OUT`` holds ``displacement.npy`` and ``labels.nii.gz`` as ``peers/common.py`` writes them. Labels that both original
maps contain count; one that the warp has lost counts with Dice 0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from regnet import metrics


def score(fixed: str, moving_labels: str, fixed_labels: str, out: Path) -> dict[str, float]:
    paths = (fixed_labels, moving_labels, out / "labels.nii.gz")
    truth, moving, warped = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths)
    reference = sitk.ReadImage(fixed)
    labels = metrics.shared_labels(truth, moving)
    dice = np.array(list(metrics.dice(truth, warped, labels).values()))
    hd95 = np.array(list(metrics.hd95(truth, warped, reference.GetSpacing()[::-1], labels).values()))
    return {
        "dice": float(dice.mean()),
        "dice_median": float(np.median(dice)),
        "hd95_mm": float(hd95[np.isfinite(hd95)].mean()),
        "labels": len(labels),
        "labels_lost": int((~np.isfinite(hd95)).sum()),
        **regularity(np.load(out / "displacement.npy", mmap_mode="r"), reference, truth > 0),
    }


def regularity(displacement: np.ndarray, reference: sitk.Image, inside: np.ndarray) -> dict[str, float]:
    """Folding and spread of volume changes of x ↦ x + u(x), everywhere and in the mask ``inside`` of ``reference``."""
    matrix = np.array(reference.GetDirection()).reshape(3, 3) * reference.GetSpacing()
    determinant = metrics.jacobian_determinant(displacement, matrix)
    return {
        "folding_percent": metrics.folding_percent(determinant),
        "folding_percent_inside": metrics.folding_percent(determinant, inside),
        "folded_voxels": int((~(determinant > 0)).sum()),
        "sdlogj": metrics.sdlogj(determinant),
        "sdlogj_inside": metrics.sdlogj(determinant, inside),
    }


if __name__ == "__main__":
    print(json.dumps(score(*sys.argv[1:4], Path(sys.argv[4]))))
