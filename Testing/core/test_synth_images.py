"""Contrasts, artefacts, intensity curves and shapes, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.errors import InputError
from regnet.synth import artefacts
from regnet.synth.contrast import ContrastSettings, LabelContrast
from regnet.synth.draws import Draws
from regnet.synth.intensity import Curves
from regnet.synth.schemes import SCHEMES, get_scheme, t1_picture
from regnet.synth.shapes import random_shapes
from scipy import ndimage

SHAPES = [(41, 34), (21, 26, 18)]


def draws(seed=0, batch=2):
    return Draws(torch.Generator().manual_seed(seed), batch)


def noise_image(shape, batch=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=(batch, 1, *shape)).astype(np.float32))


def random_labels(shape, count=6, batch=2):
    return random_shapes(shape, torch.Generator().manual_seed(1), count, batch=batch)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plain_contrast_is_one_intensity_per_label(shape):
    labels = random_labels(shape)
    settings = ContrastSettings(groups=(6, 6), texture=0.0, jitter=0.02, background=0.0)
    image = LabelContrast(settings)(labels, torch.Generator().manual_seed(5))
    assert image.shape == labels.shape and image.dtype == torch.float32
    levels = []
    for sample, ids in zip(image, labels, strict=True):
        per_label = [sample[ids == number].unique() for number in ids.unique()]
        assert all(len(values) == 1 for values in per_label)
        levels.append([float(values[0]) for values in per_label])
    assert levels[0][0] == 0.0 and len(set(levels[0])) >= 4
    assert levels[0] != levels[1]


def test_labels_of_one_class_look_alike_and_groups_are_shared():
    labels = torch.arange(9).repeat(2, 8).view(2, 1, 8, 9)
    classes = (0, 1, 1, 2, 2, 3, 4, 5, 6)
    plain = {"texture": 0.0, "jitter": 0.0, "background": 0.0, "classes": classes}
    many = LabelContrast(ContrastSettings(groups=(40, 40), **(plain | {"jitter": 0.05})))(labels, draws(3))[:, 0, 0]
    assert torch.equal(many[:, 1], many[:, 2]) and torch.equal(many[:, 3], many[:, 4])
    assert len(many[0].unique()) >= 6
    one = LabelContrast(ContrastSettings(groups=(1, 1), **plain))(labels, draws(3))[:, 0, 0]
    assert len(one[0, 1:].unique()) == 1


def test_a_typical_contrast_is_kept():
    typical = (0.0, 0.2, 0.4, 0.6, 0.8)
    labels = torch.arange(5).repeat(20, 12).view(20, 1, 12, 5)
    settings = ContrastSettings(typical=typical, typical_share=1.0, texture=0.0, jitter=0.0, background=0.0)
    rows = LabelContrast(settings)(labels, draws(0, 20))[:, 0, 0]
    factors = rows[:, 1:] / torch.tensor(typical[1:])
    assert torch.allclose(factors, factors[:, :1].expand(-1, 4), atol=1e-5)
    assert (factors[:, 0] - 1).abs().max() < 0.151 and factors[:, 0].std() > 0.03


def test_texture_varies_within_labels_but_not_in_the_background():
    labels = torch.ones(40, 1, 24, 30, dtype=torch.int64)
    labels[:, :, :8] = 0
    settings = ContrastSettings(texture=0.1, background=0.0)
    image = LabelContrast(settings)(labels, draws(2, 40))
    spread = image[:, :, 8:].flatten(1).std(1)
    assert 0.01 < spread.mean() < 0.1 and spread.max() < 0.17
    assert image[:, :, :8].abs().max() == 0


def test_wrong_label_maps_and_contrasts_are_refused():
    contrast = LabelContrast(ContrastSettings(classes=(0, 1, 2)))
    with pytest.raises(InputError, match="ids from 0 to 3, but only 0 to 2"):
        contrast(torch.tensor([[[[0, 3]]]]), draws(0, 1))
    with pytest.raises(InputError, match="int64"):
        contrast(torch.zeros(1, 1, 4, 4), draws(0, 1))
    with pytest.raises(InputError, match="groups"):
        ContrastSettings(groups=(5, 2))
    with pytest.raises(InputError, match="typical"):
        LabelContrast(ContrastSettings(typical_share=0.5))


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_equals_scipy_with_a_width_per_sample_and_axis(shape):
    d, image = len(shape), noise_image(shape)
    sigma = torch.tensor([[0.8, 1.3, 0.6][:d], [1.1, 0.5, 0.9][:d]])
    ones = torch.ones(2, d)
    found = artefacts.resolution(image, sigma, ones, 0.7 * ones)
    inner = tuple(slice(6, -6) for _ in shape)
    for number in range(2):
        kernel = [float(value) for value in sigma[number]]
        expected = ndimage.gaussian_filter(image[number, 0].double().numpy(), kernel, truncate=6.0)
        assert np.abs(found[number, 0].numpy() - expected)[inner].max() < 1e-4


def test_thick_slices_are_sampled_and_interpolated_along_their_axis_only():
    image = noise_image((40, 25), 1)
    thickness, phase = 3.0, 1.0
    found = artefacts.resolution(
        image, torch.zeros(1, 2), torch.tensor([[thickness, 1.0]]), torch.tensor([[phase, 0.0]])
    )[0, 0].numpy()
    sigma = np.sqrt(0.18 * (thickness**2 - 1))
    smooth = ndimage.gaussian_filter1d(image[0, 0].double().numpy(), sigma, axis=0, truncate=6.0)
    places = np.arange(phase, 40, thickness)
    for column in range(25):
        expected = np.interp(np.arange(40), places, smooth[places.astype(int), column])
        assert np.abs(found[8:32, column] - expected[8:32]).max() < 1e-4


def test_intensity_artefacts_follow_their_definitions():
    image = noise_image((30, 44))
    strength = torch.tensor([0.0, 0.4])
    powered = artefacts.gamma(image, strength).numpy()
    assert np.allclose(powered, image.numpy() ** np.exp(strength.numpy()).reshape(2, 1, 1, 1), atol=1e-5)
    noisy = artefacts.noise(image, strength, draws(1)) - image
    assert noisy[0].abs().max() == 0 and abs(float(noisy[1].std()) - 0.4) < 0.02
    ratio = artefacts.bias_field(image + 0.1, strength, draws(1)) / (image + 0.1)
    assert torch.allclose(ratio[0], torch.ones_like(ratio[0]), atol=1e-6)
    assert ratio[1].min() > 0 and ratio[1].std() > 0.05
    assert ratio[1].diff(dim=-1).abs().max() < 0.15 * (ratio[1].max() - ratio[1].min())
    scaled = artefacts.normalise(3 * image - 7, 0.1, 0.9).numpy()
    for number in range(2):
        low, high = np.percentile(image[number], (10, 90))
        assert np.abs(scaled[number] - np.clip((image[number].numpy() - low) / (high - low), 0, 1)).max() < 0.01
    assert artefacts.normalise(torch.full((1, 1, 5, 6), 0.3)).abs().max() == 0
    shown = artefacts.window(image, torch.tensor([0.0, 0.25]), torch.tensor([1.0, 0.75])).numpy()
    assert np.allclose(shown[0], image[0].numpy())
    assert np.allclose(shown[1], np.clip((image[1].numpy() - 0.25) / 0.5, 0, 1), atol=1e-6)


def test_a_display_shows_what_lies_in_its_window():
    """A ramp, seen through windows from 0.2 to 0.3 up to 0.6 to 0.7: about four tenths of it is black or white."""
    plain = {"blur": (0.0, 0.0), "noise": 0.0, "bias": 0.0, "gamma": 0.0, "thick_share": 0.0}
    ramp = torch.linspace(0, 1, 2000).view(1, 1, 40, 50).expand(8, 1, 40, 50)
    whole = artefacts.acquire(ramp, None, artefacts.ArtefactSettings(**plain), draws(1, 8))
    part = artefacts.ArtefactSettings(**plain, black=(0.2, 0.3), white=(0.6, 0.7))
    shown = artefacts.acquire(ramp, None, part, draws(1, 8))
    black, white = ((abs(shown - end) < 1e-4).float().mean(dim=(1, 2, 3)) for end in (0, 1))
    assert float((abs(whole - 0.5) > 0.4999).float().mean()) < 0.01
    assert float(black.min()) > 0.19 and float(black.max()) < 0.31 and float(black.std()) > 0.01
    assert float(white.min()) > 0.29 and float(white.max()) < 0.41 and float(white.std()) > 0.01


@pytest.mark.parametrize(
    "ends", [{"black": (0.1, 0.6), "white": (0.5, 1.0)}, {"white": (0.8, 1.2)}, {"black": (-1, 0)}]
)
def test_a_window_has_two_ends(ends):
    with pytest.raises(InputError, match="must be darker than what is white"):
        artefacts.ArtefactSettings(**ends)


def test_field_of_view_cuts_what_was_said():
    image = torch.ones(2, 1, 11, 21)
    cut = artefacts.field_of_view(image, torch.tensor([[0.0, 0.0], [0.2, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.5]]))
    assert torch.equal(cut[0], image[0])
    expected = np.zeros((11, 21))
    expected[2:, :11] = 1
    assert np.array_equal(cut[1, 0].numpy(), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_lesions_are_blobs_inside_and_only_where_present(shape):
    image = torch.full((20, 1, *shape), 0.5)
    inside = torch.zeros(20, 1, *shape, dtype=torch.bool)
    inside[:, :, 4:-4, 5:-5] = True
    present = torch.arange(20) % 2 == 0
    changed = (artefacts.lesions(image, inside, present, 5.0, draws(2, 20)) - image).abs()
    assert changed[1::2].max() == 0 and changed[~inside].max() == 0
    share = (changed[::2] > 1e-3).float().flatten(1).mean(1)
    assert (share > 0).float().mean() > 0.6 and share.max() < 0.4


def test_stripping_keeps_the_brain_closes_sulci_and_widens_when_loose():
    brain = torch.zeros(2, 1, 30, 36, dtype=torch.bool)
    brain[:, :, 8:22, 9:27] = True
    brain[:, :, 8:15, 17] = False
    mask = artefacts.strip_mask(brain, torch.tensor([0.0, 1.0]), 2)
    assert (mask & brain).sum() == brain.sum()
    assert mask[:, 0, 11:15, 17].all()
    assert not mask[:, :, :4].any() and not mask[:, :, :, :5].any()
    assert mask[1].sum() > mask[0].sum() + 20


def test_intensity_curves_keep_air_dark_and_invert():
    curves = Curves.draw(draws(0, 60), 0.5, 1.0)
    ramp = torch.linspace(0, 1, 81).expand(60, 1, 9, 81).contiguous()
    result = curves(ramp)[:, 0, 0]
    assert 15 < int(curves.used.sum()) < 45
    assert torch.allclose(result[~curves.used], ramp[~curves.used][:, 0, 0], atol=1e-6)
    assert result[:, 0].abs().max() == 0
    assert (result[curves.used][:, 10] > result[curves.used][:, 78] + 0.3).all()
    expected = np.interp(ramp[7, 0, 0].numpy(), np.linspace(0, 1, 9), curves.values[7].numpy())
    assert np.abs(result[7].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_smooth_and_have_a_background_rim(shape):
    labels = random_shapes(shape, torch.Generator().manual_seed(4), 5, batch=3)
    assert labels.shape == (3, 1, *shape) and labels.dtype == torch.int64
    for sample in labels[:, 0].numpy():
        assert {0} < set(np.unique(sample)) <= set(range(6)) and len(np.unique(sample)) >= 4
        borders = [np.take(sample, index, axis) for axis in range(len(shape)) for index in (0, -1)]
        assert all((side == 0).mean() > 0.95 for side in borders)
        assert 0.2 < (sample > 0).mean() < 0.9
        changes = [np.mean(np.diff(sample, axis=axis) != 0) for axis in range(len(shape))]
        assert max(changes) < 0.3
    assert (labels[0] != labels[1]).float().mean() > 0.1
    filled = random_shapes(shape, torch.Generator().manual_seed(4), 5, rim=0.0)
    assert filled.min() == 1
    with pytest.raises(InputError, match="at least one label"):
        random_shapes(shape, torch.Generator(), 0)


def test_schemes_are_consistent():
    for scheme in SCHEMES.values():
        ids = [number for one in scheme.structures for number in one.ids]
        assert len(ids) == len(set(ids)) and min(ids) > 0
        assert len(scheme.classes()) == len(scheme.typical()) == scheme.size
        assert max(scheme.typical()) <= 1 and not set(scheme.not_brain) - set(ids)
    scheme = get_scheme("synthseg")
    assert scheme.classes()[2] == scheme.classes()[41] != scheme.classes()[3]
    assert 24 in scheme.not_brain and 2 not in scheme.not_brain
    picture = t1_picture(torch.tensor([[0, 2, 3, 4, 9999]]), scheme)
    assert picture[0, 1] > picture[0, 2] > picture[0, 3] > picture[0, 0] == picture[0, 4] == 0
    with pytest.raises(InputError, match="no label scheme named 'nope'"):
        get_scheme("nope")


@pytest.mark.parametrize("shape", SHAPES)
def test_smoothing_before_thinning_has_the_variance_of_the_zoom(shape):
    d = len(shape)
    point = torch.zeros(2, 1, *shape)
    point[(slice(None), 0, *(n // 2 for n in shape))] = 1.0
    few, many = [[0.7, 1.4, 1.7], [1.3, 1.0, 1.5]], [[2.1, 2.8, 3.0], [2.6, 3.2, 2.4]]
    for zooms, parts in ((few, 2), (many, 3)):
        zoom, grid = torch.tensor(zooms)[:, :d], [n // parts + 1 for n in shape]
        found = artefacts.antialiased(point, zoom, grid)[:, 0].double().numpy()
        assert np.abs(found.sum(axis=tuple(range(1, d + 1))) - 1).max() < 1e-5
        for number in range(2):
            for axis, n in enumerate(shape):
                line = found[number].sum(axis=tuple(a for a in range(d) if a != axis))
                variance = (line * (np.arange(n) - n // 2) ** 2).sum()
                expected = 0.18 * max(float(zoom[number, axis]) ** 2 - 1, 0)
                assert abs(variance - expected) < 0.03
    level = artefacts.antialiased(torch.full((2, 1, *shape), 0.3), zoom, shape)
    assert torch.allclose(level, torch.full_like(level, 0.3), atol=1e-6)
