"""The affine benchmark: that its tables hold the right figures, that its clocks stop in time, and that it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from affine_bench import BENCHMARKS, affine, blobs, load

cases, warps, prepare = load("affine_cases"), load("affine_warps"), load("affine_prepare")
table, linear = load("affine_table"), load("peers.linear")
ABOUT = {"command": "run", "threads": 2, "machine": {"memory": "1 GiB"}}


def result(name: str, dataset: str, method: str, seconds: float, ok: bool = True, **score: float) -> dict:
    times = {"seconds": seconds, "cpu_seconds": seconds / 2}
    values = {"pair": name, "dataset": dataset, "title": name, "method": method, "ok": ok, "peer": ["x"]}
    values |= {"versions": {"numpy": "2"}, "date": "2025-01-01", "score": {**times, **score}, "error": "no | luck"}
    return {**values, "cost": {"wall_s": seconds + 3, "cpu_s": seconds, "peak_mb": 10.0, "load": 0.1}}


def rows_of(text: str, heading: str) -> list[dict[str, str]]:
    """The rows of the table below a heading, by title."""
    below = [*text[text.index(f"## {heading}\n") :].splitlines(), ""]
    start = next(number for number, line in enumerate(below) if line.startswith("| method"))
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in below[start : below.index("", start)]]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def test_tables_hold_the_figures_of_their_results():
    results = [
        result("a", "trunk", "regnet-search", 1.0, error_mm=0.5),
        result("b", "trunk", "regnet-search", 2.0, error_mm=1.9),
        result("c", "ctmr", "regnet-search", 4.0, error_mm=6.0),
        result("a", "trunk", "greedy", 10.0, error_mm=0.1),
        result("b", "trunk", "greedy", 30.0, error_mm=2.0),
        result("c", "ctmr", "greedy", 99.0, ok=False),
        result("f", "trunk", "regnet-search", 99.0, ok=False),
        result("f", "trunk", "greedy", 7.0, error_mm=0.9),
        result("d", "ixi-pairs", "regnet-search", 5.0, dice=0.25),
        result("e", "ixi-pairs", "regnet-search", 5.0, dice=0.5),
    ]
    text = table.text(results, ABOUT, {"greedy": "a peer"})
    search, greedy = rows_of(text, "All warps")
    shown = ["regnet-search (3 of 4)", "2.80", "1.90", "6.00", "50 %", "2.00", "1.00", "5.0", "1.00"]
    assert list(search.values()) == shown
    # What failed is not found; times are compared over what both managed: 40 s and 3 s.
    assert list(greedy.values())[:5] == ["greedy (3 of 4)", "1.00", "0.90", "2.00", "50 %"]
    assert list(greedy.values())[5:] == ["10.00", "5.00", "13.0", "13.33"]
    assert [row["mean mm"] for row in rows_of(text, cases.DATASETS["trunk"])] == ["1.20", "1.00"]
    assert rows_of(text, cases.DATASETS["ctmr"])[1]["mean mm"] == "failed: no / luck"
    (pairs,) = rows_of(text, cases.DATASETS["ixi-pairs"])
    assert (pairs["mean Dice"], pairs["lowest Dice"]) == ("0.375", "0.250")
    assert "- **greedy**: a peer\n" in text
    assert "threads: 2." in text
    assert "4 warps." in text
    assert "2 pairs." in text


def test_regnet_is_timed_until_the_transform_is_found(tmp_path, monkeypatch):
    peer = load("peers.affine_regnet")
    files = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"]
    truth = np.eye(4)
    truth[:3, 3] = [12.0, -9.0, 15.0]
    moving = sitk.Resample(blobs(), prepare.room(blobs(), truth, 0.0), affine(np.linalg.inv(truth)))
    for image, file in zip((blobs(), moving), files, strict=True):
        sitk.WriteImage(image, str(file))
    corners = warps.content_corners(blobs())

    def run(**options) -> tuple[float, object]:
        values = {"align": None, "model": None, "avsm_network": False, "refine": "off", "needs": None}
        matrix, clock = peer.find(*files, tmp_path, SimpleNamespace(**{**values, **options}))
        return warps.error(matrix, truth, corners), clock

    error, clock = run(align="moments")
    assert error < 2
    assert 0 < clock.seconds < 60
    monkeypatch.setattr("regnet.zoo.find_weights", lambda *_: None)  # whatever is installed
    started = time.perf_counter()
    error, clock = run(model="ddim")
    assert error < 2
    assert 0 < clock.seconds < time.perf_counter() - started
    with pytest.raises(SystemExit, match="weights 'ddim/nowhere' are not installed"):
        run(align="ddim", needs="ddim/nowhere")

    clock = linear.Clock()
    events = peer.until_export(clock)
    with events.stage("model", 0.0, 0.9):
        events.progress(0.5)
    assert clock.seconds == 0
    with events.stage("export", 0.9, 1.0):
        stopped = clock.seconds
        time.sleep(0.02)
    assert 0 < clock.seconds == stopped


def bench(tmp_path: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / "affine.py"), "--data", str(data), "--out", str(tmp_path / "out")]
    command += ["--results", str(tmp_path / "A.md"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_run_scores_survives_a_failure_and_goes_on(tmp_path):
    data = tmp_path / "data"
    (data / "brain_t1_oasistrt").mkdir(parents=True)
    sitk.WriteImage(blobs(), str(data / "brain_t1_oasistrt" / "atlas_01_T1brain.nii.gz"))
    wanted = ["--cases", "oasis", "--warps", "1", "--methods", "none"]
    first = bench(tmp_path, data, *wanted, "--extra", "broken=affine_none --nonsense")
    assert first.returncode == 1
    folder = tmp_path / "out" / "oasis-01-w00"
    assert not (folder / "images").exists()
    score = json.loads((folder / "none" / "result.json").read_text())["score"]
    fixed = sitk.ReadImage(str(data / "brain_t1_oasistrt" / "atlas_01_T1brain.nii.gz"))
    expected = warps.error(np.eye(4), warps.drawn()[0].matrix(fixed), warps.content_corners(fixed))
    assert score["error_mm"] == pytest.approx(expected)
    text = (tmp_path / "A.md").read_text()
    assert f"| none | {expected:.2f} | {expected:.2f} | {expected:.2f} | 0 % | 0.00 |" in text
    assert "| broken | failed: register: " in text
    assert "--cases oasis --warps 1 --methods none" in text
    assert str(tmp_path) not in text
    assert [entry["method"] for entry in json.loads((tmp_path / "A.json").read_text())["results"]] == ["none", "broken"]

    stamp = (folder / "none" / "result.json").stat().st_mtime_ns
    assert bench(tmp_path, data, *wanted).returncode == 0
    assert (folder / "none" / "result.json").stat().st_mtime_ns == stamp


def test_it_says_in_one_sentence_what_is_missing(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for names, number, data, said in (
        (["pairs"], 50, folder, "IXI136-HH-1452_T1.nii.gz, which is not there; is"),
        (["all", "liver"], 50, folder, "no data set 'liver'"),
        (["all"], 51, folder, "no 51 warps"),
        (["all"], 50, tmp_path / "nowhere", "nowhere is not there; give the right one"),
    ):
        with pytest.raises(SystemExit, match=said):
            cases.select(names, number, str(data))
    done = bench(tmp_path, folder)
    assert done.returncode == 1
    assert "atlas_01_T1brain.nii.gz, which is not there; is" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "A.md").exists()
