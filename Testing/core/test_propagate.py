"""Segmentations from scan to scan and along sequences: the right direction, composition, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest
import regnet.propagate
import torch
from helpers import blob_image, corner_error, oblique_grid, random_affine, smooth_field
from label_examples import shift
from regnet import propagation_numbers as numbers
from regnet.errors import Cancelled, InputError
from regnet.events import Events, Message, Progress
from regnet.image import Grid, Image
from regnet.propagate import carry, propagate, propagate_along, propagate_to
from regnet.segmentation import Segment, Segmentation
from regnet.transform import Affine, Composite, DisplacementField

MATRIX = np.diag([1.0, 1.5, 2.0, 1.0])
GRID = Grid((18, 16, 20), MATRIX)


def box(grid: Grid = GRID, value: int = 4, where=((3, 6), (5, 9), (8, 12))) -> Segmentation:
    array = np.zeros(grid.shape, np.int32)
    array[tuple(slice(*ends) for ends in where)] = value
    return Segmentation.of(Image.from_numpy(array, grid.index_to_world))


def scan(grid: Grid = GRID, seed: int = 0) -> Image:
    return blob_image(grid, seed)


def centre(segmentation: Segmentation) -> np.ndarray:
    """World position of the middle of all labels."""
    labels = segmentation.labels
    return labels.grid.points()[labels.data[0].numpy() > 0].mean(axis=0)


@pytest.fixture
def registered(monkeypatch):
    """Stands in for the registration with known transforms, and notes which pairs it was asked for."""
    asked = []

    def install(answer):
        def register(fixed, moving, *, events, **options):
            asked.append((fixed, moving, options))
            with events.stage("align", 0.0, 1.0):
                events.progress(0.5)
            result = type("Result", (), {})()
            result.transform, result.report = answer(fixed, moving), {"model": "stand-in"}
            return result

        monkeypatch.setattr("regnet.register.register", register)
        return asked

    return install


def test_a_registration_carries_labels_the_right_way():
    """The target shows the anatomy 6 mm to the left, 4 back and 5 up of the scan; so must the labels."""
    moved = np.array([6.0, 4.0, 5.0])
    grid = oblique_grid((26, 30, 34), (1.5, 1.5, 1.5), (0, 0, 12))
    source, target = blob_image(grid, 3, 15), blob_image(grid, 3, 15, moved_by=lambda points: points - moved)
    segmentation = box(grid, 9, ((9, 14), (11, 16), (13, 19)))
    result = propagate(source, segmentation, target, align="rigid", refine="off", parameters={"weights": "none"})
    np.testing.assert_allclose(centre(result.segmentation) - centre(segmentation), moved, atol=0.6)
    assert result.report["registration"]["model"] == "avsm"
    row = result.report["segments"][0]
    assert row["name"] == "9" and row["share_in_view"] == 1.0 and row["source_voxels"] == 5 * 5 * 6
    assert row["volume_ml"] == pytest.approx(150 * 1.5**3 / 1000, rel=0.25)


def test_the_target_is_fixed_and_the_scan_moving(registered):
    asked = registered(lambda fixed, moving: shift(2.0, 0.0, 0.0))
    source, target = scan(), scan(Grid((16, 17, 22), MATRIX), 1)
    result = propagate(source, box(), target, model="masr", seed=3)
    fixed, moving, options = asked[0]
    assert fixed is target and moving is source and options == {"model": "masr", "seed": 3}
    # A point of the target shows what lies 2 mm further along x in the scan: the labels come 2 voxels earlier.
    expected = box(target.grid, 4, ((3, 6), (5, 9), (6, 10)))
    torch.testing.assert_close(result.segmentation.labels.data, expected.labels.data)
    np.testing.assert_array_equal(result.segmentation.labels.index_to_world, MATRIX)


def test_a_segmentation_on_a_grid_of_its_own_lies_where_it_lies_in_the_world():
    """Cropped, mirrored and finer than its scan, as segmentations are."""
    own = np.diag([-0.5, 0.75, 2.0, 1.0])
    own[:3, 3] = 11.25, 7.5 - 0.375, 6.0
    segmentation = Segmentation.of(Image.from_numpy(np.full((3, 8, 8), 4, np.int32), own))
    result = propagate(scan(), segmentation, scan(seed=1), transform=shift(0.0, 3.0, -2.0))
    expected = box(where=((4, 7), (3, 7), (8, 12)))
    torch.testing.assert_close(result.segmentation.labels.data, expected.labels.data)


def test_the_share_in_view_is_told():
    array = np.zeros(GRID.shape, np.int32)
    array[3:6, 5:9, 0:4], array[3:6, 5:9, 8:10], array[8:10, 5:9, 16:19], array[10, 3, 3] = 1, 2, 3, 4
    names = ["liver", "kidney", "spleen", "duct", "ghost"]
    segmentation = Segmentation.of(
        Image.from_numpy(array, MATRIX), [Segment(n + 1, 0, name) for n, name in enumerate(names)]
    )
    told: list[str] = []
    events = Events(emit=lambda event: told.append(event.text) if isinstance(event, Message) else None)
    target = scan(Grid((18, 16, 9), np.diag([2.0, 1.5, 2.0, 1.0])))
    result = propagate(scan(), segmentation, target, transform=shift(2.5, 0.0, 0.0), name="B.nii", events=events)
    rows = {row["name"]: row for row in result.report["segments"]}
    # The target sees x from 1.5 to 19.5 of the scan: two of the liver's four columns, and all of the others.
    assert rows["liver"]["share_in_view"] == 0.5 and rows["kidney"]["share_in_view"] == 1.0
    assert rows["spleen"]["share_in_view"] == 1.0 and np.isnan(rows["ghost"]["share_in_view"])
    assert rows["duct"]["voxels"] == 0 and rows["duct"]["source_voxels"] == 1
    assert told == result.report["warnings"]
    assert told == [
        "1 segment is without a voxel in the segmentation: ghost.",
        "1 segment is only partly in the field of view of B.nii: liver (50 %).",
        "1 segment is too small for the voxels of B.nii, so nothing is left: duct.",
    ]
    away = carry(segmentation, target.grid, shift(500.0, 0.0, 0.0))
    assert not away.segmentation.labels.data.any()
    assert (
        "4 segments are outside the field of view of the target: liver, kidney, spleen, duct."
        in away.report["warnings"]
    )


def test_shares_are_right_through_a_deformation():
    """Against counting: a segment that fills the scan is in view as far as the target's points see it."""
    grid = oblique_grid((20, 22, 24), (1.5, 1.2, 1.0), (5, 8, -10))
    transform = Composite((smooth_field(grid, 1.5, seed=2), random_affine(5, degrees=5, shift=2)))
    points = grid.points().reshape(-1, 3)
    np.testing.assert_allclose(transform(numbers.pulled_back(transform, points)), points, atol=0.02)
    inner = grid.padded(-5)
    whole = Segmentation.of(Image.from_numpy(np.ones(grid.shape, np.int32), grid.index_to_world))
    share = numbers.shares_in_view(whole, inner, transform)[0]
    volume = float((transform.jacobian_determinant(inner)).sum()) / np.prod(grid.shape)
    assert share == pytest.approx(volume, rel=0.03)


