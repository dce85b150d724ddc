"""MIND-SSC against a plain implementation, and what it must not notice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regnet import descriptors
from regnet.networks.mind import mind_ssc
from regnet.networks.neighbourhood import neighbours
from scipy import ndimage

SHAPES = [(13, 17), (11, 9, 13)]


def textured(shape, seed=0, dtype=torch.float64):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 0.8)
    return torch.tensor((values - values.min()) / np.ptp(values), dtype=dtype)[None, None]


def by_book(values, radius, dilation):
    """(P, *shape), voxel by voxel; patches are cut at the border, images repeat their border beyond it."""
    dims, shape = values.ndim, values.shape
    wide = np.pad(values, dilation, mode="edge")
    offsets = neighbours(dims, dilation)
    views = [wide[tuple(slice(dilation + s, dilation + s + n) for s, n in zip(o, shape, strict=True))] for o in offsets]
    chosen = [(i, j) for i, j in itertools.combinations(range(2 * dims), 2) if i // 2 != j // 2]
    distances = np.empty((len(chosen), *shape))
    for number, (i, j) in enumerate(chosen):
        squares = (views[i] - views[j]) ** 2
        for place in np.ndindex(*shape):
            patch = tuple(slice(max(x - radius, 0), x + radius + 1) for x in place)
            distances[(number, *place)] = squares[patch].mean()
    distances -= distances.min(axis=0)
    scale = distances.mean(axis=0)
    return np.exp(-distances / np.clip(scale, 0.001 * scale.mean(), 1000 * scale.mean()))


@pytest.mark.parametrize(("radius", "dilation"), [(2, 2), (1, 2), (2, 1), (3, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_a_plain_implementation(shape, radius, dilation):
    image = textured(shape)
    found = mind_ssc(image, radius, dilation)
    assert found.shape == (1, 4 if len(shape) == 2 else 12, *shape)
    np.testing.assert_allclose(found[0].numpy(), by_book(image[0, 0].numpy(), radius, dilation), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_weak_variances_are_held_up(shape):
    """Half of the image is nearly flat: there the mean over the image decides."""
    image = textured(shape)
    image[..., : shape[-1] // 2] *= 1e-3
    expected = by_book(image[0, 0].numpy(), 1, 1)
    np.testing.assert_allclose(mind_ssc(image, 1, 1)[0].numpy(), expected, atol=1e-9)
    assert expected[..., 2].min() > 0.9  # held up; else exponents would average to one there


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_changes_of_intensity_change_nothing(shape):
    image = textured(shape)
    found = mind_ssc(image)
    for scale, shift in ((-1.0, 1.0), (0.05, 0.4), (300.0, -1000.0)):
        torch.testing.assert_close(mind_ssc(scale * image + shift), found, rtol=0, atol=1e-8)
    single = textured(shape, dtype=torch.float32)
    torch.testing.assert_close(mind_ssc(1.0 - single), mind_ssc(single), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_lie_above_zero_and_up_to_one(shape):
    for image in (textured(shape, dtype=torch.float32), torch.zeros(1, 1, *shape), torch.full((1, 1, *shape), 0.3)):
        found = mind_ssc(image)
        assert float(found.min()) > 0 and float(found.max()) <= 1
        assert float(found.amax(dim=1).min()) == 1  # that of the pair most alike
    assert torch.equal(found, torch.ones_like(found))


def test_images_of_a_batch_do_not_mix():
    both = torch.cat([textured((11, 9, 13)), 0.01 * textured((11, 9, 13), 1)])
    torch.testing.assert_close(mind_ssc(both)[1:], mind_ssc(both[1:]), rtol=0, atol=1e-12)


def test_the_image_is_left_alone_and_the_descriptor_has_unit_length():
    image = textured((11, 9, 13), dtype=torch.float32)
    kept = image.clone()
    found = descriptors.mind()(image)
    assert torch.equal(image, kept)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, 11, 9, 13), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, mind_ssc(image) / mind_ssc(image).norm(dim=1, keepdim=True))
