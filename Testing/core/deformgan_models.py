"""Small networks of Deform-GAN, and images and flows for them, that its tests share."""

from __future__ import annotations

import torch
from regnet import spatial
from regnet.networks.deformgan import (
    DeformGAN,
    DeformGANConfig,
)
from torch import nn

SMALL = {"encoder": (4, 6, 6), "decoder": (6, 6, 6), "last": (6, 4)}
SMALL_GAN = {"generator_width": 3, "generator_depth": 3, "discriminator_width": 4}
VARIANTS = [(resolution, diffeomorphic) for resolution in ("full", "half") for diffeomorphic in (False, True)]
SHAPES = [(33, 46), (26, 29, 24)]


def texture(shape, seed=0, sigma=1.5, batch=1):
    """Smooth noise (batch, 1, *shape) in [0, 1]."""
    noise = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = spatial.gaussian(noise, sigma)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def smooth_flow(shape, size, seed=0, sigma=3.0, closed=False):
    """Random, (1, d, *shape), its largest component ``size``; ``closed``: 0 at the border, so nothing flows across."""
    flow = spatial.gaussian(torch.randn(1, len(shape), *shape, generator=torch.Generator().manual_seed(seed)), sigma)
    for axis, n in enumerate(shape) if closed else ():
        line = torch.sin(torch.linspace(0, torch.pi, n)).clamp(min=0)
        flow = flow * line.view(-1, *(1,) * (len(shape) - 1 - axis))
    return flow / flow.abs().max() * size


def made(dims=2, seed=0, **options):
    torch.manual_seed(seed)
    return DeformGAN(DeformGANConfig(dims=dims, **{**SMALL, **SMALL_GAN, **options}))


def moving_model(dims=2, **options):
    """One whose registration does something."""
    model = made(dims, **options)
    with torch.no_grad():
        model.registration.flow.weight.mul_(3e4)
    return model


class Given(nn.Module):
    """Stands for a layer and returns what it was made with."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _):
        return self.value


# Networks


def layers(modules):
    return [(one.in_channels, one.out_channels, one.kernel_size, one.stride[0]) for one in modules]


def shipped(model: DeformGAN) -> dict[str, torch.Tensor]:
    """The weights as they are exported: nobody needs the discriminator to register."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if not name.startswith("discriminator.")}
