"""Two looks of one anatomy: in place, repeatable, and different only in what a scanner changes."""

from __future__ import annotations

import pytest
import torch
from regnet import spatial
from regnet.errors import InputError
from regnet.synth.looks import ShapePaints, TwoLooks, TwoPaints
from synth_examples import CLEAN, anatomy, seeded, settings, smooth_image

SHAPES = [(40, 54), (26, 34, 30)]
UPRIGHT = {"zoom": [1.0, 1.0], "stretch": [1.0, 1.0], "degrees": 0.0, "mirror": 0}


def larger(shape):
    return [n + 12 for n in shape]


def scans(shape, batch=1, seed=0):
    return torch.cat([smooth_image(larger(shape), seed + number) for number in range(batch)])


def made(maker, shape, seed=0, batch=1, looks=None, given=None, **changes):
    maker = maker(settings(shape, looks=looks or {}, **changes))
    if given is None:
        kinds = {
            TwoLooks: lambda: {"moving": scans(shape, batch)},
            TwoPaints: lambda: {"labels": anatomy(shape, batch=batch)},
            ShapePaints: lambda: {"size": batch},
        }
        given = kinds[type(maker)]()
    return maker(given, [seeded(seed + number) for number in range(batch)])


def edges(image):
    return spatial.gradient(spatial.gaussian(image, 0.7)).norm(dim=1)


def correlation(first, second):
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


MAKERS = [TwoLooks, TwoPaints, ShapePaints]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_looks_are_images_of_the_size_asked_for_and_lie_in_place(shape, maker):
    pair = made(maker, shape, batch=2, artefacts={})
    for name in ("fixed", "moving"):
        assert pair[name].shape == (2, 1, *shape) and pair[name].dtype == torch.float32
        assert float(pair[name].min()) >= 0 and float(pair[name].max()) <= 1
        assert float(pair[name].flatten(1).std(dim=1).min()) > 0.01
    assert pair["inside"].shape == (2, 1, *shape) and pair["inside"].dtype == torch.bool
    assert pair["displacement"].shape == (2, len(shape), *shape)
    assert float(pair["displacement"].abs().max()) == 0
    assert not torch.equal(pair["fixed"], pair["moving"])
    assert not torch.equal(pair["moving"][:1], pair["moving"][1:])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_seed_gives_the_same_bits(shape, maker):
    first, again, other = (made(maker, shape, seed, artefacts={}) for seed in (3, 3, 4))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name
    assert not torch.equal(first["moving"], other["moving"])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_how_samples_are_grouped_changes_nothing(shape, maker):
    whole = made(maker, shape, 5, 3, artefacts={})
    given = {TwoLooks: {"moving": scans(shape, 3)}, TwoPaints: {"labels": anatomy(shape, batch=3)}}.get(maker)
    for number in range(3):
        mine = {"size": 1} if given is None else {name: one[number : number + 1] for name, one in given.items()}
        alone = made(maker, shape, 5 + number, given=mine, artefacts={})
        for name, tensor in alone.items():
            expected = whole[name][number : number + 1]
            assert float((tensor.float() - expected.float()).abs().max()) < 1e-4, name


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_looks_differ_only_by_what_the_scanner_does(shape):
    pair = made(TwoLooks, shape, looks={"plain": 1.0, "dark": 0.0})
    torch.testing.assert_close(pair["fixed"], pair["moving"], rtol=0, atol=1e-5)
    noisy = made(TwoLooks, shape, looks={"plain": 1.0, "dark": 0.0}, artefacts={**CLEAN, "noise": 0.05})
    assert correlation(noisy["fixed"], noisy["moving"]) > 0.9
    assert not torch.equal(noisy["fixed"], noisy["moving"])


