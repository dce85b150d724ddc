"""The synthetic image of ``regnet register``: beside the other files, or none, not even an earlier run's."""

from __future__ import annotations

import numpy as np
import pytest
import regnet.register
import SimpleITK as sitk
from cli_pair import FIXED, RESULTS, done_at_once, run, write_pair
from helpers import blob_image
from regnet import cli_work, demo
from regnet.errors import InputError
from regnet.image import Image
from regnet.models import MODEL_NAMES, get_info

NAME = "synthetic.nii.gz"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def register(files, monkeypatch):
    """``register(out, synthetic, *options)``: the command, with a registration that makes this synthetic image."""
    asked = {}

    def call(out, synthetic: Image | None, *options, code: int = 0):
        monkeypatch.setattr(regnet.register, "register", done_at_once(asked, synthetic))
        pair = (files / "fixed.nii.gz", files / "moving.nrrd")
        return run("register", *pair, "-o", out, "-q", *options, code=code), asked

    return call


def made() -> Image:
    """Of values that no other file of the result has, on the fixed lattice."""
    return Image(1.0 / (1.5 + blob_image(FIXED, 7).data), FIXED.index_to_world)


def test_it_is_written_beside_the_others(register, files, tmp_path):
    image = made()
    result, asked = register(tmp_path, image, "--model", "deformgan", "-p", "translation=true")
    assert asked["parameters"] == {"translation": True} and asked["model"] == "deformgan"
    assert {path.name for path in tmp_path.iterdir()} == RESULTS | {NAME} and NAME in result.stdout
    written, fixed = (sitk.ReadImage(str(path)) for path in (tmp_path / NAME, files / "fixed.nii.gz"))
    assert written.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), image.data[0].numpy())
    corners = [(0, 0, 0), (31, 0, 0), (0, 27, 0), (0, 0, 23), (31, 27, 23)]
    for corner in corners:
        place = FIXED.index_to_world @ [*corner, 1.0]
        np.testing.assert_allclose(written.TransformIndexToPhysicalPoint(corner), place[:3], atol=1e-4)
        np.testing.assert_allclose(fixed.TransformIndexToPhysicalPoint(corner), place[:3], atol=1e-4)
    assert written.GetSize() == fixed.GetSize() == (32, 28, 24)


def test_a_run_that_makes_none_removes_an_earlier_one(register, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    register(tmp_path, made())
    assert (tmp_path / NAME).is_file()
    result, _asked = register(tmp_path, None)
    assert {path.name for path in tmp_path.iterdir()} == RESULTS | {"notes.txt"}
    assert NAME not in result.stdout


@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_leaves_nothing_and_keeps_an_earlier_one(register, tmp_path, monkeypatch, earlier):
    out = tmp_path / "out"
    if earlier:
        register(out, made())
    before = {path.name: path.read_bytes() for path in out.iterdir()} if earlier else {}
    write = cli_work.write_image

    def full(image, path):
        if path.name == NAME:
            path.write_bytes(b"half")
            raise InputError("The disk is full.")
        write(image, path)

    monkeypatch.setattr(cli_work, "write_image", full)
    result, _asked = register(out, Image(made().data + 1.0, FIXED.index_to_world), code=3)
    assert result.stderr.splitlines()[-1] == "Error: The disk is full."
    assert out.exists() == earlier
    assert {path.name: path.read_bytes() for path in (out.iterdir() if earlier else [])} == before


def test_a_folder_of_that_name_is_refused_before_the_work(register, tmp_path):
    (tmp_path / NAME).mkdir()
    result, asked = register(tmp_path, None, code=3)
    assert "is a folder" in result.stderr and asked == {}


def test_the_demo_removes_an_earlier_one(register, files, tmp_path):
    """It registers without a translation, so such an image would be of another pair."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for source, name in (("fixed.nii.gz", demo.PATIENT), ("moving_labels.nii.gz", demo.LABELS)):
        (data / name).write_bytes((files / source).read_bytes())
    Image.read(files / "moving.nrrd").write(data / demo.ATLAS)
    register(out, made())
    register(tmp_path / "other", None)  # from here on no run makes one
    run("demo", "--data", data, "-o", out, "-q")
    assert {path.name for path in out.iterdir()} == RESULTS | {"labels.nii.gz"}


def test_models_say_whether_they_translate():
    rows = [line.split() for line in run("models").stdout.splitlines() if "translates" in line]
    said = [next(word for word in row if word in ("yes", "no")) for row in rows]
    assert said == ["yes" if get_info(name).translates else "no" for name in MODEL_NAMES] and "yes" in said
