"""The smaller commands: warp, evaluate, align, models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from cli_pair import FIXED, TRUTH, run, write_pair
from helpers import corner_error
from regnet import cli_work, metrics
from regnet.image import Image
from regnet.transform import Affine, read_transform


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


def test_warp_image_and_labels(files, tmp_path):
    common = ("--reference", files / "fixed.nii.gz", "--transform", files / "truth.h5")
    out = tmp_path / "warped.nii.gz"
    assert run("warp", files / "moving.nrrd", *common, "-o", out).stdout == f"Written: {out}\n"
    expected = Image.read(files / "moving.nrrd").resample(FIXED, TRUTH)
    np.testing.assert_allclose(Image.read(out).data, expected.data, atol=2e-3)

    run("warp", files / "moving_labels.nii.gz", *common, "--labels", "-o", tmp_path / "labels.nrrd")
    labels = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
    assert labels.GetPixelID() == sitk.sitkUInt8
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(files / "fixed_labels.nii.gz")))
    assert (sitk.GetArrayFromImage(labels) != expected).mean() < 1e-3
    assert {path.name for path in tmp_path.iterdir()} == {"warped.nii.gz", "labels.nrrd"}


def test_warp_back_with_the_inverse(files, tmp_path):
    """Forward, then back with --inverse, is the image again; without --inverse it is not."""
    forward, back, wrong = (tmp_path / f"{name}.nii.gz" for name in ("forward", "back", "wrong"))
    through = ("--transform", files / "truth.h5")
    run("warp", files / "moving.nrrd", "--reference", files / "fixed.nii.gz", *through, "-o", forward)
    run("warp", forward, "--reference", files / "moving.nrrd", *through, "--inverse", "-o", back)
    run("warp", forward, "--reference", files / "moving.nrrd", *through, "-o", wrong)
    original = Image.read(files / "moving.nrrd").data.numpy()
    inside = (slice(None), slice(6, -6), slice(6, -6), slice(6, -6))
    error, other = (np.abs(Image.read(path).data.numpy() - original)[inside].mean() for path in (back, wrong))
    assert error < 0.02 and other > 3 * error


def test_warp_default_outside_and_json(files, tmp_path):
    away = tmp_path / "away.tfm"
    Affine(np.eye(4) + np.array([[0, 0, 0, 900.0]] + [[0] * 4] * 3)).write(away)
    out = tmp_path / "out.nrrd"
    arguments = ("--reference", files / "fixed.nii.gz", "--transform", away, "-o", out, "--default", -1000, "--json")
    printed = json.loads(run("warp", files / "moving.nrrd", *arguments).stdout)
    assert printed["output"] == str(out) and printed["shape"] == [24, 28, 32]
    np.testing.assert_allclose(printed["spacing"], [2.0, 1.5, 1.5], atol=1e-4)
    assert (Image.read(out).data == -1000).all()


def test_evaluate_prints_what_metrics_say(files):
    common = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz")
    perfect = json.loads(run("evaluate", *common, "--transform", files / "truth.h5", "--json").stdout)
    assert set(perfect["labels"]) == {"5", "9"}
    assert perfect["mean"]["dice"] > 0.995 and perfect["mean"]["hd95_mm"] < 0.5 and perfect["labels_lost"] == 0
    determinant = read_transform(files / "truth.h5").jacobian_determinant(FIXED)
    assert perfect["sdlogj"] == pytest.approx(metrics.sdlogj(determinant), rel=1e-5)
    assert perfect["folding_percent"] == 0


def test_evaluate_tells_a_wrong_transform_and_lost_labels(files, tmp_path):
    common = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz")
    Affine.identity().write(tmp_path / "none.tfm")
    Affine(np.eye(4) + np.array([[0, 0, 0, 900.0]] + [[0] * 4] * 3)).write(tmp_path / "away.tfm")
    wrong = json.loads(run("evaluate", *common, "--transform", tmp_path / "none.tfm", "--json").stdout)
    assert wrong["mean"]["dice"] < 0.97 and wrong["mean"]["hd95_mm"] > 0.5
    lost = json.loads(run("evaluate", *common, "--transform", tmp_path / "away.tfm", "--json").stdout)
    assert lost["mean"] == {"dice": 0.0, "hd95_mm": None} and lost["labels_lost"] == 2
    assert lost["labels"]["5"] == {"dice": 0.0, "hd95_mm": None}
    printed = run("evaluate", *common, "--transform", files / "truth.h5").stdout
    assert all(word in printed for word in ("label", "Dice", "HD95", "mean", "Folding 0 %", "SDlogJ"))
    assert "vanish" in run("evaluate", *common, "--transform", tmp_path / "away.tfm").stdout


def test_hd95_is_in_millimetres_of_an_anisotropic_grid(tmp_path):
    """Two boxes one slice apart: 4 mm, although the other axes have 1 mm."""
    matrix = np.diag([1.0, 1.0, 4.0, 1.0])
    boxes = []
    for start in (6, 7):
        array = np.zeros((20, 24, 28), np.uint8)
        array[start : start + 6, 6:18, 6:20] = 3
        boxes.append(Image.from_numpy(array, matrix))
    scores = cli_work.evaluate(*boxes, Affine.identity())
    assert scores["labels"]["3"]["hd95_mm"] == pytest.approx(4.0)
    assert scores["labels"]["3"]["dice"] == pytest.approx(5 / 6)


def test_align_writes_a_linear_transform(files, tmp_path):
    out = tmp_path / "align.tfm"
    arguments = ("align", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out)
    printed = json.loads(run(*arguments, "--method", "affine", "--json").stdout)
    found = read_transform(out)
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix, printed["matrix"], atol=1e-6)
    assert corner_error(found, TRUTH, FIXED) < corner_error(Affine.identity(), TRUTH, FIXED)
    assert run(*arguments, "--method", "none").stdout == f"Written: {out}\n"
    np.testing.assert_allclose(read_transform(out).matrix, np.eye(4), atol=1e-12)


def test_models_lists_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("regnet.zoo.model_folders", lambda: [tmp_path])
    listed = json.loads(run("models", "--json").stdout)
    avsm = next(entry for entry in listed if entry["name"] == "avsm")
    needed = {"name", "title", "paper", "dimensions", "modalities", "transform_kind", "fuses", "weights"}
    assert needed <= avsm.keys() and avsm["dimensions"] == [2, 3] and avsm["weights"] == []
    (tmp_path / "avsm").mkdir()
    (tmp_path / "avsm" / "brain.safetensors").write_bytes(b"x")
    (tmp_path / "avsm" / "brain.json").write_text(json.dumps({"sha256": "ab" * 32}))
    avsm = json.loads(run("models", "--json").stdout)[0]
    known = {"variant": "brain", "sha256": "ab" * 32, "file": "brain.safetensors", "bytes": 1}
    assert avsm["weights"] == [known]
    assert "abab" in run("models").stdout.replace("\n", "")
    origin = {"version": "0.7", "data": [{"name": "Heads", "licence": "CC0", "count": 30}], "steps": 1500,
              "minutes": 90.4, "device": "a CPU", "figures": {"dice": 0.61234}}  # fmt: skip
    (tmp_path / "avsm" / "brain.json").write_text(json.dumps({"sha256": "ab" * 32} | origin))
    assert json.loads(run("models", "--json").stdout)[0]["weights"] == [known | origin]
    shown = " ".join(run("models").stdout.split())
    for text in ("RegNet 0.7", "30 of Heads (CC0)", "1500 steps 90 minutes on a CPU", "dice 0.612"):
        assert text in shown
