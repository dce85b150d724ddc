"""BSAFusion's comparison at shifts: which way and how far it moves, what of it learns, and that it learns."""

from __future__ import annotations

import pytest
import torch
from bsafusion_models import SHAPES, SMALL, inside, made, smooth_flow, texture
from regnet import spatial
from regnet.errors import ModelError
from regnet.losses.fusion import endpoint_loss, endpoint_losses, partial_losses, where_seen
from regnet.matching import unit
from regnet.models.bsafusion_training import Recipe
from regnet.networks.bsafusion_matching import LEVELS, Compared, Comparison, Matching, likenesses
from regnet.training.config import make_config
from regnet.training.schedule import Place
from torch import nn


def vectors(shape, channels=12, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return unit(spatial.gaussian(torch.randn(batch, channels, *shape, generator=generator), 1.0))


def shifted(features, step):
    """Read ``step`` (d,) whole voxels further on, border vectors repeated."""
    flow = torch.tensor(step, dtype=features.dtype).view(1, -1, *(1,) * len(step))
    return spatial.warp(features, flow.expand(1, -1, *features.shape[2:]), padding="border")


@pytest.mark.parametrize("shape", [(5, 8), (3, 4, 6)])
def test_likenesses_are_scalar_products_at_each_shift(shape):
    fixed, moving = vectors(shape, 3, 0, 2), vectors(shape, 3, 1, 2)
    found = likenesses(fixed, moving, 1)
    assert found.shape == (2, 3 ** len(shape), *shape)
    for number, step in enumerate(torch.cartesian_prod(*[torch.arange(-1, 2)] * len(shape)).tolist()):
        places = [torch.arange(n).add(s).clamp(0, n - 1) for n, s in zip(shape, step, strict=True)]
        there = moving[(slice(None), slice(None), *torch.meshgrid(*places, indexing="ij"))]
        torch.testing.assert_close(found[:, number], (fixed * there).sum(1))


@pytest.mark.parametrize("shape", [(20, 26), (12, 10, 14)])
def test_both_sides_go_half_the_way(shape):
    d = len(shape)
    step = [1.0] + [0.0] * (d - 2) + [-1.0]
    fixed = vectors(shape)
    moving = shifted(fixed, [-s for s in step])  # content at fixed x lies at moving x + step
    level = Comparison(d, 8, 6)
    with torch.no_grad():
        level.sharpness.fill_(5.0)
        first, second = level(fixed, moving)[1], level(moving, fixed)[1]
    wanted = torch.tensor(step).view(1, d, *(1,) * d).expand(1, d, *shape)[inside(shape, 4)]
    torch.testing.assert_close(second[inside(shape, 4)], wanted / 2, rtol=0, atol=0.01)
    torch.testing.assert_close(first[inside(shape, 4)], -wanted / 2, rtol=0, atol=0.01)


def test_what_is_not_trusted_does_not_move():
    level, fixed = Comparison(2, 8, 6), vectors((20, 26))
    moving = shifted(fixed, [1.0, 0.0])
    with torch.no_grad():
        level.last.bias[0] = -20.0
        assert float(level(moving, fixed)[1].abs().max()) < 1e-4
        level.last.bias[1:] = torch.tensor([0.4, -0.6])
        start = level(moving, fixed)[1]
    torch.testing.assert_close(start, torch.tensor([0.2, -0.3]).view(1, 2, 1, 1).expand_as(start), rtol=0, atol=1e-4)


def test_the_next_level_looks_where_both_sides_have_gone():
    fixed = [vectors((8, 10), seed=1), vectors((15, 19), seed=2)]
    moving = [fixed[0], shifted(fixed[1], [0.0, -2.0])]
    compared = Compared(nn.ModuleList(Comparison(2, 8, 4) for _ in range(2)), fixed, moving)
    with torch.no_grad():
        before = compared.at(1)[1][1][inside((15, 19), 5)].abs().mean()
        # Half a voxel each on the coarse grid is a voxel each on the fine one.
        half = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 8, 10)
        compared.step([-half, half])
        after = compared.at(1)[1][1][inside((15, 19), 5)].abs().mean()
    assert float(after) < 0.1 * float(before)
    assert compared.at(2) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_with_one_pyramid_for_both_swapping_the_images_turns_it_around(shape):
    model = made(len(shape), matching="learned", matching_width=6)
    model.matching.pyramids[1] = model.matching.pyramids[0]
    fixed, moving = texture(shape, 0), texture(shape, 1)
    with torch.no_grad():
        there, back = (model.compare(*pair).displacement for pair in ((fixed, moving), (moving, fixed)))
    assert there.shape == (1, len(shape), *shape) and float(there.abs().max()) > 0.2
    torch.testing.assert_close(back, -there, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_registration_starts_from_the_likeliest_shifts(shape):
    """A fresh network's own layers add nothing but what the full resolution has, which is nothing."""
    model = made(len(shape), matching="learned", matching_width=6)
    fixed, moving = texture(shape, 0), texture(shape, 1)
    with torch.no_grad():
        whole, alone = model.align(model.encode(fixed, moving)), model.compare(fixed, moving)
    assert len(alone.moving_levels) == LEVELS and len(whole.moving_levels) == LEVELS + 1
    torch.testing.assert_close(whole.displacement, alone.displacement, rtol=0, atol=1e-4)
    assert not bool(whole.moving_levels[-1].any())


def test_all_of_a_learned_comparison_learns():
    model = made(2, matching="learned", matching_width=6)
    layers = [*model.alignment.forward_layers, *model.alignment.reverse_layers]
    for layer in layers:
        nn.init.normal_(layer.flow.weight, std=0.3)
    for level in model.matching.levels:
        nn.init.normal_(level.last.weight, std=0.1)
    fixed, moving = texture((40, 53), 0), texture((40, 53), 1)
    model.register(fixed, moving).square().mean().backward()
    idle = [name for name, p in model.matching.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert idle == []


@pytest.mark.slow
def test_it_learns_to_compare_two_contrasts():
    """From intensities of which one side is the other's inverse beyond its middle: no likeness to begin with."""
    torch.manual_seed(0)
    shape = (48, 64)
    known = smooth_flow(shape, 4.0, seed=5, sigma=8.0, batch=4)
    moving = torch.cat([texture(shape, seed, 2.0) for seed in range(4)])
    fixed = (2.0 * spatial.warp(moving, known, padding="border") - 1.0).abs()
    model = Matching(2, "learned", 12, (8,) * 5)
    from regnet.networks.bsafusion_align import accumulated

    def found():
        return accumulated(model(fixed, moving).alone(), shape, "sum", "exact")

    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with torch.no_grad():
        first = (found() - known).norm(dim=1).mean()
    for _ in range(60):
        optimizer.zero_grad()
        (found() - known).norm(dim=1).mean().backward()
        optimizer.step()
    with torch.no_grad():
        last = (found() - known).norm(dim=1).mean()
    assert float(last) < 0.5 * float(known.norm(dim=1).mean()) < float(first)


def test_descriptors_of_masr_net_are_compared_but_not_trained():
    model = made(3, matching="dsir")
    own = model.matching.structure
    assert not any(p.requires_grad for p in own.parameters()) and len(model.matching.pyramids) == 0
    levels = own(texture((32, 48, 16)))
    assert [tuple(level.shape[2:]) for level in levels] == [(2, 3, 1), (4, 6, 2), (8, 12, 4), (16, 24, 8)]
    for level in levels:
        torch.testing.assert_close(level.norm(dim=1), torch.ones_like(level[:, 0]), rtol=0, atol=1e-4)


def test_without_matching_there_is_nothing_to_compare():
    image = texture((40, 53))
    with pytest.raises(ModelError, match="choose a matching other than 'none'"):
        made().compare(image, image)
    with pytest.raises(ModelError, match="no matching 'mind'; choose from none, learned, dsir"):
        made(matching="mind")


def test_every_level_is_held_to_what_it_can_know():
    """Constant displacements, by hand: on a grid of 3 of 17 voxels a voxel is 8, on one of 5 it is 4."""
    known = torch.zeros(1, 2, 17, 17)
    known[:, 1] = 6.0
    grids = [(3, 3), (5, 5), (17, 17)]
    steps = [(0.25, 0.5), (0.0, -0.25), (0.0, 9.0)]  # of the fixed and of the moving side, along the second axis
    fixed, moving = [], []
    for grid, (first, second) in zip(grids, steps, strict=True):
        for side, value in ((fixed, first), (moving, second)):
            field = torch.zeros(1, 2, *grid)
            field[:, 1] = value
            side.append(field)
    # 8 (0.5 - 0.25) = 2 of 6; then 4 (-0.25) more, 1 of 6; the last level is not among the partial ones.
    found = [float(loss) for loss in partial_losses(fixed, moving, known)]
    assert found == pytest.approx([4.0, 5.0], abs=1e-4)


def test_the_end_and_all_levels_count_alike():
    model = made(2, matching="learned", matching_width=6)
    for shape, parts in (((32, 48), 4), ((30, 48), 1)):
        found = model.compare(texture(shape, 0), texture(shape, 1))
        known = smooth_flow(shape, 2.0)
        losses = [(found.displacement - known).norm(dim=1).mean()]
        if parts > 1:
            losses += partial_losses(found.fixed_levels, found.moving_levels, known)
        assert len(losses) == parts
        torch.testing.assert_close(endpoint_losses(found, known), torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


def test_air_hardly_counts():
    image = torch.zeros(1, 1, 20, 24)
    image[..., 8:12, 10:14] = 0.5
    weight = where_seen(image)
    expected = torch.full((20, 24), 0.02)
    expected[6:14, 8:16] = 1.0
    torch.testing.assert_close(weight[0, 0], expected)
    known, found = torch.zeros(1, 2, 20, 24), torch.zeros(1, 2, 20, 24)
    found[:, 0, 6:14, 8:16], found[:, 0, 0, 0] = 3.0, 50.0
    # 64 voxels of 3 and one of 50 that counts a 50th, over 64 and a 50th of 416.
    assert float(endpoint_loss(found, known, weight)) == pytest.approx((64 * 3 + 1) / (64 + 8.32), abs=1e-3)
    assert float(endpoint_loss(found, known)) == pytest.approx((64 * 3 + 50) / 480, abs=1e-3)


@pytest.mark.parametrize("matching", ["learned", "none"])
def test_a_stage_that_only_compares_trains_the_comparison_alone(matching):
    network = {key: value for key, value in SMALL.items() if key != "positions"} | {"matching": matching}
    stage = {"name": "one", "steps": 1, "sources": [{"maker": "Shapes"}], "options": {"only": "compare"}}
    config = make_config({"model": "avsm", "shape": [32, 48], "network": {}, "stages": [stage]})
    recipe = Recipe(config.model_copy(update={"network": network}))
    model, options = recipe.build(), Recipe.Options(only="compare")
    if matching == "none":
        with pytest.raises(ModelError, match="set its matching to 'learned'"):
            recipe.parameters(model, options)
        chosen = {id(entry) for entry in recipe.parameters(model, Recipe.Options(only="register"))}
        assert chosen == {id(entry) for entry in model.alignment.parameters()}
        return
    chosen = {id(entry) for entry in recipe.parameters(model, options)}
    assert chosen == {id(entry) for entry in model.matching.parameters()}
    for only, parts in {
        "register": (model.matching, model.alignment),
        "fuse": (model.representation, model.decoder),
        "decode": (model.decoder,),
    }.items():
        chosen = {id(entry) for entry in recipe.parameters(model, Recipe.Options(only=only))}
        assert chosen == {id(entry) for part in parts for entry in part.parameters() if entry.requires_grad}
    everything = {id(entry) for entry in recipe.parameters(model, Recipe.Options())}
    frozen = {id(entry) for name, entry in model.named_parameters() if name.startswith("representation.frozen.")}
    assert frozen and everything == {id(entry) for entry in model.parameters()} - frozen


@pytest.mark.parametrize(
    ("only", "terms"),
    [
        ("register", {"smoothness", "consistency", "endpoint"}),
        ("fuse", {"modality", "exchange", "structure", "gradient", "intensity"}),
        ("decode", {"structure", "gradient", "intensity"}),
    ],
)
def test_a_stage_has_the_losses_of_what_learns_in_it(only, terms):
    network = {key: value for key, value in SMALL.items() if key != "positions"} | {"matching": "learned"}
    stage = {"name": "one", "steps": 1, "sources": [{"maker": "Shapes"}]}
    config = make_config({"model": "avsm", "shape": [32, 48], "network": {}, "stages": [stage]})
    recipe, options = Recipe(config.model_copy(update={"network": network})), Recipe.Options(only=only, endpoint=1.0)
    model = recipe.build().train()
    sides = {"fixed": texture((32, 48), 1), "moving": texture((32, 48), 2)}
    found = recipe.losses(
        model, {**sides, "displacement": smooth_flow((32, 48), 2.0)}, options, Place(0, 0, 0, 0.0, 0.0)
    )
    assert set(found) == {*terms, "total"}
    found["total"].backward()
    learning = list(recipe.parameters(model, options))
    # Of a fresh registration the layers ahead of its flows have none yet.
    assert sum(entry.grad is not None and bool(entry.grad.any()) for entry in learning) > len(learning) / 4


def test_coarse_levels_do_not_believe_averaged_descriptors_before_they_have_learned():
    """A shift of two voxels of the coarsest level: learned features are believed at once, MASR-Net's are not."""
    moves = {}
    for kind in ("learned", "dsir"):
        levels = made(3, matching=kind).matching.levels
        own = unit(torch.randn(1, 24 if kind == "learned" else 16, 6, 7, 8, generator=torch.Generator().manual_seed(1)))
        with torch.no_grad():
            moves[kind] = [float(level(own, own.roll(1, 2))[1].abs().mean()) for level in levels]
    assert min(moves["learned"]) > 0.1
    assert max(moves["dsir"][:2]) < 0.2 * min(moves["dsir"][2:])