def test_scores_are_those_of_the_metrics_by_name_or_value():
    first, second = box(), box(where=((3, 6), (5, 9), (9, 13)))
    result = carry(first, GRID, shift(0.0, 0.0, 0.0), second)
    assert result.report["segments"][0]["dice"] == pytest.approx(0.75)
    assert result.report["segments"][0]["hd95_mm"] == pytest.approx(1.0)
    assert result.report["mean"] == {"dice": pytest.approx(0.75), "hd95_mm": pytest.approx(1.0), "segments": 1}

    named = Segmentation.of(first.labels, [Segment(4, 0, "liver")])
    other = Segmentation.of(
        Image.from_numpy(np.stack([second.labels.data[0], first.labels.data[0] * 5]), MATRIX),
        [Segment(4, 0, "spleen"), Segment(20, 1, "liver")],
    )
    assert carry(named, GRID, shift(0.0, 0.0, 0.0), other).report["segments"][0]["dice"] == 1.0
    fine = Segmentation.of(second.labels.resample(GRID.padded(3), labels=True))
    assert carry(first, GRID, shift(0.0, 0.0, 0.0), fine).report["mean"]["dice"] == pytest.approx(0.75)
    with pytest.raises(InputError, match="none of the segments"):
        carry(first, GRID, shift(0.0, 0.0, 0.0), box(value=5))


def test_several_targets_come_one_by_one(registered):
    steps = {1: shift(2.0, 0.0, 0.0), 2: shift(0.0, 3.0, 0.0)}
    targets = [scan(seed=1), scan(seed=2)]
    registered(lambda fixed, moving: steps[1 + [fixed is target for target in targets].index(True)])
    fractions: list[Progress] = []
    events = Events(emit=lambda event: fractions.append(event) if isinstance(event, Progress) else None)
    found = list(propagate_to(scan(), box(), targets, names=["B", "C"], events=events))
    expected = [box(where=((3, 6), (5, 9), (6, 10))), box(where=((3, 6), (3, 7), (8, 12)))]
    for result, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(result.segmentation.labels.data, wanted.labels.data)
    values = [event.fraction for event in fractions]
    assert values == sorted(values) and values[-1] == 1.0 and fractions[-1].text.startswith("2 of 2, C")
    assert min(event.fraction for event in fractions if "C" in event.text) >= 0.5


