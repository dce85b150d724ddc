"""Local gradients against SciPy, and what the paper wants of them: blind to contrast, not to where edges are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.errors import ModelError
from regnet.losses.local_gradient import LocalGradient, normalized_gradients
from scipy import ndimage

SHAPES = [(21, 26), (11, 14, 12)]
EPSILON = 1e-5


def texture(shape, seed=0, sigma=1.5, dtype=torch.float64, batch=1):
    """Smooth noise (batch, 1, *shape) in [0, 1]."""
    noise = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    smooth = spatial.gaussian(noise, sigma)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def gradients_by_scipy(image, window, mask=None):
    """``n`` of one image by its definition, (d, *shape)."""
    weight = np.ones_like(image) if mask is None else mask
    sums = []
    for axis in range(image.ndim):
        slope = ndimage.correlate1d(image, [-0.5, 0.0, 0.5], axis=axis, mode="nearest")
        for offset in ([1, 0, 0], [0, 0, 1]):
            slope = slope * ndimage.correlate1d(weight, offset, axis=axis, mode="nearest")
        sums.append(ndimage.correlate(slope, np.ones((window,) * image.ndim), mode="nearest"))
    sums = np.stack(sums)
    return sums / (np.sqrt((sums**2).sum(0)) + EPSILON)


def likeness(first, second, **options):
    return 1.0 - float(LocalGradient(**options)(first, second))


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_vectors_are_those_of_the_definition(shape, window):
    images = texture(shape, batch=2)
    found = normalized_gradients(images, window)
    assert found.shape == (2, len(shape), *shape)
    for image, vectors in zip(images[:, 0].numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(vectors, gradients_by_scipy(image, window), rtol=0, atol=1e-10)


@pytest.mark.parametrize("windows", [(7,), (1,), (3, 7)])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_one_less_the_mean_absolute_product(shape, windows):
    first, second = texture(shape, 0, batch=2), texture(shape, 1, batch=2)
    mask = (torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(5)) > 0.3).double()
    for given in (None, mask):
        inside = None if given is None else given[0, 0].numpy()
        values = []
        for n in windows:
            for a, b in zip(first[:, 0].numpy(), second[:, 0].numpy(), strict=True):
                product = (gradients_by_scipy(a, n, inside) * gradients_by_scipy(b, n, inside)).sum(0)
                values.append(np.average(np.abs(product), weights=inside))
        found = LocalGradient(windows)(first, second, given)
        assert float(found) == pytest.approx(1.0 - np.mean(values), abs=1e-10)


def test_epsilon_is_what_counts_as_no_gradient():
    image = texture((20, 24))
    sums = normalized_gradients(image, 5, 1e-12)
    halved = normalized_gradients(image * 1e-3, 5, 1.0)
    assert float(sums.norm(dim=1).median()) == pytest.approx(1.0, abs=1e-6)
    assert float(halved.norm(dim=1).max()) < 0.05
    with pytest.raises(ModelError, match="above 0"):
        LocalGradient(epsilon=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_vectors_are_no_longer_than_one(shape, dtype):
    rough = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(2), dtype=dtype) * 100
    for window in (1, 7):
        lengths = normalized_gradients(rough, window).norm(dim=1)
        assert 0.999 < float(lengths.max()) <= 1.0 + 1e-6
    if dtype == torch.float64:
        assert float(normalized_gradients(rough).norm(dim=1).max()) < 1.0


@pytest.mark.parametrize("windows", [(7,), (3, 7)])
@pytest.mark.parametrize("shape", [(48, 56), (28, 36, 32)])
def test_contrast_does_not_matter(shape, windows):
    image = texture(shape)
    for other in (image, 0.4 * image + 0.3, 1.0 - image, 0.2 - 3.0 * image):
        assert likeness(image, other, windows=windows) >= 0.999


@pytest.mark.parametrize(("shape", "expected"), [((96, 112), 2 / math.pi), ((32, 40, 36), 0.5)])
def test_unrelated_images_are_alike_as_random_directions_are(shape, expected):
    """The mean of ``|cos|`` over directions: a half in space, two over pi in the plane."""
    image = texture(shape, 0)
    values = [likeness(image, texture(shape, seed, sigma=2.0)) for seed in range(1, 5)]
    assert np.mean(values) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_order_does_not_matter(shape):
    first, second = texture(shape, 0), texture(shape, 1)
    assert likeness(first, second) == pytest.approx(likeness(second, first), abs=1e-14)
    assert 0.1 < likeness(first, second) < 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_constant_images_have_no_gradients_and_no_nan(shape, dtype):
    constant = torch.full((1, 1, *shape), 0.3, dtype=dtype, requires_grad=True)
    assert bool((normalized_gradients(constant) == 0).all())
    for other in (texture(shape, dtype=dtype).requires_grad_(), constant.detach().clone().requires_grad_()):
        for pair in ((constant, other), (other, constant)):
            loss = LocalGradient((3, 7))(*pair)
            assert float(loss.detach()) == 1.0
            for gradient in torch.autograd.grad(loss, pair):
                assert bool((gradient == 0).all())


def test_where_an_image_is_constant_nothing_of_it_is_left_by_rounding():
    """0.3 summed over windows and subtracted would leave some 1e-6, a tenth of epsilon, in single precision."""
    image = torch.full((1, 1, 40, 44), 0.3)
    image[..., 20:, :] = texture((20, 44), dtype=torch.float32)
    image.requires_grad_()
    vectors = normalized_gradients(image)
    assert bool((vectors[..., :16, :] == 0).all()) and bool((vectors[..., 20:, :].norm(dim=1) > 0.5).any())
    loss = LocalGradient()(image, texture((40, 44), 3, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(loss, image)
    assert bool(torch.isfinite(gradient).all()) and float(gradient[..., 20:, :].abs().max()) > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_of_one_is_the_plain_gradient(shape):
    image = texture(shape)
    plain = np.stack(np.gradient(image[0, 0].numpy()))
    plain = plain / (np.linalg.norm(plain, axis=0) + EPSILON)
    inside = (slice(None), *(slice(1, -1) for _ in shape))
    np.testing.assert_allclose(normalized_gradients(image, 1)[0].numpy()[inside], plain[inside], rtol=0, atol=1e-10)


def test_a_window_sees_two_opposite_faces():
    """Derivatives telescope along their axis: of a line thinner than the window nothing is left at its middle."""
    image = torch.zeros(1, 1, 24, 30, dtype=torch.float64)
    image[..., 12, :] = 1.0
    assert float(normalized_gradients(image, 7)[..., 10:15, :].abs().max()) == 0.0
    assert float(normalized_gradients(image, 7)[:, 0, 8, 15].abs().min()) > 0.99
    assert float(normalized_gradients(image, 1)[:, 0, 11, 15].abs().min()) > 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_in_array_order(shape):
    image = texture(shape)
    order = list(range(len(shape)))[::-1]
    turned = normalized_gradients(image.permute(0, 1, *(2 + axis for axis in order)).contiguous(), 5)
    expected = normalized_gradients(image, 5)[:, order].permute(0, 1, *(2 + axis for axis in order))
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("windows", [(3,), (5,), (7,), (3, 7)])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_shifted_sphere_is_the_less_alike_the_further_it_is(windows, inverted):
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (26, 30, 34)), indexing="ij")

    def sphere(shift):
        distance = sum((line - middle) ** 2 for line, middle in zip(axes, (13.0, 14.0, 14.0 + shift), strict=True))
        return (8.5 - distance.sqrt()).clamp(0.0, 1.0)[None, None]

    other = 1.0 - 0.6 * sphere(0.0) if inverted else sphere(0.0)
    values = [likeness(sphere(float(shift)), other, windows=windows) for shift in range(6)]
    assert all(a > b for a, b in zip(values, values[1:], strict=False)), values
    assert values[5] < 0.7 * values[0], values


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(8, 9), (6, 7, 8)])
def test_gradients_are_those_of_finite_differences(shape, masked):
    first, second = (texture(shape, seed, 0.8, batch=2).requires_grad_() for seed in (0, 1))
    mask = (torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(3)) > 0.2).double() if masked else None
    loss = LocalGradient((3, 5), 1e-2)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, mask), (first, second), fast_mode=True)
    (alone,) = torch.autograd.grad(loss(first.detach(), second, mask), second)
    (both,) = torch.autograd.grad(loss(first, second, mask), second)
    torch.testing.assert_close(alone, both, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(24, 30), (14, 18, 16)])
def test_masked_voxels_have_no_influence(shape):
    first, second = texture(shape, 0), texture(shape, 1)
    mask = torch.zeros_like(first)
    mask[(..., *(slice(2, n - 4) for n in shape))] = 1.0
    spoilt = torch.where(mask > 0, second, 5.0 * torch.rand(second.shape, dtype=second.dtype)).requires_grad_()
    loss = LocalGradient()(first, spoilt, mask)
    assert float(loss.detach()) == pytest.approx(float(LocalGradient()(first, second, mask)), abs=1e-12)
    assert abs(float(loss.detach()) - float(LocalGradient()(first, second))) > 1e-3
    (gradient,) = torch.autograd.grad(loss, spoilt)
    assert float(gradient[mask == 0].abs().max()) == 0.0
    assert float(gradient[mask > 0].abs().max()) > 1e-6
    assert float(LocalGradient()(first, 1.0 - first, mask)) < 1e-3
    assert float(LocalGradient()(first, second, mask.bool())) == pytest.approx(float(loss.detach()), abs=1e-12)
    assert float(LocalGradient()(first, second, mask * 0)) == 1.0


def test_a_volume_of_equal_slices_is_as_its_slice():
    first, second = texture((22, 27), 0), texture((22, 27), 1)
    volumes = [image[:, :, None].expand(-1, -1, 9, -1, -1) for image in (first, second)]
    flat, deep = normalized_gradients(first), normalized_gradients(volumes[0])
    assert float(deep[:, 0].abs().max()) == 0.0
    torch.testing.assert_close(deep[:, 1:, 4], flat, rtol=0, atol=1e-3)
    assert float(LocalGradient()(*volumes)) == pytest.approx(float(LocalGradient()(first, second)), abs=1e-4)


def test_sixteen_bits_around_it_do_not_reach_it():
    first, second = texture((20, 24), 0, dtype=torch.float32), texture((20, 24), 1, dtype=torch.float32)
    alone = LocalGradient()(first, second)
    with torch.autocast("cpu", torch.bfloat16):
        inside = LocalGradient()(first, second)
    assert float(inside) == float(alone)
    coarse = LocalGradient()(first.bfloat16(), second.bfloat16())
    assert coarse.dtype == torch.float32 and float(coarse) == pytest.approx(float(alone), abs=0.02)


def test_what_cannot_be_compared_is_refused():
    image = texture((20, 24))
    with pytest.raises(ModelError, match="one shape"):
        LocalGradient()(image, image[..., 1:])
    with pytest.raises(ModelError, match="one-channel"):
        normalized_gradients(image.expand(1, 2, 20, 24))
    with pytest.raises(ModelError, match="one-channel"):
        LocalGradient()(image[0], image[0])
    for windows in ((), (4,), (7, 0), (-1,)):
        with pytest.raises(ModelError, match="odd numbers"):
            LocalGradient(windows)
    with pytest.raises(ModelError, match="odd numbers"):
        normalized_gradients(image, 6)
    assert LocalGradient([3, 7]) == LocalGradient((3, 7))
