"""The worker reads and writes arrays inside the request's folder, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import blob_image, random_affine, smooth_field
from regnet import worker_files
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
    np.save(folder / "warped.npy", np.zeros(GRID.shape))
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


def test_any_transform_can_be_told_as_affine_and_field():
    fixed = blob_image(GRID)
    points = GRID.points().reshape(-1, 3)
    odd = Composite((random_affine(1), smooth_field(GRID, 2.0), random_affine(2)))
    for transform in (random_affine(3), smooth_field(GRID, 2.0), odd):
        affine, field = worker_files.split_transform(transform, fixed)
        moved = points if field is None else field(points)
        np.testing.assert_allclose(Affine(affine)(moved), transform(points), atol=1e-4)
