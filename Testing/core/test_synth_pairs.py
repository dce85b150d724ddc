"""Training pairs: the known truth is true, labels and images belong together, and nothing depends on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.errors import InputError
from regnet.synth import pairs
from regnet.synth.pairs import PairSettings
from scipy import ndimage
from synth_examples import SHAPES, anatomy, quarters, seeded, settings, smooth_image


def pulled(labels, displacement):
    """scipy's nearest neighbour of a label map (*s) at x + u(x)."""
    where = np.indices(labels.shape) + displacement.numpy()
    return ndimage.map_coordinates(labels.numpy(), where, order=0, mode="constant")


def check_pair(pair, batch, shape):
    for name in ("fixed", "moving"):
        image = pair[name]
        assert image.shape == (batch, 1, *shape) and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1 and torch.isfinite(image).all()
        assert (image.flatten(1).amax(1) > 0.5).all() and (image.flatten(1).std(1) > 0.02).all()
        if f"{name}_labels" in pair:
            labels = pair[f"{name}_labels"]
            assert labels.shape == (batch, 1, *shape) and labels.dtype == torch.int64 and labels.min() >= 0
    assert pair["same_contrast"].shape == (batch,) and pair["same_contrast"].dtype == torch.bool


@pytest.mark.parametrize("shape", SHAPES)
def test_one_anatomys_moving_labels_pulled_by_the_displacement_are_the_fixed_ones(shape):
    maker = pairs.OneAnatomy(settings(shape, views={"largest": [4, 4], "smoothness": [10, 20]}))
    for seed in range(3):
        pair = maker({"labels": anatomy(shape, seed)}, seeded(seed))
        check_pair(pair, 1, shape)
        fixed, moving = pair["fixed_labels"][0, 0], pair["moving_labels"][0, 0]
        u = pair["displacement"][0]
        assert u.shape == (len(shape), *shape)
        right = (pulled(moving, u) == fixed.numpy()).mean()
        assert right > 0.93
        for wrong in (torch.zeros_like(u), -u, u.flip(0)):
            assert (pulled(moving, wrong) == fixed.numpy()).mean() < right - 0.05
        determinant = spatial.jacobian_determinant(pair["displacement"])
        assert determinant.min() > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_one_images_moving_pulled_by_the_displacement_is_the_fixed_one(shape):
    maker = pairs.OneImage(settings(shape, views={"largest": [3, 3], "smoothness": [10, 20], "common": [2, 2]}))
    image = smooth_image([n + 6 for n in shape])
    pair = maker({"moving": image, "moving_labels": (image > 0.5).long()}, seeded(2))
    where = np.indices(shape) + pair["displacement"][0].numpy()
    inside = np.logical_and.reduce([(w >= 1) & (w <= n - 2) for w, n in zip(where, shape, strict=True)])
    inside &= pair["fixed"][0, 0].numpy() > 0.1
    found = ndimage.map_coordinates(pair["moving"][0, 0].numpy(), where, order=1)
    # Each side is scaled to its own percentiles: equal but for a line.
    expected = pair["fixed"][0, 0].numpy()
    assert inside.mean() > 0.2
    assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.995
    assert np.corrcoef(pair["moving"][0, 0].numpy()[inside], expected[inside])[0, 1] < 0.9
    agree = pulled(pair["moving_labels"][0, 0], pair["displacement"][0]) == pair["fixed_labels"][0, 0].numpy()
    assert agree[inside].mean() > 0.95


