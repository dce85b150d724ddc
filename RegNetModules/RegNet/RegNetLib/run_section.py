"""The Apply button and what it sets in motion: checks, dependencies, the worker's run, progress, cancel, the import."""

from __future__ import annotations

import logging

import slicer
from slicer.i18n import tr as _

from .connections import Connections
from .dependencies import DependencyError, ensure_dependencies
from .inputs import build_request, placing_parent, what_is_missing
from .private_folder import PrivateFolder
from .result_import import ResultImporter
from .worker_client import Job, Listener, State

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
}
"""What the core's stages are called on screen, by their first word; others are shown as they are named."""


class RunSection(Listener):
    """Binds the Apply button, the progress bar and the status line to the worker's client.

    Args:
        ui: the panel's widgets.
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        get_model: gives (model name, its title, its parameter values).
        on_result: called with the transform node after a successful run.
    """

    def __init__(self, ui, client, get_parameters, get_model, on_result) -> None:
        self._ui, self._client = ui, client
        self._get_parameters, self._get_model, self._on_result = get_parameters, get_model, on_result
        self._job: Job | None = None
        self._importer: ResultImporter | None = None
        self._warnings: list[str] = []
        self._connections = Connections()
        self._connections.add(ui.applyButton, "clicked()", self.on_button)
        ui.progressBar.visible = False
        self.show_status("")

    def close(self) -> None:
        self.abandon()
        self._connections.close()

    def is_running(self) -> bool:
        return self._job is not None

    def abandon(self) -> None:
        """Forget a run without touching any node: the scene or the panel is going away."""
        if self._job is not None:
            self._job = None
            self._client.stop()
            self.refresh()

    def on_button(self) -> None:
        if self.is_running():
            self._client.cancel()
        else:
            self.start()

    def start(self) -> None:
        """Check, write the images where the worker finds them, and start."""
        parameters = self._get_parameters()
        problem = self._problem()
        if problem:
            self.show_status(problem, failed=True)
            return
        folder = None
        try:
            ensure_dependencies()
            name, title, values = self._get_model()
            folder = PrivateFolder(slicer.app.temporaryPath)
            self._importer = ResultImporter(parameters, placing_parent(parameters.movingVolume), title)
            self._job = Job({**build_request(parameters, values, folder), "model": name}, folder, self)
            self._warnings = []
            self.show_status(_("Starting…"))
            self._client.run(self._job)
        except (DependencyError, ValueError) as error:
            self._give_up(folder, str(error))
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or _("not enough memory")
            text = _("The images could not be handed to the worker ({reason}); free some space and press Apply again.")
            self._give_up(folder, text.format(reason=reason))

    def _give_up(self, folder, text: str) -> None:
        """The run could not be started: leave nothing and say why."""
        logging.info("RegNet did not start: %s", text)
        self._job = None
        if folder is not None:
            folder.remove()
        self.show_status(text, failed=True)
        self.refresh()

    def refresh(self) -> None:
        """Show what the button does now, or why it can do nothing."""
        button = self._ui.applyButton
        running = self.is_running()
        problem = "" if running else self._problem()
        cancelling = self._client.state is State.CANCELLING
        button.text = _("Cancel") if running else _shortened(problem) or _("Apply")
        button.enabled = not problem and not (running and cancelling)
        button.toolTip = problem or (
            _("Stop the registration. Nothing is changed and nothing is left behind.")
            if running
            else _("Register the moving volume to the fixed volume with the settings above. The window stays usable.")
        )
        ui = self._ui
        ui.progressBar.visible = running
        for section in (ui.inputsSection, ui.modelSection, ui.alignmentSection, ui.outputSection):
            section.enabled = not running

    def _problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        if self._client.is_busy() and not self.is_running():
            return _("Another RegNet panel is running a registration; wait for it or cancel it there.")
        return what_is_missing(parameters)

    def show_status(self, text: str, failed: bool = False) -> None:
        self._ui.statusLabel.text = text
        self._ui.statusLabel.visible = bool(text)
        self._ui.statusLabel.toolTip = _("What the last run did, or why it stopped.") if failed else ""

    # What the client tells, see Listener.

    def on_state(self, state: State) -> None:
        if self._job is None:
            self.refresh()
            return
        bar = self._ui.progressBar
        if state is State.PREPARING:
            bar.setRange(0, 0)
            self.show_status(_("Starting the registration worker…"))
        elif state is State.RUNNING:
            bar.setRange(0, 1000)
            bar.value = 0
            self.show_status(_("Reading the images…"))
        elif state is State.CANCELLING:
            self.show_status(_("Cancelling…"))
        elif state is State.IMPORTING:
            self.show_status(_("Loading the result…"))
        self.refresh()

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        self._ui.progressBar.value = int(1000 * fraction)
        first, _space, rest = stage.partition(" ")
        name = " ".join(filter(None, [STAGES.get(first, first), rest]))
        self.show_status(": ".join(filter(None, [name, text])))

    def on_message(self, level: str, text: str) -> None:
        if level == "warning":
            self._warnings.append(text)

    def on_done(self, result: dict, folder) -> None:
        transform = self._importer.load(result, folder)
        self._job = None
        seconds = result.get("report", {}).get("time_s", {}).get("total")
        lines = [_("Done in {seconds:.1f} s.").format(seconds=seconds) if seconds else _("Done.")]
        if self._importer.synthetic is not None:  # the slice views go on showing the two volumes that were acquired
            name = self._importer.synthetic.GetName()
            lines.append(_("The translated image is the volume “{name}”.").format(name=name))
        self.show_status("\n".join([*lines, *self._warnings]))
        self._on_result(transform)
        self.refresh()

    def on_failed(self, kind: str, text: str) -> None:
        if self._job is None:
            return
        self._job = None
        self.show_status(text, failed=kind != "cancelled")
        self.refresh()


def _shortened(problem: str) -> str:
    """What is wrong, without what to do about it, short enough for a button."""
    text = problem.split(";")[0].rstrip(".").replace("&", "&&")
    return text if len(text) <= 70 else text[:69] + "…"
