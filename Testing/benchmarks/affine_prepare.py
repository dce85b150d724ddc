"""Makes the moving image of one case: ``python affine_prepare.py FOLDER``, which holds its ``case.json``.

Writes ``moving.nii.gz`` and ``truth.json`` there, and ``ready`` last. The moving image is M'(y) = M(A⁻¹(y)): the moving
contrast M, interpolated linearly once, on a fresh grid of M's spacing and directions that holds both M's own box and
all that M shows, moved. Where M shows nothing, M' has the value of M's corners. Then its values get a mild gamma and
noise of 2 % of their range, the noise only where M' shows something: what is skull-stripped stays so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import affine_warps as warps
import numpy as np
import SimpleITK as sitk
from multimodal_prepare import background, shown

NOISE = 0.02


def prepare(folder: Path) -> None:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    fixed, moving = (sitk.ReadImage(case[key], sitk.sitkFloat32) for key in ("fixed", "moving"))
    warp = warps.drawn()[case["warp"]]
    truth = warp.matrix(fixed)
    sitk.WriteImage(moved(moving, truth, warp.gamma, case["warp"]), str(folder / "moving.nii.gz"))
    known = {"matrix": truth.tolist(), "corners": warps.content_corners(fixed).tolist()}
    (folder / "truth.json").write_text(json.dumps(known), encoding="utf-8")
    (folder / "ready").touch()


def moved(scan: sitk.Image, truth: np.ndarray, gamma: float, seed: int) -> sitk.Image:
    """M' of ``scan``; ``truth`` is A, 4×4."""
    empty = background(scan)
    pull = sitk.AffineTransform(3)
    back = np.linalg.inv(truth)
    pull.SetMatrix(back[:3, :3].ravel().tolist())
    pull.SetTranslation(back[:3, 3].tolist())
    clean = sitk.Resample(scan, room(scan, truth, empty), pull, sitk.sitkLinear, empty)
    array = sitk.GetArrayFromImage(clean)
    result = sitk.GetImageFromArray(altered(array, array != empty, gamma, seed))
    result.CopyInformation(clean)
    return result


def room(scan: sitk.Image, truth: np.ndarray, empty: float) -> sitk.Image:
    """An empty image on the lattice of ``scan`` that covers it, and wherever A puts what it shows."""
    box = shown(sitk.GetArrayViewFromImage(scan), empty)[::-1]
    ends = [(part.start - 1, part.stop) for part in box]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    axes = np.array(scan.GetDirection()).reshape(3, 3) * scan.GetSpacing()
    points = (corners @ axes.T + scan.GetOrigin()) @ truth[:3, :3].T + truth[:3, 3]
    index = (points - scan.GetOrigin()) @ np.linalg.inv(axes).T
    first = np.minimum(np.floor(index.min(axis=0)), 0)
    last = np.maximum(np.ceil(index.max(axis=0)), np.array(scan.GetSize()) - 1)
    grid = sitk.Image([int(n) for n in last - first + 1], sitk.sitkUInt8)
    grid.SetDirection(scan.GetDirection())
    grid.SetSpacing(scan.GetSpacing())
    grid.SetOrigin((axes @ first + scan.GetOrigin()).tolist())
    return grid


def altered(array: np.ndarray, something: np.ndarray, gamma: float, seed: int) -> np.ndarray:
    """``array`` with a gamma and, where it shows ``something``, noise; from a generator whose stream never changes."""
    low, high = np.percentile(array, (0.1, 99.9))
    values = warps.normalised(array) ** gamma
    values[something] += np.random.RandomState(seed).normal(0, NOISE, int(something.sum()))
    return (low + (high - low) * values).astype(np.float32)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