def test_two_scans_of_one_person_keep_their_own_intensities():
    shape = SHAPES[0]
    first = smooth_image([n + 6 for n in shape])
    second = (1 - first) * (first > 0.05)
    same = torch.tensor([False])
    pair = pairs.OneImage(settings(shape))({"fixed": second, "moving": first, "same_contrast": same}, seeded(1))
    assert not pair["same_contrast"].any()
    back = spatial.warp(pair["moving"], pair["displacement"])
    seen = (back > 0.2) & (pair["fixed"] > 0.1)
    assert np.corrcoef(back[seen].numpy(), pair["fixed"][seen].numpy())[0, 1] < -0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_same_contrast_means_equal_intensity_per_label(shape):
    # Each label in a group of its own; the percentiles that images are scaled to differ a little between the sides.
    contrast = {"texture": 0, "background": 0, "jitter": 0, "groups": [40, 40]}
    maker = pairs.TwoAnatomies(settings(shape, contrast=contrast, different_contrast=0.5))
    pair = maker({"fixed_labels": quarters(shape, 8), "moving_labels": quarters(shape, 8).flip(-1)}, seeded(5))
    check_pair(pair, 8, shape)
    assert "displacement" not in pair
    assert 0 < int(pair["same_contrast"].sum()) < 8
    for number in range(8):
        means = np.array(
            [
                [float(pair[side][number][pair[f"{side}_labels"][number] == label].median()) for label in range(1, 5)]
                for side in ("fixed", "moving")
            ]
        )
        difference = np.abs(means[0] - means[1]).max()
        assert difference < 0.05 if pair["same_contrast"][number] else difference > 0.15


def test_stripping_hides_what_is_not_brain_on_the_asked_sides():
    shape = (48, 60)
    labels = torch.zeros(6, 1, *shape, dtype=torch.int64)
    labels[..., 6:42, 8:52], labels[..., 9:39, 12:48], labels[..., 13:35, 16:44] = 3, 2, 1
    labels[..., 20:28, 20:40] = 4
    quiet = {"affine": None, "largest": [0, 0], "pose": {"degrees": 0, "scale": 0, "shear": 0, "shift": 0}}
    contrast = {"texture": 0, "background": 0, "jitter": 0, "typical": [0, 0.4, 0.5, 1, 0.8], "typical_share": 1}

    def make(**changes):
        maker = pairs.OneAnatomy(settings(shape, views=quiet, contrast=contrast, not_brain=[2, 3], **changes))
        return maker({"labels": labels}, seeded(3))

    whole, both, one = make(), make(strip=1.0), make(strip=0.0, strip_one=1.0)
    assert set(whole["fixed_labels"].unique().tolist()) == {0, 1, 2, 3, 4}
    for pair in (both, one):
        assert set(pair["fixed_labels"].unique().tolist()) == {0, 1, 4} == set(pair["moving_labels"].unique().tolist())

    def lit(pair, name):
        return (pair[name] > 0.01).flatten(1).float().mean(1)

    brain = (both["fixed_labels"] > 0).flatten(1).float().mean(1)
    # Up to two voxels around the brain stay; the box then holds the brain only.
    assert (lit(both, "fixed") >= brain - 1e-6).all() and (lit(both, "fixed") < brain * 1.3).all()
    assert (brain > 1.3 * (one["fixed_labels"] > 0).flatten(1).float().mean(1)).all()
    shares = torch.stack([lit(one, "fixed"), lit(one, "moving")])
    assert (shares.amin(0) < 0.7 * shares.amax(0)).all()
    which = shares.argmin(0)
    assert 0 < int(which.sum()) < 6
    second = make(strip=0.0, strip_moving=1.0)
    assert (lit(second, "moving") < 0.7 * lit(second, "fixed")).all()


