"""A warm process that registers images for a host: ``python -m regnet.worker``.

JSON lines in and out, see :mod:`regnet.protocol`. Torch is loaded once, at the start; then registrations run one after
the other. Three rules keep host and worker apart: standard output carries the protocol and nothing else, files are
read and written only inside the folders that a request names, and no request, however broken, ends the process.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from . import protocol
from ._version import __version__
from .allocator import keep_freed_memory, release_freed_memory
from .errors import Cancelled, RegNetError
from .events import Event, Events, Message, Progress

if TYPE_CHECKING:
    from .kept_images import KeptImages

SECONDS_TO_STOP = 5.0
"""After the host has gone, or asked to shut down, work that does not stop by itself is ended after this long."""

PROGRESS_INTERVAL = 0.05
"""Progress of one stage is sent at most every 50 ms: enough for a smooth bar."""

SECONDS_TO_FORGET = 300.0
"""Images that no request has asked for in this time are let go of."""


class Worker:
    """Reads requests from ``source`` in a thread of its own and runs them, in order, in :meth:`run`'s thread.

    ``register`` is called with the images and the options of a request and returns a ``Registration``. ``end`` ends
    the process when work does not stop in time.
    """

    def __init__(
        self,
        source: TextIO,
        sink: TextIO,
        register: Callable[..., Any] | None = None,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self.source = source
        self.sink = sink
        self.register = register
        self.timer = threading.Timer(SECONDS_TO_STOP, end, args=(0,))
        self.timer.daemon = True
        self.jobs: queue.Queue[protocol.Job | None] = queue.Queue()
        self.cancelled: dict[str, threading.Event] = {}
        self.stopped: dict[str, threading.Event] = {}
        self.closing = threading.Event()
        self.images: KeptImages | None = None
        self._lock = threading.Lock()

    def run(self) -> int:
        """Serve until the input ends or a shutdown is asked for; returns the exit code."""
        threading.Thread(target=self._read, name="regnet-requests", daemon=True).start()
        try:
            device = self._load()
        except Exception as error:  # a broken installation must reach the host as a sentence
            traceback.print_exc()
            self.send(protocol.FailedEvent(id="", kind="error", text=f"RegNet cannot start: {one_line(error)}."))
            return 1
        self.send(protocol.ReadyEvent(version=__version__, device=device))
        while (job := self._next()) is not None:
            self._serve(job)
        self.timer.cancel()
        return 0

    def _next(self) -> protocol.Job | None:
        """The next request, None for no more; while there is none for long, memory is given back."""
        try:
            return self.jobs.get(timeout=SECONDS_TO_FORGET)
        except queue.Empty:
            assert self.images is not None
            self.images.forget()
            release_freed_memory()
            return self.jobs.get()

    def send(self, event: protocol.Event) -> None:
        """Write one event; a host that no longer listens is not an error."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self.sink.write(protocol.encode(event))
            self.sink.flush()

    def _load(self) -> str:
        """Import what registrations need, cap the threads, and name the device that ``auto`` will take."""
        import SimpleITK as sitk
        import torch

        from .kept_images import KeptImages

        self.images = KeptImages()
        keep_freed_memory()
        threads = thread_count()
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        if self.register is None:
            from .register import register

            self.register = register
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    # The reader thread ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in self.source:
            if line.strip() and not self._take(line):
                break
        self._close()

    def _take(self, line: str) -> bool:
        """Handle one line; False ends the reading."""
        try:
            request = protocol.parse_request(line)
        except ValueError as error:
            self.send(protocol.FailedEvent(id=_id_of(line), kind="input", text=str(error)))
            return True
        if isinstance(request, protocol.ShutdownRequest):
            return False
        if isinstance(request, protocol.PingRequest):
            self.send(protocol.PongEvent(id=request.id))
        elif isinstance(request, protocol.CancelRequest):
            # A target that is unknown or already done needs nothing: its answer is on its way.
            flag = self.cancelled.get(request.target)
            if flag is not None:
                flag.set()
        elif isinstance(request, protocol.StopRequest):
            flag = self.stopped.get(request.target)
            if flag is not None:
                flag.set()
        elif request.id in self.cancelled:
            text = f"A request with the id {request.id!r} is already waiting or running; give each its own."
            self.send(protocol.FailedEvent(id=request.id, kind="input", text=text))
        else:
            self.cancelled[request.id], self.stopped[request.id] = threading.Event(), threading.Event()
            self.jobs.put(request)
        return True

    def _close(self) -> None:
        """No more requests: cancel what runs and waits, and leave even if the work should not notice."""
        self.closing.set()
        for flag in list(self.cancelled.values()):
            flag.set()
        self.timer.start()
        self.jobs.put(None)

    # The working thread -----------------------------------------------------------------------------------------

    def _serve(self, job: protocol.Job) -> None:
        flag = self.cancelled[job.id]
        try:
            if isinstance(job, protocol.WarmRequest):
                event: protocol.Event = self._warm(job, flag)
            else:
                event = protocol.DoneEvent(id=job.id, result=self._result(job, flag))
        except Exception as error:
            event = failure(job.id, error)
        release_freed_memory()
        self.stopped.pop(job.id, None)
        self.cancelled.pop(job.id, None)  # last: now the host may use the id again
        self.send(event)

    def _warm(self, job: protocol.WarmRequest, flag: threading.Event) -> protocol.WarmEvent:
        from .warming import warm_up

        assert self.register is not None

        def ends() -> bool:
            return flag.is_set() or not self.jobs.empty()

        return protocol.WarmEvent(id=job.id, complete=warm_up(job.model, self.register, ends))

    def _result(self, job: protocol.Job, flag: threading.Event) -> protocol.Result:
        if flag.is_set() or self.closing.is_set():
            raise Cancelled()
        if isinstance(job, protocol.RegisterRequest):
            return self._register(job, flag)
        from .worker_jobs import answer

        return answer(job, Events(emit=_Forwarder(self, job.id), is_cancelled=flag.is_set))

    def _register(self, job: protocol.RegisterRequest, flag: threading.Event) -> protocol.DoneResult:
        from . import worker_files as files
        from .worker_previews import sent_previews

        assert self.register is not None and self.images is not None
        folder, images = files.private_folder(job.folder), self.images.read(job)
        is_stopped = self.stopped[job.id].is_set
        events = Events(emit=_Forwarder(self, job.id), is_cancelled=flag.is_set, is_stopped=is_stopped)
        with sent_previews(self.send, job.id, folder) as previews:
            events.previews = previews if job.preview else None
            registration = self.register(
                **images,
                taper=job.taper,
                model=job.model,
                align=job.align,
                refine=job.refine,
                parameters=job.parameters,
                device=job.device,
                seed=job.seed,
                memory_mb=job.memory_mb,
                colours=files.colour_table(job.colours),
                events=events,
            )
        events.check()
        return files.write_result(folder, registration, images["fixed"])


