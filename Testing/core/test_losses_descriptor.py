"""The similarity of structural descriptors as a loss: its value, its mask, its gradient, and that it registers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import descriptors, spatial
from regnet.losses.descriptor import DescriptorLoss
from regnet.networks.masr import DSIR, MASRConfig
from regnet.synth.draws import Draws
from regnet.synth.shapes import random_shapes

SHAPE = (16, 24, 20)
SMALL = {"width": 4}


def image(seed: int) -> torch.Tensor:
    """Smooth texture (1, 1, *SHAPE) in [0, 1]."""
    noise = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    smooth = spatial.gaussian(noise, 1.5)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def network():
    torch.manual_seed(0)
    return descriptors.dsir(DSIR(MASRConfig(**SMALL)).state_dict(), SMALL)


@pytest.mark.parametrize("kind", ["mind", "dsir"])
def test_value_is_one_less_the_mean_cosine(kind):
    describe = descriptors.mind() if kind == "mind" else network()
    fixed, moving = torch.cat([image(0), image(1)]), torch.cat([image(2), image(3)])
    first, second = (describe(one).detach().double().numpy() for one in (fixed, moving))
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    loss = DescriptorLoss(describe)
    assert float(loss(fixed, moving)) == pytest.approx(1 - cosine.mean(), abs=1e-6)
    assert float(loss(fixed, fixed)) == pytest.approx(0.0, abs=1e-6)
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 3:9, 5:20, 2:7] = 1.0
    assert float(loss(fixed, moving, mask)) == pytest.approx(1 - cosine[:, 3:9, 5:20, 2:7].mean(), abs=1e-6)
    assert float(loss(fixed, moving, mask * 0)) == 0.0


@pytest.mark.parametrize("kind", ["mind", "dsir"])
def test_gradient_by_the_moving_image_is_that_of_finite_differences(kind):
    describe = descriptors.mind() if kind == "mind" else network()
    fixed, moving = image(0), image(1).requires_grad_()
    loss = DescriptorLoss(describe)
    loss(fixed, moving).backward()
    assert fixed.grad is None and bool(torch.isfinite(moving.grad).all())
    way = image(7) - 0.5
    step = 2e-3
    with torch.no_grad():
        slope = (loss(fixed, moving + step * way) - loss(fixed, moving - step * way)) / (2 * step)
    assert float((moving.grad * way).sum()) == pytest.approx(float(slope), rel=0.05)


def test_it_brings_images_of_two_contrasts_together():
    """Gradient descent on a shift: a loss of equal intensities would go elsewhere."""
    draws = Draws(torch.Generator().manual_seed(2), 1)
    labels = random_shapes((24, 32, 28), draws, 8, (0.2, 0.4))
    fixed = spatial.gaussian((labels % 5).float() / 5, 0.7)
    other = spatial.gaussian(((labels * 3 + 1) % 7).float() / 7, 0.7)
    truth = torch.tensor([1.5, -1.0, 0.8]).view(1, 3, 1, 1, 1)
    moving = spatial.warp(other, -truth.expand(1, 3, *other.shape[2:]), padding="border")
    loss, shift = DescriptorLoss(descriptors.mind()), torch.zeros(1, 3, 1, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(fixed, spatial.warp(moving, shift.expand(1, 3, *moving.shape[2:]), padding="border")).backward()
        optimiser.step()
    assert float((shift.detach() - truth).norm()) < 0.3
