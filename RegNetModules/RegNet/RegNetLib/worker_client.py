"""One run at a time in the warm worker process: idle, preparing, running, importing, and what can go wrong between.

Everything that is Qt's or the scene's happens in the main thread: a timer looks at the worker's output twenty times a
second. The worker is started when a panel is opened and stays alive between runs, so that no run has to wait until
torch is loaded. Whatever happens to it is one sentence for the user, and the next run starts a new one.
"""

from __future__ import annotations

import logging
import time

import qt
import slicer
from slicer.i18n import tr as _

from .dependencies import are_complete
from .jobs import Job, State, not_handed_over
from .sent_images import SentImages
from .worker_process import WorkerProcess
from .worker_warming import WarmUp

POLL_MS, HURRIED_POLL_MS = 50, 10
"""Between two looks at the worker; the second while a run waits for its begin."""


class WorkerClient:
    """Runs one job at a time in a worker process that is started when first needed, or when told to :meth:`warm` up.

    ``images`` are the volumes that the runs are about: a job that names some of them begins once they are written.

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
        self.images = SentImages()
        self._forgets = False
        self.job: Job | None = None
        self.state = State.IDLE
        self._watchers: list = []
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.connect("timeout()", self.poll)
        self._never_ready = False
        self._warm_up = WarmUp(self._warm_now)

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

    def warm(self, model: str) -> None:
        """Soon, if nothing else is to be done: start the worker, if it is not there, and have it load what the first
        registration by ``model`` would wait for. Says nothing, and asks for nothing that is not installed."""
        self._warm_up.want(model)

    def is_warm(self) -> bool:
        """Whether the worker has nothing left to load of what it was told to."""
        return self._ready and self.process_id() > 0 and self._warm_up.is_done()

    def forget_images(self) -> None:
        """Remove the files of the volumes: the scene, or a panel, is going away. A job keeps its own until its end."""
        if self.is_busy():
            self._forgets = True
        else:
            self.images.clear()

    def run(self, job: Job) -> None:
        if self.is_busy():
            raise RuntimeError("A job is running already.")
        self._count += 1
        job.identity = str(self._count)
        self.job = job
        self._can_stop = self._stop_asked = False
        self._enter(State.PREPARING)
        self._ensure_process()
        self._timer.start()
        self._submit_when_possible()

    def _ensure_process(self) -> None:
        if self._process is None or not self._process.is_running():
            self._discard_process()
            self._process = self._make_process()
            self._process.start()
        if not self._ready:
            self._deadline = time.monotonic() + self._start_patience

    def _warm_now(self) -> None:
        if self.is_busy() or not self._warm_up.is_wanted():
            return
        if not self._ready or not self._process.is_running():
            if self._never_ready or not are_complete():
                return  # a run tells why
            self._ensure_process()
        elif request := self._warm_up.next_request():
            self._process.send(request)
        self._timer.start()

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
        self._warm_up.stop()
        if self.job is not None:
            self.job.folder.remove()
        self.job, self.state = None, State.IDLE
        self._discard_process()
        self.images.clear()

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
        elif self.state is not State.CANCELLING and not self._ready and time.monotonic() > self._deadline:
            self._discard_process()
            if self.job is not None:
                self._fail("error", _("The registration worker did not start in time; please try again."))
        else:
            self._submit_when_possible()
        if self.job is None and (self._process is None or self._ready and not self._warm_up.is_loading()):
            self._timer.stop()

    def _handle(self, message: dict) -> None:
        event = message.get("event")
        if event == "ready":
            self._ready, self._never_ready = True, False
            self._warm_now()
        elif event == "warm":
            self._warm_up.take_answer(bool(message.get("complete")))
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

    def _submit_when_possible(self) -> None:
        """Once the worker is ready and the images are where it finds them."""
        if self.state is not State.PREPARING:
            return
        try:
            is_written = "kept_folder" not in self.job.request or self.images.are_written()
        except (OSError, MemoryError) as error:
            self._fail("error", not_handed_over(error))
            return
        if not is_written or not self._ready:
            return
        self._warm_up.note_job(self.job.request)
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
        if self._forgets:
            self.images.clear()
        self._forgets = False
        self.state = state
        job.listener.on_state(state)
        self._tell_watchers()

    def _enter(self, state: State) -> None:
        self.state = state
        self._timer.setInterval(HURRIED_POLL_MS if state is State.PREPARING else POLL_MS)
        self.job.listener.on_state(state)
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for callback in list(self._watchers):
            callback()

    def _after_exit(self) -> None:
        ending = self._process.ending()
        self._never_ready = not self._ready
        self._discard_process()
        if self.job is None:
            logging.info("The RegNet worker ended while it had nothing to do: %s", ending)
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
        self._warm_up.forget_worker()


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
