"""The Apply button and what it sets in motion: checks, dependencies, the worker's run, progress, the live preview, its
end, and the import."""

from __future__ import annotations

from slicer.i18n import tr as _

from .inputs import build_request, placing_parent, what_is_missing
from .job_section import SingleJobSection
from .jobs import State
from .live_preview import LivePreview
from .result_import import ResultImporter


class RunSection(SingleJobSection):
    """The registration of the panel's pair.

    Args:
        ui: the panel's widgets.
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        get_model: gives (model name, its title, its parameter values).
        on_result: called with the transform node after a successful run.
        on_preview: called when the moving volume is shown at a new place during the run.
    """

    def __init__(self, ui, client, get_parameters, get_model, on_result, on_preview=None) -> None:
        self._ui = ui
        self._on_preview = on_preview or (lambda: None)
        self._preview = LivePreview()
        self._get_parameters, self._get_model, self._on_result = get_parameters, get_model, on_result
        super().__init__(client, ui.applyButton, ui.progressBar, ui.statusLabel)
        self._connections.add(ui.stopButton, "clicked()", self.on_stop)

    def refresh(self) -> None:
        button, running = self._ui.applyButton, self.is_running()
        problem = "" if running else self.problem()
        button.text = _("Cancel") if running else _shortened(problem) or _("Apply")
        button.enabled = not problem and not self.is_cancelling()
        button.toolTip = problem or (
            _("Stop the registration. Nothing is changed and nothing is left behind.")
            if running
            else _("Register the moving volume to the fixed volume with the settings above. The window stays usable.")
        )
        ui = self._ui
        ui.progressBar.visible = running
        ui.stopButton.visible = running
        ui.stopButton.enabled = running and self._client.can_stop()
        if not self._wants_preview():
            self._preview.hide()
        for section in (
            ui.inputsSection,
            ui.regionSection,
            ui.modelSection,
            ui.alignmentSection,
            ui.outputSection,
        ):
            section.enabled = not running

    def on_stop(self) -> None:
        self._client.stop_here()
        self.show_status(_("Stopping here…"))

    def suspend(self) -> None:
        """Another module is shown: the moving volume is where it was, while the run goes on."""
        self._preview.pause()

    def resume(self) -> None:
        self._preview.resume()

    def abandon(self) -> None:
        self._preview.end()
        super().abandon()

    def _wants_preview(self) -> bool:
        parameters = self._get_parameters()
        return parameters is not None and parameters.livePreview

    def problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        return self.occupied() or what_is_missing(parameters)

    def build_request(self, folder) -> dict:
        parameters = self._get_parameters()
        name, title, values = self._get_model()
        parent = placing_parent(parameters.movingVolume)
        self._importer = ResultImporter(parameters, parent, title)
        self._preview.begin(parameters.movingVolume, parent)
        request = build_request(parameters, values, folder, self._client.images)
        return {**request, "model": name, "preview": parameters.livePreview}

    def on_state(self, state: State) -> None:
        if state not in (State.PREPARING, State.RUNNING):
            self._preview.end()
        super().on_state(state)

    def on_preview(self, preview: dict, folder) -> None:
        if self._wants_preview() and self._preview.show(preview, folder):
            self._on_preview()

    def take_over(self, result: dict, folder) -> None:
        transform = self._importer.load(result, folder)
        seconds = result.get("report", {}).get("time_s", {}).get("total")
        lines = [_("Done in {seconds:.1f} s.").format(seconds=seconds) if seconds else _("Done.")]
        if self._importer.synthetic is not None:  # the slice views go on showing the two volumes that were acquired
            name = self._importer.synthetic.GetName()
            lines.append(_("The translated image is the volume “{name}”.").format(name=name))
        if self._importer.fused is not None:
            lines.append(_("The fused image is the volume “{name}”.").format(name=self._importer.fused.GetName()))
        self.show_status("\n".join([*lines, *self._warnings]))
        self._on_result(transform)


def _shortened(problem: str) -> str:
    """What is wrong, without what to do about it, short enough for a button."""
    text = problem.split(";")[0].rstrip(".").replace("&", "&&")
    return text if len(text) <= 70 else text[:69] + "…"
