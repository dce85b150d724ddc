"""What the networks share: layers by dimension, and padding to what strided layers need."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as functional
from torch import Tensor, nn

from ..errors import ModelError

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_DECONVOLUTIONS = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
SLOPE = 0.2
"""Of leaky rectifiers."""
_ADAPTIVE_POOLS = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def check_dims(dims: int) -> int:
    if dims not in _CONVOLUTIONS:
        raise ModelError(f"Networks work on images of 2 or 3 dimensions, not {dims}.")
    return dims


def convolution(dims: int, inputs: int, outputs: int, stride: int = 1, padding: str = "zeros") -> nn.Module:
    """A convolution of side 3 that keeps the size, or halves it upwards (``ceil``) with stride 2.

    ``padding``: PyTorch's name for what lies beyond the border.
    """
    return _CONVOLUTIONS[dims](inputs, outputs, 3, stride, 1, padding_mode=padding)


def doubling(dims: int, inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution of side 2 that doubles every size."""
    return _DECONVOLUTIONS[dims](inputs, outputs, 2, 2)


def halving(dims: int) -> nn.Module:
    return _POOLS[dims](2)


def adaptive_pool(dims: int, size: Sequence[int]) -> nn.Module:
    return _ADAPTIVE_POOLS[dims](tuple(size))


def keep_variance(network: nn.Module) -> None:
    """Initialise for rectifiers (He et al., ICCV 2015): features vary as much after many layers as before.

    With PyTorch's own start a plain network of eight layers hardly sees its input, and takes thousands of steps to.
    """
    for layer in network.modules():
        if isinstance(layer, (*_CONVOLUTIONS.values(), nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, tuple(_DECONVOLUTIONS.values())):
            # Of side and stride 2: each output voxel has one tap for each input channel.
            nn.init.normal_(layer.weight, std=(2.0 / layer.in_channels) ** 0.5)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Zeros after the last voxel of each axis until every size is a multiple; the voxels there are keep their index."""
    missing = [-n % multiple for n in image.shape[2:]]
    if not any(missing):
        return image
    return functional.pad(image, [side for count in reversed(missing) for side in (0, count)])


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def same_pair(moving: Tensor, fixed: Tensor, dims: int) -> None:
    """Raise ``ModelError`` unless both are (B, 1, *shape) of one shape with ``dims`` axes."""
    if moving.shape != fixed.shape or fixed.ndim != dims + 2 or fixed.shape[1] != 1:
        raise ModelError(
            f"The {dims}D network takes two images of one shape (batch, 1, ...), not {tuple(moving.shape)} and "
            f"{tuple(fixed.shape)}; resample the moving image to the fixed grid first."
        )


def to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Border values repeated after the last voxels of (B, C, *shape), up to a multiple of every size."""
    missing = [-n % multiple for n in image.shape[2:]]
    if not any(missing):
        return image
    return functional.pad(image, [side for count in reversed(missing) for side in (0, count)], mode="replicate")


def leaky(features: Tensor) -> Tensor:
    """A leaky rectifier, in place."""
    return functional.leaky_relu(features, SLOPE, inplace=True)
