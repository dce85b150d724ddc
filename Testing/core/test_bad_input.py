"""Every kind of bad input through the command line: one clear sentence, exit code 3, and nothing written or lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers import blob_image
from refusals import GRID, refused, write
from regnet.image import Grid
from regnet.transform import Affine


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp("good") / "good.nii.gz")


def refused_pair(tmp_path: Path, fixed: Path, moving: Path, *options) -> str:
    """Registration must be refused, the same both when there is no output folder yet and when it has results."""
    new, old = tmp_path / "made" / "new", tmp_path / "old"
    old.mkdir()
    for name in ("transform.h5", "warped.nii.gz", "report.json", "report.html", "mine.txt"):
        (old / name).write_text(f"earlier {name}")
    sentence = refused("register", fixed, moving, "-o", new, *options)
    assert not new.parent.exists()
    assert refused("register", fixed, moving, "-o", old, *options) == sentence
    assert {path.name: path.read_text() for path in old.iterdir()} == {
        name: f"earlier {name}" for name in ("transform.h5", "warped.nii.gz", "report.json", "report.html", "mine.txt")
    }
    return sentence


def damaged_file(folder: Path, kind: str, good: Path) -> Path:
    path = folder / ("bad.nii.gz" if kind != "nrrd" else "bad.nrrd")
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:3000])
    elif kind == "text":
        path.write_text("this is not an image")
    elif kind == "empty":
        path.touch()
    elif kind == "bit flipped":
        data = bytearray(good.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    elif kind == "unpacked, truncated":
        path = folder / "bad.nii"
        path.write_bytes(gzip.decompress(good.read_bytes())[:-1])
    elif kind == "nrrd":
        path.write_text("NRRD0004\ntype: float\ndimension: 3\nsizes: 9 9 9\nencoding: raw\n\n")
    return path


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_missing_file(tmp_path, good, role):
    absent = tmp_path / "absent.nii.gz"
    pair = (absent, good) if role == "fixed" else (good, absent)
    sentence = refused_pair(tmp_path, *pair)
    assert "absent.nii.gz" in sentence and "check the path" in sentence


@pytest.mark.parametrize("kind", ["truncated", "bit flipped", "unpacked, truncated", "text", "empty", "nrrd"])
def test_corrupt_file(tmp_path, good, kind):
    sentence = refused_pair(tmp_path, good, damaged_file(tmp_path, kind, good))
    assert "bad.n" in sentence and "damaged" in sentence


def test_empty_dicom_folder(tmp_path, good):
    (tmp_path / "series").mkdir()
    assert "no DICOM series" in refused_pair(tmp_path, good, tmp_path / "series")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nan_or_infinite(tmp_path, good, value, role, ending):
    array = blob_image(GRID).data[0].numpy().copy()
    array[3, 4, 5] = array[6, 7, 8] = value
    bad = write(tmp_path / f"bad{ending}", array)
    sentence = refused_pair(tmp_path, *((bad, good) if role == "fixed" else (good, bad)))
    assert "contains" in sentence and "NaN or infinite values" in sentence and "2" in sentence
    # ITK sees no NaN in NIfTI files, so those are told by their file; the others by their role.
    assert ("bad.nii" if ".nii" in ending else f"The {role} image") in sentence


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_constant_or_empty(tmp_path, good, value):
    bad = write(tmp_path / "bad.nii.gz", np.full(GRID.shape, value, np.float32))
    sentence = refused_pair(tmp_path, good, bad)
    assert "moving image is empty" in sentence and f"{value:g}" in sentence


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1, ("fixed image is one voxel thick", "2D")),
        (15, ("15 voxels on an axis", "at least 16")),
    ],
)
def test_too_few_voxels_on_an_axis(tmp_path, good, axis, size, words):
    shape = [24, 28, 32]
    shape[axis] = size
    bad = write(tmp_path / "bad.nii.gz", np.random.default_rng(0).random(shape, np.float32), Grid(shape, np.eye(4)))
    sentence = refused_pair(tmp_path, bad, good)
    assert all(word in sentence for word in words)


def test_4d_given_for_3d(tmp_path, good):
    frames = [sitk.ReadImage(str(good)) for _ in range(3)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "series.nii.gz"))
    sentence = refused_pair(tmp_path, tmp_path / "series.nii.gz", good)
    assert "4D with 3 frames" in sentence


def test_several_channels(tmp_path, good):
    colour = sitk.Compose([sitk.ReadImage(str(good))] * 3)
    sitk.WriteImage(colour, str(tmp_path / "colour.nii.gz"))
    assert "3 channels" in refused_pair(tmp_path, good, tmp_path / "colour.nii.gz")


def test_2d_with_3d(tmp_path, good):
    flat = sitk.GetImageFromArray(np.random.default_rng(0).random((40, 50), np.float32))
    sitk.WriteImage(flat, str(tmp_path / "flat.nii.gz"))
    sentence = refused_pair(tmp_path, good, tmp_path / "flat.nii.gz")
    assert "3D" in sentence and "2D" in sentence


def test_no_overlap_in_space(tmp_path, good):
    far = write(tmp_path / "far.nii.gz", None, GRID)
    image = sitk.ReadImage(str(far))
    image.SetOrigin([10_000.0, 0.0, 0.0])
    sitk.WriteImage(image, str(far))
    sentence = refused_pair(tmp_path, good, far, "--align", "none")
    assert "do not overlap in space" in sentence and "--align" in sentence


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_mask_that_excludes_everything(tmp_path, good, role):
    mask = write(tmp_path / "mask.nii.gz", np.zeros(GRID.shape, np.uint8))
    sentence = refused_pair(tmp_path, good, good, f"--{role}-mask", mask)
    assert f"{role} mask excludes everything" in sentence


def test_mask_that_lies_elsewhere(tmp_path, good):
    away = Grid(GRID.shape, Affine(np.eye(4)).matrix + np.array([[0, 0, 0, 5000.0]] + [[0] * 4] * 3))
    mask = write(tmp_path / "mask.nii.gz", np.ones(GRID.shape, np.uint8), away)
    sentence = refused_pair(tmp_path, good, good, "--fixed-mask", mask)
    assert "fixed mask" in sentence


def test_unknown_model(tmp_path, good):
    sentence = refused_pair(tmp_path, good, good, "--model", "voxelmorf")
    assert "'voxelmorf'" in sentence and "avsm" in sentence


def test_unknown_device(tmp_path, good):
    sentence = refused_pair(tmp_path, good, good, "--device", "tpu")
    assert "'tpu'" in sentence and "cpu" in sentence


def test_device_that_is_not_there(tmp_path, good, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no usable cuda device" in refused_pair(tmp_path, good, good, "--device", "cuda")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--align", "magic"], "'magic'"),
        (["--refine", "much"], "'much'"),
        (["-p", "iterations"], "KEY=VALUE"),
        (["-p", "nonsense=1"], "'nonsense'"),
        (["-p", "iterations=many"], "'iterations'"),
        (["-p", "regularization=99"], "between"),
        (["--memory", "1"], "memory"),
    ],
)
def test_unusable_options(tmp_path, good, options, says):
    assert says in refused_pair(tmp_path, good, good, *options)


def test_transform_file_of_the_wrong_kind(tmp_path, good):
    spline = sitk.BSplineTransform(3)
    sitk.WriteTransform(spline, str(tmp_path / "spline.tfm"))
    flat = sitk.TranslationTransform(2, (1.0, 2.0))
    sitk.WriteTransform(flat, str(tmp_path / "flat.tfm"))
    (tmp_path / "text.h5").write_text("not a transform")
    (tmp_path / "table.csv").write_text("1,2,3")
    out = tmp_path / "out.nii.gz"
    for file, says in (
        (good, "not a displacement"),
        (tmp_path / "absent.h5", "no transform file"),
        (tmp_path / "text.h5", "cannot be read as a transform"),
        (tmp_path / "table.csv", "not a transform file"),
        (tmp_path / "spline.tfm", "cannot use"),
        (tmp_path / "flat.tfm", "2D"),
    ):
        sentence = refused("warp", good, "--reference", good, "--transform", file, "-o", out)
        assert says in sentence, sentence
        sentence = refused("evaluate", "--fixed-labels", good, "--moving-labels", good, "--transform", file)
    assert not out.exists()


def test_labels_must_be_labels(tmp_path, good):
    Affine.identity().write(tmp_path / "t.tfm")
    transform = ("--transform", tmp_path / "t.tfm")
    out = tmp_path / "out.nii.gz"
    assert "not a label image" in refused("warp", good, "--reference", good, *transform, "--labels", "-o", out)
    assert "not a label image" in refused("evaluate", "--fixed-labels", good, "--moving-labels", good, *transform)
    one, two = (write(tmp_path / f"{label}.nii.gz", np.full(GRID.shape, label, np.uint8)) for label in (1, 2))
    assert "no label in common" in refused("evaluate", "--fixed-labels", one, "--moving-labels", two, *transform)
    assert not out.exists()
