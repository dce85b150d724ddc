"""The staged affine network DDIM: what a stage sees, how transforms compose, what is pooled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from ddim_models import (
    LITERAL,
    SHAPES,
    homogeneous,
    made,
    random_affines,
    read_at,
    smooth_images,
    spied,
    told,
)
from regnet.networks.blocks import parameter_count
from regnet.networks.ddim import DDIM, DDIMConfig, Interpolator, Matcher, ResidualBlock
from regnet.networks.maps import affine_map, identity_affine, warp_by_map
from regnet.spatial import reduce
from torch import nn


@pytest.mark.parametrize("options", [{}, LITERAL])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_network_does_nothing(dims, options):
    fixed, moving = smooth_images(SHAPES[dims], batch=2)
    output = made(dims, size=0, **options)(fixed, moving)
    assert len(output.affines) == len(output.residuals) == 3
    for affine in (*output.affines, output.affine):
        assert float((affine - identity_affine(2, dims, fixed)).detach().abs().max()) < 1e-6
    for image in (output.warped, *(fixed - residual for residual in output.residuals)):
        torch.testing.assert_close(image, moving, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_a_batch_do_not_mix(dims):
    net = made(dims)
    fixed, moving = smooth_images(SHAPES[dims], batch=3)
    start = torch.cat(random_affines(dims, 3, dtype=torch.float32))
    together = net(fixed, moving, start)
    apart = [net(*(part[k : k + 1] for part in (fixed, moving, start))) for k in range(3)]
    for name in ("affine", "warped", "reconstruction"):
        expected = torch.cat([getattr(output, name) for output in apart])
        torch.testing.assert_close(getattr(together, name), expected, rtol=0, atol=1e-5)
    assert float((together.affine[0] - together.affine[1]).detach().abs().max()) > 1e-2
    assert together.affine.shape == (3, dims, dims + 1) and together.reconstruction.shape == fixed.shape


@pytest.mark.parametrize("cumulative", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_transforms_compose_as_homogeneous_matrices(dims, cumulative):
    fixed, moving = smooth_images(SHAPES[dims], dtype=torch.float64)
    start, first, second, third = random_affines(dims, 4)
    net = told(dims, [first, second, third], cumulative=cumulative)
    output = net(fixed, moving, start)
    s, a, b, c, closing = (homogeneous(m) for m in (start, first, second, third, net.final[None]))
    expected = [s @ a, s @ a @ b, s @ a @ b @ c] if cumulative else [s @ a, s @ b, s @ c]
    for found, matrix in zip((*output.affines, output.affine), (*expected, expected[-1] @ closing), strict=True):
        np.testing.assert_allclose(homogeneous(found), matrix, atol=1e-12)
    assert np.abs(closing - np.eye(dims + 1)).max() > 1e-2


@pytest.mark.parametrize("dims", [2, 3])
def test_the_transform_pulls_from_fixed_to_moving_points(dims):
    fixed, moving = (0.4 + image / 2 for image in smooth_images(SHAPES[dims], dtype=torch.float64))
    step = random_affines(dims, 1, seed=3, size=0.25)[0]
    net = told(dims, [step])
    output = net(fixed, moving)
    for image, affine in ((output.warped, output.affine), (fixed - output.residuals[0], step)):
        expected, inside = read_at(moving[0, 0].numpy(), homogeneous(affine))
        found, here = image[0, 0].detach().numpy(), inside >= 0
        assert here.mean() > 0.5 and np.abs(expected - moving[0, 0].numpy())[here].max() > 0.1
        np.testing.assert_allclose(found[here], expected[here], atol=1e-10)
        assert (inside <= -1).any() and np.abs(found[inside <= -1]).max() < 1e-12


@pytest.mark.parametrize("dims", [2, 3])
def test_warping_once_is_warping_in_sequence(dims):
    shape = {2: (60, 71), 3: (40, 47, 43)}[dims]
    fixed, moving = smooth_images(shape, dtype=torch.float64)
    first, second = (identity_affine(1, dims, moving).clone() for _ in range(2))
    first[0, 0, -1] = 0.3
    second[0, :2, :2] = torch.tensor([[0.7, -0.6], [0.6, 0.7]])
    output = told(dims, [first, second])(fixed, moving)
    inside = (slice(None), slice(None), *(slice(n // 4, -n // 4) for n in shape))
    once = (fixed - output.residuals[1])[inside]
    twice, turned = (
        warp_by_map(warp_by_map(moving, affine_map(a, shape)), affine_map(b, shape))[inside]
        for a, b in ((first, second), (second, first))
    )
    assert float((once - twice).abs().mean()) < 0.002
    assert float((once - turned).abs().mean()) > 0.02


@pytest.mark.parametrize("options", [{}, {"cumulative": False}, {"residual_only": True}, LITERAL])
@pytest.mark.parametrize("dims", [2, 3])
def test_what_each_stage_sees(dims, options):
    """Image and residual at half the stage's scale; each switch changes its own part of it and nothing else."""
    fixed, moving = smooth_images(SHAPES[dims], dtype=torch.float64)
    net, seen = spied(made(dims, **options).double())
    start = random_affines(dims, 1, size=0.05)[0]
    output = net(fixed, moving, start)
    images = [fixed - residual for residual in output.residuals]
    before = warp_by_map(moving, affine_map(start, SHAPES[dims]))
    for stage, (fixed_pair, moving_pair, shape) in enumerate(seen):
        scale = 0.25 * 2**stage
        assert shape == tuple(round((n - 1) * scale) + 1 for n in SHAPES[dims])
        half = tuple(round((n - 1) * scale / 2) + 1 for n in SHAPES[dims])
        current = images[stage - 1] if stage and net.settings.cumulative else before
        residual = reduce(fixed - images[stage - 1], half) if stage else torch.zeros(1, 1, *half)
        own = torch.zeros(1, 1, *half) if stage and net.settings.residual_only else reduce(fixed, half)
        torch.testing.assert_close(fixed_pair, torch.cat([own, residual], dim=1).double(), rtol=0, atol=1e-12)
        expected = torch.cat([reduce(current, half), residual], dim=1).double()
        torch.testing.assert_close(moving_pair, expected, rtol=0, atol=1e-12)
    assert len(seen) == 3 and float(output.residuals[0].detach().abs().max()) > 0.05


