"""The multi-Gaussian smoother of AVSM: velocity from momentum, ``v = K m`` (Shen 2019, section 3.2; Risser 2011)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..spatial import along_axis

PAPER_SIGMAS = (0.05, 0.1, 0.15, 0.2, 0.25)
"""Standard deviations of the paper, in coordinates of the unit cube; weights are proportional to them."""

NEGLIGIBLE = 1e-9
"""Frequencies that every Gaussian damps below this are left out."""

_REACH = 8.0
"""Standard deviations at which a sampled Gaussian is cut off: below single precision's rounding."""

PADDING_SIGMAS = 5.0
"""With ``pad``, the period exceeds the grid by this many of the widest standard deviations."""


def relative_extents(shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
    """Length of each axis relative to the longest, for isotropic smoothing of anisotropic grids.

    ``spacing`` is per axis in array order, in any one unit.
    """
    lengths = [(n - 1) * step for n, step in zip(shape, spacing, strict=True)]
    return tuple(length / max(lengths) for length in lengths)


class MultiGaussian(nn.Module):
    """``K = sum_i w_i G(sigma_i)``, multiplied in Fourier space; self-adjoint and positive definite.

    The kernel is the sampled Gaussian made periodic over the grid, so that momentum near one side also moves the
    other (the published behaviour); ``pad`` takes a period so long that it does not. ``extents`` are the lengths of
    the axes in the unit of the standard deviations: 1 each for the unit cube of the paper, or
    :func:`relative_extents`. Momentum and velocity are in that unit too.

    Only few frequencies pass the narrowest Gaussian, so the transform to and from them is one small matrix product
    per axis; that is several times faster than a full FFT and indifferent to the size of the grid.
    """

    def __init__(
        self,
        sigmas: Sequence[float] = PAPER_SIGMAS,
        weights: Sequence[float] | None = None,
        extents: Sequence[float] | None = None,
        pad: bool = False,
    ) -> None:
        super().__init__()
        weights = list(sigmas) if weights is None else list(weights)
        if len(weights) != len(sigmas) or min([*sigmas, *weights], default=0.0) <= 0.0:
            raise ModelError(f"Smoothing needs positive widths and one weight for each, not {sigmas} and {weights}.")
        self.sigmas = tuple(float(sigma) for sigma in sigmas)
        self.weights = tuple(float(weight) / sum(weights) for weight in weights)
        self.extents = None if extents is None else tuple(float(extent) for extent in extents)
        self.pad = bool(pad)

    def forward(self, momentum: Tensor) -> Tensor:
        """Smooth ``momentum`` (B, C, *shape); same shape, dtype and device."""
        shape = tuple(momentum.shape[2:])
        extents = self.extents or (1.0,) * len(shape)
        bases, response = _spectrum(
            shape, extents, self.sigmas, self.weights, self.pad, momentum.dtype, momentum.device
        )
        out = momentum
        for axis, basis in enumerate(bases):
            out = along_axis(out, basis.t(), axis)
        out = out * response
        for axis in reversed(range(len(bases))):
            out = along_axis(out, bases[axis], axis)
        return out


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _spectrum(
    shape: tuple[int, ...],
    extents: tuple[float, ...],
    sigmas: tuple[float, ...],
    weights: tuple[float, ...],
    pad: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[list[Tensor], Tensor]:
    """Per axis an orthonormal cosine and sine basis (n, r), and the kernel's response to each of their products."""
    bases, factors = [], []
    for n, extent in zip(shape, extents, strict=True):
        basis, factor = _axis_spectrum(n, extent, sigmas, pad)
        bases.append(basis.to(device=device, dtype=dtype))
        factors.append(factor)
    response = torch.zeros([factor.shape[1] for factor in factors], dtype=torch.float64)
    for index, weight in enumerate(weights):
        term = torch.full((), weight, dtype=torch.float64)
        for factor in factors:
            term = term[..., None] * factor[index]
        response += term
    return bases, response.to(device=device, dtype=dtype)


def _axis_spectrum(n: int, extent: float, sigmas: tuple[float, ...], pad: bool) -> tuple[Tensor, Tensor]:
    """One axis: basis (n, r), and the response of each Gaussian at each of its frequencies (len(sigmas), r)."""
    step = extent / max(n - 1, 1)
    period = n + math.ceil(PADDING_SIGMAS * max(sigmas) / step) if pad and n > 1 else n
    cycles = torch.arange(period // 2 + 1, dtype=torch.float64)
    response = torch.stack([_sampled_gaussian_response(cycles, period, sigma / step) for sigma in sigmas])
    kept = int((response.max(dim=0).values > NEGLIGIBLE).nonzero().max()) + 1
    cycles, response = cycles[:kept], response[:, :kept]
    angle = 2.0 * math.pi / period * torch.arange(n, dtype=torch.float64)[:, None] * cycles
    # The constant, and for an even period the alternating wave, have no sine partner and twice the energy.
    alone = (cycles == 0) | (2 * cycles == period)
    scale = ((2.0 - alone.to(cycles)) / period).sqrt()
    basis = torch.cat([angle.cos() * scale, (angle.sin() * scale)[:, ~alone]], dim=1)
    return basis, torch.cat([response, response[:, ~alone]], dim=1)


def _sampled_gaussian_response(cycles: Tensor, period: int, sigma: float) -> Tensor:
    """Fourier coefficients of the Gaussian (``sigma`` in voxels) sampled at the voxels, its sum being one.

    For wide Gaussians that is again a Gaussian; narrow ones have aliases, which keep the kernel positive.
    """
    reach = torch.arange(1, math.ceil(_REACH * sigma) + 2, dtype=torch.float64)
    side = torch.exp(-0.5 * (reach / sigma) ** 2)
    waves = torch.cos(2.0 * math.pi / period * cycles[:, None] * reach)
    return ((1.0 + 2.0 * waves @ side) / (1.0 + 2.0 * side.sum())).clamp(min=0.0)
