"""The client's states, and what happens when the worker misbehaves; with the stand-in worker."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FAKE = Path(__file__).with_name("fake_worker.py")


class Recorder:
    """A job's owner that remembers everything it was told."""

    def __init__(self):
        self.states, self.fractions, self.messages = [], [], []
        self.result = self.failure = None
        self.error_on_import = None

    def on_state(self, state):
        self.states.append(state.value)

    def on_progress(self, fraction, stage, text):
        self.fractions.append((fraction, stage, text))

    def on_message(self, level, text):
        self.messages.append((level, text))

    def on_done(self, result, folder):
        if self.error_on_import:
            raise self.error_on_import
        self.result = {**result, "field": folder.load(result["displacement"]["file"])}

    def on_failed(self, kind, text):
        self.failure = (kind, text)

    def is_over(self):
        return self.states[-1] in ("idle", "failed")


@pytest.fixture
def make_client(scene):
    from RegNetLib.worker_client import WorkerClient
    from RegNetLib.worker_process import WorkerProcess

    clients = []

    def make(mode: str, **options):
        clients.append(WorkerClient(lambda: WorkerProcess([sys.executable, str(FAKE), mode]), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


@pytest.fixture
def start(scene):
    """Starts a job on a client; gives its recorder and its folder."""
    from RegNetLib.private_folder import PrivateFolder
    from RegNetLib.worker_client import Job

    def run(client, error_on_import=None):
        folder, recorder = PrivateFolder(), Recorder()
        recorder.error_on_import = error_on_import
        image = {"file": folder.save("fixed", np.ones((4, 5, 6))), "index_to_world": np.eye(4).tolist(), "ndim": 3}
        client.run(Job({"command": "register", "model": "avsm", "fixed": image, "moving": image}, folder, recorder))
        return recorder, folder

    return run


def test_a_run_goes_through_its_states(make_client, start, process_events):
    client = make_client("shift")
    recorder, folder = start(client)
    assert client.is_busy()
    assert process_events(until=recorder.is_over, timeout=20)
    assert recorder.states == ["preparing", "running", "importing", "idle"]
    assert recorder.failure is None
    assert recorder.result["field"].shape == (4, 5, 6, 3)
    assert (0.1, "align", "searching") in recorder.fractions
    assert recorder.messages == [("warning", "A test warning.")]
    assert not client.is_busy() and not folder.path.exists()


def test_the_worker_stays_warm(make_client, start, process_events):
    client = make_client("shift")
    first, _ = start(client)
    assert process_events(until=first.is_over, timeout=20)
    process = client.process_id()
    second, _ = start(client)
    assert process_events(until=second.is_over, timeout=20)
    assert second.result is not None
    assert client.process_id() == process > 0


def test_one_run_at_a_time(make_client, start, process_events):
    client = make_client("slow")
    recorder, _ = start(client)
    with pytest.raises(RuntimeError, match="running already"):
        start(client)
    client.cancel()
    assert process_events(until=recorder.is_over, timeout=20)


def test_cancel_midway(make_client, start, process_events):
    client = make_client("slow")
    recorder, folder = start(client)
    assert process_events(until=lambda: len(recorder.fractions) > 3, timeout=20)
    process, asked = client.process_id(), time.monotonic()
    client.cancel()
    assert recorder.states[-1] == "cancelling"
    assert process_events(until=recorder.is_over, timeout=5)
    assert time.monotonic() - asked < 2.0
    assert recorder.failure[0] == "cancelled" and recorder.states[-1] == "idle"
    assert recorder.result is None and not folder.path.exists()
    assert client.process_id() == process  # an obedient worker stays warm


def test_cancel_before_the_worker_is_ready(make_client, start, process_events):
    client = make_client("mute")
    recorder, folder = start(client)
    process_events(timeout=0.2)
    client.cancel()
    assert recorder.states[-1] == "idle" and recorder.failure[0] == "cancelled"
    assert not folder.path.exists()


def test_a_deaf_worker_is_ended_and_replaced(make_client, start, process_events):
    client = make_client("deaf", cancel_patience=0.5)
    recorder, _ = start(client)
    assert process_events(until=lambda: len(recorder.fractions) > 3, timeout=20)
    process = client.process_id()
    client.cancel()
    assert process_events(until=recorder.is_over, timeout=5)
    assert recorder.failure[0] == "cancelled"
    assert client.process_id() == 0
    again, _ = start(client)
    assert process_events(until=lambda: again.fractions, timeout=20)
    assert client.process_id() not in (0, process)


def test_a_crash_is_one_sentence_and_the_next_run_works(make_client, start, process_events, caplog):
    client = make_client("crash")
    recorder, folder = start(client)
    assert process_events(until=recorder.is_over, timeout=20)
    kind, text = recorder.failure
    assert kind == "error" and "stopped unexpectedly" in text and "\n" not in text
    assert recorder.states[-1] == "failed" and not folder.path.exists()
    assert "about to die" in caplog.text  # the worker's last words are in the log, not on the screen
    client._make_process = make_client("shift")._make_process
    again, _ = start(client)
    assert process_events(until=again.is_over, timeout=20)
    assert again.result is not None


def test_a_killed_worker_is_one_sentence_and_the_next_run_works(make_client, start, process_events):
    client = make_client("slow")
    recorder, folder = start(client)
    assert process_events(until=lambda: recorder.fractions, timeout=20)
    os.kill(client.process_id(), getattr(signal, "SIGKILL", signal.SIGTERM))
    assert process_events(until=recorder.is_over, timeout=10)
    assert recorder.failure[0] == "error" and not folder.path.exists()
    again, _ = start(client)
    assert process_events(until=again.is_over, timeout=20)
    assert again.result is not None and again.states[-1] == "idle"


def test_a_refusal_is_passed_on(make_client, start, process_events):
    client = make_client("refuse")
    recorder, _ = start(client)
    assert process_events(until=recorder.is_over, timeout=20)
    assert recorder.failure == ("input", "The images do not overlap; move one.")
    assert recorder.states[-1] == "failed" and not client.is_busy()


def test_noise_on_the_output_is_ignored(make_client, start, process_events):
    recorder, _ = start(make_client("garbage"))
    assert process_events(until=recorder.is_over, timeout=20)
    assert recorder.result is not None


def test_a_worker_that_never_starts(make_client, start, process_events):
    client = make_client("mute", start_patience=0.4)
    recorder, _ = start(client)
    assert process_events(until=recorder.is_over, timeout=10)
    assert "did not start in time" in recorder.failure[1] and client.process_id() == 0


def test_a_program_that_does_not_exist(scene, start, process_events):
    from RegNetLib.worker_client import WorkerClient
    from RegNetLib.worker_process import WorkerProcess

    client = WorkerClient(lambda: WorkerProcess(["/does/not/exist/python", "-m", "regnet.worker"]))
    recorder, folder = start(client)
    assert process_events(until=recorder.is_over, timeout=10)
    assert recorder.failure[0] == "error" and not folder.path.exists()


def test_an_import_that_fails(make_client, start, process_events):
    client = make_client("shift")
    recorder, folder = start(client, error_on_import=ValueError("the volume was removed"))
    assert process_events(until=recorder.is_over, timeout=20)
    assert recorder.failure == ("error", "The result could not be loaded: the volume was removed")
    assert recorder.states[-1] == "failed" and not folder.path.exists()


def test_stop_leaves_nothing(make_client, start, process_events):
    client = make_client("slow")
    recorder, folder = start(client)
    assert process_events(until=lambda: recorder.fractions, timeout=20)
    process = client.process_id()
    client.stop()
    assert not folder.path.exists() and not client.is_busy() and client.process_id() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_only_the_user_can_read_the_folder(scene):
    from RegNetLib.private_folder import PrivateFolder

    folder = PrivateFolder()
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::-1]
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    np.testing.assert_array_equal(folder.load(folder.save("image", array)), array)
    with pytest.raises(ValueError, match="plain file name"):
        folder.load("../image.npy")
    np.save(folder.path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        folder.load("objects.npy")
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_the_worker_finds_the_core_and_not_slicers_plugins(scene, process_events, monkeypatch):
    """The real process class: its environment has the core on the path, and messages go both ways."""
    from RegNetLib.worker_process import CORE_FOLDER, WorkerProcess

    script = (
        "import json, os, sys; line = json.loads(sys.stdin.readline()); import regnet;"
        "print(json.dumps({'echo': line, 'core': regnet.__file__, 'itk': os.environ['ITK_AUTOLOAD_PATH'],"
        " 'waiting': os.environ['OMP_WAIT_POLICY'],"
        " 'path': os.environ['PYTHONPATH']}))"
    )
    monkeypatch.setenv("PYTHONPATH", "/kept")
    process = WorkerProcess([sys.executable, "-c", script])
    process.start()
    process.send({"text": "Größe “1”"})
    received = []
    assert process_events(until=lambda: received.extend(process.receive()) or received, timeout=10)
    assert received[0]["echo"] == {"text": "Größe “1”"}
    assert Path(received[0]["core"]).parent.parent == CORE_FOLDER
    assert received[0]["waiting"] == "PASSIVE"
    assert received[0]["itk"] == "" and received[0]["path"] == os.pathsep.join([str(CORE_FOLDER), "/kept"])
    process.stop()
