"""The retrieval benchmark: that its hits are hits, that the shift of the windows is accounted for, and its gate."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regnet import spatial
from torch import Tensor

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def imported(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


retrieval, table, cases = imported("retrieval"), imported("retrieval_table"), imported("retrieval_cases")
SHAPE = (36, 40, 38)


def texture(seed: int = 0) -> Tensor:
    """Noise of one voxel's width, (1, 1, *SHAPE) in [0, 1]."""
    noise = spatial.gaussian(torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)), 0.8)
    return (noise - noise.min()) / (noise.max() - noise.min())


def view_of(first: Tensor, second: Tensor):
    everywhere = torch.ones_like(first, dtype=torch.bool)
    return retrieval.shifted_view(first, second, (2.0, 2.0, 2.0), (everywhere, everywhere))


def coordinates(image: Tensor) -> Tensor:
    """The place in the grid that is described, (1, 3, *shape)."""
    return spatial.identity(image.shape[2:], image)


@pytest.fixture
def in_place():
    """A view of two images whose intensities are nothing but a running number of the lattice's points."""
    number = torch.arange(float(np.prod(SHAPE))).view(1, 1, *SHAPE)
    return view_of(number, number)


def by_content(image: Tensor) -> Tensor:
    """Coordinates in the common lattice, read from the running numbers."""
    index = torch.unravel_index(image.long(), SHAPE)
    return torch.cat(index, dim=1).float()


def test_a_perfect_descriptor_finds_every_voxel(in_place):
    places = in_place.places(60, 1)
    assert len(places) == 60
    assert retrieval.score(in_place, by_content, places) == {"hits": 1.0, "near": 1.0, "median_mm": 0.0}


def test_one_that_reads_its_place_in_the_window_finds_none(in_place):
    score = retrieval.score(in_place, coordinates, in_place.places(60, 1))
    assert score["hits"] == score["near"] == 0
    assert score["median_mm"] == pytest.approx(2 * np.linalg.norm(retrieval.SHIFT))


def test_a_constant_one_hits_about_as_often_as_a_guess(in_place):
    places = in_place.places(150, 1)
    guess = retrieval.chance(in_place, places)
    window = np.prod(np.subtract(SHAPE, retrieval.SHIFT))
    assert guess["hits"] == pytest.approx(33 / window, rel=1e-5)  # so many voxels within a radius of two
    assert 0.007 < guess["near"] < 0.03
    score = retrieval.score(in_place, lambda image: torch.ones(1, 2, *image.shape[2:]), places)
    assert score["hits"] < 0.02
    assert score["near"] < 0.04
    random = retrieval.score(in_place, lambda image: torch.randn(1, 8, *image.shape[2:]), places)
    assert random["hits"] < 0.02
    assert random["near"] < 0.06


def test_an_error_is_measured_in_voxels_and_in_millimetres():
    number = torch.arange(float(np.prod(SHAPE))).view(1, 1, *SHAPE)
    everywhere = torch.ones_like(number, dtype=torch.bool)
    for moved, hits in ((2, 1.0), (3, 0.0)):
        beside = torch.roll(number, moved, dims=2)
        view = retrieval.shifted_view(number, beside, (5.0, 2.0, 2.0), (everywhere, everywhere))
        score = retrieval.score(view, by_content, view.places(50, 1))
        assert score == {"hits": hits, "near": hits, "median_mm": 5.0 * moved}


def test_queries_and_candidates_are_foreground():
    image = texture()
    first, second = torch.zeros_like(image, dtype=torch.bool), torch.zeros_like(image, dtype=torch.bool)
    first[:, :, :, 8:30], second[:, :, 10:20] = True, True
    view = retrieval.shifted_view(image, image, (2.0, 2.0, 2.0), (first, second))
    places = view.places(10**6, 0)
    assert places[:, 0].min() == 10 and places[:, 0].max() == 19
    assert places[:, 1].min() == retrieval.SHIFT[1] + 4 and places[:, 1].max() == 29
    assert len(places) == 10 * (30 - 9) * (36 - 4 - 6)
    truth = places - torch.tensor(retrieval.SHIFT)
    assert retrieval.at_voxels(view.second_inside, truth).all()
    assert torch.equal(retrieval.at_voxels(view.first, places), retrieval.at_voxels(view.second, truth))
    # Of those within reach only foreground may be chosen: here nothing of the best match's own slice.
    inside = view.second_inside.clone()
    inside[:, :, 10] = False
    chosen = places[truth[:, 0] == 10]
    assert len(chosen)
    offsets = retrieval.ball(view.spacing, 20.0)
    _, valid = retrieval.candidates_near(chosen - torch.tensor(retrieval.SHIFT), inside, offsets)
    assert not valid[:, offsets[:, 0] == 0].any()
    assert valid.any()


def test_raw_patches_see_through_a_linear_change_and_not_through_an_inversion():
    image = texture()
    places = view_of(image, image).places(100, 1)
    score = {
        name: retrieval.score(view_of(image, other), retrieval.raw_patch, places)["hits"]
        for name, other in (("brighter", 0.4 * image + 0.5), ("inverted", 1 - image))
    }
    assert score["brighter"] == 1
    assert score["inverted"] < 0.1
    assert retrieval.score(view_of(image, image), retrieval.raw_value, places)["hits"] > 0.99
    assert retrieval.score(view_of(image, 1 - image), retrieval.descriptors.mind(), places)["hits"] == 1


