"""The host's end of a worker that runs in a thread, and requests to send it."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers import blob_image, oblique_grid
from regnet.image import Image
from regnet.transform import Affine
from regnet.worker import Worker


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


GRID = oblique_grid((20, 24, 30), (2.0, 1.5, 1.0), (10, 20, -15), flip=(1, -1, 1))


def entry(name: str, matrix: np.ndarray = GRID.index_to_world, ndim: int = 3) -> dict:
    return {"file": name, "index_to_world": matrix.tolist(), "ndim": ndim}


def request_for(place: Path, job: str = "1", **changes) -> dict:
    """A valid register request, its images written."""
    for name, seed in (("fixed.npy", 0), ("moving.npy", 1)):
        np.save(place / name, blob_image(GRID, seed).data[0].numpy())
    request = {"id": job, "command": "register", "folder": str(place), "fixed": entry("fixed.npy")}
    return {**request, "moving": entry("moving.npy"), **changes}


def result_of(fixed: Image, moving: Image, transform=None, synthetic: Image | None = None) -> SimpleNamespace:
    transform = transform or Affine.identity()
    warped = moving.resample(fixed.grid, transform)
    report = {"sdlogj": np.float32("nan"), "n": 1}
    return SimpleNamespace(transform=transform, warped=warped, fused=None, synthetic=synthetic, report=report)


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
