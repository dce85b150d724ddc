"""The multi-Gaussian smoother of vSVF."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regnet.errors import ModelError
from regnet.networks.smoothing import PAPER_SIGMAS, MultiGaussian, relative_extents
from scipy import ndimage


class TestSmoother:
    @pytest.mark.parametrize("pad", [False, True])
    @pytest.mark.parametrize("shape", [(31, 40), (21, 30, 26)])
    def test_equals_a_sum_of_scipy_gaussians(self, shape, pad):
        field = np.random.default_rng(0).normal(size=shape)
        expected, total = np.zeros(shape), sum(PAPER_SIGMAS)
        for sigma in PAPER_SIGMAS:
            wide = [sigma * (n - 1) for n in shape]
            mode = "constant" if pad else "wrap"
            expected += sigma / total * ndimage.gaussian_filter(field, wide, mode=mode, truncate=7.0)
        found = MultiGaussian(pad=pad)(torch.tensor(field)[None, None])[0, 0].numpy()
        # A narrow Gaussian cut off at seven standard deviations, and sampled, sums to one only nearly.
        assert np.abs(found - expected).max() < 2e-6 * np.abs(field).max()
        assert np.abs(found).max() > 1e-3

    def test_narrow_gaussians_are_sampled_not_band_limited(self):
        """A spike stays positive everywhere, and so small a kernel is the spike itself."""
        spike = torch.zeros(1, 1, 11, 14, 12, dtype=torch.float64)
        spike[0, 0, 5, 6, 7] = 1.0
        assert float(MultiGaussian((0.05,))(spike).min()) > -1e-7
        assert torch.allclose(MultiGaussian((1e-3,))(spike), spike, atol=1e-9)

    def test_is_self_adjoint_positive_and_keeps_constants(self):
        generator = torch.Generator().manual_seed(0)
        first, second = torch.randn(2, 1, 3, 14, 19, 16, generator=generator, dtype=torch.float64)
        for pad in (False, True):
            smoother = MultiGaussian(pad=pad)
            assert float((first * smoother(second)).sum()) == pytest.approx(
                float((smoother(first) * second).sum()), rel=1e-10
            )
            for seed in range(20):
                momentum = torch.randn(1, 3, 9, 12, 10, generator=torch.Generator().manual_seed(seed))
                assert float((momentum * smoother(momentum)).sum()) >= 0.0
        assert torch.allclose(MultiGaussian()(torch.ones(1, 1, 14, 19)), torch.ones(()), atol=1e-5)

    def test_wraps_around_unless_padded(self):
        spike = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
        spike[0, 0, 1, 20] = 1.0
        near, far = MultiGaussian()(spike)[0, 0, [8, 35], 20]
        assert float(far / near) > 0.5
        near, far = MultiGaussian(pad=True)(spike)[0, 0, [8, 35], 20]
        assert float(far / near) < 0.2

    def test_extents_make_it_isotropic_in_millimetres(self):
        shape, spacing = (21, 61, 61), (3.0, 1.0, 1.0)
        extents = relative_extents(shape, spacing)
        assert extents == pytest.approx((1.0, 1.0, 1.0))
        shape = (41, 61, 31)
        extents = relative_extents(shape, spacing)
        assert extents == pytest.approx((1.0, 0.5, 0.25))
        spike = torch.zeros(1, 1, *shape, dtype=torch.float64)
        spike[0, 0, 20, 30, 15] = 1.0
        kernel = MultiGaussian((0.03,), extents=extents)(spike)[0, 0].numpy()
        for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
            line = kernel.sum(axis=tuple({0, 1, 2} - {axis}))
            millimetres = (np.arange(n) - n // 2) * step
            assert math.sqrt((line * millimetres**2).sum()) == pytest.approx(0.03 * 120.0, rel=1e-3)

    def test_refuses_widths_that_are_not_positive(self):
        for sigmas, weights in (((0.1, 0.0), None), ((), None), ((0.1,), (1.0, 2.0)), ((0.1,), (-1.0,))):
            with pytest.raises(ModelError, match="positive widths"):
                MultiGaussian(sigmas, weights)
