"""The multimodal benchmark: that its stored warps are sound, its errors are the true ones, and its tables honest."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


warps, scoring, prepare = load("warps"), load("multimodal_score"), load("multimodal_prepare")
cases, landmarks, multimodal = load("multimodal_cases"), load("landmarks"), load("multimodal")


def blobs(seed: int = 0, shape: tuple[int, int, int] = (14, 36, 32)) -> sitk.Image:
    """A smooth bright body on background 0, on an oblique grid of 3 × 2 × 4 mm."""
    array = np.zeros(shape, np.float32)
    array[3:-3, 6:-6, 6:-6] = 100 + 50 * gaussian_filter(np.random.RandomState(seed).normal(size=(8, 24, 20)), 1.5)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((3.0, 2.0, 4.0))
    image.SetOrigin((-40.0, 15.0, 100.0))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    image.SetDirection(turn.GetMatrix())
    return image


def still() -> object:
    """The warp that does nothing."""
    return warps.Warp(np.zeros(3), np.zeros(3), np.zeros((warps.NODES,) * 3 + (3,)))


def undone(warp, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """T⁻¹ by fixed-point iteration; the displacements contract."""
    found = points
    target = warp.turned_back(points, centre)
    for _ in range(60):
        step = target - warp.turned_back(warp(found, centre), centre)
        found = found + step
        if np.abs(step).max() < 1e-9:
            break
    return found


def test_the_file_holds_ten_warps_within_their_bounds_that_do_not_fold():
    stored = warps.read()
    assert len(stored) == warps.COUNT == cases.WARPS == 10
    assert warps.FILE.stat().st_size < 300_000
    for warp in stored:
        assert np.linalg.norm(warp.rotation) < 20.01
        assert np.linalg.norm(warp.translation) < 20.01
        longest, determinant = warp.extremes(16.0)
        assert 7.5 < longest < 15
        assert determinant > 0.3
    assert len({warp.lattice.tobytes() for warp in stored}) == 10


def test_what_is_drawn_comes_back_from_the_file(tmp_path):
    turn = np.array([3.0, -4.0, 12.0])
    warp = warps.Warp(turn, np.array([1.0, 2.0, 2.5]), np.round(np.random.RandomState(1).normal(size=(8, 8, 8, 3)), 1))
    (tmp_path / "warps.json").write_text(warps.text([warp, still()]))
    first, second = warps.read(tmp_path / "warps.json")
    np.testing.assert_array_equal(first.lattice, warp.lattice)
    np.testing.assert_array_equal(first.rotation, turn)
    assert not second.lattice.any()


def test_a_warp_turns_about_the_centre_and_repeats_its_displacement():
    centre = np.array([5.0, -7.0, 30.0])
    quarter = dataclasses.replace(still(), rotation=np.array([0.0, 0.0, 90.0]), translation=np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(quarter(centre + [[10.0, 0, 0]], centre), centre + [[1.0, 10, 0]], atol=1e-9)
    np.testing.assert_allclose(quarter.turned_back(centre + [[1.0, 10, 0]], centre), centre + [[10.0, 0, 0]], atol=1e-9)

    even = dataclasses.replace(still(), lattice=np.ones((8, 8, 8, 3)) * [1.0, 2.0, 3.0])
    np.testing.assert_allclose(even.displacement(np.array([[400.0, -333.0, 17.0]])), [[1, 2, 3]], atol=1e-9)
    one = still()
    one.lattice[0, 0, 1] = [9.0, 0.0, 0.0]  # one node along x
    at = np.array([[55.0, 0, 0], [55.0 + 440, -440, 0], [0, 55.0, 0]])
    np.testing.assert_allclose(one.displacement(at)[:, 0], 9 * np.array([8 / 27, 8 / 27, 1 / 54]), atol=1e-9)


def score_of(warp, mapping) -> dict[str, float]:
    """What is scored where φ is ``mapping`` of the fixed image's points."""
    fixed = blobs()
    inside = sitk.GetArrayFromImage(fixed) > 0
    points = prepare.voxels(fixed)
    displacement = (mapping(points) - points).reshape(*inside.shape, 3)
    return scoring.remaining(warp, fixed, displacement, inside)


def test_identity_has_the_error_before_and_the_inverse_has_none():
    warp = warps.read()[3]
    centre = prepare.middle(blobs())
    nothing = score_of(warp, lambda points: points)
    assert nothing["mean_mm"] == nothing["before_mm"] > 5
    assert nothing["p95_mm"] == nothing["before_p95_mm"]
    perfect = score_of(warp, lambda points: undone(warp, points, centre))
    assert perfect["max_mm"] < 1e-6
    assert perfect["before_mm"] == nothing["before_mm"]


