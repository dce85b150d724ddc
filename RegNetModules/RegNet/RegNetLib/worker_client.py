"""One run at a time in the warm worker process: idle, preparing, running, importing, and what can go wrong between.

Everything happens in the main thread: a timer looks at the worker's output twenty times a second. The worker stays
alive between runs, so that only the first run pays for loading torch. Whatever happens to it is one sentence for the
user, and the next run starts a new one.
"""

from __future__ import annotations

import enum
import logging
import time

import qt
import slicer
from slicer.i18n import tr as _

from .worker_process import WorkerProcess


class State(enum.Enum):
    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    IMPORTING = "importing"
    CANCELLING = "cancelling"
    FAILED = "failed"


class Job:
    """A request and who asked for it. The listener's methods are called in the main thread, see :class:`Listener`."""

    def __init__(self, request: dict, folder, listener: Listener) -> None:
        self.request, self.folder, self.listener = request, folder, listener
        self.identity = ""

    @property
    def command(self) -> str:
        """What the worker is asked for: "register" or "fuse"."""
        return str(self.request.get("command", ""))


class Listener:
    """What a job's owner can react to; every method may be left as it is."""

    def on_state(self, state: State) -> None:
        """The client entered ``state``."""

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        """``fraction`` of all the work in [0, 1]."""

    def on_message(self, level: str, text: str) -> None:
        """One sentence; ``level`` is "info" or "warning"."""

    def on_preview(self, preview: dict, folder) -> None:
        """The present transform of a job that asked for previews, see the protocol; only the newest is told."""

    def on_done(self, result: dict, folder) -> None:
        """Take the result over; the folder is removed afterwards. Raising makes the run fail."""

    def on_failed(self, kind: str, text: str) -> None:
        """The run ended without a result; ``kind`` is "cancelled" where the user asked for that."""


