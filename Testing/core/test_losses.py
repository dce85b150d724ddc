"""Similarities and regularisers against direct computations, other libraries, and finite differences."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regnet import losses
from regnet.errors import ModelError
from regnet.losses import (
    LNCC,
    NCC,
    MultiKernelLNCC,
)
from regnet.losses import lncc as lncc_module
from regnet.losses import mklncc as mklncc_module
from regnet.losses.mklncc import Scale, paper_scales
from scipy import ndimage

EPSILON = 1e-5


def smooth_pair(shape, seed=0, dtype=torch.float64):
    """Two related textured images (1, 1, *shape) in [0, 1]."""
    generator = np.random.default_rng(seed)
    first = ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
    second = first + 0.6 * ndimage.gaussian_filter(generator.normal(size=shape), 1.0)
    return tuple(torch.tensor((x - x.min()) / np.ptp(x), dtype=dtype)[None, None] for x in (first, second))


def windows_by_loop(x, y, sides, dilations, strides, mask=None):
    """Squared correlation of every window inside the grid, and each window's weight, by the book."""
    x, y = x.squeeze().numpy(), y.squeeze().numpy()
    mask = np.ones_like(x) if mask is None else mask.squeeze().numpy()
    starts = [
        range(0, n - (side - 1) * dilation, stride)
        for n, side, dilation, stride in zip(x.shape, sides, dilations, strides, strict=True)
    ]
    values, weights = [], []
    for corner in itertools.product(*starts):
        place = tuple(
            slice(c, c + (side - 1) * dilation + 1, dilation)
            for c, side, dilation in zip(corner, sides, dilations, strict=True)
        )
        inside = mask[place]
        weights.append(inside.sum() / inside.size)
        if inside.sum() == 0:
            values.append(0.0)
            continue
        a = x[place] - (inside * x[place]).sum() / inside.sum()
        b = y[place] - (inside * y[place]).sum() / inside.sum()
        cross, var_a, var_b = (inside * a * b).sum(), (inside * a * a).sum(), (inside * b * b).sum()
        values.append(cross**2 / (var_a * var_b + EPSILON))
    return np.array(values), np.array(weights)


def lncc_by_loop(x, y, sides, stride, mask=None):
    dims = x.ndim - 2
    sides = (sides,) * dims if isinstance(sides, int) else sides
    values, weights = windows_by_loop(x, y, sides, (1,) * dims, (stride,) * dims, mask)
    return 1.0 - (values * weights).sum() / weights.sum()