@pytest.mark.parametrize(("kind", "least"), [({"any_curve": 0.0}, 0.5), ({"any_curve": 1.0}, 0.3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_looks_show_the_same_edges(shape, kind, least):
    """The same crop: edges agree in place, whatever the curve; edges of other crops do not."""
    looks = {"plain": 0.0, "dark": 0.0, "inverted": 0.5, **kind}
    pairs = [made(TwoLooks, shape, seed, looks=looks) for seed in range(6)]
    here = [correlation(edges(pair["fixed"]), edges(pair["moving"])) for pair in pairs]
    there = [
        correlation(edges(pair["fixed"]), edges(other["moving"]))
        for pair, other in zip(pairs, pairs[1:] + pairs[:1], strict=True)
    ]
    assert sum(here) / 6 > least
    assert sum(here) / 6 > sum(there) / 6 + 0.25
    assert not torch.allclose(pairs[0]["fixed"], pairs[0]["moving"], atol=0.05)


@pytest.mark.parametrize("maker", [TwoPaints, ShapePaints])
@pytest.mark.parametrize("shape", SHAPES)
def test_paints_have_one_intensity_per_region_of_the_same_map(shape, maker):
    """Without texture and artefacts, each look has few intensities, and a step only where the map has one."""
    pair = made(maker, shape, looks={"dark": 0.0}, shapes={"count": 5})
    inside = pair["inside"]
    assert 0.02 < float(inside.float().mean()) < 1
    cells = torch.unique(torch.stack([pair["fixed"].flatten(), pair["moving"].flatten()]).round(decimals=3), dim=1)
    assert 2 <= cells.shape[1] < 400  # blurred steps add some to the handful of regions
    outside = ~spatial.box(inside.float(), 2).gt(0)
    for name in ("fixed", "moving"):
        assert float(pair[name][outside].max() if outside.any() else 0.0) < 0.05


def test_an_upright_crop_is_part_of_the_scan():
    shape = SHAPES[0]
    given = torch.nn.functional.pad(scans(shape), (20,) * 4)
    pair = made(TwoLooks, shape, 2, looks={**UPRIGHT, "plain": 1.0, "dark": 0.0}, given={"moving": given})
    windows = given[0, 0].unfold(0, shape[0], 1).unfold(1, shape[1], 1).flatten(0, 1).flatten(1)
    windows = windows - windows.mean(dim=1, keepdim=True)
    crop = pair["moving"].flatten() - pair["moving"].mean()
    found = (windows @ crop) / (windows.norm(dim=1) * crop.norm()).clamp(min=1e-6)
    assert float(found.max()) > 0.97


@pytest.mark.parametrize("shape", SHAPES)
def test_inside_is_where_the_scan_has_anatomy(shape):
    """A block in air: dark outside in every look, unless the look is to be inverted there, too."""
    given = torch.zeros(1, 1, *larger(shape))
    block = (..., *(slice(n // 4, n - n // 4) for n in larger(shape)))
    given[block] = 0.3 + 0.6 * smooth_image(larger(shape))[block]
    for seed in range(4):
        plain = made(TwoLooks, shape, seed, looks={"plain": 1.0}, given={"moving": given})
        agree = plain["inside"] == (plain["moving"] > 0.05)
        assert float(agree.float().mean()) > 0.93
        pair = made(TwoLooks, shape, seed, looks={"plain": 0.0, "dark": 1.0}, given={"moving": given})
        inside = pair["inside"]
        assert torch.equal(inside, plain["inside"])
        assert 0.02 < float(inside.float().mean()) < 0.98
        away = ~spatial.box(inside.float(), 2).gt(0)
        for name in ("fixed", "moving"):
            assert float(pair[name][away].max()) < 0.1
        air = made(TwoLooks, shape, seed, looks={"plain": 0.0, "any_curve": 0.0, "dark": 0.0, "inverted": 1.0},
                   given={"moving": given})  # fmt: skip
        assert float(air["fixed"][away].mean()) > 0.9


@pytest.mark.parametrize("shape", SHAPES)
def test_another_scan_of_the_anatomy_is_the_fixed_look(shape):
    moving = scans(shape)
    both = {"moving": moving, "fixed": 1.0 - moving}
    pair = made(TwoLooks, shape, looks={"plain": 1.0, "dark": 0.0}, given=both)
    deep = spatial.box(pair["inside"].float(), 2) > 0.99
    assert correlation(pair["fixed"][deep], pair["moving"][deep]) < -0.95


def test_turned_and_mirrored_crops_are_all_seen():
    """A ramp along the last axis runs along any axis, either way, in the crops."""
    shape = (20, 24)
    given = {"moving": torch.linspace(0.1, 1.0, 150).expand(1, 1, 130, 150).contiguous()}
    seen = set()
    for seed in range(24):
        pair = made(TwoLooks, shape, seed, looks={"plain": 1.0, "dark": 0.0, "degrees": 0.0}, given=given)
        inside = spatial.box((pair["moving"] > 0).float(), 1)[0, 0] > 0.99
        slopes = [float(spatial.gradient(pair["moving"])[0, axis][inside].mean()) for axis in range(2)]
        axis = int(abs(slopes[1]) > abs(slopes[0]))
        seen.add((axis, slopes[axis] > 0))
    assert len(seen) == 4


def test_an_empty_scan_and_one_smaller_than_the_crop_are_borne():
    for given in (torch.zeros(1, 1, 30, 28, 26), smooth_image((9, 8, 10))):
        pair = made(TwoLooks, (20, 24, 22), given={"moving": given}, artefacts={})
        assert all(bool(torch.isfinite(tensor).all()) for tensor in pair.values())
    assert pair["inside"].any()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="has to be told the grid"):
        ShapePaints()({}, seeded(0))
    labels = torch.full((1, 1, 20, 24), 2000)
    with pytest.raises(InputError, match="from 2000 to 2000"):
        made(TwoPaints, (16, 18), given={"labels": labels})
    with pytest.raises(InputError, match="type int64"):
        made(TwoPaints, (16, 18), given={"labels": labels.float()})
    with pytest.raises(InputError, match="moving is missing"):
        made(TwoLooks, (16, 18), given={"fixed": torch.zeros(1, 1, 20, 24)})
    with pytest.raises(InputError, match="must be between 0 and 1"):
        settings((16, 18), looks={"dark": 1.5})
    with pytest.raises(InputError, match="no entry 'zooom'"):
        settings((16, 18), looks={"zooom": [1.0, 1.0]})
