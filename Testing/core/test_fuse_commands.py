"""Fusing from outside: ``regnet fuse``, the worker's ``fuse``, and a registration by BSAFusion that gives both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import regnet.models
import SimpleITK as sitk
import torch
from cli_pair import run
from fusion_models import write_models
from helpers import blob_image, oblique_grid, smooth_field
from regnet import zoo
from regnet.colour_table import ColourTable
from regnet.errors import InputError
from regnet.fusing import fuse
from regnet.image import Grid, Image
from regnet.models import get_model
from regnet.models.bsafusion import Parameters
from regnet.register import register
from worker_host import quick

GRID = oblique_grid((20, 36, 30), (1.1, 0.9, 2.0), (6, -4, 8), (3, -10, 20))
FLAT = Grid((1, 60, 48), np.diag([1.0, 1.0, 1.0, 1.0]), 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def installed(models, monkeypatch):
    monkeypatch.setattr(zoo, "model_folders", lambda: [models])
    # It joins the models once its weights ship.
    monkeypatch.setattr(regnet.models, "MODEL_NAMES", ("bsafusion", "masr"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    blob_image(GRID, 1, 16).write(folder / "fixed.nii.gz")
    blob_image(GRID, 2, 16).write(folder / "moving.nrrd")
    smooth_field(GRID, 4.0).write(folder / "field.h5")
    return folder


def test_the_command_writes_what_the_package_makes(files, tmp_path):
    out = tmp_path / "fused.nii.gz"
    result = run(
        "fuse", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out, "-t", files / "field.h5", "-q", "--json"
    )
    told = json.loads(result.stdout)
    assert told == {"output": str(out), "mode": "volume", "weights": "volumes", "reason": "it fits"}
    fixed, moving = Image.read(files / "fixed.nii.gz"), Image.read(files / "moving.nrrd")
    expected = fuse(fixed, moving, smooth_field(GRID, 4.0)).image
    found = sitk.ReadImage(str(out))
    assert found.GetSize() == GRID.size and found.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(sitk.GetArrayFromImage(found), expected.data[0].numpy(), atol=2e-3)


def test_the_command_colours_the_moving_image(files, tmp_path):
    out = tmp_path / "fused.nrrd"
    options = ("--colour-map", "inferno", "--mode", "slices", "-q")
    result = run("fuse", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out, *options)
    assert "slices: asked for; weights ct-mri" in result.stdout
    found = sitk.ReadImage(str(out))
    assert found.GetNumberOfComponentsPerPixel() == 3 and found.GetPixelID() == sitk.sitkVectorUInt8
    colours = sitk.GetArrayFromImage(found).astype(int)
    assert (colours.max(-1) - colours.min(-1)).max() > 60


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--mode", "whole"), "There is no way to fuse named 'whole'"),
        (("--colour-map", "mauve"), "There is no colour map 'mauve'"),
        (("--weights", "pet-mri", "--mode", "slices"), "needs the trained weights 'pet-mri'"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_writes_nothing(files, tmp_path, options, text):
    out = tmp_path / "fused.nii.gz"
    result = run("fuse", files / "fixed.nii.gz", files / "moving.nrrd", "-o", out, "-q", *options, code=3)
    assert text in result.stderr and len(result.stderr.strip().splitlines()) == 1 and not any(tmp_path.iterdir())


def ask(folder: Path, **changes) -> dict:
    where = {"index_to_world": GRID.index_to_world.tolist()}
    images = {name: {"file": f"{name}.npy", **where} for name in ("fixed", "moving")}
    return {"command": "fuse", "id": "f", "folder": str(folder), **images, **changes}


def test_the_worker_fuses_aligned_images_in_the_colours_it_is_given(start, tmp_path):
    images = [blob_image(GRID, 1, 16), blob_image(GRID, 2, 16)]
    for name, image in zip(("fixed", "moving"), images, strict=True):
        np.save(tmp_path / f"{name}.npy", image.data[0].numpy())
    table = {"low": 0.0, "high": 1.2, "colours": [[0, 0, 0], [1, 0.4, 0], [1, 1, 1]]}
    host = start(quick)
    host.send(**ask(tmp_path, colours=table, mode="slices"))
    event = host.until("done")
    assert event["id"] == "f" and event["result"]["report"]["mode"] == "slices"
    found = np.load(tmp_path / event["result"]["fused"]["file"])
    expected = fuse(*images, colours=ColourTable(**table), mode="slices").image
    assert found.dtype == np.uint8 and found.shape == (3, *GRID.shape)
    assert np.abs(found.astype(int) - expected.data.numpy()).max() <= 1
    np.testing.assert_allclose(event["result"]["fused"]["index_to_world"], GRID.index_to_world)

    host.send(**ask(tmp_path, id="g", mode="whole"))
    assert host.until("failed")["text"].startswith("There is no way to fuse named 'whole'")
    host.send(**ask(tmp_path, id="h", colours={**table, "high": 0.0}))
    assert "has to end above" in host.until("failed")["text"]
    host.send(**ask(tmp_path, id="i", colours={**table, "colours": [[0, 0]]}))
    assert "(at " in host.until("failed")["text"]


def test_the_worker_fuses_through_the_displacements_it_is_given(start, tmp_path):
    images = [blob_image(GRID, 1, 16), blob_image(GRID, 2, 16)]
    field = smooth_field(GRID, 6.0)
    for name, array in (
        ("fixed", images[0].data[0].numpy()),
        ("moving", images[1].data[0].numpy()),
        ("field", field.displacement),
        ("flat", field.displacement[..., :2]),
    ):
        np.save(tmp_path / f"{name}.npy", array)
    host = start(quick)
    place = {"index_to_world": GRID.index_to_world.tolist()}
    host.send(**ask(tmp_path, displacement={"file": "field.npy", **place}, mode="volume"))
    found = np.load(tmp_path / host.until("done")["result"]["fused"]["file"])
    expected, still = (fuse(*images, transform, mode="volume").image.data.numpy() for transform in (field, None))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - still).max() > 1e-3
    host.send(**ask(tmp_path, id="g", displacement={"file": "flat.npy", **place}))
    text = host.until("failed")["text"]
    assert text == "The file 'flat.npy' does not hold displacements of shape (D, H, W, 3)."


def test_a_registration_fuses_with_its_own_transform():
    fixed, moving = blob_image(FLAT, 1, 20), blob_image(FLAT, 1, 20, moved_by=lambda points: points + [3.0, -2.0, 0.0])
    options = {"align": "none", "refine": 10, "parameters": {"refine_with": "edges"}}
    found = register(fixed, moving, "bsafusion", **options)
    assert found.report["fusion"] == {"mode": "plane", "weights": "ct-mri", "reason": "the images are planes"}
    expected = fuse(fixed, moving, found.transform).image
    torch.testing.assert_close(found.fused.data, expected.data)
    # The registration and not the network's own guess: the object has been moved back.
    inside = fixed.grid.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.3]
    left = np.linalg.norm(found.transform(inside) - inside - [-3.0, 2.0, 0.0], axis=1).mean()
    assert left < 0.7 * np.linalg.norm([3.0, 2.0])
    without = register(
        fixed, moving, "bsafusion", **{**options, "parameters": {"fusion": "off", "refine_with": "edges"}}
    )
    assert without.fused is None and "fusion" not in without.report


def test_a_moving_image_in_colour_is_registered_by_its_brightness():
    fixed, moving = blob_image(FLAT, 1, 20), blob_image(FLAT, 2, 20)
    table = ColourTable.named("inferno", 0.0, 1.3)
    coloured = Image((table.apply(moving.data) * 255).round().to(torch.uint8), moving.index_to_world, 2)
    options = {"align": "none", "refine": "off"}
    found = register(fixed, coloured, "bsafusion", **options)
    assert found.warped.data.shape == (3, *FLAT.shape) and found.fused.data.dtype == torch.uint8
    plain = register(fixed, coloured.luminance(), "bsafusion", **options)
    torch.testing.assert_close(found.transform.parts[0].displacement, plain.transform.parts[0].displacement)
    with pytest.raises(InputError, match="The moving image has 3 channels"):
        register(fixed, coloured, "masr", **options)


def test_planes_and_volumes_want_weights_of_their_own():
    parameters = Parameters(weights="spect-mri")
    assert parameters.wanted_weights(2) == "spect-mri" and parameters.wanted_weights(3) == "volumes"
    assert Parameters(weights="none").wanted_weights(3) == "none"
    assert get_model("bsafusion").info.fuses
