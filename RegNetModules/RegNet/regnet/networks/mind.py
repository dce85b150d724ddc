"""MIND-SSC: the modality-independent neighbourhood descriptor in its self-similarity layout. It needs no weights.

Heinrich et al., *Towards Realtime Multimodal Fusion for Image-Guided Interventions Using Self-Similarities*, MICCAI
2013. The pairs of neighbours are those of :mod:`regnet.networks.neighbourhood`, but what is compared are patches of the
image itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..spatial import box
from .neighbourhood import neighbours, padded, pairs, shifted


def mind_ssc(image: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """(B, 1, *shape) to (B, P, *shape) in (0, 1]: P is 12 in 3D, 4 in 2D.

    Mean squared differences of patches of side ``2 radius + 1`` at neighbours ``dilation`` voxels away; less the
    smallest of them, divided by their mean, which is kept within a thousandth and a thousand times its mean over the
    image; then ``exp(-d)``. Differentiable by the image.
    """
    dims = image.ndim - 2
    wide = padded(image, dilation)
    views = [shifted(wide, dilation, offset) for offset in neighbours(dims, dilation)]
    distances = torch.cat([box((views[i] - views[j]).square(), radius) for i, j in pairs(dims)], dim=1)
    distances = distances - distances.amin(dim=1, keepdim=True)
    scale = distances.mean(dim=1, keepdim=True)
    typical = scale.mean(dim=tuple(range(1, image.ndim)), keepdim=True).clamp(min=1e-12)
    scale = torch.minimum(torch.maximum(scale, typical * 1e-3), typical * 1e3)
    return (-distances / scale).exp()
