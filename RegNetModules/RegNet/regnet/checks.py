"""What an input must be before anything is done with it; each refusal is one sentence."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from .errors import InputError
from .image import Image
from .models.base import ModelInfo

LEAST_VOXELS = 16


def as_image(source: Image | str | os.PathLike, role: str, *, labels: bool = False) -> Image:
    """An :class:`Image` as it is, or read from a path."""
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Image.read(Path(source), labels=labels)
    raise InputError(f"The {role} must be an image or a path, not {type(source).__name__}.")


def as_mask(source: Image | str | os.PathLike | None, image: Image, role: str) -> Image | None:
    """A mask of ``image`` as it is, or read from a path, checked; None where there is none."""
    if source is None:
        return None
    mask = as_image(source, f"{role} mask", labels=True)
    check_mask(mask, image, role)
    return mask


def check_image(image: Image, role: str) -> None:
    """Finite, of one channel, not constant, and large enough on every axis.

    Raises:
        InputError: one of these is not so.
    """
    channels = image.data.shape[0]
    if channels != 1:
        raise InputError(f"The {role} image has {channels} channels; give an image with one value per voxel.")
    shape = image.data.shape[1:] if image.ndim == 3 else image.data.shape[2:]
    size = " x ".join(str(n) for n in reversed(shape))
    if image.ndim == 3 and min(shape) == 1:
        raise InputError(
            f"The {role} image is one voxel thick ({size}); give a volume with more slices, or save it as a 2D image."
        )
    if min(shape) < LEAST_VOXELS:
        raise InputError(
            f"The {role} image has only {min(shape)} voxels on an axis ({size}); at least {LEAST_VOXELS} are needed."
        )
    values = image.data
    low, high = (float(end) for end in torch.aminmax(values))
    if not math.isfinite(low + high):
        bad = int((~torch.isfinite(values)).sum())
        raise InputError(f"The {role} image contains {bad} NaN or infinite values; replace them first.")
    if low == high:
        raise InputError(f"The {role} image is empty: every voxel has the value {low:g}.")


def check_pair(fixed: Image, moving: Image, info: ModelInfo) -> None:
    """Both images are usable, of one dimension, and of one that the model takes."""
    check_image(fixed, "fixed")
    check_image(moving, "moving")
    if fixed.ndim != moving.ndim:
        raise InputError(f"The fixed image is {fixed.ndim}D and the moving image {moving.ndim}D; give two of one kind.")
    if fixed.ndim not in info.dimensions:
        allowed = " and ".join(f"{n}D" for n in info.dimensions)
        raise InputError(f"{info.title} registers {allowed} images, not {fixed.ndim}D ones.")


def check_mask(mask: Image, image: Image, role: str) -> None:
    """A mask has one channel, the image's dimension, and something inside."""
    if mask.data.shape[0] != 1 or mask.ndim != image.ndim:
        raise InputError(f"The {role} mask must be a {image.ndim}D image with one value per voxel.")
    if not bool((mask.data > 0).any()):
        raise InputError(f"The {role} mask excludes everything: it has no voxel above 0.")
