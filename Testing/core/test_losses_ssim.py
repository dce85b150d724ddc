"""The SSIM loss is one less the metric, with its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import image_quality
from regnet.errors import ModelError
from regnet.losses.ssim import SSIM

SHAPES = [(17, 22), (13, 11, 14), (5, 13, 12)]


def texture(shape, seed=0, batch=1, dtype=torch.float64):
    """Noise (batch, 1, *shape) in [0, 1] with neighbours alike."""
    values = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    for axis in range(2, values.ndim):
        values = (values + values.roll(1, axis)) / 2
    return values


def numbers(metric, x, y, **options):
    return np.mean([metric(p.numpy(), q.numpy(), **options) for p, q in zip(x[:, 0], y[:, 0], strict=True)])


@pytest.mark.parametrize("options", [{}, {"sigma": 0.8, "data_range": 0.3}])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_one_less_the_metric(shape, options):
    x, y = texture(shape, 0, 2), texture(shape, 1, 2)
    expected = 1 - numbers(image_quality.ssim, x, y, **options)
    assert float(SSIM(**options)(x, y)) == pytest.approx(expected, abs=1e-12)
    single = SSIM(**options)(x.float(), y.float())
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_mask_chooses_the_windows_by_their_centres(shape):
    x, y = texture(shape, 0, 2), texture(shape, 1, 2)
    mask = torch.zeros(1, 1, *shape, dtype=torch.float64)
    mask[..., : shape[-1] // 2] = 1
    expected = 1 - numbers(image_quality.ssim, x, y, mask=mask[0, 0].numpy())
    assert float(SSIM()(x, y, mask)) == pytest.approx(expected, abs=1e-12)
    assert float(SSIM()(x, y, 0.5 * mask)) == pytest.approx(expected, abs=1e-12)
    assert abs(float(SSIM()(x, y)) - expected) > 1e-4
    own = torch.cat([mask, 1 - mask])
    assert not torch.isclose(SSIM()(x, y, own), SSIM()(x, y, own.flip(0)))
    assert float(SSIM()(x, y, torch.zeros_like(mask))) == 1.0


def test_ends_of_the_range():
    image = texture((18, 15, 16))
    assert float(SSIM()(image, image)) == pytest.approx(0.0, abs=1e-12)
    zero_mean = image - image.mean()
    assert float(SSIM()(zero_mean + 0.5, 0.5 - zero_mean)) > 1.3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(12, 13), (4, 6, 5)])
def test_gradient_is_that_of_finite_differences(shape, masked):
    x, y = (texture(shape, seed, 2).requires_grad_() for seed in (0, 1))
    mask = (texture(shape, 2) > 0.5).double() if masked else None
    slopes = torch.autograd.grad(SSIM()(x, y, mask), (x, y))
    x, y = x.detach(), y.detach()
    for number in range(4):
        along = [torch.zeros_like(x), torch.zeros_like(y)]
        along[number % 2] = torch.randn(x.shape, generator=torch.Generator().manual_seed(number), dtype=x.dtype)
        ends = [float(SSIM()(x + step * along[0], y + step * along[1], mask)) for step in (1e-6, -1e-6)]
        expected = sum(float((slope * way).sum()) for slope, way in zip(slopes, along, strict=True))
        assert abs(expected) > 1e-3
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(14, 15), (12, 11, 13)])
def test_descending_leads_to_the_other_image(shape):
    target = texture(shape, 3)
    image = torch.full_like(target, 0.5).requires_grad_()
    losses = []
    for number in range(60):
        losses.append(SSIM()(image, target))
        (slope,) = torch.autograd.grad(losses[-1], image)
        with torch.no_grad():
            image -= 0.03 * 0.95**number * slope.sign()
    assert float(losses[0].detach()) > 0.8
    assert float(losses[-1].detach()) < 0.05


def test_half_precision_does_not_reach_the_variances():
    x, y = texture((20, 21), dtype=torch.float32), texture((20, 21), 1, dtype=torch.float32)
    expected = float(SSIM()(x, y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(SSIM()(x, y)) == expected
    assert SSIM()(x.bfloat16(), y.bfloat16()).dtype == torch.float32


def test_weights_made_in_inference_serve_training():
    image = texture((31, 33))
    with torch.inference_mode():
        SSIM()(image, image)
    free = texture((31, 33), 1).requires_grad_()
    SSIM()(free, image).backward()
    assert float(free.grad.abs().max()) > 0


def test_what_cannot_be_compared_is_refused():
    image = texture((20, 21))
    for other in (texture((21, 20)), image[0]):
        with pytest.raises(ModelError, match="one shape"):
            SSIM()(image, other)
    with pytest.raises(ModelError, match="one shape"):
        SSIM()(image[0], image[0])
    with pytest.raises(ModelError, match="standard deviation"):
        SSIM(sigma=0.0)
    with pytest.raises(ModelError, match="range"):
        SSIM(data_range=0.0)
