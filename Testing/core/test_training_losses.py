"""Terms of training losses and figures of validation, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regnet import metrics
from regnet.losses.ncc import NCC
from regnet.networks.maps import displacement_to_map, identity_map
from regnet.spatial import resize
from regnet.training.data import Sample
from regnet.training.losses import OfSameContrast, end_point_error, label_channels, soft_dice, warped_dice
from regnet.training.scores import mean_dice, measure
from regnet.training.validate import real_validation_pair

SHAPE = (10, 14, 12)
SIDES = ("fixed", "moving")


def blocks(shift: int = 0) -> torch.Tensor:
    """Labels 2, 5 and 9 in boxes, moved along the second axis."""
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    for number, label in enumerate((2, 5, 9)):
        labels[:, :, 1 + 3 * number : 3 + 3 * number, 2 + shift : 7 + shift, 2:9] = label
    return labels


def test_channels_are_the_labels():
    first, second = blocks().repeat(2, 1, 1, 1, 1), blocks(2).repeat(2, 1, 1, 1, 1)
    second[1][second[1] == 5] = 7  # not shared in the second sample
    one, other, used = label_channels(first, second, 4, seeds=[1, 2])
    assert used.tolist() == [[True, True, True, False], [True, True, False, False]]
    found = {tuple(torch.unique(first[0][:, one[0, c] > 0]).tolist()) for c in range(3)}
    assert found == {(2,), (5,), (9,)}
    assert not one[:, 3].any() and not other[:, 3].any()
    for channel in range(2):
        (label,) = torch.unique(first[1][:, one[1, channel] > 0]).tolist()
        assert torch.equal(other[1, channel] > 0, second[1, 0] == label)


def test_channels_are_drawn_by_the_seed_alone():
    both = [label_channels(blocks(), blocks(1), 1, [seed])[0] for seed in (1, 2, 3, 4, 5, 6, 1)]
    assert torch.equal(both[0], both[-1])
    assert len({tuple(one.flatten().nonzero()[0].tolist()) for one in both}) > 1
    batch = label_channels(blocks().repeat(2, 1, 1, 1, 1), blocks(1).repeat(2, 1, 1, 1, 1), 1, [4, 2])[0]
    assert torch.equal(batch[0], both[3][0]) and torch.equal(batch[1], both[1][0])


def test_soft_dice_is_dice_for_binary_channels():
    one, other, used = label_channels(blocks(), blocks(2), 3, [0])
    assert float(soft_dice(one, other, used)) == pytest.approx(1 - 3 / 5, abs=1e-4)
    assert float(soft_dice(one, one, used)) == 0
    assert float(soft_dice(one, other, torch.zeros_like(used))) == 0


def test_warped_dice_falls_towards_the_right_shift():
    one, other, used = label_channels(blocks(), blocks(2), 3, [0])
    losses = []
    for shift in (-1.0, 0.0, 1.0, 2.0):
        displacement = torch.zeros(1, 3, *SHAPE)
        displacement[:, 1] = shift
        losses.append(float(warped_dice(one, other, used, displacement_to_map(displacement))))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1e-4
    displacement = torch.full((1, 3, *SHAPE), 0.5).requires_grad_(True)
    warped_dice(one, other, used, displacement_to_map(displacement)).backward()
    # From half a voxel along every axis: further along the second, back along the others.
    assert [bool(displacement.grad[:, axis].sum() > 0) for axis in range(3)] == [True, False, True]


def test_end_point_error_is_a_distance_in_voxels():
    truth = torch.zeros(1, 3, *SHAPE)
    truth[:, 0], truth[:, 2] = 3.0, 4.0
    weight = torch.zeros(1, 1, *SHAPE)
    weight[..., 3:6] = 1.0
    truth[..., 7:] = 100.0
    still = identity_map(SHAPE, truth)
    assert float(end_point_error(still, displacement_to_map(truth), weight, SHAPE)) == pytest.approx(5.0, abs=1e-3)
    doubled = tuple(2 * n - 1 for n in SHAPE)
    assert float(end_point_error(still, displacement_to_map(truth), weight, doubled)) == pytest.approx(10.0, abs=1e-3)


def test_similarity_of_one_contrast_only():
    torch.manual_seed(0)
    fixed, moving = torch.rand(2, 4, 1, 8, 9)
    fixed, moving = torch.cat([fixed, moving]), torch.cat([moving, fixed]).requires_grad_(True)
    chosen = torch.tensor([True, False, False, True])
    value = OfSameContrast(NCC(), chosen, 2.0)(fixed, moving)
    keep = [0, 3, 4, 7]
    assert value.item() == pytest.approx(2.0 * 0.5 * NCC()(fixed[keep], moving[keep]).item(), rel=1e-6)
    value.backward()
    assert bool((moving.grad[[1, 2, 5, 6]] == 0).all()) and bool((moving.grad[keep] != 0).any())
    none = OfSameContrast(NCC(), torch.zeros(4, dtype=torch.bool))(fixed, moving)
    assert none.item() == 0 and none.requires_grad
    everything = OfSameContrast(NCC(), None)(fixed, moving)
    assert everything.item() == pytest.approx(NCC()(fixed, moving).item())


def test_mean_dice_is_that_of_the_metrics():
    random = np.random.default_rng(1)
    fixed, moving = random.integers(0, 6, (2, 7, 8, 9))
    fixed[fixed == 3] = 0
    warped = moving.copy()
    warped[moving == 5] = 0  # the warp has lost a label: it counts as zero
    expected = metrics.dice(fixed, warped, metrics.shared_labels(fixed, moving))
    found = mean_dice(*(torch.from_numpy(array)[None, None] for array in (fixed, warped, moving)))
    assert found == pytest.approx(np.mean(list(expected.values())), rel=1e-6) and expected[5] == 0
    assert math.isnan(mean_dice(*(torch.full((1, 1, 3, 3), n) for n in (1, 2, 2))))


def test_measure_known_displacements():
    truth = torch.zeros(1, 3, *SHAPE)
    truth[:, 1] = 2.0
    fixed = blocks().float() / 9
    found = measure({"fixed": fixed, "displacement": truth}, torch.zeros_like(truth))
    assert found == {"folding": 0.0, "error": pytest.approx(2.0), "error_before": pytest.approx(2.0)}
    assert measure({"fixed": fixed, "displacement": truth}, truth)["error"] == 0
    mirrored = torch.zeros_like(truth)
    mirrored[:, 0] = -2.0 * torch.arange(SHAPE[0]).view(-1, 1, 1)
    assert measure({"fixed": fixed}, mirrored) == {"folding": 100.0}
    scored = measure({"fixed": fixed, "fixed_labels": blocks(), "moving_labels": blocks(2)}, truth)
    assert scored["dice"] == 1.0 and scored["dice_before"] == pytest.approx(3 / 5)


def prepared_sample(shift: int = 0) -> Sample:
    """A bright skull of label 0 around labelled brain, in a larger volume."""
    labels = torch.zeros(1, 30, 36, 32, dtype=torch.int16)
    labels[:, 10:20, 12:24, 11:21] = 4
    image = torch.zeros(1, 30, 36, 32)
    image[:, 6:24, 8:28, 7:25] = 0.9
    image[:, 10:20, 12:24, 11:21] = 0.5
    tensors = {"fixed": image.half(), "fixed_labels": labels}
    tensors |= {"moving": image.roll(shift, 2).half(), "moving_labels": labels.roll(shift, 2)}
    return Sample(tensors, 7, True)


def test_validation_pair_is_cut_to_its_content():
    device = torch.device("cpu")
    whole = real_validation_pair(prepared_sample(3), (22, 27, 22), False, None, device)
    # The content of both with two voxels around is this very size: nothing is resampled.
    image = prepared_sample(3).tensors["fixed"].float()[None]
    torch.testing.assert_close(whole["fixed"], image[..., 4:26, 6:33, 5:27])
    before = mean_dice(whole["fixed_labels"], whole["moving_labels"], whole["moving_labels"])
    assert before == pytest.approx(9 / 12)
    stripped = real_validation_pair(prepared_sample(), (14, 16, 14), True, None, device)
    assert float(stripped["fixed"].max()) == pytest.approx(0.5) and stripped["fixed"].shape == (1, 1, 14, 16, 14)
    assert torch.equal(stripped["fixed"] > 0, stripped["fixed_labels"] == 4)


def test_validation_misalignment_is_fixed_and_moves_labels_with_the_image():
    ranges = {"degrees": 20.0, "scale": 0.1, "shear": 0.0, "shift": 0.1}
    pairs = [real_validation_pair(prepared_sample(), (20, 24, 22), True, ranges, torch.device("cpu")) for _ in range(2)]
    assert torch.equal(pairs[0]["moving"], pairs[1]["moving"])
    pair = pairs[0]
    overlap = mean_dice(pair["fixed_labels"], pair["moving_labels"], pair["moving_labels"])
    assert overlap < 0.95
    moving = resize(pair["moving"], pair["fixed_labels"].shape[2:])
    differs = [float(((moving > 0.25) ^ (pair[f"{side}_labels"] == 4)).float().mean()) for side in SIDES]
    assert differs[1] < 0.04 and differs[1] < 0.5 * differs[0]