class WorkerClient:
    """Runs one job at a time in a worker process that is started when first needed.

    Args:
        make_process: gives a process like :class:`WorkerProcess`.
        cancel_patience: seconds a worker may take to obey a cancel before it is ended.
        start_patience: seconds a new worker may take to say that it is ready.
    """

    def __init__(self, make_process=WorkerProcess, cancel_patience: float = 5.0, start_patience: float = 180.0) -> None:
        self._make_process = make_process
        self._cancel_patience, self._start_patience = cancel_patience, start_patience
        self._process = None
        self._ready = False
        self._deadline = 0.0
        self._count = 0
        self._can_stop = self._stop_asked = False
        self.job: Job | None = None
        self.state = State.IDLE
        self._watchers: list = []
        self._timer = qt.QTimer()
        self._timer.setInterval(50)
        self._timer.connect("timeout()", self.poll)

    def is_busy(self) -> bool:
        return self.job is not None

    def process_id(self) -> int:
        """The worker's process id, 0 when none is running."""
        return self._process.process_id() if self._process is not None else 0

    def watch(self, callback) -> None:
        """Call ``callback`` without arguments at every change of state, and of :meth:`can_stop`, whichever job it is
        about."""
        self._watchers.append(callback)

    def unwatch(self, callback) -> None:
        if callback in self._watchers:
            self._watchers.remove(callback)

    def run(self, job: Job) -> None:
        if self.is_busy():
            raise RuntimeError("A job is running already.")
        self._count += 1
        job.identity = str(self._count)
        self.job = job
        self._can_stop = self._stop_asked = False
        self._enter(State.PREPARING)
        if self._process is None or not self._process.is_running():
            self._ready = False
            self._process = self._make_process()
            self._process.start()
            self._deadline = time.monotonic() + self._start_patience
        self._timer.start()
        if self._ready:
            self._submit()

    def cancel(self) -> None:
        """Ask for a stop. The job ends as "cancelled" within the patience given, or at once if it had not begun."""
        if self.state is State.PREPARING:
            self._fail("cancelled", _("Cancelled; nothing was changed."))
        elif self.state is State.RUNNING:
            self._deadline = time.monotonic() + self._cancel_patience
            self._process.send({"id": f"cancel-{self.job.identity}", "command": "cancel", "target": self.job.identity})
            self._enter(State.CANCELLING)

    def can_stop(self) -> bool:
        """Whether the job is at something that :meth:`stop_here` would end."""
        return self.state is State.RUNNING and self._can_stop and not self._stop_asked

    def stop_here(self) -> None:
        """Ask the job to end its optimisation and to give what it has reached as its result."""
        if self.can_stop():
            self._stop_asked = True
            self._process.send({"id": f"stop-{self.job.identity}", "command": "stop", "target": self.job.identity})
            self._tell_watchers()

    def stop(self) -> None:
        """End the worker and forget the job, without a word to its owner: the application or the scene is closing."""
        self._timer.stop()
        if self.job is not None:
            self.job.folder.remove()
        self.job, self.state, self._ready = None, State.IDLE, False
        if self._process is not None:
            self._process.stop()
            self._process = None

    def poll(self) -> None:
        """Look at what the worker has said since the last time."""
        if self._process is None:
            return
        for message in without_old_previews(self._process.receive()):
            self._handle(message)
        if self._process is not None and not self._process.is_running():
            for message in self._process.receive():  # what it wrote between the last look and its end
                self._handle(message)
            self._after_exit()
        elif self.state is State.CANCELLING and time.monotonic() > self._deadline:
            self._discard_process()
            self._fail("cancelled", _("Cancelled; nothing was changed."))
        elif self.state is State.PREPARING and not self._ready and time.monotonic() > self._deadline:
            self._discard_process()
            self._fail("error", _("The registration worker did not start in time; please try again."))
        if self.job is None:
            self._timer.stop()

    def _handle(self, message: dict) -> None:
        event = message.get("event")
        if event == "ready":
            self._ready = True
            if self.state is State.PREPARING:
                self._submit()
        elif self.job is None or (message.get("id") or self.job.identity) != self.job.identity:
            return  # about a job that is over
        elif event == "progress" and self.state is State.RUNNING:
            self._note_can_stop(bool(message.get("can_stop")))
            self.job.listener.on_progress(
                float(message.get("fraction", 0.0)), str(message.get("stage", "")), str(message.get("text", ""))
            )
        elif event == "message":
            self.job.listener.on_message(str(message.get("level", "info")), str(message.get("text", "")))
        elif event == "preview" and self.state is State.RUNNING:
            self.job.listener.on_preview(message, self.job.folder)
        elif event == "done":
            self._finish(message.get("result") or {})
        elif event == "failed":
            self._fail(str(message.get("kind", "error")), str(message.get("text", "")))

    def _note_can_stop(self, can_stop: bool) -> None:
        if can_stop != self._can_stop:
            self._can_stop = can_stop
            self._tell_watchers()

    def _submit(self) -> None:
        self._enter(State.RUNNING)
        self._process.send({**self.job.request, "id": self.job.identity, "folder": str(self.job.folder.path)})

    def _finish(self, result: dict) -> None:
        if self.state is State.CANCELLING:  # it finished just when it was told to stop: the user wants none of it
            self._fail("cancelled", _("Cancelled; nothing was changed."))
            return
        job = self.job
        self._enter(State.IMPORTING)
        try:
            job.listener.on_done(result, job.folder)
        except Exception as error:
            logging.exception("RegNet could not take over a result")
            self._fail("error", _("The result could not be loaded: {reason}").format(reason=error))
            return
        self._release(State.IDLE)

    def _fail(self, kind: str, text: str) -> None:
        listener = self.job.listener
        self._release(State.IDLE if kind == "cancelled" else State.FAILED)
        listener.on_failed(kind, text)

    def _release(self, state: State) -> None:
        job, self.job = self.job, None
        job.folder.remove()
        self.state = state
        job.listener.on_state(state)
        self._tell_watchers()

    def _enter(self, state: State) -> None:
        self.state = state
        self.job.listener.on_state(state)
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for callback in list(self._watchers):
            callback()

    def _after_exit(self) -> None:
        ending = self._process.ending()
        self._discard_process()
        if self.job is None:
            return
        logging.error("The RegNet worker ended: %s", ending)
        if self.state is State.CANCELLING:
            self._fail("cancelled", _("Cancelled; nothing was changed."))
        else:
            self._fail(
                "error",
                _(
                    "The registration worker stopped unexpectedly (perhaps for lack of memory); nothing was changed. "
                    "Please try again."
                ),
            )

    def _discard_process(self) -> None:
        if self._process is not None:
            self._process.stop()
        self._process, self._ready = None, False


def without_old_previews(messages: list[dict]) -> list[dict]:
    """``messages`` without the previews that another message of the same look has overtaken, or the job's end."""
    ends = any(message.get("event") in ("done", "failed") for message in messages)
    previews = [message for message in messages if message.get("event") == "preview"]
    old = previews if ends else previews[:-1]
    return [message for message in messages if not any(message is one for one in old)]


_shared: WorkerClient | None = None


def shared_client() -> WorkerClient:
    """The client that all RegNet panels share: one worker, one run at a time. Its worker ends with the application."""
    global _shared
    if _shared is None:
        _shared = WorkerClient()
        slicer.app.connect("aboutToQuit()", stop_shared_client)
    return _shared


def stop_shared_client() -> None:
    if _shared is not None:
        _shared.stop()