class _Forwarder:
    """Turns the core's events into the protocol's, and holds back progress that comes too fast to be seen."""

    def __init__(self, worker: Worker, job_id: str) -> None:
        self.worker = worker
        self.job_id = job_id
        self.sent_at = 0.0
        self.stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            level = "warning" if event.level == "warning" else "info"
            self.worker.send(protocol.MessageEvent(id=self.job_id, level=level, text=event.text))
        elif isinstance(event, Progress):
            now = time.monotonic()
            if event.stage == self.stage and event.fraction < 1.0 and now - self.sent_at < PROGRESS_INTERVAL:
                return
            self.sent_at, self.stage = now, event.stage
            self.worker.send(
                protocol.ProgressEvent(
                    id=self.job_id,
                    fraction=event.fraction,
                    stage=event.stage,
                    text=event.text,
                    can_stop=event.can_stop,
                )
            )


def failure(job_id: str, error: Exception) -> protocol.FailedEvent:
    """What the host is told of ``error``; the traceback of a bug goes to standard error."""
    if isinstance(error, RegNetError):
        return protocol.FailedEvent(id=job_id, kind=error.kind, text=str(error))
    traceback.print_exc()
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        text = "The registration does not fit in memory; close other programs or choose a coarser working grid."
        return protocol.FailedEvent(id=job_id, kind="memory", text=text)
    text = f"The registration failed unexpectedly: {one_line(error)}; the worker's log has the details."
    return protocol.FailedEvent(id=job_id, kind="error", text=text)


def thread_count() -> int:
    """Threads for the numerical libraries: what the user asked for, else all cores but one, which the host keeps."""
    for name in ("REGNET_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - 1 if cores > 2 else cores


def one_line(error: BaseException) -> str:
    """The first line of an error, with its type."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip('.')}" if text else type(error).__name__


def reserve_stdout() -> tuple[TextIO, TextIO]:
    """Private copies of standard input and output; whatever else prints, from Python or C, goes to standard error."""
    sys.stdout.flush()
    source = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="replace", newline="\n")
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return source, sink


def _id_of(line: str) -> str:
    """The id of a request that is otherwise not valid, so that the host knows which one failed."""
    import json

    with contextlib.suppress(ValueError):
        request = json.loads(line)
        if isinstance(request, dict) and isinstance(request.get("id"), str):
            return request["id"]
    return ""


def main() -> int:
    with contextlib.suppress(ValueError, OSError):
        # A Ctrl-C in the host's terminal is the host's to answer; the worker ends when its input does.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = reserve_stdout()
    code = Worker(source, sink).run()
    sys.stderr.flush()
    # Not through the interpreter's teardown: a reader thread blocked on a pipe, or torch, could hold it up.
    os._exit(code)


if __name__ == "__main__":
    main()
