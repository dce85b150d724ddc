"""The staged affine network DDIM: what a stage sees, how transforms compose, what is pooled, and its loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from regnet.errors import ModelError
from regnet.losses.lncc import LNCC
from regnet.networks.blocks import parameter_count
from regnet.networks.ddim import DDIM, DDIMConfig, Interpolator, Matcher, ResidualBlock
from regnet.networks.maps import affine_map, identity_affine, warp_by_map
from regnet.spatial import reduce
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


@pytest.mark.parametrize("options", [*FORMS, LITERAL])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_second_step_reaches_every_parameter(dims, options):
    fixed, moving = smooth_images((18, 21, 16)[:dims], batch=2)
    net = made(dims, size=0, **options)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(net.losses(net(fixed, moving), fixed, moving).values())).sum().backward()
        optimiser.step()
    for name, parameter in net.named_parameters():
        assert bool((parameter.grad != 0).any()) and bool(parameter.grad.isfinite().all()), name


def as_volume_network(flat):
    """The 3D network that does on z-constant volumes what ``flat`` does on their slices."""
    deep = made(3, seed=9)
    source = flat.state_dict()
    for name, weight in deep.state_dict().items():
        given = source[name]
        if weight.ndim == 5:
            weight.zero_()[:, :, 1] = given
        elif name.endswith("theta") or name == "final":
            weight.copy_(torch.eye(3, 4))
            weight[1:, 1:] = given
        elif name.endswith("hidden.weight"):
            # Those of the moments along z stay as they are, for these moments vanish.
            weight.view(16, 2, 4, 6)[:, :, [0, 2, 3]] = given.view(16, 2, 3, 6)
        elif ".last." in name:
            weight.zero_().view(3, 4, -1)[1:, 1:] = given.view(2, 3, -1)
        else:
            weight.copy_(given)
    return deep


def test_a_stack_of_equal_slices_registers_as_one_slice():
    flat = made(2)
    deep, flat = as_volume_network(flat).double(), flat.double()
    fixed, moving = smooth_images(SHAPES[2], batch=2, dtype=torch.float64)
    start = torch.cat(random_affines(2, 2))
    volume_start = identity_affine(2, 3, fixed).clone()
    volume_start[:, 1:, 1:] = start
    volumes = (image[:, :, None].expand(-1, -1, 17, -1, -1) for image in (fixed, moving))
    expected, found = flat(fixed, moving, start), deep(*volumes, volume_start)
    wide = identity_affine(2, 3, fixed).clone()
    wide[:, 1:, 1:] = expected.affine
    torch.testing.assert_close(found.affine, wide, rtol=0, atol=1e-6)
    assert float((expected.affine - start).detach().abs().max()) > 0.02
    for name in ("warped", "reconstruction"):
        slices = getattr(found, name)[:, :, 5]
        torch.testing.assert_close(slices, getattr(expected, name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_loss_is_the_sum_of_its_terms(dims):
    fixed, moving = smooth_images(SHAPES[dims], batch=2, dtype=torch.float64)
    net = made(dims).double()
    output = net(fixed, moving)
    found = {name: term.item() for name, term in net.losses(output, fixed, moving).items()}
    target, warped, head = (x.detach().numpy() for x in (fixed, output.warped, output.reconstruction))
    placed = [warp_by_map(moving, affine_map(affine, SHAPES[dims])).detach() for affine in output.affines]
    away = output.affine.detach().numpy() - np.eye(dims, dims + 1)
    expected = {
        "residual": np.mean([((target - image.numpy()) ** 2).mean() for image in placed]),
        "similarity": ((target - warped) ** 2).mean(),
        "reconstruction": 0.1 * ((head - target) ** 2).mean(),
        "closeness": 1e-3 * np.mean([(matrix**2).sum() for matrix in away]),
    }
    assert found == pytest.approx(expected, rel=1e-9) and min(expected.values()) > 1e-6
    local = {name: term.item() for name, term in net.losses(output, fixed, moving, similarity="lncc").items()}
    expected["residual"] = np.mean([float(LNCC()(fixed, image)) for image in placed])
    expected["similarity"] = LNCC()(fixed, output.warped).item()
    assert local == pytest.approx(expected, rel=1e-9)


def test_local_correlation_makes_nothing_of_contrast():
    net = made(size=0)
    moving = smooth_images(SHAPES[2])[0]
    fixed = 0.9 - 0.7 * moving
    output = net(fixed, moving)
    squared, local = (net.losses(output, fixed, moving, similarity=name) for name in ("mse", "lncc"))
    for name in ("residual", "similarity"):
        assert squared[name].item() > 0.05 and local[name].item() < 0.02


@pytest.mark.parametrize("dims", [2, 3])
def test_the_head_sees_fixed_warped_and_their_difference(dims):
    net = made(dims)
    fixed, moving = smooth_images(SHAPES[dims])
    nn.init.zeros_(net.head.weight)
    with torch.no_grad():
        net.head.weight[(0, slice(None), *(1,) * dims)] = torch.tensor([0.3, 0.5, 2.0])
    output = net(fixed, moving)
    expected = 0.3 * fixed + 0.5 * output.warped + 2.0 * (fixed - output.warped) + net.head.bias
    torch.testing.assert_close(output.reconstruction, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [*FORMS, LITERAL])
@pytest.mark.parametrize("dims", [2, 3])
def test_align_is_forward_without_what_only_training_needs(dims, options, monkeypatch):
    net = made(dims, **options)
    fixed, moving = smooth_images(SHAPES[dims], batch=2)
    for start in (None, torch.cat(random_affines(dims, 2, dtype=torch.float32))):
        expected = net(fixed, moving, start).affine
        with monkeypatch.context() as patch:
            patch.setattr(net.head, "forward", None)
            found = net.align(fixed, moving, start)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_goes_on_from_an_initial_transform(dims):
    fixed, moving = smooth_images(SHAPES[dims])
    start = random_affines(dims, 1, dtype=torch.float32)[0]
    fresh = made(dims, size=0)
    output = fresh(fixed, moving, start)
    torch.testing.assert_close(output.affine, start, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.warped, warp_by_map(moving, affine_map(start, SHAPES[dims])), rtol=0, atol=1e-5)
    net = made(dims)
    same = net.align(fixed, moving, identity_affine(1, dims, fixed))
    torch.testing.assert_close(same, net.align(fixed, moving), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"dims": 3, "image_shape": (16, 24, 20)}, {"dims": 2, **LITERAL}])
def test_configuration_and_weights_make_the_same_network(options):
    net = made(**options, depth=2, scales=(0.3, 0.6))
    other = DDIM.from_config(json.loads(json.dumps(net.config())))
    assert other.settings == net.settings
    fixed, moving = smooth_images(SHAPES[net.dims])
    assert not torch.equal(other.align(fixed, moving), net.align(fixed, moving))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.align(fixed, moving), net.align(fixed, moving))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dims": 4}, "2 or 3 dimensions"),
        ({"depth": 0, "scales": ()}, "1 or more"),
        ({"width": 0}, "1 or more"),
        ({"hidden": -1}, "1 or more"),
        ({"depth": 2}, "2 numbers"),
        ({"scales": (1, 0.5, 0.25)}, "coarse to fine"),
        ({"scales": (0, 0.5, 1)}, "above 0"),
        ({"scales": (0.5, 1, 1.5)}, "up to 1"),
        ({"scales": (float("nan"), 0.5, 1)}, "above 0"),
        ({"image_shape": (32, 32)}, "3 sizes"),
        ({"image_shape": (32, 15, 32)}, "16 voxels"),
        ({"widht": 8}, "no setting 'widht'"),
    ],
)
def test_refuses_a_configuration_that_makes_no_network(values, says):
    with pytest.raises(ModelError, match=says) as refusal:
        DDIM.from_config(values)
    assert str(refusal.value).rstrip(".").count(". ") == 0 and str(refusal.value).endswith(".")


def test_refuses_images_and_transforms_that_do_not_fit():
    net, (fixed, moving) = made(size=0), smooth_images(SHAPES[2])
    for given, says in (
        ((fixed, moving[..., :-1]), "one shape"),
        ((fixed[0], moving[0]), "one shape"),
        ((fixed[..., :15], moving[..., :15]), "16 voxels"),
        ((fixed, moving, torch.eye(2, 3)), "one initial affine"),
        ((fixed, moving, torch.eye(2, 3).expand(2, 2, 3)), "one initial affine"),
    ):
        for method in (net, net.align):
            with pytest.raises(ModelError, match=says):
                method(*given)
    output = net(fixed, moving)
    with pytest.raises(ModelError, match="mse or lncc"):
        net.losses(output, fixed, moving, similarity="ncc")
    with pytest.raises(ModelError, match="one shape"):
        net.losses(output, fixed, moving[..., :-1])
