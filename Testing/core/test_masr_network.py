"""The descriptor network: its size, how far it looks, tiles and slabs, memory, and its configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import regnet
import torch
from regnet import descriptors
from regnet.errors import ModelError
from regnet.networks import masr
from regnet.networks.blocks import parameter_count
from regnet.networks.masr import DSIR, REACH, STRIDE, MASRConfig, blur_pool, doubled
from scipy import ndimage

SHAPES = [(21, 34), (18, 26, 13)]
SQUEEZES = ["shared", "per_relation", "flatten"]


def image(shape, seed=0, batch=1, dtype=torch.float32):
    return torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(dims=3, seed=0, **options):
    torch.manual_seed(seed)
    return DSIR(MASRConfig(dims=dims, **options))


def test_has_the_intended_size():
    assert parameter_count(made(3).extractor) == 293_356
    assert made(3).settings.channels == 24 and made(2).settings.channels == 8
    assert made(3, radii=(1, 2, 3)).settings.channels == 36
    weights = {squeeze: tuple(made(3, squeeze=squeeze).squeeze.weight.shape) for squeeze in SQUEEZES}
    assert weights == {"shared": (4, 1), "per_relation": (4, 24), "flatten": (96, 24)}


@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_descriptors_are_unit_vectors_at_every_voxel(shape, squeeze):
    found = made(len(shape), squeeze=squeeze)(image(shape, batch=2))
    assert found.shape == (2, 8 if len(shape) == 2 else 24, *shape)
    lengths = found.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-5)
    assert float(found.detach().flatten(2).std(dim=2).max()) > 0.01


@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_with_and_without_gradient_it_is_one_function(shape, squeeze, monkeypatch):
    network, given = made(len(shape), squeeze=squeeze), image(shape, batch=2)
    expected = network(given)
    assert expected.requires_grad
    for slab in (1, 7 * given[0, 0, 0].numel(), masr.SLAB_VOXELS):
        monkeypatch.setattr(masr, "SLAB_VOXELS", slab)
        with torch.no_grad():
            found = network(given)
        assert not found.requires_grad
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("squeeze", SQUEEZES)
def test_gradients_reach_every_parameter_and_the_image(squeeze):
    network, given = made(3, squeeze=squeeze), image((17, 12, 10)).requires_grad_(True)
    (network(given) * torch.randn(1, 24, 17, 12, 10, generator=torch.Generator().manual_seed(3))).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name
    assert bool((given.grad != 0).any())


def test_images_of_a_batch_do_not_mix():
    network, given = made(3), image((18, 26, 13), batch=2)
    torch.testing.assert_close(network(given)[1:], network(given[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "tile", "squeeze"),
    [
        ((150, 40, 24), (80, 200, 200), "shared"),
        ((14, 19, 149), (100, 100, 80), "per_relation"),
        ((14, 149, 19), (100, 80, 100), "flatten"),
    ],
)
def test_tiles_give_the_whole(shape, tile, squeeze):
    network, given = made(3, squeeze=squeeze, width=4).eval(), image(shape)
    with torch.inference_mode():
        whole = network(given)
    torch.testing.assert_close(network.tiled(given, tile), whole, rtol=0, atol=1e-5)


def test_tiles_along_both_axes_give_the_whole():
    network, given = made(2).eval(), image((181, 203))
    with torch.no_grad():
        whole = network(given)
    for tile in ((90, 64), (1000, 100), (40, 1000)):
        torch.testing.assert_close(network.tiled(given, tile), whole, rtol=0, atol=1e-5)


def seen_by(network, whole, shape, place):
    """How far, at most, a change of one voxel of an empty image is seen."""
    given = torch.zeros(1, 1, *shape, dtype=torch.float64)
    changed = given.clone()
    changed[(0, 0, *place)] = 1.0
    with torch.no_grad():
        difference = (whole(changed) - whole(given)).abs().amax(dim=1)[0]
    return int((torch.nonzero(difference) - torch.tensor(place)).abs().max())


@pytest.mark.parametrize("axis", [0, 1])
def test_nothing_is_seen_from_beyond_the_reach(axis):
    """With all weights positive nothing cancels: what changes at all is what can be seen."""
    network = made(2).double()
    with torch.no_grad():
        for parameter in network.extractor.parameters():
            parameter.fill_(0.1 if parameter.ndim > 1 else 0.0)
    furthest = 0
    for offset in range(STRIDE):
        shape, place = [160, 24], [72 + offset, 11]
        if axis:
            shape, place = shape[::-1], place[::-1]
        furthest = max(furthest, seen_by(network, network.extractor, shape, place))
    assert 38 < furthest <= 52 < REACH
    assert REACH % STRIDE == 0


def test_the_descriptor_looks_little_further_than_its_features():
    network, shape = made(3).double(), (130, 16, 10)
    reach = seen_by(network, network, shape, (66, 7, 4))
    assert 30 < reach <= 52 + 4
    assert reach < REACH + STRIDE  # the halo of a tile


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_by_the_stride_shifts_the_descriptor(shape):
    """Far from the borders, which repeat other values."""
    long = (150, *shape[1:])
    network, given = made(len(shape)).eval(), image((150 + STRIDE, *shape[1:]))
    with torch.no_grad():
        first, second = network(given[:, :, :150]), network(given[:, :, STRIDE:])
    middle = slice(66, long[0] - 66)
    moved = slice(66 - STRIDE, long[0] - 66 - STRIDE)
    torch.testing.assert_close(second[:, :, moved], first[:, :, middle], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 18), (8, 14, 10)])
def test_blur_pool_is_a_binomial_filter_at_every_second_voxel(shape):
    tensor = torch.cat([image(shape, seed, dtype=torch.float64) for seed in range(3)], dim=1)
    found = blur_pool(tensor)
    for channel in range(3):
        expected = tensor[0, channel].numpy()
        for axis in range(len(shape)):
            expected = ndimage.correlate1d(expected, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
        every_second = expected[tuple(slice(None, None, 2) for _ in shape)]
        torch.testing.assert_close(found[0, channel], torch.from_numpy(every_second.copy()), rtol=0, atol=1e-12)


def ramp(shape):
    """3 + 2 x - y + 0.5 z, or so, at the voxels of a grid."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
    return (3.0 + sum(slope * line for slope, line in zip((2.0, -1.0, 0.5), axes, strict=False)))[None, None]


