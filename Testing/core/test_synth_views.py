"""The geometry of training pairs: the box that holds both sides, rigid rotations, mirrored axes."""

from __future__ import annotations

import pytest
import torch
from regnet.synth import pairs
from regnet.synth.draws import Draws
from regnet.synth.pairs import AffineRange, ViewSettings
from regnet.synth.views import draw_views
from synth_examples import SHAPES, anatomy, seeded, settings


@pytest.mark.parametrize("shape", SHAPES)
def test_the_box_holds_the_content_of_both_sides_and_little_more(shape):
    first, second = anatomy(shape, 1, 4), anatomy(shape, 2, 4)
    views = {"largest": [0, 0], "room": [1.0, 1.25]}
    pair = pairs.TwoAnatomies(settings(shape, views=views))({"fixed_labels": first, "moving_labels": second}, seeded(7))
    for number in range(4):
        seen = (pair["fixed_labels"][number, 0] > 0) | (pair["moving_labels"][number, 0] > 0)
        for axis, n in enumerate(shape):
            line = seen.amax(dim=[a for a in range(len(shape)) if a != axis])
            places = torch.nonzero(line).ravel()
            extent = int(places[-1] - places[0]) + 1
            assert 0.6 * n < extent < n
            assert not seen.select(axis, 0).any() or not seen.select(axis, n - 1).any()


def test_rotations_between_the_sides_are_rigid_in_the_input_whatever_the_box():
    size, shape = (40, 30, 50), (22, 34, 26)
    inside = torch.zeros(3, 1, *size, dtype=torch.bool)
    inside[..., 8:30, 9:20, 4:44] = True
    only_turned, nothing = AffineRange(25, 0, 0, 0.05), AffineRange(0, 0, 0, 0)
    asked = ViewSettings(affine=only_turned, pose=nothing, largest=(0.0, 0.0))
    views = draw_views(inside, inside, size, shape, True, asked, Draws(seeded(4), 3))
    ends = (slice(None), slice(None), [0, -1, 0, -1], [0, -1, -1, 0], [0, -1, 0, 0])
    fixed, moving = views.fixed[ends].mT, views.moving.expand(3, -1, *shape)[ends].mT
    assert (fixed - moving).norm(dim=2).min() > 0.5
    assert (torch.cdist(fixed, fixed) - torch.cdist(moving, moving)).abs().max() < 1e-2
    steps = views.moving[0, 0, 1:, 0, 0] - views.moving[0, 0, :-1, 0, 0]
    assert torch.allclose(steps, views.zoom[0, 0].expand_as(steps), atol=1e-4)


def test_flips_mirror_both_sides_alike_and_only_their_axis():
    shape = (40, 52)
    labels = torch.zeros(16, 1, *shape, dtype=torch.int64)
    labels[..., 8:32, 10:42], labels[..., 10:16, 12:20] = 1, 2
    views = {"flips": [1], "largest": [0, 1]}
    pair = pairs.OneAnatomy(settings(shape, views=views))({"labels": labels}, seeded(0))
    middles = []
    for name in ("fixed_labels", "moving_labels"):
        where = [torch.nonzero(sample[0] == 2).float().mean(0) for sample in pair[name]]
        middles.append(torch.stack(where) / torch.tensor(shape))
    assert (middles[0][:, 0] < 0.5).all() and (middles[1][:, 0] < 0.5).all()
    mirrored = middles[0][:, 1] > 0.5
    assert torch.equal(mirrored, middles[1][:, 1] > 0.5)
    assert 3 < int(mirrored.sum()) < 13