def row(kind: str, seen: str = "new", **hits: float) -> dict:
    scores = {name: {"hits": value, "near": value, "median_mm": 3.0} for name, value in hits.items()}
    scores["chance"] = {"hits": 0.9, "near": 0.9}
    values = {"pair": "a → b", "seen": seen, "queries": 300, "candidates": 5000, "spacing": [5.0, 2.0, 2.0]}
    return {"kind": kind, **values, "scores": scores}


def test_the_gate_asks_for_the_best_mean_of_each_kind():
    won = [row("look", dsir=0.9, mind=0.95, patch=0.1), row("look", dsir=0.8, mind=0.5, patch=0.1)]
    assert table.losses(won) == []
    lost = [row("ctmr", dsir=0.2, mind=0.1, patch=0.2), row("trunk", dsir=0.5, mind=0.6, patch=0.7)]
    assert table.losses(won + lost) == [
        "The learned descriptor does not win in 'MR and CT of one head': it hits 20.0 % of the voxels, "
        "raw patch 20.0 %.",
        "The learned descriptor does not win in 'trunk CT, intensities changed': it hits 50.0 % of the voxels, "
        "raw patch 70.0 %.",
    ]


def test_the_table_tells_means_and_what_training_knew():
    rows = [row("look", dsir=0.9, mind=0.5), row("look", seen="trained on", dsir=0.8, mind=0.5)]
    text = table.markdown(rows, "general, sha256 0123", retrieval.__doc__)
    assert "| head MR, intensities changed | 2 | 85.0 | 50.0 | 90.0 |" in text
    assert "| head MR, intensities changed, new subjects | 1 | 90.0 | 50.0 | 90.0 |" in text
    assert "| a → b | trained on | 2 × 2 × 5 | 5000 | 80.0 / 80.0 / 3.0 | 50.0 / 50.0 / 3.0 | 90.0 / 90.0 |" in text
    assert "Weights: general, sha256 0123." in text


def test_subjects_are_known_by_any_of_their_files(tmp_path):
    manifest = tmp_path / "data.csv"
    manifest.write_text(
        "id,image,image_ct,labels,split\n1,d/a_02_T1.nii,,,train\n2,,d/a_3_CT.nii,,val\n4,,,d/a_4_seg.nii,train\n"
    )
    assert cases.seen("a_02_", manifest) == "trained on"
    assert cases.seen("a_3_", manifest) == "chosen on"
    assert cases.seen("a_0_", manifest) == cases.seen("a_4_", manifest) == "new"
    assert {case.kind for case in cases.CASES} == set(cases.KINDS)


@pytest.mark.parametrize(("width", "status"), [(1.0, 0), (0.0, 1)])
def test_the_program_measures_files_and_its_exit_status_is_the_gate(tmp_path, monkeypatch, capsys, width, status):
    """With a stand-in for the learned descriptor: the image's gradient without its sign, or nothing at all."""
    scan = sitk.GetImageFromArray(texture()[0, 0].numpy())
    scan.SetSpacing((2.0, 2.0, 2.0))
    sitk.WriteImage(scan, str(tmp_path / "scan.nii.gz"))
    case = cases.Case("look", "scan → changed", "scan", "scan.nii.gz", None, 1)

    def steps(image: Tensor) -> Tensor:
        views = [image.roll(s, dims=2 + axis) - image for axis in range(3) for s in (-3, -2, -1, 1, 2, 3)]
        relations = torch.cat([view.abs() for view in views], dim=1)
        return width * torch.nn.functional.normalize(relations, dim=1)

    monkeypatch.setattr(retrieval, "CASES", (case,))
    monkeypatch.setattr(retrieval, "weights", lambda named, checkpoint: ({}, {}, "stand-in"))
    monkeypatch.setattr(retrieval.descriptors, "dsir", lambda state, config: steps)
    # MIND-SSC sees through the curve as well; the stand-in has to beat intensities.
    monkeypatch.setattr(retrieval, "methods", lambda dsir: {"dsir": dsir, "value": retrieval.raw_value})
    results = tmp_path / "out.md"
    command = ["--data", str(tmp_path), "--results", str(results), "--queries", "60", "--threads", "1"]
    assert retrieval.main(command) == status
    assert ("does not win in 'head MR" in capsys.readouterr().out) == bool(status)
    stored = json.loads(results.with_suffix(".json").read_text())
    assert stored["weights"] == "stand-in"
    assert stored["rows"][0]["queries"] == 60
    assert "scan → changed | new | 2 × 2 × 2" in results.read_text()


def test_missing_files_and_weights_are_named(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="needs .*openms_p07_T1.nii.gz, which is not there"):
        retrieval.main(["--data", str(tmp_path)])
    monkeypatch.setattr(retrieval, "find_weights", lambda model, variant: None)
    with pytest.raises(SystemExit, match="not installed"):
        retrieval.weights(None, None)
    with pytest.raises(SystemExit, match="no record general.json"):
        retrieval.weights(str(tmp_path / "general.safetensors"), None)