@pytest.mark.parametrize("shape", [(12, 18), (8, 14, 10)])
def test_pooling_and_doubling_keep_constants_and_ramps(shape):
    inside = (..., *(slice(1, n // 2) for n in shape))
    pooled, twice = blur_pool(ramp(shape)), ramp(shape)[(..., *(slice(None, None, 2) for _ in shape))]
    torch.testing.assert_close(pooled[inside], twice[inside])
    fine = doubled(twice)
    assert tuple(fine.shape[2:]) == shape
    up_to_last = (..., *(slice(0, n - 1) for n in shape))
    torch.testing.assert_close(fine[up_to_last], ramp(shape)[up_to_last])
    constant = torch.full((1, 2, *shape), 0.7, dtype=torch.float64)
    torch.testing.assert_close(doubled(blur_pool(constant)), constant)


@pytest.mark.parametrize("shape", [(5, 7), (4, 7, 3)])
def test_doubling_leaves_voxels_in_place(shape):
    tensor = image(shape, dtype=torch.float64)
    fine = doubled(tensor)
    torch.testing.assert_close(fine[(..., *(slice(None, None, 2) for _ in shape))], tensor)
    last = fine.select(2, fine.shape[2] - 1)
    torch.testing.assert_close(last, fine.select(2, fine.shape[2] - 2))


@pytest.mark.parametrize("options", [{}, {"dims": 2, "squeeze": "flatten", "radii": (1, 3)}, {"matcher_width": 6}])
def test_configurations_come_back(options):
    network = made(**{"dims": 3, **options})
    values = network.config()
    assert isinstance(values["radii"], list)
    again = DSIR.from_config(values)
    assert again.settings == network.settings
    again.load_state_dict(network.state_dict())
    given = image((20, 12, 9)[: network.settings.dims])
    assert torch.equal(again(given), network(given))
    described = descriptors.dsir({name: tensor.half() for name, tensor in network.state_dict().items()}, values)(given)
    assert described.dtype == torch.float32 and not described.requires_grad
    assert float((described * network(given).detach()).sum(dim=1).min()) > 0.99


def test_what_cannot_be_is_refused():
    with pytest.raises(ModelError, match="no squeeze 'sum'"):
        MASRConfig(squeeze="sum")
    with pytest.raises(ModelError, match="radii from 1 up"):
        MASRConfig(radii=(0, 1))
    with pytest.raises(ModelError, match="at least one feature"):
        MASRConfig(features=0)
    with pytest.raises(ModelError):
        MASRConfig(dims=4)
    with pytest.raises(ModelError, match="no setting 'widht'"):
        MASRConfig.from_dict({"widht": 8})
    with pytest.raises(ModelError, match="one-channel"):
        made(3)(image((20, 12)))
    with pytest.raises(ModelError, match="one-channel"):
        made(2)(torch.rand(1, 2, 20, 12))
    with pytest.raises(ModelError, match="do not fit"):
        descriptors.dsir(made(3).state_dict(), MASRConfig(width=4).__dict__)


MEMORY = """
import resource, sys, torch
from regnet.networks.masr import DSIR
torch.set_num_threads(1)
network, image = DSIR().eval(), torch.rand(1, 1, 56, 72, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    network(image)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / image.numel())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
def test_describing_takes_less_memory_than_the_relations_would():
    """24 relations of 4 features are 384 bytes per voxel, and several copies of them; 510 are 3 GB at 1 mm."""
    paths = os.pathsep.join(filter(None, [str(Path(regnet.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert float(ran.stdout) < 510
