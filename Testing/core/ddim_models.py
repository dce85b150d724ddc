"""Small networks of DDIM, and images and transforms for them, that its tests share."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from regnet.networks.ddim import DDIM, DDIMConfig
from scipy import ndimage
from torch import nn

SHAPES = {2: (24, 33), 3: (17, 22, 19)}
FORMS = [{}, {"moments": False}, {"cumulative": False}, {"residual_only": True}]
LITERAL = {"moments": False, "cumulative": False, "residual_only": True}


def made(dims=2, seed=0, size=0.3, **options):
    """A network whose every layer says something, or a fresh one with ``size=0``."""
    torch.manual_seed(seed)
    net = DDIM(DDIMConfig(dims=dims, **{"width": 6, "hidden": 16, **options}))
    if size:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
            for matcher in net.matchers:
                matcher.last.weight.normal_(std=size)
    return net


def smooth_images(shape, batch=1, seed=0, dtype=torch.float32):
    """Two images in [0, 1] that fade to zero at the border."""
    coarse = torch.rand(2 * batch, 1, *(5,) * len(shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)
    images = functional.interpolate(coarse, shape, mode="trilinear" if len(shape) == 3 else "bilinear")
    for axis, n in enumerate(shape):
        window = torch.sin(torch.linspace(0, torch.pi, n, dtype=dtype)).clamp(min=0) ** 0.5
        images = images * window.view(-1, *(1,) * (len(shape) - 1 - axis))
    return images[:batch], images[batch:]


def random_affines(dims, count, seed=0, size=0.12, dtype=torch.float64):
    noise = torch.rand(count, 1, dims, dims + 1, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.5
    return list(torch.eye(dims, dims + 1, dtype=dtype) + 2 * size * noise)


def homogeneous(affine):
    return np.vstack([affine[0].detach().numpy(), np.eye(affine.shape[-1])[-1:]])


def read_at(image, affine, mode="constant"):
    """``image(affine(x))`` by SciPy, one channel (*shape), the affine in [-1, 1] as a NumPy matrix; and by how many
    voxels each point lies inside the image."""
    last = np.array(image.shape) - 1
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")).reshape(len(last), -1)
    where = (affine[:-1, :-1] @ points + affine[:-1, -1:] + 1) / 2 * last[:, None]
    inside = np.minimum(where, last[:, None] - where).min(0).reshape(image.shape)
    return ndimage.map_coordinates(image, where, order=1, mode=mode).reshape(image.shape), inside


class Told(nn.Module):
    """Stands in for a matcher: answers with a given increment."""

    def __init__(self, increment):
        super().__init__()
        self.increment = increment

    def forward(self, fixed, moving):
        return self.increment.expand(len(fixed), -1, -1)


def told(dims, increments, **options):
    net = made(dims, depth=len(increments), scales=(0.5,) * len(increments), **options).double()
    net.matchers = nn.ModuleList(Told(increment) for increment in increments)
    return net


def spied(net):
    """The network, and the list that will hold what its interpolators are given."""
    seen = []
    for interpolator in net.interpolators:
        interpolator.register_forward_pre_hook(lambda _, given: seen.append(given))
    return net, seen
