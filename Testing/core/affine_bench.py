"""What the tests of the affine benchmark share: its modules, and an image to move."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def blobs(seed: int = 0, shape: tuple[int, int, int] = (20, 44, 36)) -> sitk.Image:
    """A textured bright body on background 0, off the middle of an oblique grid of 3 × 2 × 4 mm."""
    array = np.zeros(shape, np.float32)
    array[3:-5, 6:-10, 6:-8] = 100 + 400 * gaussian_filter(np.random.RandomState(seed).normal(size=(12, 28, 22)), 2)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((3.0, 2.0, 4.0))
    image.SetOrigin((-40.0, 15.0, 100.0))
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3).GetMatrix())
    return image


def affine(matrix: np.ndarray) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform
