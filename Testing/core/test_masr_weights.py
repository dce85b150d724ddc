"""The shipped descriptor: what its training was for, on real scans that ship with the project."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import spatial
from regnet.demo import find_demo_data
from regnet.descriptors import installed, mind
from regnet.events import Events
from regnet.image import Image, apply_matrix
from regnet.register import register
from regnet.retrieval import hit_rate, random_places
from regnet.synth.draws import Draws
from regnet.synth.nonlinear import IntensityTransform

SPACING = 2.4


@pytest.fixture(scope="module")
def scans() -> dict[str, Image]:
    """T1 and T2 of one patient in one space, at 2.4 mm."""
    held = {}
    for name in ("T1", "T2"):
        image = Image.read(find_demo_data() / f"patient_{name}.nii.gz").normalized()
        grid = image.grid.with_spacing(SPACING)
        held[name] = Image(spatial.reduce(image.data[None], grid.shape)[0], grid.index_to_world)
    return held


@pytest.fixture(scope="module")
def descriptor():
    return installed("dsir", 3, Events())


def inside(image: Image) -> torch.Tensor:
    return spatial.box((image.data[None] > 0.05).float(), 2) > 0.9


def test_vectors_hardly_change_with_the_intensities(scans, descriptor):
    image = scans["T1"].data[None]
    plain = descriptor(image)
    likeness = []
    for seed in range(4):
        change = IntensityTransform.draw(Draws(torch.Generator().manual_seed(seed), 1))
        changed = torch.where(image > 0.02, change(image), image)
        both = (plain * descriptor(changed)).sum(1, keepdim=True)
        likeness.append(float(both[inside(scans["T1"])].mean()))
    print("cosine under intensity changes:", [round(value, 3) for value in likeness])
    assert np.mean(likeness) > 0.9


def test_places_are_found_again_in_another_contrast(scans, descriptor):
    first, second = scans["T1"].data[None], scans["T2"].data[None]
    within = inside(scans["T1"])
    # Of another window: where a voxel lies in its array must not tell its place.
    cut = (slice(None), slice(None), slice(3, None), slice(5, None), slice(2, None))
    places = random_places(within[cut], 200, torch.Generator().manual_seed(0))
    hits = {}
    for name, describe in (("dsir", descriptor), ("mind", mind())):
        fixed = describe(first)[cut]
        moving = describe(second[cut].contiguous())
        hits[name] = hit_rate(fixed, moving, places, within[cut])
    print("found within two voxels, T1 in T2:", hits)
    assert hits["dsir"] > 0.25 and hits["dsir"] > 2 * hits["mind"]


def test_a_known_warp_between_two_contrasts_is_undone(scans):
    fixed, moving = scans["T1"], scans["T2"]
    center = fixed.grid.center()

    def shown(points: np.ndarray) -> np.ndarray:
        """Where a point of the warped image lies in the patient: a shift and a smooth wave of up to 5 mm, in mm."""
        wave = np.sin((points[:, [1, 2, 0]] - center[[1, 2, 0]]) / 25.0)
        return points + np.array([4.0, -3.0, 2.0]) + 5.0 * wave

    points = fixed.grid.points().reshape(-1, 3)
    index = apply_matrix(np.linalg.inv(moving.index_to_world), shown(points)).T[::-1].copy()
    where = torch.from_numpy(index).float().view(1, 3, *fixed.data.shape[1:])
    warped = Image(spatial.sample(moving.data[None], where)[0], fixed.index_to_world)
    result = register(fixed, warped, model="masr", align="rigid")
    counted = inside(fixed)[0, 0].numpy().ravel()
    errors = [
        np.linalg.norm(shown(moved[counted]) - points[counted], axis=1).mean()
        for moved in (points, result.alignment(points), result.transform(points))
    ]
    print("error in mm before, aligned, registered:", np.round(errors, 2))
    assert errors[2] < 1.0 and errors[2] < 0.5 * errors[1] < errors[0]
    assert result.report["folding_percent"] == 0.0
    assert result.report["weights"]["variant"] == "general"