def test_a_chain_composes_from_frame_to_frame(registered):
    """Rotations and shifts do not commute: only the right order gives where frame 0 and 4 show what frame 2 has."""
    affines = [random_affine(seed, degrees=10, shift=6) for seed in range(5)]
    frames = [scan(seed=seed) for seed in range(5)]
    # Frame n shows at x what a common anatomy has at affines[n](x): from frame a to frame b it is b^-1 after a.
    place = {id(frame): n for n, frame in enumerate(frames)}

    def between(a: int, b: int) -> Affine:
        return affines[a].then(affines[b].inverse())

    asked = registered(lambda fixed, moving: between(place[id(fixed)], place[id(moving)]))
    found = dict(propagate_along(frames, box(), frame=2, how="chain"))
    assert list(found) == [2, 3, 4, 1, 0]
    pairs = [(place[id(fixed)], place[id(moving)]) for fixed, moving, _ in asked]
    assert pairs == [(3, 2), (4, 3), (1, 2), (0, 1)]
    for n in range(5):
        assert corner_error(found[n].transform, between(n, 2), GRID) < 1e-6
    torch.testing.assert_close(found[2].segmentation.labels.data, box().labels.data)
    assert found[2].report["registration"] is None and found[0].report["registration"] == {"model": "stand-in"}
    # Composed the other way round it would be elsewhere.
    assert corner_error(between(4, 3).then(between(3, 2)), between(3, 2).then(between(4, 3)), GRID) > 1

    asked.clear()
    found = dict(propagate_along(frames, box(), frame=0, how="reference"))
    assert [place[id(moving)] for _, moving, _ in asked] == [0, 0, 0, 0]
    assert corner_error(found[3].transform, between(3, 0), GRID) < 1e-6


def test_long_chains_of_fields_become_one_field(monkeypatch):
    fields = [smooth_field(GRID, 2.0, seed=seed, sigma=3.0) for seed in range(3)]
    frames = [scan(seed=seed) for seed in range(4)]
    exact = dict(propagate_along(frames, box(), how="chain", transforms=fields))
    monkeypatch.setattr(regnet.propagate, "MOST_FIELD_BYTES", 0)
    bounded = dict(propagate_along(frames, box(), how="chain", transforms=fields))
    assert isinstance(bounded[3].transform, DisplacementField) and len(exact[3].transform.parts) == 3
    points = GRID.padded(-1).points().reshape(-1, 3)
    np.testing.assert_allclose(exact[3].transform(points), fields[0](fields[1](fields[2](points))), atol=1e-4)
    np.testing.assert_allclose(bounded[3].transform(points), exact[3].transform(points), atol=0.25)


def test_given_transforms_of_a_sequence_belong_to_the_other_frames():
    frames = [scan(seed=seed) for seed in range(3)]
    given = [shift(1.0, 0.0, 0.0), shift(0.0, 0.0, -2.0)]
    found = dict(propagate_along(frames, box(), frame=1, transforms=given))
    assert centre(found[0].segmentation) - centre(box()) == pytest.approx([-1, 0, 0])
    assert centre(found[2].segmentation) - centre(box()) == pytest.approx([0, 0, 2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"frames": 1}, "at least two frames, this one 1"),
        ({"frame": 3}, r"no frame 3 in the sequence; its frames are 0 to 2"),
        ({"how": "spiral"}, "named 'spiral'"),
        ({"transforms": [shift(1, 0, 0)]}, "takes 2 transforms"),
        ({"interpolation": "cubic"}, "no interpolation 'cubic'"),
    ],
)
def test_a_sequence_that_cannot_be_followed_is_one_sentence(options, sentence):
    frames = [scan(seed=seed) for seed in range(options.pop("frames", 3))]
    with pytest.raises(InputError, match=sentence):
        list(propagate_along(frames, box(), **{"transforms": [shift(0, 0, 0)] * 2, **options}))


def test_a_segmentation_that_is_not_of_the_scan_is_refused():
    away = MATRIX.copy()
    away[:3, 3] = 400.0
    elsewhere = box(Grid(GRID.shape, away))
    with pytest.raises(InputError, match="wholly outside its scan"):
        propagate(scan(), elsewhere, scan(seed=1), transform=shift(0, 0, 0))
    flat = Segmentation.of(Image.from_numpy(np.ones((1, 20, 20), np.int32), np.eye(4), 2))
    with pytest.raises(InputError, match="segmentation is 2D and its scan 3D"):
        propagate(scan(), flat, scan(seed=1), transform=shift(0, 0, 0))
    with pytest.raises(InputError, match="transform is 2D and the segmentation 3D"):
        propagate(scan(), box(), scan(seed=1), transform=Affine.identity(2))
    empty = Segmentation.of(Image.from_numpy(np.zeros(GRID.shape, np.int32), MATRIX), [Segment(1)])
    with pytest.raises(InputError, match="none of its segments has a voxel"):
        carry(empty, GRID, shift(0, 0, 0))


def test_a_cancel_stops_the_labels():
    frames = [scan(seed=seed) for seed in range(3)]
    seen: list[float] = []
    events = Events(emit=lambda event: seen.append(event.fraction), is_cancelled=lambda: bool(seen) and seen[-1] > 0.4)
    work = propagate_along(frames, box(), transforms=[shift(0, 0, 0)] * 2, events=events)
    with pytest.raises(Cancelled):
        list(work)
    assert max(seen) < 0.6
