"""Training pairs across MR contrasts: what fluid, grey and white matter look like, and a fixed image that is T1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.errors import InputError
from regnet.synth import pairs
from regnet.synth.contrast import DARK, MR_CONTRASTS, SPREAD, TISSUES, ContrastSettings, LabelContrast
from regnet.synth.draws import Draws
from regnet.synth.schemes import get_scheme
from synth_examples import anatomy, quarters, seeded, settings, smooth_image
from torch import Tensor

# Air, fluid, grey matter, white matter, bone, half way from fluid to grey matter, a quarter of the way from grey to
# white matter, brighter than white matter, and grey matter again.
TYPICAL = (0.0, 0.14, 0.58, 0.85, 0.08, 0.36, 0.6475, 1.0, 0.58)
AIR, FLUID, GREY, WHITE, BONE, EDGE, DEEP, FAT, SAME = range(9)
NAMES = ("T1", "T2", "FLAIR", "PD")
PLAIN = {"typical": TYPICAL, "jitter": 0.0, "texture": 0.0, "background": 0.0}


def drawn(count: int, seed: int = 0, **changes) -> Tensor:
    """Mean intensities (count, labels) of so many samples."""
    contrast = LabelContrast(ContrastSettings(**{**PLAIN, **changes}))
    return contrast.appearance(Draws(seeded(seed), count)).mean


def kinds(means: Tensor) -> Tensor:
    """Which of :data:`MR_CONTRASTS` each row is nearest to."""
    distance = (means[:, None, FLUID : WHITE + 1] - torch.tensor(MR_CONTRASTS)).abs().amax(dim=2)
    assert float(distance.amin(dim=1).max()) < SPREAD + 1e-6
    return distance.argmin(dim=1)


def test_each_contrast_looks_as_it_does_in_the_clinic():
    means = drawn(400, mr_share=1.0)
    which = kinds(means)
    counts = torch.bincount(which, minlength=4)
    assert int(counts.min()) > 60 and int(counts.sum()) == 400
    groups = {name: means[which == number] for number, name in enumerate(NAMES)}
    orders = {"T1": (FLUID, GREY, WHITE), "T2": (WHITE, GREY, FLUID), "FLAIR": (FLUID, WHITE, GREY)}
    for name, order in orders.items():
        assert bool((groups[name][:, list(order)].diff(dim=1) > 0).all())
    assert bool((groups["FLAIR"][:, FLUID] < 0.25).all()) and bool((groups["T2"][:, FLUID] > 0.85).all())
    assert bool((groups["PD"].mean(dim=0)[FLUID] > groups["PD"].mean(dim=0)[GREY]).all())
    # From scan to scan the tissues differ a little, each by itself.
    for group in groups.values():
        spread = group[:, [GREY, WHITE]]
        assert bool((spread.std(dim=0) > 0.03).all())
        assert abs(float(torch.corrcoef(spread.T)[0, 1])) < 0.4


def test_what_is_between_goes_in_between_and_dark_stays_dark():
    means = drawn(100, mr_share=1.0)
    fluid, grey, white = (means[:, index] for index in (FLUID, GREY, WHITE))
    unclipped = fluid < 1
    torch.testing.assert_close(means[unclipped, EDGE], (0.5 * (fluid + grey))[unclipped], atol=1e-5, rtol=0)
    torch.testing.assert_close(means[:, DEEP], 0.75 * grey + 0.25 * white, atol=1e-5, rtol=0)
    torch.testing.assert_close(means[:, FAT], white)
    torch.testing.assert_close(means[:, SAME], grey)
    assert TYPICAL[BONE] < DARK < TYPICAL[FLUID]
    assert bool((means[:, BONE] == TYPICAL[BONE]).all()) and bool((means[:, AIR] == 0).all())
    assert MR_CONTRASTS[0] == TISSUES == TYPICAL[FLUID : WHITE + 1]


@pytest.mark.parametrize("scheme", ["synthseg", "synthsr"])
def test_brains_of_the_schemes_are_painted_by_what_their_labels_are(scheme):
    names = {one.name: one.ids for one in get_scheme(scheme).structures}
    ventricle, cortex, white = (
        names[name] for name in ("lateral ventricle", "cerebral cortex", "cerebral white matter")
    )
    choice = get_scheme(scheme)
    contrast = LabelContrast(
        ContrastSettings(classes=choice.classes(), typical=choice.typical(), mr_share=1.0, jitter=0.03)
    )
    means = contrast.appearance(Draws(seeded(3), 200)).mean
    for left, right in (ventricle, cortex, white):
        assert torch.equal(means[:, left], means[:, right])
    ids = [ventricle[0], cortex[0], white[0]]
    distance = (means[:, None, ids] - torch.tensor(MR_CONTRASTS)).abs().amax(dim=2)
    # The jitter of every structure comes on top.
    assert float(distance.amin(dim=1).max()) < SPREAD + 0.13
    assert bool((means[:, ids].std(dim=1) > 0.03).all())
    if "air" in names:
        assert float(means[:, list(names["air"] + names["bone"])].max()) < 0.08 + 0.13


def test_shares_are_of_what_is_left():
    """First the typical contrast has its share, then the MR contrasts theirs of the rest; random groups get what
    remains."""
    means = drawn(600, typical_share=0.5, mr_share=0.6)
    factors = means[:, [FLUID, GREY, WHITE]] / torch.tensor(TISSUES)
    typical = (factors.amax(dim=1) - factors.amin(dim=1)) < 1e-4
    distance = (means[:, None, FLUID : WHITE + 1] - torch.tensor(MR_CONTRASTS)).abs().amax(dim=2).amin(dim=1)
    mr = (distance < SPREAD + 1e-6) & (means[:, BONE] == TYPICAL[BONE]) & ~typical
    assert abs(float(typical.float().mean()) - 0.5) < 0.07
    assert abs(float(mr.float().mean()) - 0.3) < 0.06
    assert abs(float((~typical & ~mr).float().mean()) - 0.2) < 0.06
    every = drawn(50, typical_share=1.0, mr_share=1.0) / torch.tensor(TYPICAL).clamp(min=0.01)
    torch.testing.assert_close(every[:, FLUID], every[:, GREY])


def plain_appearance(contrast: LabelContrast, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """The contrast as it is drawn without MR contrasts: groups or the typical one, in this order of draws."""
    chosen, classes = contrast.settings, torch.tensor(contrast.settings.classes or range(contrast.settings.labels))
    count, most = int(classes.max()) + 1, chosen.groups[1]
    groups = (draws.uniform(0.0, 1.0, count) * draws.whole(*chosen.groups, 1)).long().clamp_(max=most - 1)
    means = draws.uniform(0.0, 1.0, most).gather(1, groups)
    typical = torch.tensor(chosen.typical or [0.0] * chosen.labels) * draws.uniform(0.85, 1.15, 1)
    use_typical = draws.chance(chosen.typical_share)[:, None]
    jitter = chosen.jitter * draws.normal(count)[:, classes]
    means = (torch.where(use_typical, typical, means[:, classes]) + jitter).clamp(0.0, 1.0)
    means[:, 0] = draws.uniform(0.0, 0.3) * draws.chance(chosen.background)
    textures = chosen.texture * draws.uniform(-1.0, 1.0, 2, most)
    fine, coarse = (textures[:, kind].gather(1, groups)[:, classes] for kind in range(2))
    fine[:, 0] = coarse[:, 0] = 0.0
    return means, fine, coarse


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_without_them_every_draw_is_what_it_was(share):
    """Trainings that do not ask for MR contrasts see the same pairs as before there were any."""
    classes = (0, 1, 2, 3, 4, 5, 6, 7, 2)
    contrast = LabelContrast(ContrastSettings(typical=TYPICAL, classes=classes, typical_share=share))
    mine, theirs = Draws(seeded(7), 40), Draws(seeded(7), 40)
    found = contrast.appearance(mine)
    for table, expected in zip((found.mean, found.fine, found.coarse), plain_appearance(contrast, theirs), strict=True):
        assert torch.equal(table, expected)
    assert torch.equal(mine.uniform(0, 1, 5), theirs.uniform(0, 1, 5))


def test_a_sample_does_not_depend_on_its_batch():
    contrast = LabelContrast(ContrastSettings(typical=TYPICAL, mr_share=0.5))
    together = contrast.appearance(Draws([seeded(number) for number in range(6)], 6)).mean
    for number in range(6):
        alone = contrast.appearance(Draws([seeded(number)], 1)).mean
        assert torch.equal(alone[0], together[number])


def test_they_need_a_typical_contrast_and_a_share():
    with pytest.raises(InputError, match="none is given; set 'typical' or a label scheme"):
        LabelContrast(ContrastSettings(mr_share=0.5))
    with pytest.raises(InputError, match="'mr_share', must be between 0 and 1, not 1.5"):
        pairs.PairSettings.from_dict({"contrast": {"mr_share": 1.5}})
    filled = pairs.PairSettings.from_dict({"scheme": "synthseg", "contrast": {"mr_share": 0.5}})
    assert pairs.OneAnatomy(filled).contrast.settings.mr_share == 0.5


SHAPE = (40, 34)


def test_a_painted_fixed_image_is_typical_while_the_moving_one_is_not():
    contrast = {**PLAIN, "typical": [0, 0.3, 0.5, 0.7, 0.9], "groups": [40, 40]}
    maker = pairs.TwoAnatomies(settings(SHAPE, contrast=contrast, typical_fixed=1, different_contrast=0.5))
    labels = quarters(SHAPE, 24)
    pair = maker({"fixed_labels": labels, "moving_labels": labels.flip(-1)}, seeded(2))
    expected = torch.tensor([0.3, 0.5, 0.7, 0.9])

    def medians(side: str) -> Tensor:
        ids = pair[f"{side}_labels"]
        return torch.stack([
            torch.stack([pair[side][number][ids[number] == label].median() for label in range(1, 5)])
            for number in range(24)
        ])  # fmt: skip

    for side, wanted in (("fixed", torch.ones(24, dtype=torch.bool)), ("moving", pair["same_contrast"])):
        factors = medians(side) / expected
        typical = factors.amax(dim=1) - factors.amin(dim=1) < 0.05
        assert torch.equal(typical, wanted)
    assert 4 < int(pair["same_contrast"].sum()) < 20


@pytest.mark.parametrize("maker", [pairs.OneAnatomy, pairs.TwoAnatomies])
def test_painting_a_typical_fixed_image_of_an_unknown_contrast_is_refused(maker):
    labels = anatomy((24, 20), 0)
    with pytest.raises(InputError, match="none is known; name the scheme of the labels"):
        maker(settings((24, 20), typical_fixed=1))(dict.fromkeys(maker.needs, labels), seeded(0))


@pytest.mark.parametrize("maker", [pairs.RealPair, pairs.OneImage])
def test_a_real_fixed_image_keeps_its_intensities(maker):
    """Bit for bit, however often curves are drawn; the moving one then goes through them."""
    images = [torch.cat([smooth_image([n + 6 for n in SHAPE], seed)] * 12) for seed in (1, 2)]
    batch = {"fixed": images[0], "moving": images[1]}
    made = {}
    for remap in (0.0, 0.5, 1.0):
        choice = settings(SHAPE, remap=remap, invert=0.5, different_contrast=1.0, typical_fixed=1)
        made[remap] = maker(choice)(batch, seeded(5))
        assert torch.equal(made[remap]["fixed"], made[0.0]["fixed"])
    changed = (made[1.0]["moving"] - made[0.0]["moving"]).abs().flatten(1).amax(dim=1) > 0.05
    assert bool(changed.all()) and not bool(made[1.0]["same_contrast"].any())
    half = (made[0.5]["moving"] - made[0.0]["moving"]).abs().flatten(1).amax(dim=1) > 0.05
    assert 0 < int(half.sum()) < 12 and torch.equal(half, ~made[0.5]["same_contrast"])
    assert bool(made[0.0]["same_contrast"].all())


def test_without_it_the_fixed_image_goes_through_curves_too():
    images = [torch.cat([smooth_image([n + 6 for n in SHAPE], seed)] * 6) for seed in (1, 2)]
    batch = {"fixed": images[0], "moving": images[1]}
    found = [
        pairs.RealPair(settings(SHAPE, remap=remap, different_contrast=1.0))(batch, seeded(5))["fixed"].numpy()
        for remap in (0.0, 1.0)
    ]
    assert (np.abs(found[1] - found[0]).reshape(6, -1).max(axis=1) > 0.05).all()


def test_with_equal_contrast_neither_image_is_changed():
    images = [torch.cat([smooth_image([n + 6 for n in SHAPE], seed)] * 6) for seed in (1, 2)]
    batch = {"fixed": images[0], "moving": images[1]}
    pair, plain = (
        pairs.RealPair(settings(SHAPE, remap=remap, different_contrast=0.0, typical_fixed=1))(batch, seeded(5))
        for remap in (1.0, 0.0)
    )
    for name in ("fixed", "moving", "same_contrast"):
        assert torch.equal(pair[name], plain[name])
    assert bool(pair["same_contrast"].all())
