"""The command line from the outside: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import regnet
import regnet.register
import SimpleITK as sitk
from cli_pair import RESULTS, ROOT, done_at_once, run, write_pair
from helpers import random_affine, smooth_field
from regnet import cli_work, demo, outputs
from regnet.cli import app
from regnet.errors import InputError
from regnet.image import Image
from regnet.transform import Affine, Composite, read_transform
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def quick(monkeypatch):
    """A registration that is done at once, and what it was asked."""
    asked = {}
    monkeypatch.setattr(regnet.register, "register", done_at_once(asked))
    return asked


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys, regnet.cli\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(regnet.cli.app, ['register', '--help'])\n"
        "assert result.exit_code == 0 and '--fixed-mask' in result.stdout\n"
        "assert CliRunner().invoke(regnet.cli.app, ['models', '--json']).exit_code == 0\n"
        "assert '--num-nodes' in CliRunner().invoke(regnet.cli.app, ['train', '--help']).stdout\n"
        "loaded = {'torch', 'SimpleITK', 'scipy', 'matplotlib', 'lightning', 'tensorboard'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_names_every_command():
    out = run("--help").stdout
    assert all(name in out for name in ("register", "align", "warp", "evaluate", "models", "train", "demo"))


def test_version():
    assert run("--version").stdout == f"regnet {regnet.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["register", "only-one"], ["register", "a", "b"], ["warp", "a"], ["register", "a", "b", "-o"],
     ["register", "a", "b", "-o", "c", "--seed", "x"], ["models", "--colour"]],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments):
    assert run(*arguments, code=2).stdout == ""


def test_register_writes_four_files_that_agree(files, quick, tmp_path):
    out = tmp_path / "made" / "out"
    result = run("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out)
    assert {path.name for path in out.iterdir()} == RESULTS
    assert all(name in result.stdout for name in RESULTS) and str(out) in result.stdout
    assert "Warning: Working at 2 mm." in result.stderr and "align" in result.stderr
    # The one transform file gives the same picture in SimpleITK as the image beside it.
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    fixed, moving = (sitk.ReadImage(str(files / name)) for name in ("fixed.nii.gz", "moving.nrrd"))
    warped = sitk.ReadImage(str(out / "warped.nii.gz"))
    assert warped.GetSize() == fixed.GetSize()
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0))
    np.testing.assert_allclose(sitk.GetArrayFromImage(warped), expected, atol=2e-3)
    report = json.loads((out / "report.json").read_text())
    assert report["fixed"] == "fixed.nii.gz" and report["moving"] == "moving.nrrd"
    assert report["warnings"] == ["Working at 2 mm."]
    times = report["time_s"]
    assert list(times) == ["load", "align", "export", "write", "total"]
    assert times["total"] == pytest.approx(times["load"] + 0.5 + times["write"], abs=0.01)
    assert str(tmp_path) not in (out / "report.json").read_text() + (out / "report.html").read_text()


def test_register_passes_its_options_on(files, quick, tmp_path):
    run(
        "register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path, "--align", "rigid", "--refine", "7",
        "--seed", 5, "--device", "cpu", "--memory", 900, "-p", "iterations=3", "--parameters", "similarity=lncc",
        "--fixed-mask", files / "fixed_labels.nii.gz", "--region", files / "fixed_labels.nii.gz", "--taper", 7,
    )  # fmt: skip
    assert set(np.unique(quick["region"].data)) == {0, 5, 9} and quick["taper"] == 7.0
    assert quick["align"] == "rigid" and quick["refine"] == 7 and quick["seed"] == 5 and quick["device"] == "cpu"
    assert quick["memory_mb"] == 900 and quick["parameters"] == {"iterations": 3, "similarity": "lncc"}
    assert quick["model"] == "avsm" and quick["moving_mask"] is None
    assert set(np.unique(quick["fixed_mask"].data)) == {0, 5, 9}


def test_json_is_alone_on_standard_output(files, quick, tmp_path):
    result = run("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path / "out", "--json")
    printed = json.loads(result.stdout)
    assert printed.pop("output") == str(tmp_path / "out")
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Warning" in result.stderr


def test_quiet_shows_warnings_only(files, quick, tmp_path):
    result = run("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path, "--quiet")
    assert result.stderr == "Warning: Working at 2 mm.\n"


def test_earlier_results_are_replaced_and_other_files_kept(files, quick, tmp_path):
    (tmp_path / "report.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    run("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == RESULTS | {"notes.txt"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "report.json").read_text())["model"] == "avsm"


def test_a_bug_is_one_sentence_and_leaves_nothing(files, tmp_path, monkeypatch):
    def broken(*images, **options):
        raise ValueError("index 5 is out of bounds\nand more lines")

    monkeypatch.setattr(regnet.register, "register", broken)
    arguments = ("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path / "out", "-q")
    result = run(*arguments, code=4)
    assert result.stderr.splitlines() == [
        "Error: RegNet failed unexpectedly (ValueError: index 5 is out of bounds); set REGNET_DEBUG=1 to see where."
    ]
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("REGNET_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, [str(a) for a in arguments]).exception, ValueError)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_out_of_memory_is_a_sentence(files, tmp_path, monkeypatch, error):
    def broken(*images, **options):
        raise error

    monkeypatch.setattr(regnet.register, "register", broken)
    result = run("register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", tmp_path / "out", "-q", code=4)
    assert "does not fit in memory" in result.stderr and "--memory" in result.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_cancel_is_130_and_leaves_nothing(files, tmp_path, name):
    """A real process, stopped by a real signal in the middle of its work."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("earlier")
    code = (
        "import time, regnet.register, regnet.cli\n"
        "def endless(fixed, moving, *, events, **options):\n"
        "    print('working', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "regnet.register.register = endless\n"
        "regnet.cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "register", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out, "-q"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "working\n"
        assert [path.name for path in out.iterdir() if path.name.startswith(".regnet-")]
        process.send_signal(getattr(signal, name))
        process.wait(timeout=30)
        errors = process.stderr.read()
    finally:
        process.kill()
        process.stdout.close()
    assert process.returncode == 130, errors
    assert errors == "Cancelled; nothing was changed.\n"
    assert [path.name for path in out.iterdir()] == ["report.json"]
    assert (out / "report.json").read_text() == "earlier"


def test_a_signal_while_results_are_put_in_place_is_held_back(tmp_path):
    """The last step is not torn apart: both files arrive, although Ctrl-C is pressed at each of them."""
    replace = Path.replace

    def slow(self, target):
        os.kill(os.getpid(), signal.SIGINT)
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch, outputs.staged_folder(tmp_path / "out", ["a", "b"]) as staging:
        (staging / "a").write_text("1")
        (staging / "b").write_text("2")
        patch.setattr(Path, "replace", slow)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]


