"""The comparison of Deform-GAN's parts: what each variant trains, and that its cases and its scores are right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import blob_image
from regnet.image import Grid, Image
from scipy import ndimage

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    sys.path.insert(0, str(BENCHMARKS))
    import deformgan_ablation

    yield deformgan_ablation
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def cases(ablation, tmp_path_factory):
    """Of two small subjects whose T2 and FLAIR are T1 turned dark."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "brain_multimodal").mkdir()
    matrix = np.eye(4)
    matrix[:3, 3] = (-22, -26, -20)
    grid = Grid((40, 52, 44), matrix)
    for number, subject in enumerate(("openms_p07", "cstar_stroke")):
        image = blob_image(grid, number)
        for name in ("T1", "T2", "FLAIR"):
            data = image.data if name == "T1" else (image.data > 0.02) * (1.6 - image.data)
            Image(data, matrix).write(folder / "brain_multimodal" / f"{subject}_{name}.nii.gz")
    return list(ablation.cases(folder))


def test_every_case_is_a_slice_whose_fixed_side_was_deformed_as_the_truth_says(ablation, cases):
    assert len(cases) == len(ablation.SUBJECTS) * 3 * len(ablation.SLICES) == len({case.name for case in cases})
    assert len({case.fixed.shape for case in cases}) == 3
    for case in cases[::5]:
        largest = np.linalg.norm(case.truth, axis=0).max()
        assert ablation.LARGEST[0] - 0.5 < largest < ablation.LARGEST[1] + 0.5
        places = np.indices(case.fixed.shape) + case.truth
        moved = ndimage.map_coordinates(case.moving, places, order=1)
        inside = case.fixed > 0.15
        # The other contrast, moved by the truth, is dark where the fixed image is bright.
        alike, before = (np.corrcoef(one[inside], case.fixed[inside])[0, 1] for one in (moved, case.moving))
        assert alike < -0.92 and alike < before - 0.02, (alike, before)


def test_the_truth_scores_nothing_and_no_displacement_what_the_truth_is(ablation, cases):
    case = cases[3]
    assert ablation.score(case, case.truth, case.fixed, 0.5)["mean_mm"] == 0.0
    found = ablation.score(case, np.zeros_like(case.truth), None, 0.5)
    assert found["mean_mm"] == pytest.approx(np.linalg.norm(case.truth, axis=0)[case.fixed > ablation.SHOWN].mean())
    assert found["folding_percent"] == 0.0 and "psnr" not in found
    folded = np.zeros_like(case.truth)
    folded[0, 10:] = -4.0
    assert ablation.score(case, folded, None, 0.5)["folding_percent"] > 0


def test_variants_differ_from_what_ships_in_what_their_names_leave_out_alone(ablation):
    full = ablation.configuration("full")
    assert len(full.stages) == 2
    for name in ("lg", "lncc", "mind", "vxm-mind"):
        alone = ablation.configuration(name)
        assert len(alone.stages) == 1 and alone.stages[0].steps == full.stages[1].steps
        options = alone.stages[0].options
        assert options["players"] == ["registration"] and options["similarity"] == 0
        assert (options.get("beta", 1.0) == 0) == (name != "lg") == bool(options.get("direct"))
    assert ablation.configuration("vxm-mind").network == {**full.network, "matching": 0}
    without = ablation.configuration("no-lg")
    assert [stage.options["beta"] for stage in without.stages] == [0.0, 0.0]
    assert without.stages[0].options["players"] == full.stages[0].options["players"]
