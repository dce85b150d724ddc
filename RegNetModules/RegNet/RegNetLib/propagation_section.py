"""The Apply button of the propagation panel: one run of several jobs, with one progress bar and one Cancel."""

from __future__ import annotations

import logging

import slicer
from slicer.i18n import tr as _

from .dependencies import DependencyError, ensure_dependencies
from .job_section import JobSection, stage_title
from .jobs import Job, State, not_handed_over
from .private_folder import PrivateFolder
from .propagation_inputs import what_is_missing_to_propagate
from .propagation_run import PropagationRun, SharedFolder, listed


class PropagationSection(JobSection):
    """Carries the panel's segments.

    Args:
        ui: the panel's widgets.
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        get_model: gives (model name, its parameter values).
        on_results: called without arguments when a run has left results.
    """

    def __init__(self, ui, client, get_parameters, get_model, on_results) -> None:
        self._ui = ui
        self._get_parameters, self._get_model, self._on_results = get_parameters, get_model, on_results
        self._run: PropagationRun | None = None
        self._goes_on = False
        self._reason = ""
        self._refused: list[str] = []
        super().__init__(client, ui.applyButton, ui.progressBar, ui.statusLabel)

    def refresh(self) -> None:
        button, running = self._ui.applyButton, self.is_running()
        problem = "" if running else self.problem()
        button.text = _("Cancel") if running else problem.split(";")[0].rstrip(".").replace("&", "&&") or _("Apply")
        button.enabled = not problem and not self.is_cancelling()
        button.toolTip = problem or (
            _("Stop. What is done for whole targets stays, everything else is as it was.")
            if running
            else _("Carry the ticked segments to the targets with the settings above. The window stays usable.")
        )
        self._ui.progressBar.visible = running
        for section in (self._ui.inputsSection, self._ui.targetsSection, self._ui.mappingSection):
            section.enabled = not running
        if running and not self.is_cancelling():
            self._stop_in_vain()

    def _stop_in_vain(self) -> None:
        """What is being worked on may be gone: no use to go on."""
        if self._run is None or self._run.is_done():
            return
        targets = self._run.targets
        self._reason = targets.gone() or targets.gone_target(self._run.target())
        if self._reason:
            self._client.cancel()

    def problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        return self.occupied() or what_is_missing_to_propagate(parameters)

    def start(self) -> None:
        problem = self.problem()
        if problem:
            self.show_status(problem, failed=True)
            return
        self._warnings, self._refused, self._reason, self._goes_on = [], [], "", False
        folder = None
        try:
            ensure_dependencies()
            folder = PrivateFolder(slicer.app.temporaryPath)
            self._run = PropagationRun(self._get_parameters(), self._get_model(), folder)
        except Exception as error:
            self._end(folder)
            self.show_status(_told(error), failed=True)
            self.refresh()
            return
        self.show_status(_("Starting…"))
        self._submit()

    def _submit(self) -> None:
        """Ask for what comes next; a target that cannot be used is passed over where others may go on."""
        while True:
            try:
                self._job = Job(self._run.next_request(), SharedFolder(self._run.folder), self)
                break
            except Exception as error:
                if not self._pass_over(_told(error)):
                    return
        self._client.run(self._job)

    def _pass_over(self, text: str) -> bool:
        """Note why the present target has no result; whether there is another one to go on with."""
        title = self._run.title()
        self._refused.append(f"{title}: {text}" if title else text)
        if self._run.targets.gone() or not self._run.targets.goes_on:
            self._stop()
            return False
        self._run.skip()
        if self._run.is_done():
            self._stop()
            return False
        return True

    def _stop(self, cancelled: bool = False) -> None:
        """The run ends, with all its results or with some."""
        complete = self._run.is_done() and not self._refused
        try:
            kept = self._run.targets.finish(complete, cancelled)
        except Exception as error:
            kept = []
            self._refused.append(_told(error))
        lines = list(self._refused)
        if cancelled:
            lines.append(_("Cancelled.") if kept else _("Cancelled; nothing was changed."))
        if complete:
            lines.append(_("Done: {names}.").format(names=_quoted(kept)))
        elif kept:
            lines.append(_("Done and kept: {names}.").format(names=_quoted(kept)))
        elif not cancelled:
            lines.append(_("Nothing was changed."))
        self.show_status("\n".join([*lines, *self._run.warnings()]), failed=not complete)
        self._end(self._run.folder)
        self.refresh()
        if kept:
            self._on_results()

    def _end(self, folder) -> None:
        self._job = self._run = None
        if folder is not None:
            folder.remove()

    def abandon(self) -> None:
        run = self._run
        super().abandon()
        if run is not None:
            self._end(run.folder)

    # What the client tells, see Listener.

    def on_state(self, state: State) -> None:
        if state is State.IDLE and self._goes_on:  # the job before this one is over, and the client free
            self._goes_on = False
            self._submit()
        elif state in (State.PREPARING, State.CANCELLING):
            super().on_state(state)
        elif state is State.RUNNING and self._run is not None:
            self._bar.setRange(0, 1000)
            self.on_progress(0.0, "read", "")

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        if self._run is None:
            return
        self._bar.value = int(1000 * self._run.fraction(fraction))
        self.show_status(": ".join(filter(None, [self._run.title(), stage_title(stage), text])))

    def on_message(self, level: str, text: str) -> None:
        """Warnings are taken from the reports, where it is known which target they are about."""

    def on_done(self, result: dict, folder) -> None:
        if self._run is None:
            return
        self._run.take(result)
        if self._run.is_done():
            self._stop()
        else:
            self._goes_on = True

    def on_failed(self, kind: str, text: str) -> None:
        if self._run is None:
            return
        self._job = None
        if kind == "cancelled" and not self._reason:
            self._stop(cancelled=True)
            return
        reason, self._reason = self._reason, ""
        logging.info("RegNet did not carry segments: %s", reason or text)
        if kind == "error" and not reason:  # of the worker, or of a result: the next target would fare no better
            self._refused.append(text)
            self._stop()
        elif self._pass_over(reason + "." if reason else text):
            self._submit()


def _told(error: Exception) -> str:
    """One sentence for the user."""
    if isinstance(error, (DependencyError, ValueError)):
        return str(error)
    logging.error("RegNet could not hand over its inputs", exc_info=error)
    return not_handed_over(error)


def _quoted(names: list[str]) -> str:
    return listed([f"“{name}”" for name in names])
