"""Images that outlive their request: read once, bounded, and only from the folder that the request names."""

from __future__ import annotations

import os
import queue

import numpy as np
import pytest
from helpers import blob_image
from regnet import kept_images, worker, worker_files
from regnet.kept_images import KeptImages
from regnet.protocol import RegisterRequest, parse_request
from worker_host import GRID, entry, quick, request_for, result_of


@pytest.fixture
def kept(tmp_path):
    """``kept(name, seed=0)``: an image in a folder of its own, and its entry; ``kept.folder``."""

    def make(name: str, seed: int = 0, matrix: np.ndarray = GRID.index_to_world) -> dict:
        np.save(make.folder / name, blob_image(GRID, seed).data[0].numpy())
        return {**entry(name, matrix), "kept": True}

    make.folder = tmp_path / "kept"
    make.folder.mkdir()
    return make


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Files that were read."""
    names, read = [], worker_files.read_array
    monkeypatch.setattr(
        worker_files, "read_array", lambda folder, one, **how: names.append(one.file) or read(folder, one, **how)
    )
    return names


@pytest.fixture
def request_of(tmp_path, kept):
    """``request_of(fixed, moving)``: a parsed request with kept images."""

    def make(fixed: dict, moving: dict, **changes) -> RegisterRequest:
        ask = {"command": "register", "id": "1", "folder": str(tmp_path), "kept_folder": str(kept.folder)}
        return RegisterRequest.model_validate({**ask, "fixed": fixed, "moving": moving, **changes})

    return make


def test_what_was_read_is_not_read_again(kept, request_of, reads):
    images = KeptImages()
    job = request_of(kept("a.npy", 0), kept("b.npy", 1))
    first, second = images.read(job), images.read(job)
    assert reads == ["a.npy", "b.npy"]
    for name in ("fixed", "moving"):
        assert second[name].data is first[name].data
        np.testing.assert_array_equal(second[name].index_to_world, GRID.index_to_world)
    np.testing.assert_array_equal(first["moving"].data[0].numpy(), np.load(kept.folder / "b.npy"))


def test_the_place_in_the_world_is_the_requests(kept, request_of, reads):
    images, moved = KeptImages(), GRID.index_to_world.copy()
    moved[2, 3] += 5.0
    first, b = kept("a.npy"), kept("b.npy", 1)
    images.read(request_of(first, b))
    found = images.read(request_of({**first, "index_to_world": moved.tolist()}, b))["fixed"]
    np.testing.assert_array_equal(found.index_to_world, moved)
    assert len(reads) == 2


def test_a_file_that_was_written_again_is_read_again(kept, request_of, reads):
    images = KeptImages()
    job = request_of(kept("a.npy", 0), kept("b.npy", 1))
    images.read(job)
    kept("b.npy", 2)
    os.utime(kept.folder / "b.npy", ns=(1, 1))
    found = images.read(job)["moving"]
    np.testing.assert_array_equal(found.data[0].numpy(), blob_image(GRID, 2).data[0].numpy())
    assert reads == ["a.npy", "b.npy", "b.npy"]


def test_only_the_last_images_are_held(kept, request_of, reads):
    images = KeptImages(most=4)
    pairs = [request_of(kept(f"{n}-f.npy", n), kept(f"{n}-m.npy", n + 9)) for n in range(3)]
    for job in pairs:
        images.read(job)
    assert len(images) == 4
    reads.clear()
    images.read(pairs[2])
    images.read(pairs[1])
    assert reads == []
    images.read(pairs[0])
    assert len(reads) == 2 and len(images) == 4


def test_images_give_way_where_memory_is_short(kept, request_of):
    images = KeptImages(share=0.0)
    found = images.read(request_of(kept("a.npy"), kept("b.npy", 1)))
    assert len(images) == 0 and found["fixed"].data.shape == (1, *GRID.shape)


def test_images_that_are_not_kept_are_not_held(kept, request_of, tmp_path, reads):
    np.save(tmp_path / "own.npy", blob_image(GRID, 3).data[0].numpy())
    images, job = KeptImages(), request_of(entry("own.npy"), kept("b.npy", 1))
    images.read(job)
    images.read(job)
    assert reads == ["own.npy", "b.npy", "own.npy"] and len(images) == 1


def test_two_requests_to_the_worker_read_once(start, tmp_path, kept, reads):
    host = start(quick)
    a, b = kept("a.npy"), kept("b.npy", 1)
    for number in range(2):
        host.send(**request_for(tmp_path, str(number), kept_folder=str(kept.folder), fixed=a, moving=b))
        assert host.until("done")["id"] == str(number)
    assert reads == ["a.npy", "b.npy"]
    assert {path.name for path in kept.folder.iterdir()} == {"a.npy", "b.npy"}  # results go to the request's own folder


def test_a_worker_that_is_idle_lets_go(start, tmp_path, kept, monkeypatch):
    forgotten: queue.Queue[int] = queue.Queue()
    forget = KeptImages.forget
    monkeypatch.setattr(KeptImages, "forget", lambda self: (forgotten.put(len(self)), forget(self)))
    monkeypatch.setattr(worker, "SECONDS_TO_FORGET", 0.05)
    host = start(quick)
    for number in range(2):
        host.send(**request_for(tmp_path, str(number), kept_folder=str(kept.folder), fixed=kept("a.npy")))
        assert host.until("done")["id"] == str(number)
        while forgotten.get(timeout=20) == 0:  # before it was asked for anything
            pass


@pytest.mark.parametrize(
    ("file", "folder", "says"),
    [
        ("../outside.npy", "kept", "outside the request's folder"),
        ("/etc/hostname", "kept", "outside the request's folder"),
        ("link.npy", "kept", "outside the request's folder"),
        ("absent.npy", "kept", "missing or is not a .npy array"),
        ("object.npy", "kept", "missing or is not a .npy array"),
        ("warped.npy", "kept", "kept for results"),
        ("a.npy", "relative", "absolute path"),
        ("a.npy", "/no/such/folder", "not an existing folder"),
        ("a.npy", None, "names no kept_folder"),
    ],
)
def test_only_files_of_the_named_folder_are_read(start, tmp_path, kept, file, folder, says):
    kept("a.npy")
    np.save(tmp_path / "outside.npy", np.zeros(GRID.shape))
    (kept.folder / "link.npy").symlink_to(tmp_path / "outside.npy")
    np.save(kept.folder / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(kept.folder / "warped.npy", np.zeros(GRID.shape))
    host = start(quick)
    given = {} if folder is None else {"kept_folder": str(kept.folder) if folder == "kept" else folder}
    host.send(**request_for(tmp_path, fixed={**entry(file), "kept": True}, **given))
    failed = host.until("failed")
    assert failed["kind"] == "input" and says in failed["text"] and "\n" not in failed["text"]


def test_only_registrations_can_name_kept_images():
    ask = '{"command": "fuse", "id": "1", "folder": "/tmp", "fixed": {"file": "a.npy", "kept": true, '
    with pytest.raises(ValueError, match="kept"):
        parse_request(ask + f'"index_to_world": {np.eye(4).tolist()}}}}}')


def test_a_registration_does_not_change_what_is_held(start, tmp_path, kept):
    """The same bits out of the first and of the second run."""
    from regnet.register import register

    small = {"parameters": {"weights": "none", "iterations": 1}, "refine": "off", "align": "moments"}
    results = []

    def run(fixed, moving, **options):
        results.append(register(fixed, moving, **options))
        return result_of(fixed, moving, results[-1].transform)

    host = start(run)
    a, b = kept("a.npy"), kept("b.npy", 1)
    for number in range(2):
        host.send(**request_for(tmp_path, str(number), kept_folder=str(kept.folder), fixed=a, moving=b, **small))
        assert host.until("done")["id"] == str(number)
    points = GRID.points().reshape(-1, 3)
    np.testing.assert_array_equal(results[1].transform(points), results[0].transform(points))
    np.testing.assert_array_equal(results[1].warped.data, results[0].warped.data)
    assert kept_images.MOST_IMAGES == 4
