"""Luminance and colour of images in false colours, such as PET and SPECT: fusion is of the luminance alone.

ITU-R BT.601 over the full range, as in JPEG files: for red, green and blue in [0, 1] the luminance Y is in [0, 1], and
so are the colour differences Cb and Cr, which are 0.5 for grey.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import InputError

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Shares of the luminance."""
GREY = 0.5
_BLUE_RANGE, _RED_RANGE = 2.0 * (1.0 - BLUE), 2.0 * (1.0 - RED)


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """Y, Cb and Cr of red, green and blue, (B, 3, *shape) each.

    >>> orange = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1)
    >>> [round(float(value), 3) for value in rgb_to_ycbcr(orange).flatten()]
    [0.592, 0.166, 0.791]
    """
    red, green, blue = _three(image)
    luminance = RED * red + GREEN * green + BLUE * blue
    differences = [(blue - luminance) / _BLUE_RANGE + GREY, (red - luminance) / _RED_RANGE + GREY]
    return torch.stack([luminance, *differences], dim=1)


def ycbcr_to_rgb(image: Tensor) -> Tensor:
    """Red, green and blue of Y, Cb and Cr, (B, 3, *shape) each: what :func:`rgb_to_ycbcr` is made from.

    With a luminance of another image they may lie outside [0, 1].
    """
    luminance, blue_difference, red_difference = _three(image)
    blue = luminance + (blue_difference - GREY) * _BLUE_RANGE
    red = luminance + (red_difference - GREY) * _RED_RANGE
    green = (luminance - RED * red - BLUE * blue) / GREEN
    return torch.stack([red, green, blue], dim=1)


def _three(image: Tensor) -> tuple[Tensor, ...]:
    if image.ndim < 3 or image.shape[1] != 3 or not image.is_floating_point():
        raise InputError(
            "A colour image has three channels (batch, 3, ...) of floating point numbers, not"
            f" {tuple(image.shape)} of {str(image.dtype).removeprefix('torch.')}."
        )
    return image.unbind(1)
