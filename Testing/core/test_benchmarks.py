"""The benchmark program itself: that it measures what it says, survives failing methods, and goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
STEM = "brain_t1_ixi2mm/val/"


@pytest.fixture(scope="module")
def measure():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from measure import measure
    finally:
        sys.path.remove(str(BENCHMARKS))
    return measure


def python(code: str, measure, folder: Path, timeout: float = 60.0):
    return measure(
        [sys.executable, "-c", code], folder=folder, log=folder / "log", environment=dict(os.environ), timeout=timeout
    )


def test_measure_counts_the_time_of_children(measure, tmp_path):
    burn = "import time\nwhile time.process_time() < 0.6: pass"
    cost = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])", measure, tmp_path)
    assert cost.exit_code == 0
    assert 0.55 < cost.cpu_s < 5
    assert cost.wall_s > 0.5
    assert python("pass", measure, tmp_path).cpu_s < 0.5


def test_measure_tells_peak_memory_when_asked_from_a_small_process(tmp_path):
    ask = """
import sys
from pathlib import Path
from measure import measure
for code in ("pass", "x = b'1' * 300_000_000; del x"):
    log = Path(sys.argv[1])
    command = [sys.executable, "-c", code]
    print(measure(command, folder=log.parent, log=log, environment={}, timeout=60).peak_mb)
"""
    command = [sys.executable, "-c", ask, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True, timeout=120)
    small, large = (float(line) for line in done.stdout.split())
    assert small < 60
    assert 286 < large < 300 + small


def test_measure_tells_exit_code_and_keeps_the_output(measure, tmp_path):
    cost = python("import sys; print('first'); sys.exit('no such image')", measure, tmp_path)
    assert cost.exit_code == 1
    assert (tmp_path / "log").read_text().splitlines() == ["first", "no such image"]


def test_measure_ends_what_takes_too_long_with_its_children(measure, tmp_path):
    child = "import time; open('started', 'w').close(); time.sleep(3); open('late', 'w').close()"
    started = time.perf_counter()
    with pytest.raises(TimeoutError):
        python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", measure, tmp_path, 1.5)
    assert time.perf_counter() - started < 2.5
    time.sleep(2.5)
    assert (tmp_path / "started").exists()
    assert not (tmp_path / "late").exists()


@pytest.fixture
def data(tmp_path):
    """A data folder with one pair: a box of label 4, and the same box 3 voxels of 2 mm on; label 9 stays."""
    folder = tmp_path / "data"
    (folder / STEM).mkdir(parents=True)
    for subject, shift in (("IXI131-HH-1527", 0), ("IXI136-HH-1452", 3)):
        labels = np.zeros((16, 20, 24), np.uint8)
        labels[4:8, 5:11, 4 + shift : 12 + shift] = 4
        labels[12:15, 2:6, 2:9] = 9
        for name, array in (("T1", labels.astype(np.float32)), ("DLMUSE", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((2.0, 2.0, 2.0))
            sitk.WriteImage(image, str(folder / f"{STEM}{subject}_{name}.nii.gz"))
    return folder


def bench(tmp_path: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--data", str(data), "--out", str(tmp_path / "out")]
    command += ["--results", str(tmp_path / "RESULTS.md"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_run_scores_survives_a_failure_and_goes_on(tmp_path, data):
    wanted = ["--pairs", "ixi-131-136", "--methods", "identity", "--extra", "broken=identity --nonsense"]
    first = bench(tmp_path, data, *wanted)
    assert first.returncode == 1
    result = json.loads((tmp_path / "out" / "ixi-131-136" / "identity" / "result.json").read_text())
    assert result["ok"]
    # Label 4: 5 of 8 columns still overlap, and its end faces are 3 voxels of 2 mm apart. Label 9 is perfect.
    assert result["score"]["dice"] == pytest.approx((5 / 8 + 1) / 2)
    assert result["score"]["hd95_mm"] == pytest.approx((6 + 0) / 2)
    assert result["score"]["labels"] == 2
    assert result["score"]["folding_percent"] == 0
    assert result["score"]["sdlogj"] == pytest.approx(0, abs=1e-6)

    text = (tmp_path / "RESULTS.md").read_text()
    assert "| identity | 0.812 | 3.00 | 0.0000 |" in text
    assert "| broken | failed: register: " in text
    assert "unrecognized arguments: --nonsense" in text
    assert str(tmp_path) not in text
    written = json.loads((tmp_path / "RESULTS.json").read_text())
    assert [entry["method"] for entry in written["results"]] == ["identity", "broken"]

    stamp = (tmp_path / "out" / "ixi-131-136" / "identity" / "result.json").stat().st_mtime_ns
    second = bench(tmp_path, data, *wanted[:4])
    assert second.returncode == 0
    assert (tmp_path / "out" / "ixi-131-136" / "identity" / "result.json").stat().st_mtime_ns == stamp
    assert bench(tmp_path, data, *wanted[:4], "--fresh").returncode == 0
    assert (tmp_path / "out" / "ixi-131-136" / "identity" / "result.json").stat().st_mtime_ns > stamp


def test_run_says_in_one_sentence_what_is_missing(tmp_path, data):
    for arguments, said in (
        (["--pairs", "oasis"], "is not there; is"),
        (["--pairs", "ixi-1"], "no pair or data set 'ixi-1'"),
        (["--methods", "magic"], "no method 'magic'"),
        (["--extra", "magic"], "written NAME=PEER OPTIONS"),
    ):
        done = bench(tmp_path, data, *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "RESULTS.md").exists()


def test_ratios_use_the_pairs_that_both_methods_managed(tmp_path):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import table
    finally:
        sys.path.remove(str(BENCHMARKS))

    def result(pair: str, method: str, wall: float, ok: bool = True) -> dict:
        values = {"ok": ok, "pair": pair, "method": method, "dataset": "ixi", "title": pair, "error": "a | b"}
        cost = {"wall_s": wall, "cpu_s": 2 * wall, "peak_mb": 100.0, "load": 0.5}
        keys = ("dice", "hd95_mm", "folding_percent", "folding_percent_inside", "sdlogj_inside")
        return {**values, "cost": cost, "score": dict.fromkeys(keys, 0.25), "peer": ["x"], "versions": {"numpy": "2"}}

    results = [
        result("one", "regnet", 5.0),
        result("one", "greedy-ncc2", 20.0),
        result("two", "regnet", 7.0),
        result("two", "greedy-ncc2", 900.0, ok=False),
        result("two", "ants-syn", 70.0),
    ]
    for entry in results:
        entry["date"] = "2025-01-01"
    table.write(results, tmp_path / "T.md", {"command": "run", "threads": 2, "machine": {"memory": "1 GiB"}})
    rows = [line for line in (tmp_path / "T.md").read_text().splitlines() if line.startswith("|")]
    # Both pairs of the data set: 6 s on average; greedy shares the first pair only, ANTs the second.
    assert rows[2].endswith("| 6.0 | 12.0 | 100 | 0.25 | 0.10 | 0.25 | 0.10 |")
    assert rows[3].startswith("| greedy-ncc2 (1 of 2 pairs) | 0.250 |")
    assert any(row.startswith("| greedy-ncc2 | failed: a / b |") for row in rows)
