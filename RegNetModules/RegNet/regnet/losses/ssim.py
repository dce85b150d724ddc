"""Structural similarity, for images that should look alike: a fused one and its source, a warped one and the truth."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ModelError
from ..image_quality import STABILISERS, cut_window, gaussian_window
from ..spatial import along_axis


@dataclass(frozen=True)
class SSIM:
    """One less the mean structural similarity of two images, in [0, 2], to be minimised (Wang 2004, equation 13).

    The same number as :func:`regnet.image_quality.ssim`, with the same border: the mean is over Gaussian windows that
    lie inside the image, cut to it along an axis that is thinner.

    Args:
        sigma: standard deviation of the window in voxels; the published 1.5 makes it 11 wide.
        data_range: largest possible value less the smallest.

    >>> import torch
    >>> image = torch.rand(1, 1, 16, 18, 20)
    >>> bool(SSIM()(image, image).abs() < 1e-5)
    True
    """

    sigma: float = 1.5
    data_range: float = 1.0

    def __post_init__(self) -> None:
        try:
            gaussian_window(self.sigma)
        except InputError as error:
            raise ModelError(str(error)) from error
        if not self.data_range > 0:
            raise ModelError(f"The range of the data must be above 0, not {self.data_range}.")

    def __call__(self, fixed: Tensor, moving: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss of two images (B, C, *shape), 2D or 3D; ``mask`` (B or 1, 1, *shape) weighs the windows by its value at
        their centres."""
        if fixed.shape != moving.shape or fixed.ndim not in (4, 5):
            raise ModelError(
                "Images to compare must have one shape (batch, channel, ...) with two or three axes,"
                f" not {tuple(fixed.shape)}, {tuple(moving.shape)}."
            )
        # Variances are small differences of large numbers: half precision would leave little of them.
        with torch.autocast(fixed.device.type, enabled=False):
            values = self._map(*(x if x.dtype == torch.float64 else x.float() for x in (fixed, moving)))
            if mask is None:
                return 1.0 - values.mean()
            weight = _inner(mask.to(values.dtype), values.shape[2:]).expand_as(values)
            return 1.0 - (values * weight).sum() / weight.sum().clamp(min=1e-6)

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        """SSIM of every window inside the images."""
        fields = torch.cat([x, y, x * x, y * y, x * y], dim=1)
        for axis, n in enumerate(x.shape[2:]):
            fields = along_axis(fields, _window_matrix(n, float(self.sigma), fields.dtype, fields.device), axis)
        mean_x, mean_y, square_x, square_y, product = fields.chunk(5, dim=1)
        first, second = ((k * self.data_range) ** 2 for k in STABILISERS)
        both, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        brightness = (2.0 * both + first) / (squares + first)
        return brightness * (2.0 * (product - both) + second) / (square_x + square_y - squares + second)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _window_matrix(n: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(windows, n) matrix of the weights of every window inside a line of ``n``."""
    weights = torch.from_numpy(cut_window(gaussian_window(sigma), n))
    windows = n - len(weights) + 1
    matrix = torch.zeros(windows, n, dtype=torch.float64)
    for row in range(windows):
        matrix[row, row : row + len(weights)] = weights
    return matrix.to(device=device, dtype=dtype)


def _inner(mask: Tensor, shape: torch.Size) -> Tensor:
    """``mask`` (B, 1, *whole) at the centres of the windows, of which there are ``shape``."""
    for axis, part in enumerate(shape, start=2):
        mask = mask.narrow(axis, (mask.shape[axis] - part) // 2, part)
    return mask
