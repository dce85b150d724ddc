"""The worker: one protocol on its output, nothing outside its folder, and nothing that a host sends ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import blob_image, oblique_grid, random_affine, smooth_field

import regnet
from regnet import worker as worker_module
from regnet import worker_files
from regnet.errors import InputError, MemoryError_, ModelError
from regnet.image import Image
from regnet.transform import Affine, Composite, DisplacementField
from regnet.worker import Worker

ROOT = Path(regnet.__file__).resolve().parents[1]


class Host:
    """The other end of a worker that runs in a thread: sends lines, waits for events."""

    def __init__(self, register) -> None:
        request_end, self._requests = os.pipe()
        self._events, event_end = os.pipe()
        self.ended: list[int] = []
        self.code: int | None = None
        source, sink = os.fdopen(request_end, "r"), os.fdopen(event_end, "w")
        self.worker = Worker(source, sink, register, end=self.ended.append)
        self.requests = os.fdopen(self._requests, "w")
        self.events = os.fdopen(self._events, "r")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.code = self.worker.run()

    def send(self, **request) -> None:
        self.send_line(json.dumps(request))

    def send_line(self, line: str) -> None:
        self.requests.write(line + "\n")
        self.requests.flush()

    def next(self) -> dict:
        return json.loads(self.events.readline())

    def until(self, event: str, **fields) -> dict:
        while True:
            found = self.next()
            if found["event"] == event and all(found.get(name) == value for name, value in fields.items()):
                return found

    def close(self) -> None:
        self.requests.close()
        self.thread.join(timeout=20)


@pytest.fixture
def start():
    hosts: list[Host] = []

    def begin(register) -> Host:
        hosts.append(Host(register))
        assert hosts[-1].next()["event"] == "ready"
        return hosts[-1]

    yield begin
    for host in hosts:
        host.close()
        assert not host.thread.is_alive()


GRID = oblique_grid((20, 24, 30), (2.0, 1.5, 1.0), (10, 20, -15), flip=(1, -1, 1))


def entry(name: str, matrix: np.ndarray = GRID.index_to_world, ndim: int = 3) -> dict:
    return {"file": name, "index_to_world": matrix.tolist(), "ndim": ndim}


def request_for(place: Path, job: str = "1", **changes) -> dict:
    """A valid register request, its images written."""
    for name, seed in (("fixed.npy", 0), ("moving.npy", 1)):
        np.save(place / name, blob_image(GRID, seed).data[0].numpy())
    request = {"id": job, "command": "register", "folder": str(place), "fixed": entry("fixed.npy")}
    return {**request, "moving": entry("moving.npy"), **changes}


def result_of(fixed: Image, moving: Image, transform=None) -> SimpleNamespace:
    transform = transform or Affine.identity()
    warped = moving.resample(fixed.grid, transform)
    return SimpleNamespace(transform=transform, warped=warped, fused=None, report={"sdlogj": np.float32("nan"), "n": 1})


def quick(fixed, moving, *, events, **options):
    with events.stage("align", 0.0, 1.0):
        events.progress(0.5, "half")
    return result_of(fixed, moving)


def waiting(started: threading.Event):
    """A registration that goes on until it is cancelled."""

    def run(fixed, moving, *, events, **options):
        started.set()
        while True:
            events.progress(0.1)
            time.sleep(0.01)

    return run


def test_a_registration_from_request_to_files(start, tmp_path):
    seen = {}
    transform = Composite((smooth_field(GRID, 3.0), random_affine(1)))

    def run(fixed, moving, *, events, **options):
        seen.update(options, fixed=fixed, moving=moving)
        events.warn("Working at 2 mm.")
        with events.stage("align", 0.0, 1.0):
            events.progress(0.5, "half")
        return result_of(fixed, moving, transform)

    host = start(run)
    np.save(tmp_path / "mask.npy", np.ones(GRID.shape, np.uint8))
    changes = {"parameters": {"iterations": 5}, "seed": 3, "align": "rigid", "fixed_mask": entry("mask.npy")}
    host.send(**request_for(tmp_path, "job", **changes))
    assert host.until("message", id="job") == {
        "event": "message", "id": "job", "level": "warning", "text": "Working at 2 mm.",
    }  # fmt: skip
    fractions = []
    while (event := host.next())["event"] == "progress":
        assert event["id"] == "job" and event["stage"] == "align"
        fractions.append(event["fraction"])
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert event["event"] == "done" and event["id"] == "job"

    assert seen["parameters"] == {"iterations": 5} and seen["seed"] == 3 and seen["align"] == "rigid"
    assert seen["model"] == "avsm" and seen["device"] == "auto" and seen["refine"] == "auto"
    assert "moving_mask" not in seen and int(seen["fixed_mask"].data.sum()) == np.prod(GRID.shape)
    np.testing.assert_array_equal(seen["fixed"].index_to_world, GRID.index_to_world)
    np.testing.assert_array_equal(seen["moving"].data[0].numpy(), np.load(tmp_path / "moving.npy"))

    result = event["result"]
    assert result["report"] == {"sdlogj": None, "n": 1} and result["fused"] is None
    field = result["displacement"]
    grid = type(GRID)(np.load(tmp_path / field["file"]).shape[:3], np.array(field["index_to_world"]))
    rebuilt = Composite(
        (DisplacementField(np.load(tmp_path / field["file"]), grid), Affine(np.array(result["affine"])))
    )
    points = GRID.points().reshape(-1, 3)
    np.testing.assert_allclose(rebuilt(points), transform(points), atol=1e-4)
    warped = np.load(tmp_path / result["warped"]["file"])
    assert warped.shape == (1, *GRID.shape) and warped.dtype == np.float32
    np.testing.assert_array_equal(np.array(result["warped"]["index_to_world"]), GRID.index_to_world)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"fixed.npy", "moving.npy", "mask.npy", "displacement.npy", "warped.npy"}


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


def test_ping_is_answered_while_work_runs_and_cancel_stops_it(start, tmp_path):
    started = threading.Event()
    host = start(waiting(started))
    host.send(**request_for(tmp_path))
    assert started.wait(10)
    host.send(command="ping", id="p")
    host.until("pong", id="p")
    before = time.monotonic()
    host.send(id="c", command="cancel", target="1")
    failed = host.until("failed")
    assert time.monotonic() - before < 0.5
    assert failed["id"] == "1" and failed["kind"] == "cancelled"
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy"}
    # The worker is as good as before, also for the same id.
    host.worker.register = quick
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


def test_a_waiting_request_can_be_cancelled(start, tmp_path):
    started = threading.Event()
    ran = []

    def run(fixed, moving, *, events, seed, **options):
        ran.append(seed)
        return waiting(started)(fixed, moving, events=events) if seed == 0 else result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path, "first", seed=0))
    assert started.wait(10)
    host.send(**request_for(tmp_path, "second", seed=1))
    host.send(**request_for(tmp_path, "third", seed=2))
    host.send(command="cancel", target="second")
    host.send(command="cancel", target="first")
    assert host.until("failed")["id"] == "first"
    assert host.until("failed") == {
        "event": "failed", "id": "second", "kind": "cancelled", "text": "Cancelled; nothing was changed.",
    }  # fmt: skip
    assert host.until("done")["id"] == "third"
    assert ran == [0, 2]


def test_cancel_of_an_unknown_request_is_harmless(start, tmp_path):
    host = start(quick)
    host.send(command="cancel", target="nobody")
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


def test_same_id_twice_is_refused(start, tmp_path):
    started = threading.Event()
    host = start(waiting(started))
    host.send(**request_for(tmp_path))
    assert started.wait(10)
    host.send(**request_for(tmp_path))
    failed = host.until("failed")
    assert failed["kind"] == "input" and "'1'" in failed["text"]


@pytest.mark.parametrize(
    ("line", "id_", "says"),
    [
        ("this is not JSON", "", "not valid"),
        ("[1, 2]", "", "not valid"),
        ('{"id": "7", "command": "explode"}', "7", "explode"),
        ('{"id": "7"}', "7", "not valid"),
        ('{"id": "7", "command": "register"}', "7", "register.folder"),
        ('{"id": "7", "command": "cancel"}', "7", "cancel.target"),
        ('{"id": 7, "command": "ping"}', "", "ping.id"),
        ('{"id": "7", "command": "ping", "extra": 1}', "7", "extra"),
    ],
)
def test_broken_requests_are_answered_and_survived(start, tmp_path, line, id_, says):
    host = start(quick)
    host.send_line(line)
    failed = host.next()
    assert failed["event"] == "failed" and failed["kind"] == "input" and failed["id"] == id_
    assert says in failed["text"] and "\n" not in failed["text"]
    host.send(**request_for(tmp_path))
    assert host.until("done")["id"] == "1"


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


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (InputError("The fixed image is empty."), "input", "The fixed image is empty."),
        (ModelError("No model."), "model", "No model."),
        (MemoryError_("Too large."), "memory", "Too large."),
        (MemoryError(), "memory", "does not fit in memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory", "does not fit in memory"),
        (ValueError("first line\nsecond line"), "error", "ValueError: first line;"),
        (KeyError(), "error", "KeyError"),
    ],
)
def test_every_failure_is_one_sentence_and_survived(start, tmp_path, error, kind, says):
    def run(*images, **options):
        raise error

    host = start(run)
    host.send(**request_for(tmp_path))
    failed = host.until("failed")
    assert failed["kind"] == kind and says in failed["text"] and "\n" not in failed["text"]
    host.worker.register = quick
    host.send(**request_for(tmp_path, "again"))
    assert host.until("done")["id"] == "again"


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


def test_progress_is_thinned_but_never_loses_the_end(start, tmp_path):
    def run(fixed, moving, *, events, **options):
        for name, low, high in (("align", 0.0, 0.5), ("refine", 0.5, 1.0)):
            with events.stage(name, low, high):
                for step in range(2000):
                    events.progress(step / 2000)
        return result_of(fixed, moving)

    host = start(run)
    host.send(**request_for(tmp_path))
    seen = []
    while (event := host.next())["event"] == "progress":
        seen.append(event)
    assert len(seen) < 500
    assert {event["stage"] for event in seen} == {"align", "refine"} and seen[-1]["fraction"] == 1.0


def test_end_of_input_and_shutdown_stop_the_work(tmp_path):
    for end in ("eof", "shutdown"):
        started = threading.Event()
        host = Host(waiting(started))
        host.send(**request_for(tmp_path))
        assert started.wait(20)
        if end == "eof":
            host.requests.close()
        else:
            host.send(command="shutdown")
        host.thread.join(timeout=5)
        assert not host.thread.is_alive() and host.code == 0
        assert host.until("failed")["kind"] == "cancelled"
        assert host.ended == []
        if end == "shutdown":
            host.requests.close()


def test_work_that_does_not_notice_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "SECONDS_TO_STOP", 0.2)
    release, started = threading.Event(), threading.Event()

    def deaf(fixed, moving, **options):
        started.set()
        release.wait(20)
        return result_of(fixed, moving)

    host = Host(deaf)
    host.send(**request_for(tmp_path))
    assert started.wait(20)
    host.send(command="shutdown")
    deadline = time.monotonic() + 5
    while not host.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert host.ended == [0]
    release.set()
    host.requests.close()
    host.thread.join(timeout=10)


def test_a_host_that_is_gone_is_no_crash(tmp_path):
    host = Host(quick)
    assert host.next()["event"] == "ready"
    host.events.close()
    host.send(**request_for(tmp_path))
    host.requests.close()
    host.thread.join(timeout=20)
    assert host.code == 0


@pytest.mark.parametrize(("name", "value", "threads"), [("REGNET_THREADS", "3", 3), ("OMP_NUM_THREADS", "5", 5)])
def test_threads_asked_for(monkeypatch, name, value, threads):
    monkeypatch.delenv("REGNET_THREADS", raising=False)
    monkeypatch.setenv(name, value)
    assert worker_module.thread_count() == threads


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (8, 7)])
def test_one_core_is_left_to_the_host(monkeypatch, cores, threads):
    for name in ("REGNET_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert worker_module.thread_count() == threads


def test_a_missing_library_is_told_and_ends_the_process(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    host = Host(None)
    failed = host.next()
    host.close()
    assert failed["event"] == "failed" and "cannot start" in failed["text"] and "torch" in failed["text"]
    assert host.code == 1


def test_standard_output_carries_the_protocol_only():
    """What Python and C print goes to standard error; what reads standard input gets nothing."""
    code = (
        "import os, sys\n"
        "from regnet.worker import reserve_stdout\n"
        "source, sink = reserve_stdout()\n"
        "print('from python'); os.write(1, b'from C\\n'); os.system('echo from a child')\n"
        "assert sys.stdin.read() == ''\n"
        "sink.write(source.readline()); sink.flush()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="hello\n", capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout == "hello\n"
    assert all(words in done.stderr for words in ("from python", "from C", "from a child"))


def test_a_real_process_registers_a_real_pair(tmp_path):
    transform = random_affine(4, degrees=4, shift=2)
    fixed = blob_image(GRID, 3, extent=16, moved_by=transform)
    moving = blob_image(GRID, 3, extent=16)
    request = request_for(tmp_path, parameters={"iterations": 5}, refine=3, device="cpu")
    np.save(tmp_path / "fixed.npy", fixed.data[0].numpy())
    np.save(tmp_path / "moving.npy", moving.data[0].numpy())
    process = subprocess.Popen(
        [sys.executable, "-m", "regnet.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        events = [json.loads(process.stdout.readline())]
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        while events[-1]["event"] not in ("done", "failed"):
            events.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
    ready, done = events[0], events[-1]
    assert ready["event"] == "ready" and ready["version"] == regnet.__version__
    assert done["event"] == "done", done
    report = done["result"]["report"]
    assert report["similarity_after"] > report["similarity_before"] and report["folding_percent"] == 0
    field = done["result"]["displacement"]
    displacement = np.load(tmp_path / field["file"])
    grid = type(GRID)(displacement.shape[:3], np.array(field["index_to_world"]))
    found = Composite((DisplacementField(displacement, grid), Affine(np.array(done["result"]["affine"]))))
    warped = np.load(tmp_path / "warped.npy")
    np.testing.assert_allclose(warped, moving.resample(GRID, found).data.numpy(), atol=2e-3)