def test_generous_stripping_leaves_the_fluid_in_the_image_only():
    shape = (40, 50)
    labels = torch.full((24, 1, *shape), 3)
    labels[..., 4:36, 5:45], labels[..., 12:28, 14:36] = 2, 1
    still = {"affine": None, "largest": [0, 0], "pose": {"degrees": 0, "scale": 0, "shear": 0, "shift": 0}}
    contrast = {"texture": 0, "jitter": 0, "typical": [0, 1, 0.5, 1], "typical_share": 1}
    values = {"strip": 1.0, "views": still, "contrast": contrast, "not_brain": [2, 3]}
    without = pairs.OneAnatomy(settings(shape, **values))({"labels": labels}, seeded(1))
    pair = pairs.OneAnatomy(settings(shape, **values, fluid=[2]))({"labels": labels}, seeded(1))
    assert pair["fixed_labels"].max() == 1 == pair["moving_labels"].max()

    def lit(pair):
        """Voxels of the fixed image that show something, as a multiple of the brain's."""
        return (pair["fixed"] > 0.1).flatten(1).sum(1) / (pair["fixed_labels"] > 0).flatten(1).sum(1)

    assert (lit(without) < 1.8).all()
    generous = lit(pair) > 3
    assert 8 < int(generous.sum()) < 22 and (lit(pair)[~generous] < 1.8).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_real_pairs_keep_their_labels_and_know_their_contrast(shape):
    size = [n + 6 for n in shape]
    images = torch.cat([smooth_image(size, 1)] * 6), torch.cat([smooth_image(size, 2)] * 6)
    labels = [(image > 0.55).long() + (image > 0.8).long() for image in images]
    batch = {"fixed": images[0], "moving": images[1], "fixed_labels": labels[0], "moving_labels": labels[1]}
    pair = pairs.RealPair(settings(shape, views={"largest": [2, 3]}))(batch, seeded(1))
    check_pair(pair, 6, shape)
    assert pair["same_contrast"].all() and "displacement" not in pair
    for side in ("fixed", "moving"):
        for number in range(6):
            values = [pair[side][number][pair[f"{side}_labels"][number] == label].median() for label in range(3)]
            assert values[0] < values[1] < values[2]
    for remap, different, same in ((1.0, 0.0, True), (1.0, 1.0, False), (0.0, 1.0, True)):
        maker = pairs.RealPair(settings(shape, remap=remap, different_contrast=different))
        assert (maker(batch, seeded(2))["same_contrast"] == same).all()
    changed = pairs.RealPair(settings(shape, remap=0.5, different_contrast=0.5))
    batch["same_contrast"] = torch.tensor([True, False] * 3)
    flags = torch.cat([changed(batch, seeded(seed))["same_contrast"] for seed in range(4)])
    assert not flags[1::2].any() and 0 < int(flags.sum()) < 12
    bare = pairs.RealPair(settings(shape, strip=1.0))({"fixed": images[0], "moving": images[1]}, seeded(1))
    assert "fixed_labels" not in bare
    stripped = pairs.RealPair(settings(shape, strip=1.0))(batch, seeded(1))
    assert (stripped["fixed"] > 0.01).float().mean() < 0.8 * (bare["fixed"] > 0.01).float().mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_from_nothing(shape):
    full = PairSettings.from_dict({"shape": list(shape)})
    pair = pairs.Shapes(full)({"size": 3}, seeded(4))
    check_pair(pair, 3, shape)
    assert len(pair["fixed_labels"].unique()) > 4 and pair["displacement"].abs().max() > 1
    again = pairs.Shapes(full)({"size": 3}, seeded(4))
    assert all(torch.equal(pair[name], again[name]) for name in pair)
    with pytest.raises(InputError, match="set 'shape'"):
        pairs.Shapes()({}, seeded(0))


def test_every_sample_is_its_generators_alone():
    shape = (26, 32, 22)
    labels = anatomy(shape, 1, 3)
    full = PairSettings.from_dict(
        {"shape": list(shape), "views": {"common": [0, 2], "flips": [0]}, "artefacts": {"lesion_share": 0.5}}
    )
    for maker, name in ((pairs.OneAnatomy(full), "labels"), (pairs.OneImage(full), "moving")):
        source = labels if name == "labels" else torch.cat([smooth_image(labels.shape[2:], k) for k in range(3)])
        together = maker({name: source}, [seeded(1), seeded(2), seeded(3)])
        for number in range(3):
            alone = maker({name: source[number : number + 1]}, [seeded(number + 1)])
            assert set(alone) == set(together)
            for key, value in alone.items():
                difference = (value.float() - together[key][number : number + 1].float()).abs()
                assert difference.mean() < 1e-3
        assert (together["fixed"][0] - together["fixed"][1]).abs().mean() > 0.02


