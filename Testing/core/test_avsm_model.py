"""The assembled AVSM: start, chaining, symmetry, losses, inverse, and its configuration."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import ModelError
from regnet.losses import LNCC, NCC, MultiKernelLNCC, RegularityWeight, affine_symmetry, map_symmetry
from regnet.networks.avsm import AVSM, AVSMConfig, AVSMWeights
from regnet.networks.avsm_momentum import half_shape
from regnet.networks.maps import (
    affine_map,
    compose_affine,
    compose_maps,
    identity_map,
    invert_affine,
    map_to_displacement,
    warp_by_map,
)
from regnet.networks.transport import advect
from regnet.spatial import jacobian_determinant, resize
from torch import nn

SHAPES = {2: (40, 33), 3: (24, 33, 28)}


def smooth_images(shape, batch=1, seed=0):
    coarse = torch.rand(2 * batch, 1, *(6,) * len(shape), generator=torch.Generator().manual_seed(seed))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    images = nn.functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)
    return images[:batch], images[batch:]


def learnt(dims, seed=0, **options):
    """A model that moves things: small random last layers."""
    torch.manual_seed(seed)
    model = AVSM(AVSMConfig(image_shape=SHAPES[dims], affine_steps=2, **options))
    nn.init.normal_(model.affine.net.head[-1].weight, std=0.02)
    nn.init.normal_(model.momentum.last.weight, std=0.001)
    return model.eval()


def voxels(shape):
    return torch.tensor([n - 1.0 for n in shape]).view(1, -1, *(1,) * len(shape))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_model_does_nothing(dims):
    moving, fixed = smooth_images(SHAPES[dims], batch=2)
    model = AVSM(AVSMConfig(image_shape=SHAPES[dims], affine_steps=2))
    output = model(moving, fixed)
    start = identity_map(SHAPES[dims], moving).expand(2, -1, *SHAPES[dims])
    assert torch.allclose(output["transform"], start, atol=1e-6)
    assert torch.allclose(output["warped"], moving, atol=1e-4)
    assert torch.allclose(model.inverse(output), start, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_maps_are_chained_and_the_original_is_read_once(dims):
    shape, half = SHAPES[dims], half_shape(SHAPES[dims])
    moving, fixed = smooth_images(shape, batch=2)
    model = learnt(dims)
    with torch.no_grad():
        output = model(moving, fixed, momentum_steps=3)
    aux = output["aux"]
    assert [len(aux[name]) for name in ("affines", "momenta", "velocities", "maps", "warped_steps")] == [2, 3, 3, 3, 3]
    where = affine_map(aux["affine"], half)
    seen = aux["affine_warped"]
    assert torch.equal(seen, warp_by_map(moving, affine_map(aux["affine"], shape)))
    for step in range(3):
        momentum = model.momentum(seen, fixed)
        assert torch.allclose(momentum, aux["momenta"][step], atol=1e-6)
        velocity = model.vsvf.smoother(momentum)
        assert torch.allclose(velocity, aux["velocities"][step], atol=1e-6)
        where = advect(where, velocity, 10)
        assert torch.allclose(where, aux["maps"][step], atol=1e-6)
        seen = warp_by_map(moving, resize(where, shape))
        assert torch.allclose(seen, aux["warped_steps"][step], atol=1e-5)
    assert torch.equal(output["warped"], aux["warped_steps"][-1])
    assert torch.equal(output["warped"], warp_by_map(moving, output["transform"]))
    moved = (output["transform"] - affine_map(aux["affine"], shape)) * voxels(shape)
    assert float(moved.abs().max()) > 0.3


def test_stages_and_given_affine():
    moving, fixed = smooth_images(SHAPES[3])
    model = learnt(3)
    with torch.no_grad():
        dense, affine = model(moving, fixed), model(moving, fixed, stage="affine")
        given = model(moving, fixed, initial_affine=dense["aux"]["affine"])
        short = model(moving, fixed, stage="affine", affine_steps=1)
    assert torch.equal(affine["warped"], dense["aux"]["affine_warped"])
    assert affine["aux"]["momenta"] == []
    assert torch.equal(model.inverse(affine), affine_map(invert_affine(affine["aux"]["affine"]), SHAPES[3]))
    assert torch.allclose(given["warped"], dense["warped"], atol=1e-6)
    assert torch.equal(short["aux"]["affine"], affine["aux"]["affines"][0])
    with pytest.raises(ModelError, match="stage"):
        model(moving, fixed, stage="rigid")


@pytest.mark.parametrize("dims", [2, 3])
def test_symmetric_forward_is_both_directions_in_one_batch(dims):
    moving, fixed = smooth_images(SHAPES[dims], batch=2)
    model = learnt(dims)
    with torch.no_grad():
        both = model(moving, fixed, symmetric=True)
        there, back = model(moving, fixed), model(fixed, moving)
        given = model(moving, fixed, symmetric=True, initial_affine=there["aux"]["affine"], stage="affine")
    assert torch.allclose(both["transform"], torch.cat([there["transform"], back["transform"]]), atol=1e-5)
    assert torch.allclose(both["warped"], torch.cat([there["warped"], back["warped"]]), atol=1e-4)
    first, second = given["aux"]["affine"].chunk(2)
    assert torch.allclose(compose_affine(first, second), torch.eye(dims, dims + 1).expand(2, -1, -1), atol=1e-5)


@pytest.mark.parametrize(("dims", "method"), [(2, "flow"), (3, "flow"), (3, "advect")])
def test_inverse_undoes_affine_and_all_steps(dims, method):
    shape = SHAPES[dims]
    moving, fixed = smooth_images(shape)
    model = learnt(dims)
    with torch.no_grad():
        output = model(moving, fixed)
        inverse = model.inverse(output, method)
    start = identity_map(shape, moving)
    centre = (slice(None), slice(None), *(slice(7, -7),) * dims)
    error = ((compose_maps(output["transform"], inverse) - start) * voxels(shape))[centre].norm(dim=1)
    moved = ((output["transform"] - start) * voxels(shape))[centre].norm(dim=1)
    assert float(moved.max()) > 0.7
    assert float(error.max()) < 0.15 * float(moved.max())
    assert float(jacobian_determinant(map_to_displacement(output["transform"])).min()) > 0


def test_affine_losses_are_the_weighted_terms():
    moving, fixed = smooth_images(SHAPES[3])
    model = learnt(3)
    weights = AVSMWeights(regularity=RegularityWeight(3.0, 4.0, 5), affine_symmetry=2.0)
    with torch.no_grad():
        output = model(moving, fixed, symmetric=True, stage="affine")
    terms = model.losses(output, moving, fixed, epoch=2, weights=weights)
    there, back = output["aux"]["affine"].chunk(2)
    identity = torch.eye(3, 4)
    regularity = (there - identity).square().sum() + (back - identity).square().sum()
    target = torch.cat([fixed, moving])
    assert float(terms["regularity"]) == pytest.approx(3.0 * float(regularity), rel=1e-5)
    assert float(terms["symmetry"]) == pytest.approx(2.0 * float(affine_symmetry(there, back)), rel=1e-5)
    assert float(terms["similarity"]) == pytest.approx(float(NCC()(target, output["warped"])), rel=1e-6)
    late = model.losses(output, moving, fixed, epoch=100, weights=weights)
    assert float(late["similarity"]) == pytest.approx(float(MultiKernelLNCC()(target, output["warped"])), rel=1e-6)
    assert float(terms["total"]) == pytest.approx(sum(float(terms[name]) for name in list(terms)[:-1]), rel=1e-6)
    one_way = model.losses(model(moving, fixed, stage="affine"), moving, fixed)
    assert set(one_way) == {"similarity", "regularity", "total"}


def test_dense_losses_are_summed_over_steps():
    moving, fixed = smooth_images(SHAPES[3])
    model = learnt(3)
    output = model(moving, fixed, symmetric=True)
    terms = model.losses(output, moving, fixed)
    terms["total"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert float(model.affine.net.first[0].weight.grad.abs().max()) > 0
    with torch.no_grad():
        output = model(moving, fixed, symmetric=True)
        terms = model.losses(output, moving, fixed)
    aux, target = output["aux"], torch.cat([fixed, moving])
    similarity = sum(float(MultiKernelLNCC()(target, warped)) for warped in aux["warped_steps"])
    cell = 1.0
    for n in half_shape(SHAPES[3]):
        cell /= n - 1
    energy = sum(
        float((m * v).sum(dim=1).clamp(min=0).sum()) * cell / 2
        for m, v in zip(aux["momenta"], aux["velocities"], strict=True)
    )
    symmetry = sum(float(map_symmetry(*where.chunk(2))) for where in aux["maps"])
    assert float(terms["similarity"]) == pytest.approx(similarity, rel=1e-5)
    assert float(terms["momentum"]) == pytest.approx(10.0 * energy, rel=1e-4)
    assert float(terms["symmetry"]) == pytest.approx(500.0 * symmetry, rel=1e-4)
    assert energy > 0
    assert symmetry > 0
    other = model.losses(output, moving, fixed, similarity=LNCC(5))
    assert float(other["similarity"]) == pytest.approx(
        sum(float(LNCC(5)(target, warped)) for warped in aux["warped_steps"]), rel=1e-5
    )


def test_training_on_one_pair_brings_it_together():
    """The dense stage learns a good part of a smooth deformation in a few steps, without folding."""
    shape = (48, 40)
    torch.manual_seed(0)
    coarse = torch.rand(1, 1, 12, 11, generator=torch.Generator().manual_seed(3))
    fixed = nn.functional.interpolate(coarse, size=shape, mode="bilinear", align_corners=True)
    model = AVSM(AVSMConfig(image_shape=shape, affine_steps=1, momentum_steps=1, time_steps=4, momentum_scale=0.05))
    velocity = model.vsvf.smoother(torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(2)))
    velocity = velocity * (2.0 / (velocity * voxels(shape)).abs().max())
    moving = warp_by_map(fixed, advect(identity_map(shape, fixed), velocity))
    optimiser = torch.optim.Adam(model.momentum.parameters(), 1e-3)
    history = []
    for _ in range(25):
        output = model(moving, fixed)
        terms = model.losses(output, moving, fixed, weights=AVSMWeights(momentum=1.0))
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        history.append(float((output["warped"] - fixed).detach()[..., 5:-5, 5:-5].square().mean()))
    assert history[-1] < 0.6 * history[0]
    assert float(jacobian_determinant(map_to_displacement(output["transform"].detach())).min()) > 0


def test_configuration_and_weights_make_the_same_model_again():
    moving, fixed = smooth_images(SHAPES[3])
    options = {"affine_compose": "target", "extents": (0.7, 1.0, 0.9), "smoother_pad": True}
    model = learnt(3, momentum_steps=1, time_steps=5, **options)
    config = model.config()
    again = AVSM.from_config(config)
    assert again.config() == config
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(moving, fixed)["warped"], model(moving, fixed)["warped"])
        plain = AVSM.from_config({**config, "extents": None})
        plain.load_state_dict(model.state_dict())
        assert not torch.equal(plain(moving, fixed)["warped"], model(moving, fixed)["warped"])
    assert AVSM.from_config({"image_shape": [24, 33]}).config()["image_shape"] == [24, 33]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"image_size": (16, 16)}, "no setting 'image_size'"),
        ({"image_shape": (16, 16), "momentum_steps": 0}, "at least one momentum step"),
        ({"image_shape": (16, 16), "affine_compose": "left"}, "composed by"),
        ({"image_shape": (16,)}, "2 or 3 dimensions"),
        ({"image_shape": (16, 16), "sigmas": ()}, "positive widths"),
    ],
)
def test_wrong_configurations_are_refused(config, complaint):
    with pytest.raises(ModelError, match=complaint):
        AVSM.from_config(config)
