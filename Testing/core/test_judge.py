"""The verdict on registrations that are right, and on those that are wrong in the ways that occur."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import smooth_field
from judged import (
    FIXED,
    FLAT,
    IDENTITY,
    MOVING,
    anatomy,
    fixed_image,
    flipped,
    judged_right,
    moving_image,
    shift,
    turn,
)
from regnet.errors import Cancelled, InputError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.judge import MAPS, judge
from regnet.judge_verdict import AMBER, GREEN, RED, UNKNOWN, verdict
from regnet.transform import Affine, Composite, DisplacementField

GOOD = {
    "folded_percent": 0.0, "smallest_determinant": 0.6, "outside_percent": 1.0, "settled_percent": 97.0,
    "settled_mm": 4.0, "compared_percent": 95.0, "better_gain": 0.0, "better_shift_mm": 2.0, "mirrored_gain": 0.0,
    "nmi_before": 0.05, "nmi_after": 0.1,
}  # fmt: skip


def kinds(found) -> set[str]:
    return {problem.kind for problem in found.problems}


def test_a_right_registration_of_two_contrasts_is_green():
    found = judged_right()
    assert found.verdict.level == GREEN and found.verdict.problems == ()
    assert found.verdict.sentences[0].startswith("No folds, 0.0 % outside")
    assert set(found.maps) == set(MAPS)
    assert found.numbers["settled_percent"] > 90 and found.numbers["agreement_after"] > 0.5


def test_a_misplaced_image_is_red():
    """And the better place that is found is the one it was moved from, as near as the shifts that are tried."""
    found = judge(fixed_image(), moving_image(), shift(10, 0, 0))
    assert found.verdict.level == RED and kinds(found.verdict) == {"similarity"}
    assert found.numbers["settled_percent"] < 30
    assert found.numbers["agreement_after"] < 0.6 * found.numbers["agreement_before"]
    assert found.numbers["nmi_after"] < 0.6 * found.numbers["nmi_before"]
    assert np.linalg.norm(np.array(found.numbers["better_shift"]) - (-10, 0, 0)) < 3.0
    assert found.numbers["better_gain"] > 0.1
    assert any("would fit better" in text for text in found.verdict.sentences)


def test_a_turned_image_is_not_green():
    assert judge(fixed_image(), moving_image(), turn(25)).verdict.level in (AMBER, RED)


@pytest.mark.parametrize("axis", [1, 3])
def test_a_mirrored_image_is_not_green(axis):
    """No fold tells: the transform is the identity, and the voxels are the other way round."""
    found = judge(fixed_image(), flipped(moving_image(), axis), IDENTITY)
    assert found.verdict.level == RED and kinds(found.verdict) == {"similarity"}
    assert found.numbers["mirrored_gain"] > 0.05


def test_a_transform_that_mirrors_is_inside_out():
    found = judge(fixed_image(), moving_image(), Affine(np.diag([-1.0, 1.0, 1.0, 1.0])))
    assert found.verdict.level == RED
    assert found.verdict.problems[0].text.startswith("The transform turns the image inside out")
    assert found.numbers["folded_percent"] == 100.0 and found.numbers["smallest_determinant"] == pytest.approx(-1)


def test_a_deformed_image_with_its_field_and_without():
    field = smooth_field(FIXED, 7.0, seed=4, sigma=5.0)
    fixed = anatomy(FIXED, False, field)
    right, without = judge(fixed, moving_image(), field), judge(fixed, moving_image(), IDENTITY)
    assert right.verdict.level == GREEN, right.verdict
    assert without.verdict.level in (AMBER, RED)
    assert right.numbers["nmi_after"] > right.numbers["nmi_before"]
    assert without.numbers["settled_percent"] < right.numbers["settled_percent"] - 10


def test_other_anatomy_is_not_green():
    found = judge(fixed_image(), anatomy(MOVING, True, seed=7), IDENTITY)
    assert found.verdict.level in (AMBER, RED) and "similarity" in kinds(found.verdict)


def test_noise_is_not_green():
    noise = Image(torch.from_numpy(np.random.default_rng(0).normal(size=(1, *MOVING.shape)).astype(np.float32)),
                  MOVING.index_to_world)  # fmt: skip
    assert judge(fixed_image(), noise, IDENTITY).verdict.level == RED


def test_a_few_folds_are_amber_and_many_are_red():
    middle = tuple(n // 2 for n in FIXED.shape)
    for width, level in ((1, AMBER), (6, RED)):
        displacement = np.zeros((*FIXED.shape, 3), np.float32)
        displacement[middle[0] : middle[0] + width, middle[1] : middle[1] + width, middle[2]] = (4.0, 0.0, 0.0)
        found = judge(fixed_image(), moving_image(), DisplacementField(displacement, FIXED))
        assert [p.level for p in found.verdict.problems if p.kind == "folds"] == [level]
        assert found.numbers["smallest_determinant"] < 0 and found.verdict.level != GREEN
        at = FIXED.world_to_index @ [*found.numbers["smallest_determinant_at"], 1.0]
        assert np.abs(at[:3] - np.array(middle)[::-1]).max() <= width + 1


def test_what_leaves_the_field_of_view_is_told():
    partly = moving_image().resample(MOVING.cropped((0, 0, 0), (36, 30, 25)))
    found = judge(fixed_image(), partly, IDENTITY)
    points = FIXED.points().reshape(-1, 3)[fixed_image().data.numpy().ravel() > 0.1]
    index = (points - partly.index_to_world[:3, 3]) @ np.linalg.inv(partly.index_to_world[:3, :3]).T
    outside = 100 * (index[:, 0] > 24.5).mean()
    assert found.numbers["outside_percent"] == pytest.approx(outside, abs=4) and 5 < outside < 50
    assert found.verdict.level == AMBER and "field of view" in kinds(found.verdict)
    away = judge(fixed_image(), moving_image(), shift(500, 0, 0))
    assert away.verdict.level == RED and away.numbers["outside_percent"] == 100.0
    assert away.numbers["settled_percent"] is None and away.numbers["nmi_after"] is None
    assert any(problem.level == UNKNOWN and problem.kind == "similarity" for problem in away.verdict.problems)
    assert "misfit" not in away.maps


def test_images_of_one_plane():
    place = np.eye(4)
    place[:2, 3] = -FLAT.center()[:2]
    flat = Grid(FLAT.shape, place @ FLAT.index_to_world, 2)
    plane, other = anatomy(flat, False), anatomy(flat, True)
    right = judge(plane, other, Affine.identity(2))
    assert right.verdict.level == GREEN, right.verdict
    moved = np.eye(4)
    moved[0, 3] = 9.0
    assert judge(plane, other, Affine(moved, 2)).verdict.level == RED
    assert right.maps["jacobian"].data.shape[1] == 1


def test_the_same_judgement_wherever_the_images_lie():
    """Positions move along, nothing else changes."""
    place = turn(40).then(shift(100, -50, 30)).matrix
    images = [Image(image.data, place @ image.index_to_world) for image in (fixed_image(), moving_image())]
    found, expected = judge(*images, IDENTITY), judged_right()
    assert found.verdict.level == GREEN
    assert found.numbers["settled_percent"] == pytest.approx(expected.numbers["settled_percent"], abs=0.5)
    assert found.numbers["agreement_after"] == pytest.approx(expected.numbers["agreement_after"], abs=1e-3)


def test_where_the_moving_image_lay_before_counts():
    """The way is taken from there, not from its header."""
    found = judge(fixed_image(), moving_image(), IDENTITY, before=shift(10, 0, 0))
    assert found.numbers["agreement_before"] < 0.6 * judged_right().numbers["agreement_before"]
    assert found.numbers["agreement_after"] == judged_right().numbers["agreement_after"]


def test_transforms_in_a_row_are_judged_as_one():
    there, back = shift(30, -10, 5), shift(-30, 10, -5)
    assert judge(fixed_image(), moving_image(), Composite((there, back))).verdict.level == GREEN


@pytest.mark.parametrize(
    ("changes", "level", "kind"),
    [
        ({}, GREEN, None),
        ({"folded_percent": 0.01, "smallest_determinant": -0.1}, AMBER, "folds"),
        ({"folded_percent": 0.2, "smallest_determinant": -0.1}, RED, "folds"),
        ({"folded_percent": None}, UNKNOWN, "folds"),
        ({"outside_percent": 6.0}, AMBER, "field of view"),
        ({"outside_percent": 60.0}, RED, "field of view"),
        ({"outside_percent": None}, UNKNOWN, "field of view"),
        ({"settled_percent": 84.0}, AMBER, "similarity"),
        ({"settled_percent": 29.0}, RED, "similarity"),
        ({"settled_percent": None}, UNKNOWN, "similarity"),
        ({"compared_percent": 19.0}, UNKNOWN, "similarity"),
        ({"compared_percent": None}, UNKNOWN, "similarity"),
        ({"better_gain": 0.03}, AMBER, "similarity"),
        ({"better_gain": 0.06}, AMBER, "similarity"),  # by a voxel only
        ({"better_gain": 0.06, "better_shift_mm": 4.0}, RED, "similarity"),
        ({"mirrored_gain": 0.06}, RED, "similarity"),
        ({"nmi_after": 0.04}, AMBER, "similarity"),
        ({"nmi_before": None}, GREEN, None),
    ],
)
def test_limits(changes, level, kind):
    found = verdict({**GOOD, **changes})
    assert found.level == level
    assert kinds(found) == ({kind} if kind else set())
    assert len(found.sentences) == 1 and found.sentences[0].endswith(".")


def test_nothing_is_green_by_default():
    assert verdict({}).level == UNKNOWN


def test_the_worst_problem_comes_first_and_decides():
    found = verdict({**GOOD, "outside_percent": 7.0, "settled_percent": None, "folded_percent": 3.0})
    assert [problem.level for problem in found.problems] == [RED, UNKNOWN, AMBER] and found.level == RED


@pytest.mark.parametrize(
    "run", [{"converged": False}, {"warnings": ["Another.", "Stopped early, as asked, in refine 2x: so it is."]}]
)
def test_a_run_that_did_not_converge_is_amber(run):
    found = verdict(GOOD, run)
    assert found.level == AMBER and kinds(found) == {"convergence"}
    assert verdict(GOOD, {"converged": True, "warnings": ["Working at 2 mm."]}).level == GREEN


def test_the_warning_of_a_stop_is_understood():
    events = Events(is_stopped=lambda: True)
    assert events.stops()
    assert kinds(verdict(GOOD, {"warnings": events.warnings})) == {"convergence"}


def test_bad_input_is_one_sentence():
    with pytest.raises(InputError, match="the moving image 2D"):
        judge(fixed_image(), Image(torch.rand(1, 1, 40, 40), np.eye(4), 2), IDENTITY)
    with pytest.raises(InputError, match="moving image is empty"):
        judge(fixed_image(), Image(torch.zeros(1, 30, 40, 50), np.eye(4)), IDENTITY)
    broken = np.eye(4)
    broken[0, 3] = np.nan
    with pytest.raises(InputError, match="not finite"):
        judge(fixed_image(), moving_image(), Affine(broken))


def test_it_tells_how_far_it_is_and_can_be_cancelled():
    seen = []
    judge(fixed_image(), moving_image(), IDENTITY, events=Events(emit=seen.append))
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len(fractions) > 50
    for limit in (0.1, 0.6):
        told = []
        is_cancelled = lambda limit=limit, told=told: bool(told) and told[-1].fraction >= limit  # noqa: E731
        with pytest.raises(Cancelled):
            judge(fixed_image(), moving_image(), IDENTITY, events=Events(emit=told.append, is_cancelled=is_cancelled))
        assert told[-1].fraction < limit + 0.25
