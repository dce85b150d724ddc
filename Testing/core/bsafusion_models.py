"""Small networks of BSAFusion, and images and displacements for them, that its tests share."""

from __future__ import annotations

import torch
from regnet import spatial
from regnet.networks.bsafusion import BSAFusion, BSAFusionConfig

SMALL = {
    "tokens": 16,
    "widths": (16, 12, 10, 8, 6),
    "fusion": (10, 8, 6, 4),
    "shallow": 4,
    "heads": 2,
    "mlp": 24,
    "positions": 20,
}
SHAPES = [(40, 53), (18, 9, 40)]


def texture(shape, seed=0, sigma=1.5, batch=1):
    """Smooth noise (batch, 1, *shape) in [0, 1]."""
    noise = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = spatial.gaussian(noise, sigma)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def smooth_flow(shape, size, seed=0, sigma=6.0, batch=1):
    """Random, (batch, d, *shape), its largest component ``size``."""
    noise = torch.randn(batch, len(shape), *shape, generator=torch.Generator().manual_seed(seed))
    flow = spatial.gaussian(noise, sigma)
    return flow / flow.abs().max() * size


def made(dims=2, seed=0, **options):
    """In evaluation, so that nothing is left out by chance."""
    torch.manual_seed(seed)
    return BSAFusion(BSAFusionConfig(dims=dims, **{**SMALL, **options})).eval()


def moving_model(dims=2, **options):
    """One whose flow layers say something, differently at every level."""
    model = made(dims, **options)
    with torch.no_grad():
        for layer in [*model.alignment.forward_layers, *model.alignment.reverse_layers]:
            torch.nn.init.normal_(layer.flow.weight, std=0.03 / layer.gain)
            torch.nn.init.normal_(layer.flow.bias, std=0.1 / layer.gain)
    return model


def steady(model, fixed, moving):
    """Make every level of ``model`` displace by constants in voxels of it, ``fixed`` and ``moving`` (levels of d), each
    below 1."""
    sides = (model.alignment.forward_layers, fixed), (model.alignment.reverse_layers, moving)
    with torch.no_grad():
        for layers, steps in sides:
            for layer, step in zip(layers, steps, strict=True):
                layer.flow.weight.zero_()
                layer.flow.bias.copy_(torch.atanh(torch.as_tensor(step)) / layer.gain)
    return model


def inside(shape, margin):
    return (..., *(slice(margin, n - margin) for n in shape))
