"""The worker reads and writes arrays inside the request's folder, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import blob_image, oblique_grid, random_affine, smooth_field
from regnet import worker_files
from regnet.image import Image
from regnet.transform import Affine, Composite
from worker_host import GRID, entry, quick, request_for, result_of


def test_integer_images_become_float_and_2d_stays_2d(start, tmp_path):
    seen = {}

    def run(fixed, moving, *, events, **options):
        seen["fixed"] = fixed
        return result_of(fixed, moving)

    host = start(run)
    request = request_for(tmp_path)
    np.save(tmp_path / "fixed.npy", np.arange(600, dtype=np.int16).reshape(1, 20, 30))
    request["fixed"] = request["moving"] = entry("fixed.npy", np.eye(4), 2)
    host.send(**request)
    assert host.until("done")["result"]["displacement"] is None
    assert seen["fixed"].ndim == 2 and seen["fixed"].data.is_floating_point()
    assert float(seen["fixed"].data.max()) == 599


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fixed": entry("../outside.npy")}, "outside the request's folder"),
        ({"fixed": entry("/etc/hostname")}, "outside the request's folder"),
        ({"fixed": entry("link.npy")}, "outside the request's folder"),
        ({"fixed": entry(".")}, "outside the request's folder"),
        ({"fixed": entry("absent.npy")}, "missing or is not a .npy array"),
        ({"fixed": entry("text.npy")}, "missing or is not a .npy array"),
        ({"fixed": entry("object.npy")}, "missing or is not a .npy array"),
        ({"fixed": entry("flat.npy")}, "shape (D, H, W)"),
        ({"fixed": entry("complex.npy")}, "does not hold numbers"),
        ({"moving": entry("warped.npy")}, "kept for results"),
        ({"moving": entry("synthetic.npy")}, "kept for results"),
        ({"folder": "relative"}, "absolute path"),
        ({"folder": "/no/such/folder"}, "not an existing folder"),
    ],
)
def test_files_outside_or_unusable(start, tmp_path, changes, says):
    folder = tmp_path / "private"
    folder.mkdir()
    np.save(tmp_path / "outside.npy", np.zeros(GRID.shape))
    (folder / "link.npy").symlink_to(tmp_path / "outside.npy")
    (folder / "text.npy").write_text("hello")
    np.save(folder / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "flat.npy", np.zeros(5))
    np.save(folder / "complex.npy", np.zeros(GRID.shape, complex))
    for name in ("warped.npy", "synthetic.npy"):
        np.save(folder / name, np.zeros(GRID.shape))
    host = start(quick)
    before = {path.name for path in folder.iterdir()} | {"fixed.npy", "moving.npy"}
    host.send(**request_for(folder, **changes))
    failed = host.until("failed")
    assert failed["kind"] == "input" and says in failed["text"] and "\n" not in failed["text"]
    assert {path.name for path in folder.iterdir()} == before


def test_matrices_must_be_finite_and_4x4(start, tmp_path):
    host = start(quick)
    for matrix in ([[1, 0, 0, 0]] * 3, [[1, 0, 0]] * 4):
        request = request_for(tmp_path)
        request["fixed"]["index_to_world"] = matrix
        host.send(**request)
        assert "index_to_world" in host.until("failed", id="1")["text"]
    line = json.dumps(request_for(tmp_path)).replace("1.0", "NaN", 1)
    host.send_line(line)
    assert host.until("failed")["kind"] == "input"


def test_a_result_that_cannot_be_written_leaves_nothing(start, tmp_path, monkeypatch):
    host = start(quick)
    save, saved = worker_files._save, []

    def full(path, array):
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(path)
        save(path, array)

    def run(fixed, moving, **options):
        return result_of(fixed, moving, smooth_field(GRID, 2.0))

    host.worker.register = run
    monkeypatch.setattr(worker_files, "_save", full)
    host.send(**request_for(tmp_path))
    failed = host.until("failed")
    assert failed["kind"] == "input" and "No space left on device" in failed["text"]
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy"}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_synthetic_image_travels_whole(start, tmp_path, dims):
    """Its values to the last bit, and its own place in the world, which the host must not have to guess."""
    shape = (1, 26, 19) if dims == 2 else (18, 26, 19)
    matrix = oblique_grid(shape, (1.1, 1.7, 2.3), (-12, 25, 7), (3.0, -8.0, 11.0), flip=(-1, 1, 1)).index_to_world
    values = np.random.default_rng(4).random(shape, np.float32)
    made = Image.from_numpy(values, matrix, dims)
    host = start(lambda fixed, moving, **options: result_of(fixed, moving, synthetic=made))
    host.send(**request_for(tmp_path))
    result = host.until("done")["result"]
    sent = np.load(tmp_path / result["synthetic"]["file"], allow_pickle=False)
    assert sent.dtype == np.float32 and sent.shape == (1, *shape)
    np.testing.assert_array_equal(sent[0], values)
    np.testing.assert_array_equal(result["synthetic"]["index_to_world"], matrix)
    assert result["synthetic"]["ndim"] == dims
    assert result["synthetic"] != result["warped"]
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy", "warped.npy", "synthetic.npy"}


def test_a_synthetic_image_that_cannot_be_written_takes_the_rest_along(start, tmp_path, monkeypatch):
    save = worker_files._save

    def full(path, array):
        if path.name == "synthetic.npy":
            raise OSError(28, "No space left on device")
        save(path, array)

    monkeypatch.setattr(worker_files, "_save", full)
    host = start(lambda fixed, moving, **options: result_of(fixed, moving, synthetic=blob_image(GRID)))
    host.send(**request_for(tmp_path))
    assert "No space left on device" in host.until("failed")["text"]
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy"}


def test_any_transform_can_be_told_as_affine_and_field():
    fixed = blob_image(GRID)
    points = GRID.points().reshape(-1, 3)
    odd = Composite((random_affine(1), smooth_field(GRID, 2.0), random_affine(2)))
    for transform in (random_affine(3), smooth_field(GRID, 2.0), odd):
        affine, field = worker_files.split_transform(transform, fixed)
        moved = points if field is None else field(points)
        np.testing.assert_allclose(Affine(affine)(moved), transform(points), atol=1e-4)
