"""How BSAFusion fuses: from a 16th of the resolution to all of it, the moving image's features warped at each level.

Li et al., AAAI 2025, arXiv 2412.08050, whose MMFF (multi-modal feature fusion) this is. It takes tokens as they are
ahead of the transfers, for what tells the modalities apart is what a fused image should hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import spatial
from .blocks import keep_variance
from .bsafusion_align import raised, twice
from .bsafusion_encoder import Pair, Pointwise, Restormer

DIMMEST = 1e-3
"""What black and white are short of, so that they can be corrected."""
DETAIL, AROUND, MEAN = 3.0, 1.5, 0.4
"""Of :func:`detailed`: widths in voxels of what is finer than detail and of the neighbourhood in which it is compared,
and the share of the plain mean."""


class FusionDecoder(nn.Module):
    """Tokens (B, widths[0], *grid) and shallow features (B, shallow, *shape) of both images, and a displacement, to the
    fused image (B, 1, *shape) in (0, 1).

    Args:
        widths: channels of each image's features at a 16th, an 8th, a quarter and a half of the resolution.
        fused: channels of what is fused at these.
        variant, expansion: see :class:`~regnet.networks.bsafusion_encoder.Restormer`.
        base: what the fused image starts from: ``none``, as published, or ``detail``, :func:`detailed`, which the
            network corrects, at first by nothing. It then has not to learn to show what both images show.
    """

    def __init__(
        self,
        dims: int,
        widths: Sequence[int],
        fused: Sequence[int],
        shallow: int,
        variant: str,
        expansion: int,
        base: str = "none",
    ) -> None:
        super().__init__()
        inputs = [2 * width + before for width, before in zip(widths, [0, *fused], strict=False)]
        self.mixers = nn.ModuleList(
            Restormer(dims, a, b, variant, expansion) for a, b in zip(inputs, fused, strict=True)
        )
        self.raisers = nn.ModuleList(Pointwise(a, b) for a, b in zip(widths, widths[1:], strict=False))
        keep_variance(self.raisers)
        self.last = nn.Sequential(Restormer(dims, fused[-1] + 2 * shallow, fused[-1], variant, expansion))
        self.correction = None
        if base == "none":
            self.last.append(Restormer(dims, fused[-1], 1, variant, expansion))
        else:
            self.correction = Pointwise(fused[-1], 1)
            nn.init.zeros_(self.correction.weight)
            nn.init.zeros_(self.correction.bias)

    def forward(
        self, tokens: Pair, shallow: Pair, images: Pair, displacement: Tensor | None, scale: str = "exact"
    ) -> Tensor:
        """``images`` (B, 1, *shape) in [0, 1]; ``displacement`` (B, d, *shape) in voxels, pull, fixed to moving, None
        for none, which spares the warping; ``scale`` as for :func:`~regnet.networks.bsafusion_align.raised`."""
        fixed, moving = tokens
        fused: list[Tensor] = []
        for level, mixer in enumerate(self.mixers):
            if level:
                fixed, moving = twice(self.raisers[level - 1](torch.cat([fixed, moving]))).relu_().chunk(2)
                fused = [twice(fused[0])]
            fused = [mixer(torch.cat([fixed, _warped(moving, displacement, scale), *fused], dim=1))]
        parts = [twice(fused[0]), shallow[0], _warped(shallow[1], displacement, scale)]
        found = self.last(torch.cat(parts, dim=1))
        if self.correction is None:
            return torch.sigmoid(found)
        base = detailed(images[0], _warped(images[1], displacement, scale))
        return torch.sigmoid(torch.logit(base, DIMMEST) + self.correction(found))


def detailed(fixed: Tensor, moving: Tensor) -> Tensor:
    """Two images (B, 1, *shape) in [0, 1] as one: the stronger detail over the brighter of what is coarse, and some of
    their mean. In the spirit of pyramid fusion (Burt and Kolczynski 1993), with one level."""
    coarse = [spatial.gaussian(image, DETAIL) for image in (fixed, moving)]
    detail = [image - low for image, low in zip((fixed, moving), coarse, strict=True)]
    energy = [spatial.gaussian(one.square(), AROUND) for one in detail]
    joined = torch.maximum(*coarse) + torch.where(energy[0] > energy[1], *detail)
    return ((1.0 - MEAN) * joined + MEAN * 0.5 * (fixed + moving)).clamp(0.0, 1.0)


def _warped(features: Tensor, displacement: Tensor | None, scale: str) -> Tensor:
    """Features at any level, where the displacement of the whole resolution says."""
    if displacement is None:
        return features
    return spatial.warp(features, raised(displacement, features.shape[2:], scale), padding="border")
