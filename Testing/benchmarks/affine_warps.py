"""The fifty warps of the affine benchmark, a pure function of their numbers, and how far a found transform is off.

Warp A takes a point x of the fixed image to A(x) = c + t + R S (x - c), the point of the moving image that shows the
same: c is the middle of the fixed image's box, S scales along the image's own axes i, j and k, R turns about k, then j,
then i, and t shifts along them. In LPS millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from affine_cases import WARPS
from multimodal_prepare import middle
from scipy import ndimage

DEGREES, SCALE, SHIFT = 30.0, 0.15, 0.2  # about, and along, each axis; the shift in shares of the image's extent
GAMMA = 1.25  # the largest exponent of the moving image's values; the smallest is one over it
SEED = 50
CONTENT = 0.1  # of the normalised range: what is brighter belongs to the content


@dataclass(frozen=True)
class Warp:
    """``degrees`` about, ``scale`` and ``shift`` (shares of the extent) along i, j, k; ``gamma`` of the values."""

    degrees: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    gamma: float

    def matrix(self, fixed: sitk.Image) -> np.ndarray:
        """A as a 4×4 matrix, fixed to moving points."""
        axes = np.array(fixed.GetDirection()).reshape(3, 3)
        extent = np.array(fixed.GetSize()) * fixed.GetSpacing()
        centre, result = middle(fixed), np.eye(4)
        result[:3, :3] = axes @ turned(self.degrees) @ np.diag(self.scale) @ axes.T
        result[:3, 3] = centre + axes @ (self.shift * extent) - result[:3, :3] @ centre
        return result


def turned(degrees: np.ndarray) -> np.ndarray:
    """3×3 rotation: about the third axis, then the second, then the first."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def drawn() -> list[Warp]:
    """All warps; the stream of this generator is frozen for good."""
    rows = np.random.RandomState(SEED).uniform(-1, 1, (WARPS, 10))
    return [Warp(DEGREES * r[:3], 1 + SCALE * r[3:6], SHIFT * r[6:9], float(GAMMA ** r[9])) for r in rows]


def normalised(array: np.ndarray) -> np.ndarray:
    """Values with the 0.1 and 99.9 percentiles at 0 and 1, and clamped there."""
    low, high = np.percentile(array, (0.1, 99.9))
    return np.clip((array - low) / max(high - low, 1e-9), 0, 1)


def content_corners(image: sitk.Image) -> np.ndarray:
    """World points (8, 3): corners of the box of the largest connected part with normalised values above CONTENT."""
    parts, _ = ndimage.label(normalised(sitk.GetArrayFromImage(image)) > CONTENT)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    box = ndimage.find_objects((parts == sizes.argmax()).astype(np.uint8))[0][::-1]
    corners = np.stack(np.meshgrid(*[(part.start, part.stop - 1) for part in box], indexing="ij"), -1).reshape(-1, 3)
    return np.array([image.TransformContinuousIndexToPhysicalPoint(corner.tolist()) for corner in corners * 1.0])


def error(found: np.ndarray, truth: np.ndarray, corners: np.ndarray) -> float:
    """Mean distance in mm, over the ``corners`` (N, 3), between where two 4×4 matrices lead."""
    difference = corners @ (found - truth)[:3, :3].T + (found - truth)[:3, 3]
    return float(np.linalg.norm(difference, axis=1).mean())