def test_a_known_translation_scores_as_such():
    shift = dataclasses.replace(still(), translation=np.array([3.0, 0.0, -4.0]))
    score = score_of(shift, lambda points: points)
    assert score["mean_mm"] == pytest.approx(5)
    assert score["max_mm"] == pytest.approx(5)
    assert score_of(shift, lambda points: points + [-3.0, 0.0, 0.0])["mean_mm"] == pytest.approx(4)


def test_the_warped_image_shows_the_original_and_all_of_it():
    moving, warp = blobs(), warps.read()[1]
    centre = prepare.middle(moving)
    warped = prepare.warped(moving, warp, centre)
    assert warped.GetSpacing() == pytest.approx(moving.GetSpacing())
    assert warped.GetDirection() == pytest.approx(moving.GetDirection())
    array = sitk.GetArrayFromImage(warped)
    border = np.ones(array.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert not array[border].any()
    # Pulled back by the true inverse, it is the original again, as far as interpolating twice allows.
    points = prepare.voxels(moving)
    field = sitk.GetImageFromArray((undone(warp, points, centre) - points).reshape(*moving.GetSize()[::-1], 3), True)
    field.CopyInformation(moving)
    back = sitk.GetArrayFromImage(sitk.Resample(warped, moving, sitk.DisplacementFieldTransform(field)))
    original = sitk.GetArrayFromImage(moving)
    assert np.corrcoef(back.ravel(), original.ravel())[0, 1] > 0.97
    assert back.sum() == pytest.approx(original.sum(), rel=0.05)


def test_the_foreground_is_what_is_positive_or_the_filled_body():
    array = np.zeros((4, 20, 20), np.float32)
    array[1:3, 4:16, 4:16] = 100
    array[1:3, 8:12, 8:12] = -5  # a lung
    array[1, 0:2, 0:2] = 100  # the table
    assert prepare.foreground(array, "positive").sum() == 2 * (144 - 16) + 4
    assert prepare.foreground(array, "body").sum() == 2 * 144


def test_noise_and_slice_distance_are_as_stated(tmp_path):
    flat = sitk.Image((40, 40, 40), sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(prepare.noisy(flat, 10.0, 3))
    assert array.std() == pytest.approx(10, rel=0.02)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(prepare.noisy(flat, 10.0, 3)))
    sitk.WriteImage(flat, str(tmp_path / "flat.mha"))
    assert prepare.image(str(tmp_path / "flat.mha"), 4.0).GetSpacing() == (1.0, 1.0, 4.0)
    assert prepare.image(str(tmp_path / "flat.mha"), None).GetSpacing() == (1.0, 1.0, 1.0)


VTK = """# vtk DataFile Version 3.0
vtk output
ASCII
DATASET POLYDATA
POINTS 4 float
1.5 -2 3e1 4 5 6 7 8 9{separator}
10 11 12
VERTICES 4 8
1 0
1 1
"""


def test_landmarks_are_read_as_they_are_written(tmp_path):
    file = tmp_path / "marks.vtk"
    file.write_text(VTK.format(separator=" "))
    assert landmarks.read(file) == [[1.5, -2, 30], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    file.write_text(VTK.replace("10 11 12\nVERTICES 4 8\n1 0\n1 1\n", "10 11").format(separator=""))
    with pytest.raises(ValueError, match="states 4 points and holds 11"):
        landmarks.read(file)
    file.write_bytes(b"# vtk DataFile Version 3.0\nvtk output\nBINARY\nPOINTS 1 float\n\x00\x01")
    with pytest.raises(ValueError, match="not an ASCII"):
        landmarks.read(file)


def test_landmark_errors_by_kind(tmp_path):
    fixed = blobs()
    start = np.array(fixed.TransformIndexToPhysicalPoint((10, 12, 6)))
    files = {}
    for kind, shift in (("liver", 3.0), ("outside", 1.0)):
        both = [start[None], start[None] + [0.0, shift, 0.0]]
        files[kind] = []
        for name, points in zip(("fixed", "moving"), both, strict=True):
            file = tmp_path / f"{name}{kind}.vtk"
            file.write_text("ASCII\nPOINTS 1 double\n" + " ".join(map(repr, points.ravel().tolist())) + "\n")
            files[kind].append(str(file))
    displacement = np.zeros((*fixed.GetSize()[::-1], 3), np.float32)
    displacement[..., 1] = 1.0
    score = scoring.targets(files, fixed, displacement)
    assert score["liver_before_mm"] == pytest.approx(3)
    assert score["liver_mm"] == pytest.approx(2, abs=1e-5)
    assert score["outside_mm"] == pytest.approx(0, abs=1e-5)
    assert score["mean_mm"] == pytest.approx(1, abs=1e-5)


@pytest.fixture
def data(tmp_path) -> Path:
    """A data folder with the two images of one data set."""
    folder = tmp_path / "data" / "brain_multimodal"
    folder.mkdir(parents=True)
    for kind, seed in (("T1", 0), ("T2", 1)):
        sitk.WriteImage(blobs(seed), str(folder / f"cstar_stroke_{kind}.nii.gz"))
    return folder.parent


def bench(tmp_path: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / "multimodal.py"), "--data", str(data), "--out", str(tmp_path / "out")]
    command += ["--results", str(tmp_path / "M.md"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_run_scores_survives_a_failure_and_goes_on(tmp_path, data):
    wanted = ["--cases", "cstar-T1-T2", "--warps", "2", "--methods", "identity"]
    first = bench(tmp_path, data, *wanted, "--extra", "broken=identity --nonsense")
    assert first.returncode == 1
    folder = tmp_path / "out" / "cstar-T1-T2-w2"
    result = json.loads((folder / "identity" / "result.json").read_text())
    assert result["ok"]
    assert result["score"]["mean_mm"] == pytest.approx(result["score"]["before_mm"], abs=1e-6)
    assert not (folder / "images").exists()
    text = (tmp_path / "M.md").read_text()
    assert "| broken | failed: register: " in text
    assert f"| identity | {result['score']['mean_mm']:.2f} |" in text
    assert str(tmp_path) not in text
    assert [entry["method"] for entry in json.loads((tmp_path / "M.json").read_text())["results"]][0] == "identity"

    stamp = (folder / "identity" / "result.json").stat().st_mtime_ns
    assert bench(tmp_path, data, *wanted).returncode == 0
    assert (folder / "identity" / "result.json").stat().st_mtime_ns == stamp


def test_run_says_in_one_sentence_what_is_missing(tmp_path, data):
    for arguments, said in (
        (["--cases", "openms"], "is not there; is"),
        (["--cases", "cstar-1"], "no case or data set 'cstar-1'"),
        (["--cases", "cstar", "--warps", "10"], "no warp '10'"),
        (["--cases", "cstar", "--methods", "magic"], "no method 'magic'"),
    ):
        done = bench(tmp_path, data, *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "M.md").exists()


def test_every_case_has_its_name_once_and_the_short_selection_takes_all_warps():
    assert len(set(cases.NAMES)) == len(cases.NAMES)
    short = [case for case in cases.CASES if case.short and not case.landmarks]
    assert {cases.OWN_WARPS[case.name] for case in short} == set(range(10))
    assert {case.dataset for case in cases.CASES if case.short} == set(cases.DATASETS)


def test_tables_show_the_worst_case_and_paired_times(tmp_path):
    table = load("table")

    def result(name: str, method: str, error: float, wall: float, ok: bool = True) -> dict:
        keys = ("median_mm", "p95_mm", "max_mm", "before_mm", "folding_percent", "folding_percent_inside")
        score = {**dict.fromkeys((*keys, "sdlogj_inside"), 0.5), "mean_mm": error}
        cost = {"wall_s": wall, "cpu_s": wall, "peak_mb": 10.0, "load": 0.1}
        values = {"pair": name, "method": method, "dataset": "ctmr", "title": name, "ok": ok, "error": "no | luck"}
        return {**values, "score": score, "cost": cost, "peer": ["x"], "versions": {}, "date": "2025-01-01"}

    results = [
        result("a", "regnet-masr", 1.0, 10.0),
        result("a", "convexadam-rigid", 2.0, 40.0),
        result("b", "regnet-masr", 4.0, 90.0),
        result("b", "convexadam-rigid", 2.0, 1.0, ok=False),
    ]
    about = {"command": "run", "threads": 2, "machine": {}}
    table.write(results, tmp_path / "T.md", about, multimodal.LAYOUT)
    rows = [line for line in (tmp_path / "T.md").read_text().splitlines() if line.startswith("|")]
    head, means = ([cell.strip() for cell in row.strip("|").split("|")] for row in (rows[0], rows[2]))
    shown = dict(zip(head, means, strict=True))
    assert shown["mean mm"] == "2.50"
    assert shown["worst case mm"] == "4.00"
    assert shown["cases"] == "2"
    assert shown["wall ÷ convexadam-rigid"] == "0.25"
    assert rows[3].startswith("| convexadam-rigid (1 of 2 cases) | 2.00 |")
    assert any(row.startswith("| convexadam-rigid | failed: no / luck |") for row in rows)