def test_staging_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="stop"), outputs.staged_folder(tmp_path / "a" / "b", ["x"]) as staging:
        (staging / "x").write_text("half")
        raise InputError("stop")
    assert list(tmp_path.iterdir()) == []


def test_parameters_are_read_as_plain_values():
    values = cli_work.parse_parameters(["a=1", "b=2.5", "c=true", "d=lncc", "e=x=y", " f = 3"])
    assert values == {"a": 1, "b": 2.5, "c": True, "d": "lncc", "e": "x=y", "f": 3}


def test_demo_carries_the_labels(files, quick, tmp_path):
    """With a small pair in place of the real one."""
    data = tmp_path / "data"
    data.mkdir()
    for source, name in (("fixed.nii.gz", demo.PATIENT), ("moving_labels.nii.gz", demo.LABELS)):
        (data / name).write_bytes((files / source).read_bytes())
    Image.read(files / "moving.nrrd").write(data / demo.ATLAS)
    result = run("demo", "--data", data, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULTS | {"labels.nii.gz"}
    labels = Image.read(tmp_path / "out" / "labels.nii.gz", labels=True)
    expected = Image.read(files / "fixed_labels.nii.gz", labels=True)
    assert (labels.data != expected.data).float().mean() < 1e-3
    assert 'id="labels"' in (tmp_path / "out" / "report.html").read_text()
    assert all(word in result.stdout for word in ("before", "after", "Folding", "Time: total", "Peak memory"))
    assert "align" in result.stderr


def test_a_real_registration_end_to_end(tmp_path):
    """Nothing in between is replaced: a real brain, coarse, against itself after a known transform."""
    whole = Image.read(ROOT.parents[1] / "Resources" / "Demo" / demo.PATIENT)
    grid = whole.grid.with_spacing(3.5)
    about_middle = np.eye(4)
    about_middle[:3, 3] = grid.center()
    turn = about_middle @ random_affine(3, degrees=5, shift=2).matrix @ np.linalg.inv(about_middle)
    truth = Composite((smooth_field(grid, 5.0, seed=2), Affine(turn)))
    whole.resample(grid).write(tmp_path / "moving.nii.gz")
    whole.resample(grid, truth).write(tmp_path / "fixed.nii.gz")
    out = tmp_path / "out"
    arguments = ("register", tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "-o", out)
    result = run(*arguments, "--device", "cpu", "--refine", "5", "-p", "momentum_steps=2", "--json")
    report = json.loads(result.stdout)
    needed = {
        "model", "weights", "device", "working_grid", "time_s", "peak_memory_mb", "similarity_before",
        "similarity_after", "folding_percent", "sdlogj", "warnings",
    }  # fmt: skip
    assert needed <= report.keys() and {path.name for path in out.iterdir()} == RESULTS
    assert report["device"] == "cpu" and report["model"] == "avsm" and report["weights"]["variant"] == "brain"
    assert report["similarity_after"] > report["similarity_before"] and report["folding_percent"] == 0
    found = read_transform(out / "transform.h5")
    points = grid.points()[Image.read(tmp_path / "fixed.nii.gz").data[0].numpy() > 30]
    error, before = (np.linalg.norm(moved - truth(points), axis=1).mean() for moved in (found(points), points))
    assert before > 4 and error < before / 2
