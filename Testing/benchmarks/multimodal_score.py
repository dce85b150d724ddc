"""Scores one registration: ``python multimodal_score.py CASE OUT`` prints one line of JSON.

``CASE`` is the folder that ``multimodal_prepare.py`` filled; ``OUT`` holds ``displacement.npy`` as ``peers/common.py``
writes it: φ(x) = x + u(x) takes fixed to moving points.

A warped case knows T, which takes a point of the moving image back to where it was in the fixed one. So the remaining
error at x is |T(φ(x)) - x| in mm: nothing is inverted. It counts at every voxel of the foreground. A case with
landmarks has the distance of φ(fixed landmark) to the moving landmark instead. ``before_mm`` is the mean with φ(x) = x.
Where a method has left a ``synthetic.nii.gz``, the moving image in the fixed one's contrast, PSNR and SSIM compare the
two over the foreground, intensities scaled as RegNet scales them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import landmarks
import numpy as np
import SimpleITK as sitk
import warps
from multimodal_prepare import middle, voxels
from scipy.ndimage import map_coordinates
from score import regularity


def score(folder: Path, out: Path) -> dict[str, float]:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    fixed = sitk.ReadImage(str(folder / "fixed.nii.gz"))
    inside = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "foreground.nii.gz"))) > 0
    displacement = np.load(out / "displacement.npy", mmap_mode="r")
    if case["warp"] is None:
        result = targets(case["landmarks"], fixed, displacement)
    else:
        result = remaining(warps.read()[case["warp"]], fixed, displacement, inside)
    return {**result, **regularity(displacement, fixed, inside), **translation(folder, out, inside)}


def translation(folder: Path, out: Path, inside: np.ndarray) -> dict[str, float]:
    """How near the translated moving image is to the fixed one, if there is one."""
    if not (out / "synthetic.nii.gz").is_file():
        return {}
    from regnet.image import Image
    from regnet.image_quality import psnr, ssim

    truth = Image.read(folder / "fixed.nii.gz").normalized().data[0].numpy()
    made = Image.read(out / "synthetic.nii.gz").data[0].numpy()
    return {"psnr": psnr(made, truth, mask=inside), "ssim": ssim(made, truth, mask=inside)}


def remaining(warp: warps.Warp, fixed: sitk.Image, displacement: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """The error at the voxels ``inside`` before and after registration."""
    points, centre = voxels(fixed)[inside.ravel()], middle(fixed)
    after = np.linalg.norm(warp(points + displacement[inside], centre) - points, axis=1)
    before = np.linalg.norm(warp(points, centre) - points, axis=1)
    return summary(after, before)


def targets(files: dict[str, list[str]], fixed: sitk.Image, displacement: np.ndarray) -> dict[str, float]:
    """The error of all landmarks, and the mean of each kind as ``KIND_mm`` and ``KIND_before_mm``."""
    after, before, result = [], [], {}
    for kind, both in files.items():
        start, goal = (np.array(landmarks.read(Path(file))) for file in both)
        after.append(np.linalg.norm(mapped(start, fixed, displacement) - goal, axis=1))
        before.append(np.linalg.norm(start - goal, axis=1))
        result[f"{kind}_mm"], result[f"{kind}_before_mm"] = float(after[-1].mean()), float(before[-1].mean())
    return {**summary(np.concatenate(after), np.concatenate(before)), **result}


def mapped(points: np.ndarray, fixed: sitk.Image, displacement: np.ndarray) -> np.ndarray:
    """φ at world ``points`` (N, 3): linear between voxels, and beyond the grid as at its border."""
    axes = np.array(fixed.GetDirection()).reshape(3, 3) * fixed.GetSpacing()
    index = (np.linalg.inv(axes) @ (points - fixed.GetOrigin()).T)[::-1]
    parts = [map_coordinates(displacement[..., i].astype(float), index, order=1, mode="nearest") for i in range(3)]
    return points + np.stack(parts, axis=1)


def summary(after: np.ndarray, before: np.ndarray) -> dict[str, float]:
    return {
        "mean_mm": float(after.mean()),
        "median_mm": float(np.median(after)),
        "p95_mm": float(np.percentile(after, 95)),
        "max_mm": float(after.max()),
        "before_mm": float(before.mean()),
        "before_p95_mm": float(np.percentile(before, 95)),
        "points": len(after),
    }


if __name__ == "__main__":
    print(json.dumps(score(Path(sys.argv[1]), Path(sys.argv[2]))))