@pytest.mark.parametrize(
    ("window", "stride"),
    [(5, 1), (9, 1), (4, 1), (5, 2), (9, 2), (8, 2), (3, 4), (6, 3), ((3, 5, 7), 1), ((7, 1, 4), 2)],
)
def test_lncc_is_the_mean_over_windows(window, stride):
    x, y = smooth_pair((11, 13, 12))
    assert float(LNCC(window, stride)(x, y)) == pytest.approx(lncc_by_loop(x, y, window, stride), abs=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_lncc_in_two_dimensions_and_under_a_mask(stride):
    x, y = smooth_pair((21, 26))
    mask = (torch.rand(1, 1, 21, 26, generator=torch.Generator().manual_seed(1)) > 0.4).double()
    assert float(LNCC(7, stride)(x, y)) == pytest.approx(lncc_by_loop(x, y, 7, stride), abs=1e-10)
    assert float(LNCC(7, stride)(x, y, mask)) == pytest.approx(lncc_by_loop(x, y, 7, stride, mask), abs=1e-10)


def test_lncc_agrees_with_simpleitk():
    """ITK cuts windows at the border; what those contribute is computed apart."""
    shape, radius = (16, 19, 18), 2
    x, y = smooth_pair(shape)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsANTSNeighborhoodCorrelation(radius)
    method.SetInitialTransform(sitk.TranslationTransform(3))
    method.SetInterpolator(sitk.sitkLinear)
    whole = -method.MetricEvaluate(*(sitk.GetImageFromArray(image.squeeze().numpy()) for image in (x, y)))
    border, inside = 0.0, 0
    a, b = x.squeeze().numpy(), y.squeeze().numpy()
    for center in itertools.product(*map(range, shape)):
        if all(radius <= c < n - radius for c, n in zip(center, shape, strict=True)):
            inside += 1
            continue
        place = tuple(slice(max(c - radius, 0), c + radius + 1) for c in center)
        p, q = a[place] - a[place].mean(), b[place] - b[place].mean()
        border += (p * q).sum() ** 2 / ((p * p).sum() * (q * q).sum())
    expected = (whole * np.prod(shape) - border) / inside
    assert 1.0 - float(LNCC(2 * radius + 1)(x, y)) == pytest.approx(expected, abs=2e-4)


LOSSES = {
    "lncc": LNCC(5),
    "lncc stride 2": LNCC(5, 2),
    "lncc uneven": LNCC((3, 4, 6), 3),
    "mk-lncc": MultiKernelLNCC(),
    "mk-lncc dilated": MultiKernelLNCC((Scale(3, 2, 2, 0.3), Scale(4, 1, 3, 0.7), Scale(2, 3, 2, 0.5))),
    "ncc": NCC(),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name, masked):
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.rand(2, 1, 7, 8, 9, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = (torch.rand(1, 1, 7, 8, 9, generator=generator) > 0.3).double() if masked else None
    assert torch.autograd.gradcheck(lambda a, b: LOSSES[name](a, b, mask), (x, y), fast_mode=True)
    (alone,) = torch.autograd.grad(LOSSES[name](x.detach(), y, mask), y)
    (both,) = torch.autograd.grad(LOSSES[name](x, y, mask), y)
    assert torch.equal(alone, both)


@pytest.mark.parametrize("name", LOSSES)
def test_masked_voxels_have_no_influence(name):
    x, y = smooth_pair((12, 14, 13))
    mask = torch.zeros_like(x)
    mask[..., 2:11, 3:12, 1:10] = 1.0
    spoilt = torch.where(mask > 0, y, 5.0 * torch.rand_like(y)).requires_grad_(True)
    loss = LOSSES[name](x, spoilt, mask)
    assert float(loss.detach()) == pytest.approx(float(LOSSES[name](x, y, mask)), abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert float(gradient[mask == 0].abs().max()) == 0.0
    assert float(gradient[mask > 0].abs().max()) > 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_contrast_does_not_matter_but_content_does(name):
    x, y = smooth_pair((12, 14, 13))
    loss = LOSSES[name]
    small = 1e-2 if name == "mk-lncc dilated" else 2e-3
    assert float(loss(x, 0.5 * x + 0.2)) == pytest.approx(0.0, abs=small)
    assert float(loss(x, 1.0 - x)) == pytest.approx(2.0 if name == "ncc" else 0.0, abs=small)
    assert float(loss(x, y)) == pytest.approx(float(loss(y, x)), abs=1e-12)
    assert 0.02 < float(loss(x, y)) < 1.0
    total = sum(scale.weight for scale in loss.scales) if name == "mk-lncc dilated" else 1.0
    for constant in (0.0, 0.7, 1.0, 900.0):
        flat = torch.full_like(x, constant)
        for dtype in (torch.float32, torch.float64):
            assert float(loss(x.to(dtype), flat.to(dtype))) == pytest.approx(total, abs=1e-6)
            assert float(loss(flat.to(dtype), flat.to(dtype))) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_single_precision_and_pieces_change_nothing(name, monkeypatch):
    x, y = smooth_pair((22, 17, 19))
    y.requires_grad_(True)
    expected = LOSSES[name](x, y)
    (gradient,) = torch.autograd.grad(expected, y)
    for piece in (1, 1500, 1 << 24):
        monkeypatch.setattr(lncc_module, "_PIECE", piece)
        monkeypatch.setattr(mklncc_module, "_PIECE", piece)
        single = y.detach().float().requires_grad_(True)
        found = LOSSES[name](x.float(), single)
        (found_gradient,) = torch.autograd.grad(found, single)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
        assert float((found_gradient - gradient).abs().max()) < 2e-4 * float(gradient.abs().max())


def test_a_step_against_the_gradient_lowers_the_loss():
    x, y = smooth_pair((12, 14, 13), dtype=torch.float32)
    for loss in LOSSES.values():
        moving = y.clone().requires_grad_(True)
        before = loss(x, moving)
        (gradient,) = torch.autograd.grad(before, moving)
        after = loss(x, y - 0.02 * gradient / gradient.abs().max())
        assert float(after) < float(before.detach()) - 1e-5


def test_no_gradient_is_made_where_none_is_asked_for():
    x, y = smooth_pair((12, 14, 13))
    y.requires_grad_(True)
    with torch.no_grad():
        assert not LNCC(5)(x, y).requires_grad
    assert not MultiKernelLNCC()(x, y.detach()).requires_grad


def test_training_may_follow_inference_on_the_same_grid():
    x, y = smooth_pair((15, 17, 16))
    for loss in LOSSES.values():
        with torch.inference_mode():
            before = float(loss(x, y))
        moving = y.clone().requires_grad_(True)
        after = loss(x, moving)
        after.backward()
        assert float(after.detach()) == before


def test_window_sums_and_their_transpose_are_adjoint():
    generator = torch.Generator().manual_seed(0)
    for side, stride, n in ((1, 1, 9), (9, 1, 15), (5, 2, 14), (6, 2, 14), (3, 5, 17), (7, 3, 16), (4, 4, 13)):
        x = torch.rand(2, n, 3, generator=generator, dtype=torch.float64)
        sums = lncc_module.window_sums(x, 1, side, stride)
        g = torch.rand(sums.shape, generator=generator, dtype=torch.float64)
        direct = x.unfold(1, side, stride).sum(-1)
        assert torch.allclose(sums, direct, atol=1e-12)
        back = lncc_module.spread(g, 1, side, stride, n)
        assert float((sums * g).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)


def test_paper_windows_follow_the_smallest_side():
    assert [tuple(scale) for scale in paper_scales((160, 192, 224))] == [
        (10, 2, 2, 0.1),
        (20, 2, 5, 0.3),
        (40, 2, 10, 0.6),
    ]
    assert [tuple(scale) for scale in paper_scales((192, 80, 192))] == [(20, 2, 5, 0.3), (40, 2, 10, 0.7)]
    assert [tuple(scale) for scale in paper_scales((40, 48, 56))] == [(20, 1, 5, 1.0)]
    assert paper_scales((1, 80, 90)) == paper_scales((80, 90))


@pytest.mark.parametrize("shape", [(26, 30, 28), (66, 80), (140, 131)])
def test_mk_lncc_is_the_weighted_mean_over_its_windows(shape):
    x, y = smooth_pair(shape)
    dims = len(shape)
    mask = torch.ones_like(x)
    mask[..., : shape[-1] // 3] = 0.0
    for given in (None, mask):
        expected = 0.0
        for side, dilation, stride, weight in paper_scales(shape):
            sizes = (side,) * dims, (dilation,) * dims, (stride,) * dims
            values, weights = windows_by_loop(x, y, *sizes, given)
            expected += weight * (1.0 - (values * weights).sum() / weights.sum())
        assert float(MultiKernelLNCC()(x, y, given)) == pytest.approx(expected, abs=1e-9)


def test_constant_windows_count_one():
    """Half of the windows see a constant: the loss is half way between theirs and that of the rest."""
    x = smooth_pair((10, 10, 40))[0]
    y = x.clone()
    y[..., :20] = 0.3
    scale = Scale(10, 1, 10, 1.0)
    assert float(MultiKernelLNCC((scale,))(x, y)) == pytest.approx(0.5, abs=1e-4)


def test_ncc_is_the_correlation_coefficient():
    x, y = smooth_pair((9, 11, 10))
    pair, other = torch.cat([x, y]), torch.cat([y, 1 - x])
    expected = 1.0 - np.corrcoef(x.flatten(), y.flatten())[0, 1]
    assert float(NCC()(x, y)) == pytest.approx(expected, abs=1e-10)
    assert float(NCC()(pair, other)) == pytest.approx(
        0.5 * (expected + 1 - np.corrcoef(y.flatten(), 1 - x.flatten())[0, 1]), abs=1e-10
    )


@pytest.mark.parametrize("loss", [LNCC(), MultiKernelLNCC(), NCC()])
def test_images_of_different_shapes_are_refused(loss):
    with pytest.raises(ModelError, match="one shape"):
        loss(torch.rand(1, 1, 12, 13, 14), torch.rand(1, 1, 12, 13, 15))


def test_windows_that_cannot_be_are_refused():
    x, y = smooth_pair((9, 11, 10))
    with pytest.raises(ModelError, match="do not fit"):
        MultiKernelLNCC((Scale(6, 2, 1, 1.0),))(x, y)
    with pytest.raises(ModelError, match="cannot use window"):
        LNCC((3, 3))(x, y)
    assert float(LNCC(99)(x, y)) == pytest.approx(lncc_by_loop(x, y, (9, 11, 10), 1), abs=1e-10)


def test_names_load_without_torch():
    code = "import sys, regnet.losses as all; print('torch' in sys.modules); all.NCC; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = losses.nothing
