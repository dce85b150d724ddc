"""Small anatomies, images and settings for the tests of synthetic pairs."""

from __future__ import annotations

import numpy as np
import torch
from regnet.synth.pairs import PairSettings
from regnet.synth.shapes import random_shapes
from scipy import ndimage

SHAPES = [(46, 58), (30, 38, 34)]
CLEAN = {"blur": [0.2, 0.2], "bias": 0, "noise": 0, "gamma": 0}
CLEAN |= {"thick_share": 0, "crop_share": 0, "lesion_share": 0}
PLAIN = {"artefacts": CLEAN, "contrast": {"texture": 0, "background": 0, "jitter": 0}, "strip": 0}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def anatomy(shape, seed=0, batch=1, count=6):
    return random_shapes([n + 8 for n in shape], seeded(seed), count, (0.35, 0.5), batch=batch)


def quarters(shape, batch=1):
    """A block in the middle of the grid, cut in four labels."""
    labels = torch.zeros(batch, 1, *shape, dtype=torch.int64)
    inner = tuple(slice(n // 6, n - n // 6) for n in shape)
    halves = [torch.arange(n) >= n // 2 for n in shape[-2:]]
    labels[(..., *inner)] = (1 + halves[0][:, None] + 2 * halves[1].long()).expand(shape)[inner]
    return labels


def smooth_image(shape, seed=0):
    """In [0, 1], falling to 0 at the border."""
    noise = np.random.default_rng(seed).uniform(size=shape)
    blurred = ndimage.gaussian_filter(noise, 3.0)
    values = (blurred - blurred.min()) / np.ptp(blurred)
    for axis, n in enumerate(shape):
        window = np.clip(np.sin(np.pi * np.arange(n) / (n - 1)), 0, None)
        values = values * np.moveaxis(window.reshape(-1, *(1,) * (len(shape) - 1)), 0, axis)
    values = values / values.max()
    return torch.from_numpy(values.astype(np.float32))[None, None]


def settings(shape, **changes):
    return PairSettings.from_dict({"shape": list(shape), **PLAIN, **changes})