def test_every_device_makes_the_pairs_of_the_cpu():
    shape = (24, 30, 26)
    labels = anatomy(shape, 1, 2)
    maker = pairs.OneAnatomy(PairSettings.from_dict({"shape": list(shape), "artefacts": {"lesion_share": 0.5}}))
    reference = maker({"labels": labels}, seeded(6))
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        pair = maker({"labels": labels.to(device)}, seeded(6))
        assert set(pair) == set(reference)
        for name, value in pair.items():
            assert value.device.type == device
            assert (value.cpu().float() - reference[name].float()).abs().mean() < (1e-3 if device == "cuda" else 1e-9)


def test_points_read_the_nearest_label():
    labels = anatomy((14, 18, 11), 0, 2)
    points = torch.from_numpy(np.random.default_rng(0).uniform(-4, 28, (2, 3, 9, 7, 8)).astype(np.float32))
    found = pairs.nearest(labels, points)
    for number in range(2):
        expected = ndimage.map_coordinates(labels[number, 0].numpy(), points[number].numpy(), order=0, mode="constant")
        assert np.array_equal(found[number, 0].numpy(), expected)
    assert (found > 0).any()


def test_wrong_settings_and_batches_are_refused():
    for values, words in (
        ({"colour": 1}, "no entry 'colour'; there are shape, scheme"),
        ({"views": {"largest": [5, 2]}}, "'largest', must be the least and the greatest"),
        ({"views": {"largest": 5}}, "'largest', must be a list of numbers, not 5"),
        ({"views": {"affine": {"degrees": "ten"}}}, "'degrees', must be a number, not 'ten'"),
        ({"strip": 1.5}, "'strip', must be between 0 and 1, not 1.5"),
        ({"shape": [32, 0.5]}, "'shape', must be a whole number, not 0.5"),
        ({"scheme": "unknown"}, "no label scheme named 'unknown'"),
        ({"contrast": [1]}, "must be named values"),
    ):
        with pytest.raises(InputError, match=words.replace("(", r"\(")):
            PairSettings.from_dict(values)
    assert PairSettings.from_dict({"views": {"affine": None}}).views.affine is None
    filled = PairSettings.from_dict({"scheme": "synthseg", "contrast": {"typical_share": 0.5}})
    assert 24 in filled.not_brain and len(filled.contrast.classes) == 531 and filled.contrast.typical_share == 0.5
    labels = anatomy((20, 24), 0)
    with pytest.raises(InputError, match="makes pairs from labels; labels is missing"):
        pairs.OneAnatomy()({}, seeded(0))
    with pytest.raises(InputError, match="of one shape"):
        pairs.TwoAnatomies()({"fixed_labels": labels, "moving_labels": labels[..., :-1]}, seeded(0))
    with pytest.raises(InputError, match="fixed_labels is"):
        pairs.RealPair()(
            dict.fromkeys(("fixed", "moving"), torch.rand(1, 1, 20, 24)) | {"fixed_labels": labels}, seeded(0)
        )
    with pytest.raises(InputError, match="no axis 2 to mirror"):
        pairs.OneAnatomy(settings((20, 24), views={"flips": [2]}))({"labels": labels}, seeded(0))
    with pytest.raises(InputError, match="not_brain holds 2000"):
        pairs.OneAnatomy(settings((20, 24), not_brain=[3, 2000]))
    with pytest.raises(InputError, match="a grid of 3 axes, but the input has 2"):
        pairs.OneAnatomy(settings((20, 24, 22)))({"labels": labels}, seeded(0))
    with pytest.raises(InputError, match="ids from 0 to 700, but only 0 to 530"):
        pairs.OneAnatomy(filled)({"labels": torch.where(labels > 0, 700, 0)}, seeded(0))
