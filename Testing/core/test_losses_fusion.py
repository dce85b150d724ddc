"""The losses of BSAFusion against their formulas, and what they prefer."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from bsafusion_models import SHAPES, made, moving_model, smooth_flow, texture
from regnet import losses
from regnet.errors import ModelError
from regnet.image_quality import ssim
from regnet.losses.fusion import (
    FusionWeights,
    StructureBalance,
    consistency_loss,
    edges,
    endpoint_loss,
    exchange_loss,
    fusion_losses,
    gradient_loss,
    intensity_loss,
    modality_loss,
    smoothness_loss,
    structure_losses,
)
from scipy import ndimage


def test_names_load_on_first_use():
    for name in ("SSIM", "FusionWeights", "StructureBalance", "fusion_losses"):
        assert getattr(losses, name).__name__ == name and name in losses.__all__


def test_the_fixed_image_is_of_the_second_modality():
    sure = torch.tensor([[9.0, -9.0]])
    assert float(modality_loss(-sure, sure)) < 1e-6
    assert float(modality_loss(sure, -sure)) == pytest.approx(36.0, abs=1e-3)
    assert float(modality_loss(torch.zeros(3, 2), torch.zeros(3, 2))) == pytest.approx(2 * math.log(2))


def test_the_exchange_is_done_where_nothing_can_be_told():
    random = torch.Generator().manual_seed(0)
    least = 2 * math.log(2)
    values = [float(exchange_loss(*torch.randn(2, 4, 2, generator=random) * scale)) for scale in (0.1, 1.0, 5.0)]
    assert all(value > least for value in values) and values == sorted(values)
    assert float(exchange_loss(torch.full((2, 2), 7.0), torch.zeros(2, 2))) == pytest.approx(least)
    logits = torch.tensor([[1.0, 0.0]])
    expected = -sum(0.5 * math.log(p) for p in (math.e / (1 + math.e), 1 / (1 + math.e))) + math.log(2)
    assert float(exchange_loss(logits, torch.zeros(1, 2))) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_consistency_is_ssim_and_absolute_difference(shape):
    first, second = texture(shape, 0), texture(shape, 1)
    likeness = ssim(first[0, 0].double().numpy(), second[0, 0].double().numpy())
    expected = 1 - likeness + float((first - second).abs().mean())
    assert float(consistency_loss(first, second)) == pytest.approx(expected, abs=1e-4)
    assert float(consistency_loss(first, first)) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_smoothness_weighs_every_level_of_both_sides(d):
    """Of ramps by one voxel a voxel along one axis, in one component, a level at a time."""

    def ramp(n):
        shape = (n, n + 1, n + 2)[:d]
        field = torch.zeros(1, d, *shape)
        field[:, 0] = torch.arange(n + d - 1.0)
        return field

    still = [torch.zeros_like(ramp(n)) for n in (2, 4, 6, 8, 10)]
    total = torch.zeros_like(ramp(10))
    one = 1 / d / 3  # a mean over the components, a third of the sum over the axes
    for level, n in enumerate((2, 4, 6, 8, 10)):
        sloped = [ramp(n) if number == level else field for number, field in enumerate(still)]
        for sides in ((sloped, still), (still, sloped)):
            assert float(smoothness_loss(*sides, total)) == pytest.approx(one * 10.0 ** (level - 4), rel=1e-5)
    assert float(smoothness_loss(still, still, ramp(10))) == pytest.approx(one, rel=1e-5)
    shifted = [field + 5.0 for field in still]
    assert float(smoothness_loss(shifted, still, total + 3.0)) == 0.0


def test_levels_one_voxel_wide_are_smooth():
    field, total = torch.randn(1, 2, 1, 1), torch.zeros(1, 2, 1, 5, requires_grad=True)
    loss = smoothness_loss([field], [field], total)
    loss.backward()
    assert float(loss.detach()) == 0.0 and bool((total.grad == 0).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_sobels(shape):
    image = texture(shape, batch=2).double()
    found = edges(image)
    for entry, expected in zip(found[:, 0].numpy(), image[:, 0].numpy(), strict=True):
        parts = [np.abs(ndimage.sobel(expected, axis, mode="nearest")) for axis in range(len(shape))]
        np.testing.assert_allclose(entry, sum(parts) / 4.0 ** (len(shape) - 2), atol=1e-12)


def test_the_fused_image_should_have_the_stronger_edge_and_the_brighter_value():
    shape = (14, 19)
    fixed, warped = torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape)
    fixed[..., :6], warped[:, :, 9:] = 0.4, 0.9
    brighter = torch.maximum(fixed, warped)
    assert float(intensity_loss(brighter, fixed, warped)) == 0.0
    assert float(intensity_loss(fixed, fixed, warped)) == pytest.approx(float((brighter - fixed).mean()))
    stronger = torch.maximum(edges(fixed), edges(warped))
    for fused in (brighter, fixed, warped, 0.5 * (fixed + warped)):
        expected = float((edges(fused) - stronger).abs().mean())
        assert float(gradient_loss(fused, fixed, warped)) == pytest.approx(expected)
    assert float(gradient_loss(brighter, fixed, warped)) < float(gradient_loss(fixed, fixed, warped))


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_lost_where_all_three_are_one_image(shape):
    image = texture(shape)
    first, second = structure_losses(image, image, image)
    for value in (first, second, gradient_loss(image, image, image), intensity_loss(image, image, image)):
        assert float(value) == pytest.approx(0.0, abs=1e-5)


def test_the_end_point_is_a_distance():
    known = torch.zeros(2, 2, 5, 6)
    found = known + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert float(endpoint_loss(found, known)) == pytest.approx(5.0)
    known.requires_grad_()
    endpoint_loss(known, known.detach()).backward()
    assert bool((known.grad == 0).all())


def test_mu_is_the_ratio_over_the_epoch_before():
    balance = StructureBalance()
    assert balance.value == 1.0 and balance.refresh() == 1.0
    balance.add(torch.tensor(1.0), torch.tensor(2.0, requires_grad=True))
    balance.add(torch.tensor(3.0), torch.tensor(4.0))
    assert balance.value == 1.0
    assert balance.refresh() == balance.value == pytest.approx(1.5)
    balance.add(torch.tensor(2.0), torch.tensor(1.0))
    assert balance.refresh() == pytest.approx(0.5)
    assert balance.refresh() == pytest.approx(0.5)


def test_mu_goes_on_where_a_checkpoint_was_written():
    balance = StructureBalance(0.75)
    balance.add(torch.tensor(2.0), torch.tensor(3.0))
    again = StructureBalance.restored(balance.state())
    assert again.value == 0.75
    for entry in (balance, again):
        entry.add(torch.tensor(2.0), torch.tensor(1.0))
    assert again.refresh() == balance.refresh() == pytest.approx(1.0)


def found_and_images():
    shape = (24, 35)
    model = moving_model().train()
    fixed, moving, undistorted = (texture(shape, seed) for seed in range(3))
    with torch.no_grad():
        return model(fixed, moving), fixed, undistorted, smooth_flow(shape, 2.0)


def test_terms_are_the_weighted_losses():
    found, fixed, undistorted, known = found_and_images()
    weights = FusionWeights(2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0)
    balance = StructureBalance(0.25)
    terms = fusion_losses(found, fixed, undistorted, known, weights, balance)
    first, second = structure_losses(found.fused, fixed, found.warped)
    levels = found.aligned.fixed_levels, found.aligned.moving_levels
    expected = {
        "modality": 2 * modality_loss(*found.encoded.logits),
        "exchange": 3 * exchange_loss(*found.encoded.judged),
        "consistency": 5 * consistency_loss(found.warped, undistorted),
        "smoothness": 7 * smoothness_loss(*levels, found.displacement),
        "structure": 11 * (first + 0.25 * second),
        "gradient": 13 * gradient_loss(found.fused, fixed, found.warped),
        "intensity": 17 * intensity_loss(found.fused, fixed, found.warped),
        "endpoint": 19 * endpoint_loss(found.displacement, known),
    }
    assert list(terms) == list(expected)
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-6)
    assert balance.refresh() == pytest.approx(float(second / first))
    plain = fusion_losses(found, fixed, undistorted)
    assert float(plain["structure"]) == pytest.approx(float(first + second))
    assert float(plain["intensity"]) == pytest.approx(0.5 / 17 * float(expected["intensity"]))


def test_terms_without_weight_or_truth_are_left_out():
    found, fixed, undistorted, known = found_and_images()
    named = [entry.name for entry in dataclasses.fields(FusionWeights)]
    assert list(fusion_losses(found, fixed, undistorted, known)) == [name for name in named if name != "endpoint"]
    everything = FusionWeights(endpoint=1.0)
    assert set(named) - set(fusion_losses(found, fixed, weights=everything)) == {"consistency", "endpoint"}
    for name in named:
        terms = fusion_losses(found, fixed, undistorted, known, dataclasses.replace(everything, **{name: 0.0}))
        assert set(named) - set(terms) == {name}


def test_what_cannot_be_weighed_is_refused():
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ModelError, match="gradient is"):
            FusionWeights(gradient=value)
    image = texture((20, 33))
    with pytest.raises(ModelError, match=r"train\(\)"):
        fusion_losses(made()(image, image), image)
