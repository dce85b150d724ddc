"""Places that cannot be written and full disks: one sentence, and what was there stays as it was."""

from __future__ import annotations

import contextlib
import resource

import pytest
import regnet.register
from helpers import random_affine, smooth_field
from refusals import refused, write
from regnet.transform import Affine, Composite


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp("good") / "good.nii.gz")


def test_output_that_cannot_be_a_folder(tmp_path, good):
    file = tmp_path / "file.txt"
    file.write_text("mine")
    for target in (file, file / "deeper" / "still", "/proc/regnet-output"):
        sentence = refused("register", good, good, "-o", target)
        assert "cannot be written" in sentence and "-o" in sentence
    assert file.read_text() == "mine"


def test_output_without_permission(tmp_path, good, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    # Not by file mode: an administrator, as in containers, may write anywhere.
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert "Permission denied" in refused("register", good, good, "-o", locked)
    assert list(locked.iterdir()) == []


def test_output_name_taken_by_a_folder(tmp_path, good):
    (tmp_path / "out" / "report.json").mkdir(parents=True)
    assert "is a folder" in refused("register", good, good, "-o", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]


@pytest.fixture
def done_at_once(monkeypatch):
    """A registration that is done at once: these tests are about what is written after it."""

    def fake(fixed, moving, *, events=None, **options):
        transform = Composite((smooth_field(fixed.grid, 2.0), random_affine(1)))
        report = {"model": "avsm", "time_s": {"total": 0.1}, "warnings": []}
        warped = moving.resample(fixed.grid, transform)
        return regnet.register.Registration(transform, warped, report, Affine.identity())

    monkeypatch.setattr(regnet.register, "register", fake)


@contextlib.contextmanager
def small_disk(size: int):
    """No file may grow beyond ``size``: a write fails half-way, as on a full disk.

    Only for the call itself: the limit holds for the test runner's own log too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [2_000, 40_000, 100_000])
def test_full_disk(tmp_path, good, done_at_once, size):
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("earlier")
    with small_disk(size):
        sentence = refused("register", good, good, "-o", out, "-q")
    assert "cannot be written" in sentence
    assert [path.name for path in out.iterdir()] == ["report.json"]
    assert (out / "report.json").read_text() == "earlier"
    fresh = tmp_path / "fresh" / "out"
    with small_disk(size):
        assert refused("register", good, good, "-o", fresh, "-q")
    assert not fresh.parent.exists()


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii", "out.nrrd", "out.mha"])
def test_full_disk_while_an_image_is_written(tmp_path, good, name):
    transform = tmp_path / "t.tfm"
    Affine.identity().write(transform)
    with small_disk(5_000):
        sentence = refused("warp", good, "--reference", good, "--transform", transform, "-o", tmp_path / name)
    assert "cannot be written" in sentence
    assert {path.name for path in tmp_path.iterdir()} == {"t.tfm"}


@pytest.mark.parametrize(
    ("name", "says"),
    [("out.doc", "no known ending"), ("no/such/folder/out.nii.gz", "does not exist"), ("folder.nii.gz", "is a folder")],
)
def test_unusable_output_file(tmp_path, good, name, says):
    (tmp_path / "folder.nii.gz").mkdir()
    Affine.identity().write(tmp_path / "t.tfm")
    arguments = (good, "--reference", good, "--transform", tmp_path / "t.tfm", "-o", tmp_path / name)
    assert says in refused("warp", *arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.nii.gz", "t.tfm"}
