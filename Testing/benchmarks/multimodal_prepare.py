"""Makes the images of one case: ``python multimodal_prepare.py FOLDER``, which holds its ``case.json``.

Writes ``fixed.nii.gz``, ``moving.nii.gz`` and ``foreground.nii.gz`` there, and ``ready`` last. The moving image of a
warped case is M'(y) = M(T(y)): the moving contrast M, which shares its space with the fixed image, interpolated
linearly once, on a grid with M's spacing and directions that holds everything M shows. Where M shows nothing, M' has
the value of M's corners (not its least: images filtered after skull-stripping undershoot it).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import warps
from scipy import ndimage

MARGIN = 2  # voxels of background around what the warped image shows
CONTENT = 0.01  # of the range of values: what differs more than this from the background is shown


def prepare(folder: Path) -> None:
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    fixed, moving = (
        image(path, distance) for path, distance in zip((case["fixed"], case["moving"]), case["slices"], strict=True)
    )
    if case["warp"] is not None:
        moving = warped(moving, warps.read()[case["warp"]], middle(fixed))
    if case["noise"]:
        moving = noisy(moving, case["noise"], case["warp"])
    sitk.WriteImage(fixed, str(folder / "fixed.nii.gz"))
    sitk.WriteImage(moving, str(folder / "moving.nii.gz"))
    mask = sitk.GetImageFromArray(foreground(sitk.GetArrayFromImage(fixed), case["foreground"]).astype(np.uint8))
    mask.CopyInformation(fixed)
    sitk.WriteImage(mask, str(folder / "foreground.nii.gz"))
    (folder / "ready").touch()


def image(path: str, slices: float | None) -> sitk.Image:
    """The image as float32, with the distance of its slices put right to ``slices`` mm unless that is None."""
    found = sitk.ReadImage(path, sitk.sitkFloat32)
    if slices is not None:
        found.SetSpacing((*found.GetSpacing()[:2], slices))
    return found


def middle(fixed: sitk.Image) -> np.ndarray:
    """The centre of the image's box in LPS mm, which the warps turn about."""
    return np.array(fixed.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in fixed.GetSize()]))


def foreground(array: np.ndarray, kind: str) -> np.ndarray:
    """Where errors count: ``positive`` values, or the ``body``.

    The body is the largest connected part above Otsu's threshold, with what it encloses in an axial slice: lungs, and
    the brain in a CT of the head.
    """
    if kind == "positive":
        return array > 0
    above = sitk.GetArrayFromImage(sitk.OtsuThreshold(sitk.GetImageFromArray(array), 0, 1)) > 0
    parts, _ = ndimage.label(above)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.stack([ndimage.binary_fill_holes(plane) for plane in parts == sizes.argmax()])


def background(moving: sitk.Image) -> float:
    array = sitk.GetArrayViewFromImage(moving)
    return float(np.median(array[np.ix_(*[(0, -1)] * 3)]))


def shown(array: np.ndarray, empty: float) -> tuple[slice, ...]:
    """The box of all voxels that are not background."""
    content = np.abs(array - empty) > CONTENT * (array.max() - array.min())
    return ndimage.find_objects(content.astype(np.uint8))[0]


def warped(moving: sitk.Image, warp: warps.Warp, centre: np.ndarray) -> sitk.Image:
    """M'(y) = M(T(y)) on a grid that holds everything that ``moving`` shows; see the top of this file."""
    empty = background(moving)
    grid = room(moving, shown(sitk.GetArrayViewFromImage(moving), empty), warp, centre)
    points = voxels(grid)
    field = sitk.GetImageFromArray((warp(points, centre) - points).reshape(*grid.GetSize()[::-1], 3), isVector=True)
    field.CopyInformation(grid)
    result = sitk.Resample(moving, grid, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, empty)
    box = shown(sitk.GetArrayViewFromImage(result), empty)[::-1]
    low = [max(part.start - MARGIN, 0) for part in box]
    high = [min(part.stop + MARGIN, size) for part, size in zip(box, result.GetSize(), strict=True)]
    return result[low[0] : high[0], low[1] : high[1], low[2] : high[2]]


def room(moving: sitk.Image, box: tuple[slice, ...], warp: warps.Warp, centre: np.ndarray) -> sitk.Image:
    """An empty image like ``moving`` that covers wherever the warp may put what lies in ``box``."""
    reach = warps.DISPLACEMENT[1] / np.array(moving.GetSpacing())
    low = [part.start for part in box[::-1]] - reach - 1
    high = [part.stop for part in box[::-1]] + reach
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    axes = np.array(moving.GetDirection()).reshape(3, 3) * moving.GetSpacing()
    back = warp.turned_back(corners @ axes.T + moving.GetOrigin(), centre)
    index = (back - moving.GetOrigin()) @ np.linalg.inv(axes).T
    first, last = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0))
    grid = sitk.Image([int(n) for n in last - first + 1], sitk.sitkUInt8)
    grid.SetDirection(moving.GetDirection())
    grid.SetSpacing(moving.GetSpacing())
    grid.SetOrigin((axes @ first + moving.GetOrigin()).tolist())
    return grid


def voxels(grid: sitk.Image) -> np.ndarray:
    """World points (N, 3) of all voxels, in the order of the array."""
    axes = np.array(grid.GetDirection()).reshape(3, 3) * grid.GetSpacing()
    index = np.stack(np.meshgrid(*map(np.arange, grid.GetSize()[::-1]), indexing="ij")[::-1], axis=-1)
    return index.reshape(-1, 3) @ axes.T + grid.GetOrigin()


def noisy(clean: sitk.Image, deviation: float, seed: int) -> sitk.Image:
    """Gaussian noise, from a generator whose stream never changes."""
    array = sitk.GetArrayFromImage(clean)
    array += np.random.RandomState(seed).normal(0, deviation, array.shape).astype(np.float32)
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(clean)
    return result


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
