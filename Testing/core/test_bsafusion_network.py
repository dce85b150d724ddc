"""BSAFusion as a whole: its sizes, its fusion, what it takes and refuses."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as functional
from bsafusion_models import SHAPES, SMALL, made, moving_model, smooth_flow, texture
from regnet import spatial
from regnet.errors import ModelError
from regnet.networks.blocks import parameter_count
from regnet.networks.bsafusion import BSAFusion, BSAFusionConfig, Fused

PUBLISHED, PUBLISHED_COPY = 10.03e6, 1.12e6


def test_the_default_is_about_as_large_as_published():
    model = BSAFusion()
    frozen = parameter_count(model.representation.frozen)
    tokeniser = parameter_count(model.representation.patches) + model.representation.positions.numel()
    assert (parameter_count(model), frozen) == (7_924_203, 856_578)
    assert frozen + tokeniser == pytest.approx(PUBLISHED_COPY, rel=2e-3)
    whole = BSAFusion(BSAFusionConfig(restormer="authors"))
    # A scale and a shift for every voxel: four blocks at the whole resolution of 256 x 256, one at each coarser one.
    norms = 2 * (4 * 256**2 + 128**2 + 64**2 + 32**2 + 16**2)
    assert parameter_count(whole) + tokeniser + norms == pytest.approx(PUBLISHED, rel=2e-3)
    assert [layer.joint.in_features for layer in whole.alignment.forward_layers] == [512, 128, 64, 32, 16]
    mixers = [
        (mixer.first.in_features, mixer.first.out_features) for mixer in [*whole.decoder.mixers, *whole.decoder.last]
    ]
    assert mixers == [(512, 64), (192, 32), (96, 16), (48, 12), (28, 12), (12, 1)]
    volumes = BSAFusion(BSAFusionConfig(dims=3, tokens=32, widths=(32, 16, 8, 8, 8)))
    assert volumes.representation.patches.kernel_size == (16, 16, 16)
    assert {layer.flow.out_channels for layer in volumes.alignment.reverse_layers} == {3}


# Fusion


def shifted(features, shift, axis):
    """Features at what is ``shift`` voxels further along ``axis``, the border repeated."""
    n = features.shape[axis]
    return features.index_select(axis, (torch.arange(n) + shift).clamp(0, n - 1))


@pytest.mark.parametrize("shape", [(48, 80), (32, 16, 48)])
def test_the_moving_images_features_are_warped_at_every_level(shape):
    """A displacement of 16 voxels is one of a token, of two at the next level, and so on."""
    model, axis = made(len(shape), level_scale="powers"), len(shape) + 1
    seen = []
    for part in (*model.decoder.mixers, model.decoder.last):
        part.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    displacement = torch.zeros(1, len(shape), *shape)
    displacement[:, -1] = 16.0
    encoded = model.encode(texture(shape, 0), texture(shape, 1), transfer=False)
    model.fuse(encoded)
    still, seen[:] = list(seen), []
    model.fuse(encoded, displacement)
    widths = [*SMALL["widths"][:-1]]
    places = [(width, 2 * width) for width in widths]
    last = SMALL["fusion"][-1] + SMALL["shallow"]
    places.append((last, last + SMALL["shallow"]))
    for level, ((start, end), before, after) in enumerate(zip(places, still, seen, strict=True)):
        moving = shifted(before[:, start:end], 2**level, axis)
        torch.testing.assert_close(after[:, start:end], moving, rtol=0, atol=1e-3)
        assert float((moving - before[:, start:end]).abs().max()) > 0.01
        fixed = slice(0, start) if level < 4 else slice(SMALL["fusion"][-1], start)
        assert torch.equal(after[:, fixed], before[:, fixed])


@pytest.mark.parametrize("shape", SHAPES)
def test_aligned_images_are_fused_without_registering(shape):
    model = moving_model(len(shape))
    fixed, moving = texture(shape, 0, batch=2), texture(shape, 1, batch=2)
    with torch.no_grad():
        fused = model.fuse(model.encode(fixed, moving, transfer=False))
        nothing = torch.zeros(2, len(shape), *shape)
        torch.testing.assert_close(model.fuse(model.encode(fixed, moving), nothing), fused, rtol=0, atol=1e-4)
        moved = model.fuse(model.encode(fixed, moving), smooth_flow(shape, 4.0, batch=2))
    assert fused.shape == fixed.shape
    assert 0.0 < float(fused.min()) < float(fused.max()) < 1.0
    assert float((moved - fused).abs().max()) > 1e-3


@pytest.mark.parametrize("restormer", ["canonical", "authors"])
def test_fused_values_lie_between_0_and_1_whatever_is_given(restormer):
    model = made(restormer=restormer)
    for image in (torch.zeros(1, 1, 33, 18), torch.ones(1, 1, 33, 18), 20 * torch.randn(1, 1, 33, 18)):
        fused = model.fuse(model.encode(image, -image), torch.full((1, 2, 33, 18), 7.5)).detach()
        assert bool(fused.isfinite().all()) and 0.0 <= float(fused.min()) <= float(fused.max()) <= 1.0


def test_fused_is_what_the_modalities_are_told_apart_by():
    """Tokens as they are ahead of the transfers."""
    model, shape = made(), SHAPES[0]
    fixed, moving, flow = texture(shape, 0), texture(shape, 1), smooth_flow(shape, 3.0)
    with torch.no_grad():
        before, aligned = model.fuse(model.encode(fixed, moving), flow), moving_model().register(fixed, moving)
        for entry in [*model.representation.transfers.parameters(), *model.alignment.parameters()]:
            entry.normal_()
        assert torch.equal(model.fuse(model.encode(fixed, moving), flow), before)
        for entry in model.representation.classifier.tower.parameters():
            entry.add_(0.1)
        assert not torch.equal(model.fuse(model.encode(fixed, moving), flow), before)
    assert float(aligned.abs().max()) > 0.1


# The whole


@pytest.mark.parametrize("shape", SHAPES)
def test_what_forward_returns_belongs_together(shape):
    model = moving_model(len(shape))
    fixed, moving = texture(shape, 0), texture(shape, 1)
    with torch.no_grad():
        found = model(fixed, moving)
        assert isinstance(found, Fused) and found.encoded.judged is None
        assert torch.equal(found.displacement, model.register(fixed, moving))
        assert torch.equal(found.displacement, model.align(found.encoded).displacement)
        assert torch.equal(found.warped, spatial.warp(moving, found.displacement))
        assert torch.equal(found.fused, model.fuse(found.encoded, found.displacement))
        assert not torch.equal(found.displacement, model.register(moving, fixed))
    assert found.displacement.shape == (1, len(shape), *shape) and found.fused.shape == fixed.shape
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.fused = moving


@pytest.mark.parametrize("restormer", ["canonical", "authors"])
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_a_batch_do_not_mix(shape, restormer):
    model = moving_model(len(shape), restormer=restormer)
    fixed, moving = texture(shape, 0, batch=2), texture(shape, 1, batch=2)
    with torch.no_grad():
        together, alone = model(fixed, moving), model(fixed[1:2], moving[1:2])
    assert float(together.displacement.abs().max()) > 0.1
    torch.testing.assert_close(alone.displacement, together.displacement[1:2], rtol=0, atol=1e-3)
    torch.testing.assert_close(alone.fused, together.fused[1:2], rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(37, 50), (1, 20), (9, 7), (17, 5, 33)])
def test_any_size_is_filled_up_by_repeating_the_border(shape):
    model = moving_model(len(shape))
    fixed, moving = texture(shape, 0, sigma=1.0), texture(shape, 1, sigma=1.0)
    sides = [side for n in reversed(shape) for side in (0, -n % 16)]
    with torch.no_grad():
        found = model(fixed, moving)
        filled = [functional.pad(image, sides, mode="replicate") for image in (fixed, moving)]
        whole = model(*filled)
    there = (..., *(slice(n) for n in shape))
    assert found.displacement.shape[2:] == found.fused.shape[2:] == found.warped.shape[2:] == shape
    assert torch.equal(found.displacement, whole.displacement[there])
    assert bool(found.fused.isfinite().all()) and bool(found.displacement.isfinite().all())


@pytest.mark.parametrize("shape", [(37, 50), (17, 5, 33)])
def test_so_is_the_displacement_for_the_fusion(shape):
    model = made(len(shape))
    images, flow = (texture(shape, 0), texture(shape, 1)), smooth_flow(shape, 5.0)
    sides = [side for n in reversed(shape) for side in (0, -n % 16)]
    filled, wide = ([functional.pad(x, sides, mode="replicate") for x in given] for given in (images, (flow,)))
    with torch.no_grad():
        found = model.fuse(model.encode(*images, transfer=False), flow)
        whole = model.fuse(model.encode(*filled, transfer=False), *wide)
    assert torch.equal(found, whole[(..., *(slice(n) for n in shape))])


def test_half_precision_stays_near():
    model, shape = moving_model(), SHAPES[0]
    fixed, moving = texture(shape, 0), texture(shape, 1)
    with torch.no_grad():
        expected = model(fixed, moving)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(fixed, moving)
    assert found.displacement.dtype == torch.float32
    assert float((found.displacement - expected.displacement).abs().mean()) < 0.1
    assert float((found.fused - expected.fused).abs().mean()) < 0.02


# Configuration


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        {**SMALL, "dims": 3, "image_shape": (32, 48, 64), "restormer": "authors", "accumulate": "compose"},
        {**SMALL, "level_scale": "powers", "dropout": 0.0, "narrow": 5, "expansion": 2, "depth": 1},
    ],
)
def test_configurations_come_back(options):
    model = BSAFusion(BSAFusionConfig(**options))
    again = BSAFusion.from_config(json.loads(json.dumps(model.config())))
    assert again.settings == model.settings == BSAFusionConfig(**options)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == shapes


def test_a_model_built_again_gives_the_same():
    model = moving_model(accumulate="compose", level_scale="powers")
    again = BSAFusion.from_config(model.config()).eval()
    again.load_state_dict(model.state_dict())
    fixed, moving = texture(SHAPES[0], 0), texture(SHAPES[0], 1)
    for name in ("displacement", "warped", "fused"):
        assert torch.equal(getattr(again(fixed, moving), name), getattr(model(fixed, moving), name))
    other = BSAFusion.from_config({**model.config(), "level_scale": "exact"}).eval()
    other.load_state_dict(model.state_dict())
    assert not torch.equal(other.register(fixed, moving), model.register(fixed, moving))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dims": 4}, "2 or 3 dimensions"),
        ({"dims": 2, "image_shape": (8, 8, 8)}, "in 2D has an image shape"),
        ({"restormer": "plain"}, "no restormer 'plain'; choose from canonical, authors"),
        ({"accumulate": "mean"}, "no accumulate 'mean'"),
        ({"level_scale": "none"}, "no level_scale 'none'"),
        ({"widths": (256, 64, 32, 16)}, "5 widths and 4 of the fusion, not 4 and 4"),
        ({"fusion": (64, 32, 16)}, "5 widths and 4 of the fusion, not 5 and 3"),
        ({"tokens": 128}, "first width is that of its tokens, 128, not 256"),
        ({"heads": 3}, "cannot be shared by 3 heads"),
        ({"expansion": 3}, "must be even"),
        ({"dropout": 1.0}, "at 1.0"),
        ({"depth": 0}, "1 or more"),
        ({"widths": (256, 64, 32, 16, 0)}, "1 or more"),
        ({"positions": -1}, "1 or more"),
    ],
)
def test_configurations_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ModelError, match=sentence) as caught:
        BSAFusionConfig(**options)
    assert str(caught.value).endswith(".")


def test_other_input_that_cannot_be_is_refused():
    with pytest.raises(ModelError, match="no setting 'widht'"):
        BSAFusionConfig.from_dict({"widht": 8})
    model, image = made(), texture(SHAPES[0])
    with pytest.raises(ModelError, match="one shape"):
        model(image, image[..., 1:])
    with pytest.raises(ModelError, match="one shape"):
        model.encode(texture(SHAPES[1]), texture(SHAPES[1]))
    with pytest.raises(ModelError, match="needs a displacement"):
        model.fuse(model.encode(image, image, transfer=False), torch.zeros(1, 2, 48, 64))
