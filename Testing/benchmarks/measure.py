"""Runs one command and says what it cost: wall time, processor time, peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """``cpu_s`` is user and system time of the process and all it waited for; ``load`` the machine's load before."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    load: float


def measure(command: list[str], *, folder: Path, log: Path, environment: dict[str, str], timeout: float) -> Cost:
    """Run ``command`` in ``folder``, its output in the file ``log``; end it and its children after ``timeout`` seconds.

    The kernel counts the peak memory of a process from the one that started it, so the caller has to be small: it must
    not hold images or large libraries.
    """
    load = os.getloadavg()[0]
    with log.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status, usage = _wait(process.pid, started + timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
            raise
        wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(process.returncode, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, load)


def _wait(pid: int, deadline: float) -> tuple[int, object]:
    """Status and resource usage of a child; polling costs nothing measurable and keeps the deadline."""
    while time.perf_counter() < deadline:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        time.sleep(0.01)
    raise TimeoutError
