"""BSAFusion's decoder over a base of what both images show: the base at first, and corrected once it has learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bsafusion_models import SHAPES, made, smooth_flow, texture
from regnet.networks.bsafusion_fuse import DETAIL, DIMMEST, MEAN, detailed
from regnet.spatial import warp
from scipy import ndimage


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_network_fuses_to_the_base_of_the_registered_images(dims):
    shape = SHAPES[dims - 2]
    fixed, moving = texture(shape, 1), texture(shape, 2)
    flow = smooth_flow(shape, 2.0, 3)
    model = made(dims, fusion_base="detail")
    with torch.no_grad():
        encoded = model.encode(fixed, moving)
        inner = (..., *(slice(8, n - 8) if n > 20 else slice(None) for n in shape))
        still = model.fuse(encoded)
        assert float((still - detailed(fixed, moving))[inner].abs().mean()) < 0.01  # but near the padding
        moved = model.fuse(encoded, flow)
        expected = detailed(fixed, warp(moving, flow, padding="border"))
        assert float((moved - expected)[inner].abs().mean()) < 0.3 * float((still - expected)[inner].abs().mean())
        model.decoder.correction.bias.fill_(1.0)
        assert bool((model.fuse(encoded) > still).all())


def test_every_part_of_the_decoder_learns_over_the_base():
    shape = SHAPES[0]
    fixed, moving = texture(shape, 1), texture(shape, 2)
    model = made(2, fusion_base="detail").train()
    torch.nn.init.normal_(model.decoder.correction.weight, std=0.1)
    model.fuse(model.encode(fixed, moving)).square().mean().backward()
    still = [name for name, entry in model.decoder.named_parameters() if entry.grad is None or not entry.grad.any()]
    assert still == []


def test_the_base_keeps_the_stronger_detail_over_the_brighter_ground():
    """A bright plain with faint ripples beside a dark one with strong ripples; and scipy's Gaussian says the same."""
    rows, columns = np.mgrid[:48, :64]
    ripples = np.sin(columns * 1.6)
    bright, dark = 0.6 + 0.01 * np.cos(rows * 1.6), 0.3 + 0.1 * ripples
    found = detailed(*(torch.from_numpy(one).float()[None, None] for one in (bright, dark)))[0, 0].numpy()
    inner = (slice(16, 32), slice(16, 48))
    low = ndimage.gaussian_filter(bright, DETAIL)
    expected = (1 - MEAN) * (low + dark - ndimage.gaussian_filter(dark, DETAIL)) + MEAN * 0.5 * (bright + dark)
    np.testing.assert_allclose(found[inner], expected[inner], atol=5e-3)
    assert found[inner].mean() == pytest.approx((1 - MEAN) * 0.6 + MEAN * 0.45, abs=0.01)
    assert np.corrcoef(found[inner].ravel(), ripples[inner].ravel())[0, 1] > 0.95


def test_black_stays_as_good_as_black():
    black = torch.zeros(1, 1, 40, 53)
    with torch.no_grad():
        fused = made(2, fusion_base="detail").fuse(made(2).encode(black, black))
    assert float(fused.max()) < 2 * DIMMEST