@pytest.mark.parametrize("dims", [2, 3])
def test_the_fixed_features_alone_are_resampled(dims):
    half, shape = {2: (9, 12), 3: (6, 8, 7)}[dims], {2: (17, 22), 3: (11, 16, 13)}[dims]
    torch.manual_seed(0)
    layer = Interpolator(dims, 3).double()
    layer.theta.data = random_affines(dims, 1, seed=2, size=0.3)[0][0]
    pairs = torch.rand(2, 1, 2, *half, dtype=torch.float64)
    features = layer.second(functional.relu(layer.first(torch.cat(list(pairs)))))
    axes = tuple(range(2, features.ndim))
    variance = features.var(axes, keepdim=True, unbiased=False)
    features = (features - features.mean(axes, keepdim=True)) / (variance + 1e-5).sqrt()
    mode = "trilinear" if dims == 3 else "bilinear"
    wide = functional.interpolate(features, shape, mode=mode, align_corners=True).detach()
    fixed, moving = layer(*pairs, shape)
    torch.testing.assert_close(moving, wide[1:], rtol=0, atol=1e-12)
    for channel in range(3):
        expected, inside = read_at(wide[0, channel].numpy(), homogeneous(layer.theta[None]), "nearest")
        assert inside.min() < -1
        np.testing.assert_allclose(fixed[0, channel].detach().numpy(), expected, atol=1e-10)


def test_has_the_intended_size():
    """Per stage two convolutions and an affine, two residual blocks and two linear layers; then G and the head."""
    stage = (27 * 2 + 1) * 16 + (27 * 16 + 1) * 16 + 12 + 4 * (27 * 16 + 1) * 16 + (2 * 16 * 4 + 1) * 64 + 65 * 12
    assert parameter_count(DDIM()) == 3 * stage + 12 + 27 * 3 + 1
    fewer = DDIM(DDIMConfig(moments=False, cumulative=False, residual_only=True))
    assert parameter_count(DDIM()) - parameter_count(fewer) == 3 * 2 * 16 * 3 * 64


