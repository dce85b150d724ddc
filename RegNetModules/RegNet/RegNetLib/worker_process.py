"""The worker as an operating system process: JSON lines to its standard input, JSON lines from its standard output."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import qt

CORE_FOLDER = Path(__file__).resolve().parent.parent
"""Where ``import regnet`` is found."""
KEPT_ERROR_BYTES = 20_000


def worker_command() -> list[str]:
    """The Python that runs the worker: Slicer's own where there is one, else the interpreter of this process."""
    return [shutil.which("PythonSlicer") or sys.executable, "-m", "regnet.worker"]


class WorkerProcess:
    """Starts the worker and exchanges messages with it. Nothing here waits, and nothing runs on another thread."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or worker_command()
        self._process = None
        self._ended = qt.QProcess.NotRunning
        self._output = b""
        self._errors = b""

    def start(self) -> None:
        self._output = self._errors = b""
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(_environment())
        self._process.start(self._command[0], self._command[1:])

    def is_running(self) -> bool:
        return self._process is not None and self._process.state() != self._ended

    def process_id(self) -> int:
        return int(self._process.processId()) if self.is_running() else 0

    def send(self, message: dict) -> None:
        self._process.write(json.dumps(message).encode("ascii") + b"\n")

    def receive(self) -> list[dict]:
        """All whole messages that have arrived since the last call."""
        if self._process is None:
            return []
        self._errors = (self._errors + _bytes(self._process.readAllStandardError()))[-KEPT_ERROR_BYTES:]
        self._output += _bytes(self._process.readAllStandardOutput())
        *lines, self._output = self._output.split(b"\n")
        return [message for message in map(_parsed, lines) if message is not None]

    def ending(self) -> str:
        """How the process ended, for the log: exit code and the last lines it wrote to its standard error."""
        code = self._process.exitCode() if self._process is not None else None
        tail = self._errors.decode("utf-8", "replace").strip().splitlines()[-15:]
        return "\n".join([f"exit code {code}", *tail])

    def stop(self) -> None:
        """End the process now; the worker holds nothing that needs saving."""
        if self._process is not None:
            self._process.kill()
            self._process.waitForFinished(2000)
            self._process = None


def _environment():
    environment = qt.QProcessEnvironment.systemEnvironment()
    present = environment.value("PYTHONPATH") or ""
    environment.insert("PYTHONPATH", os.pathsep.join([str(CORE_FOLDER), present]) if present else str(CORE_FOLDER))
    environment.insert("PYTHONUNBUFFERED", "1")
    # Threads that wait without spinning: otherwise every other busy program makes torch many times slower.
    environment.insert("OMP_WAIT_POLICY", environment.value("OMP_WAIT_POLICY") or "PASSIVE")
    environment.insert("ITK_AUTOLOAD_PATH", "")  # Slicer's ITK plug-ins only load inside Slicer
    return environment


def _bytes(raw) -> bytes:
    """The content of a QByteArray, however the Qt binding hands it over."""
    data = raw if isinstance(raw, (bytes, str)) else raw.data()
    return data.encode("utf-8") if isinstance(data, str) else bytes(data)


def _parsed(line: bytes) -> dict | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
