"""What the parts of a panel that start a job in the worker share: a button that becomes Cancel, progress, one line."""

from __future__ import annotations

import logging

import slicer
from slicer.i18n import tr as _

from .connections import Connections
from .dependencies import DependencyError, ensure_dependencies
from .jobs import Job, Listener, State, not_handed_over
from .private_folder import PrivateFolder

STAGES = {
    "read": _("Reading the images"),
    "align": _("Initial alignment"),
    "model": _("Registration"),
    "affine": _("Affine registration"),
    "field": _("Deformation"),
    "momentum": _("Deformation"),
    "search": _("Search"),
    "optimise": _("Optimisation"),
    "refine": _("Refinement"),
    "export": _("Resampling and measuring"),
    "fuse": _("Fusion"),
    "points": _("Meeting the points"),
    "images": _("Fitting the images"),
    "check": _("Checking the result"),
    "labels": _("Carrying the segments"),
    "numbers": _("Measuring the segments"),
    "judge": _("Judging"),
    "folds": _("Looking for folds"),
    "displacement": _("Measuring the displacement"),
    "inverse": _("Inverting the transform"),
    "similarity": _("Comparing the volumes"),
}
"""What the core's stages are called on screen, by their first word; others are shown as they are named."""


def stage_title(stage: str) -> str:
    """What a stage of the core is called on screen."""
    first, _space, rest = stage.partition(" ")
    return " ".join(filter(None, [STAGES.get(first, first), rest]))


class JobSection(Listener):
    """Binds a button, a progress bar and a line of text to work of one kind. A derived class starts it (``start``),
    says what is in the way (``problem``) and how the button looks (``refresh``).

    Args:
        client: the shared :class:`WorkerClient`.
        button, bar, label: the widgets.
    """

    def __init__(self, client, button, bar, label) -> None:
        self._client = client
        self._button, self._bar, self._label = button, bar, label
        self._job: Job | None = None
        self._warnings: list[str] = []
        self._connections = Connections()
        self._connections.add(button, "clicked()", self.on_button)
        bar.visible = False
        self.show_status("")
        client.watch(self.refresh)

    def problem(self) -> str:
        """One sentence that says why nothing can be started; empty if it can."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin, or say why not."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Show what the button does now, or why it can do nothing."""
        raise NotImplementedError

    def close(self) -> None:
        self._client.unwatch(self.refresh)
        self.abandon()
        self._connections.close()

    def is_running(self) -> bool:
        return self._job is not None

    def is_cancelling(self) -> bool:
        return self.is_running() and self._client.state is State.CANCELLING

    def abandon(self) -> None:
        """Forget a job without touching any node: the scene or the panel is going away."""
        if self._job is not None:
            self._forget_job()
            self._client.stop()
            self.refresh()

    def _forget_job(self) -> None:
        """It is over. A derived class lets go of what it kept for the answer: the scene may have been closed."""
        self._job = None

    def on_button(self) -> None:
        if self.is_running():
            self._client.cancel()
        else:
            self.start()

    def show_status(self, text: str, failed: bool = False) -> None:
        self._label.text = text
        self._label.visible = bool(text)
        self._label.toolTip = _("What the last run did, or why it stopped.") if failed else ""

    def occupied(self) -> str:
        """Why the worker cannot take another job now; empty if it can."""
        if self.is_running() or not self._client.is_busy():
            return ""
        if self._client.job.command == "fuse":
            return _("A fusion is running; wait for it or cancel it where it was started.")
        if self._client.job.command == "correct":
            return _("A correction is running; wait for it or cancel it where it was started.")
        if self._client.job.command == "judge":
            return _("A registration is being judged; wait for it or cancel that where it was started.")
        return _("A registration is running; wait for it or cancel it where it was started.")

    # What the client tells, see Listener.

    def on_state(self, state: State) -> None:
        if self._job is None:
            return
        if state is State.PREPARING:
            self._bar.setRange(0, 0)
            self.show_status(_("Starting the registration worker…"))
        elif state is State.RUNNING:
            self._bar.setRange(0, 1000)
            self._bar.value = 0
            self.show_status(_("Reading the images…"))
        elif state is State.CANCELLING:
            self.show_status(_("Cancelling…"))
        elif state is State.IMPORTING:
            self.show_status(_("Loading the result…"))

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        self._bar.value = int(1000 * fraction)
        self.show_status(": ".join(filter(None, [stage_title(stage), text])))

    def on_message(self, level: str, text: str) -> None:
        if level == "warning":
            self._warnings.append(text)

    def on_failed(self, kind: str, text: str) -> None:
        if self._job is None:
            return
        self._forget_job()
        self.show_status(text, failed=kind != "cancelled")
        self.refresh()


class SingleJobSection(JobSection):
    """Work of one job. A derived class says what is sent (``build_request``) and what becomes of the answer
    (``take_over``); until then it may keep an ``_importer``, which is None between jobs."""

    _importer = None

    def build_request(self, folder) -> dict:
        """What to ask of the worker, the images written into ``folder``; remembers what the answer will be about."""
        raise NotImplementedError

    def take_over(self, result: dict, folder) -> None:
        """Make nodes of the answer. Raising makes the job fail."""
        raise NotImplementedError

    def start(self) -> None:
        """Check, write the images where the worker finds them, and start."""
        problem = self.problem()
        if problem:
            self.show_status(problem, failed=True)
            return
        folder = None
        try:
            ensure_dependencies()
            folder = PrivateFolder(slicer.app.temporaryPath)
            self._job = Job(self.build_request(folder), folder, self)
            self._warnings = []
            self.show_status(_("Starting…"))
            self._client.run(self._job)
        except (DependencyError, ValueError) as error:
            self._give_up(folder, str(error))
        except (OSError, MemoryError) as error:
            self._give_up(folder, not_handed_over(error))

    def _give_up(self, folder, text: str) -> None:
        """The job could not be started: leave nothing and say why."""
        logging.info("RegNet did not start: %s", text)
        self._forget_job()
        if folder is not None:
            folder.remove()
        self.show_status(text, failed=True)
        self.refresh()

    def on_done(self, result: dict, folder) -> None:
        self.take_over(result, folder)
        self._forget_job()
        self.refresh()

    def _forget_job(self) -> None:
        super()._forget_job()
        self._importer = None