def test_residual_blocks_have_a_skip():
    block, features = ResidualBlock(2, 4), torch.randn(2, 4, 7, 9)
    assert float((block(features) - features).detach().abs().max()) > 0.1
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    assert torch.equal(block(features), features)  # signs and all


@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_matchers_pool_means_and_first_moments(dims, moments):
    shape = {2: (6, 9), 3: (5, 8, 6)}[dims]
    matcher = Matcher(DDIMConfig(dims=dims, width=3, hidden=7, moments=moments)).double()
    nn.init.normal_(matcher.last.weight)
    fixed, moving = torch.randn(2, 2, 3, *shape, generator=torch.Generator().manual_seed(0)).double()
    given = []
    matcher.hidden.register_forward_pre_hook(lambda _, values: given.append(values[0]))
    found = matcher(fixed, moving)
    r, m = matcher.blocks(fixed - moving).detach().numpy(), moving.numpy()
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij") if moments else []
    axes = tuple(range(2, 2 + dims))
    parts = [(w * x).mean(axis=axes) for x in (m * r, r) for w in (np.ones(shape), *places)]
    assert parts[0].std() > 0.05
    np.testing.assert_allclose(given[0].detach().numpy(), np.concatenate(parts, axis=1), atol=1e-12)
    hidden = np.maximum(given[0].detach().numpy() @ matcher.hidden.weight.detach().numpy().T + bias(matcher.hidden), 0)
    change = hidden @ matcher.last.weight.detach().numpy().T + bias(matcher.last)
    expected = np.eye(dims, dims + 1) + change.reshape(2, dims, dims + 1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)


def bias(layer):
    return layer.bias.detach().numpy()


@pytest.mark.parametrize("moments", [True, False])
def test_only_moments_see_the_sign_of_a_shift(moments):
    """With kernels that are their own mirror images, a mirrored pair changes the sign of one moment and no mean."""
    net = made(depth=1, scales=(1.0,), moments=moments, size=1.0).double()
    with torch.no_grad():
        net.interpolators[0].theta.copy_(torch.eye(2, 3))
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(0.5 * (layer.weight + layer.weight.flip(3)))
    fixed, moving = smooth_images(SHAPES[2], dtype=torch.float64)
    as_is, mirrored = net.align(fixed, moving), net.align(fixed.flip(3), moving.flip(3))
    difference = float((as_is - mirrored).abs().max())
    assert float((as_is - identity_affine(1, 2, as_is)).abs().max()) > 1e-2
    assert difference > 2e-3 if moments else difference < 1e-10


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_on_itself_needs_no_step(dims):
    """The two branches share their convolutions, and nothing but a difference reaches the matcher."""
    net = made(dims, size=0)
    for matcher in net.matchers:
        nn.init.normal_(matcher.last.weight)
    fixed, other = smooth_images(SHAPES[dims])
    assert float((net.align(fixed, fixed) - identity_affine(1, dims, fixed)).abs().max()) < 1e-4
    assert float((net.align(fixed, other) - identity_affine(1, dims, fixed)).abs().max()) > 1e-2


@pytest.mark.parametrize("dims", [2, 3])
def test_recovers_a_translation_after_a_short_overfit(dims):
    shape = {2: (28, 36), 3: (16, 22, 19)}[dims]
    torch.manual_seed(0)
    moving = smooth_images(shape, seed=4)[0]
    truth = identity_affine(1, dims, moving).clone()
    last = torch.tensor(shape) - 1
    truth[0, :, -1] = 2 * torch.tensor([1.5, -2.5, 1.8][:dims]) / last
    fixed = warp_by_map(moving, affine_map(truth, shape))
    net = DDIM(DDIMConfig(dims=dims, depth=2, width=8, scales=(0.25, 0.5), hidden=32))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        loss = torch.stack(list(net.losses(net(fixed, moving), fixed, moving).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    voxels = (net.align(fixed, moving) - truth)[0] * last[:, None] / 2
    middle = torch.linspace(-0.6, 0.6, 5)
    points = torch.cartesian_prod(*(middle,) * dims).t()
    distance = (voxels[:, :-1] @ points + voxels[:, -1:]).norm(dim=0)
    assert float(distance.max()) < 0.5
