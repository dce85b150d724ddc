"""The multi-step affine network: its size, its start, and how its steps are put together."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from regnet.errors import ModelError
from regnet.networks import avsm_affine
from regnet.networks.avsm_affine import AffineNet, MultiStepAffine
from regnet.networks.blocks import parameter_count
from regnet.networks.maps import (
    affine_map,
    compose_affine,
    compose_maps,
    identity_affine,
    identity_map,
    invert_affine,
    transform_map,
    warp_by_map,
)
from torch import nn

SHAPES = {2: (24, 33), 3: (16, 21, 18)}


def homogeneous(affine):
    row = torch.zeros(len(affine), 1, affine.shape[-1], dtype=affine.dtype)
    row[..., -1] = 1.0
    return torch.cat([affine, row], dim=1)


def random_affine(dims, seed=0, size=0.2, batch=2, dtype=torch.float64):
    noise = torch.rand(batch, dims, dims + 1, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.5
    return torch.eye(dims, dims + 1, dtype=dtype) + 2 * size * noise


def random_net(shape, seed=0, size=0.05, **options):
    """An affine network that looks at its images: the default start damps them layer by layer to almost nothing."""
    torch.manual_seed(seed)
    net = AffineNet(shape, **options)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(layer.weight)
    nn.init.normal_(net.head[-1].weight, std=size)
    return net


def smooth_images(shape, batch=1, seed=0):
    coarse = torch.rand(2 * batch, 1, *(5,) * len(shape), generator=torch.Generator().manual_seed(seed))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    images = nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)
    return images[:batch], images[batch:]


class Told(nn.Module):
    """Stands in for the network: answers with given increments, and remembers what it was shown."""

    def __init__(self, increments):
        super().__init__()
        self.increments, self.seen, self.dims = increments, [], increments[0].shape[1]

    def forward(self, moving, fixed):
        self.seen.append(moving)
        return self.increments[len(self.seen) - 1]


def test_has_the_published_size():
    net = AffineNet((80, 192, 192))
    assert parameter_count(net) == 147_920
    assert net.head[0].in_features == 432
    assert parameter_count(AffineNet((80, 192))) < parameter_count(net)


@pytest.mark.parametrize("shape", [(8, 8, 8), (17, 40, 33), (9, 50), (96, 64)])
def test_finds_its_flattened_size_for_any_shape(shape):
    net = AffineNet(shape)
    pair = torch.rand(2, 2, 1, *shape)
    assert net(*pair).shape == (2, len(shape), len(shape) + 1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_network_does_nothing(dims):
    moving, fixed = smooth_images(SHAPES[dims], batch=2)
    affine = MultiStepAffine(AffineNet(SHAPES[dims]), steps=3)(moving, fixed)[-1]
    assert torch.equal(affine, identity_affine(2, dims, moving))
    assert torch.allclose(warp_by_map(moving, affine_map(affine, SHAPES[dims])), moving, atol=1e-5)


def test_images_share_the_first_layer_and_are_not_interchangeable():
    moving, fixed = smooth_images(SHAPES[3])
    net = random_net(SHAPES[3])
    assert float((net(moving, fixed) - net(fixed, moving)).detach().abs().max()) > 5e-5
    together = net(torch.cat([moving, fixed, moving]), torch.cat([fixed, moving, moving]))
    apart = torch.cat([net(moving, fixed), net(fixed, moving), net(moving, moving)])
    assert torch.allclose(together, apart, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_composition_is_the_product_of_homogeneous_matrices(dims):
    outer, inner = random_affine(dims, 0), random_affine(dims, 1)
    product = homogeneous(outer) @ homogeneous(inner)
    assert torch.allclose(homogeneous(compose_affine(outer, inner)), product, atol=1e-14)
    closed = compose_affine(invert_affine(outer), outer) - identity_affine(2, dims, outer)
    assert float(closed.abs().max()) < 1e-12
    single = random_affine(dims, 0, dtype=torch.float32)
    for product in (compose_affine(single, invert_affine(single)), compose_affine(invert_affine(single), single)):
        assert float((product - identity_affine(2, dims, single)).abs().max()) < 1e-6


@pytest.mark.parametrize("dims", [2, 3])
def test_map_takes_each_voxel_where_the_matrix_says(dims):
    shape = SHAPES[dims]
    affine = random_affine(dims)
    where = affine_map(affine, shape)
    assert where.shape == (2, dims, *shape)
    for index in ((0,) * dims, tuple(n - 1 for n in shape), tuple(n // 3 for n in shape)):
        point = torch.tensor([2.0 * i / (n - 1) - 1.0 for i, n in zip(index, shape, strict=True)]).double()
        expected = (affine @ torch.cat([point, torch.ones(1).double()]) + 1.0) / 2.0
        assert torch.allclose(where[(slice(None), slice(None), *index)], expected, atol=1e-12)
    other = random_affine(dims, 5)
    assert torch.allclose(transform_map(other, where), affine_map(compose_affine(other, affine), shape), atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_each_rule_of_composition_keeps_its_word(dims):
    shape = SHAPES[dims]
    moving, fixed = (image.double() for image in smooth_images(shape))
    increments = [random_affine(dims, seed, batch=1) for seed in range(3)]
    paper = MultiStepAffine(Told(increments), 3, "paper")(moving, fixed)
    target = MultiStepAffine(Told(increments), 3, "target")(moving, fixed)
    first, second, third = (homogeneous(step) for step in increments)
    assert torch.allclose(homogeneous(paper[-1]), third @ second @ first, atol=1e-12)
    assert torch.allclose(homogeneous(target[-1]), first @ second @ third, atol=1e-12)
    assert float((paper[-1] - target[-1]).abs().max()) > 1e-2
    # On the target's side, one warp by the product is each warp after the other.
    twice = compose_maps(affine_map(increments[0], shape), affine_map(0.5 * increments[1], shape))
    once = affine_map(compose_affine(increments[0], 0.5 * increments[1]), shape)
    assert torch.allclose(once, twice, atol=1e-10)


@pytest.mark.parametrize("compose", ["paper", "target"])
def test_every_step_sees_the_original_read_once(compose):
    shape = SHAPES[3]
    moving, fixed = smooth_images(shape)
    told = Told([random_affine(3, seed, 0.1, 1, torch.float32) for seed in range(3)])
    with torch.no_grad():
        transforms = MultiStepAffine(told, 3, compose)(moving, fixed)
    assert torch.equal(told.seen[0], moving)
    for seen, before in zip(told.seen[1:], transforms, strict=False):
        assert torch.equal(seen, warp_by_map(moving, affine_map(before, shape)))
    assert float(told.seen[1].min()) == 0.0


def test_continues_from_a_given_transform():
    moving, fixed = smooth_images(SHAPES[3])
    model = MultiStepAffine(random_net(SHAPES[3]), 4)
    all_at_once = model(moving, fixed)
    later = model(moving, fixed, steps=2, initial=all_at_once[1])
    assert len(all_at_once) == 4
    assert torch.allclose(later[-1], all_at_once[-1], atol=1e-6)


def test_checkpoints_do_not_change_the_gradient(monkeypatch):
    moving, fixed = smooth_images(SHAPES[3])
    gradients = []
    for kept in (False, True):
        net = random_net(SHAPES[3])
        if kept:
            monkeypatch.setattr(avsm_affine, "checkpoint", lambda function, *given, **_: function(*given))
        loss = MultiStepAffine(net, 3)(moving, fixed)[-1].square().sum()
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    for checkpointed, plain in zip(*gradients, strict=True):
        assert torch.allclose(checkpointed, plain, atol=1e-6)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients[0])


def test_learns_a_translation():
    """A short overfit: what an untrained network leaves undone, a trained one does."""
    shape = (24, 28)
    torch.manual_seed(0)
    fixed = smooth_images(shape, seed=4)[0]
    shift = identity_affine(1, 2, fixed).clone()
    shift[0, 1, 2] = 0.2
    moving = warp_by_map(fixed, affine_map(shift, shape))
    model = MultiStepAffine(AffineNet(shape), 2)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    errors = []
    for _ in range(40):
        where = affine_map(model(moving, fixed)[-1], shape)
        loss = (warp_by_map(moving, where) - fixed)[..., 4:-4, 4:-4].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.2 * errors[0]


def test_refuses_what_it_was_not_built_for():
    net = AffineNet(SHAPES[3])
    moving, fixed = smooth_images((16, 21, 20))
    with pytest.raises(ModelError, match="built for images"):
        net(moving, fixed)
    assert AffineNet(SHAPES[3], adaptive=True)(moving, fixed).shape == (1, 3, 4)
    assert parameter_count(AffineNet(SHAPES[3], adaptive=True)) == parameter_count(net)
    with pytest.raises(ModelError, match="one shape"):
        net(moving, smooth_images((16, 21, 18))[0])
    with pytest.raises(ModelError, match="8 voxels"):
        AffineNet((7, 20, 20))
    with pytest.raises(ModelError, match="2 or 3 dimensions"):
        AffineNet((20,))
    with pytest.raises(ModelError, match="composed by one of"):
        MultiStepAffine(net, 3, "both")


def test_the_same_size_averages_to_itself():
    """Where sizes match, adaptive pooling changes nothing, so weights serve either way."""
    moving, fixed = smooth_images(SHAPES[3])
    net = random_net(SHAPES[3])
    adaptive = AffineNet(SHAPES[3], adaptive=True)
    adaptive.load_state_dict(net.state_dict())
    assert torch.allclose(net(moving, fixed), adaptive(moving, fixed), atol=1e-6)


def test_identity_map_meets_the_affine_identity():
    like = torch.zeros((), dtype=torch.float64)
    assert torch.allclose(
        affine_map(identity_affine(1, 3, like), (9, 12, 10)), identity_map((9, 12, 10), like), atol=1e-15
    )


def test_building_one_imports_no_compiler():
    """Shapes alone, on PyTorch's device for them, would import symbolic mathematics for a second."""
    code = (
        "import sys, torch; from regnet.networks.avsm import AVSM, AVSMConfig; "
        "AVSM(AVSMConfig(image_shape=(16, 24, 20))); assert not {'sympy', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
