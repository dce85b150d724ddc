"""DDIM's losses and forms: gradients, 2D and 3D, every term, starting transforms, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ddim_models import (
    FORMS,
    LITERAL,
    SHAPES,
    made,
    random_affines,
    smooth_images,
)
from regnet.errors import ModelError
from regnet.losses.lncc import LNCC
from regnet.networks.ddim import DDIM
from regnet.networks.maps import affine_map, identity_affine, warp_by_map
from torch import nn


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
