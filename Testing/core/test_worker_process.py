"""The worker as a process: its end, its threads, its streams, and a real registration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import regnet
from helpers import blob_image, random_affine
from regnet import worker as worker_module
from regnet.transform import Affine, Composite, DisplacementField
from worker_host import GRID, Host, quick, request_for, result_of, waiting

ROOT = Path(regnet.__file__).resolve().parents[1]


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
