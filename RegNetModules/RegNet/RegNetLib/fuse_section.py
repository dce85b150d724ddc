"""The step that fuses the pair as it is seen now, whatever registered it: a button beside the plain blend."""

from __future__ import annotations

from slicer.i18n import tr as _

from .fuse_inputs import MODEL_TITLE, build_fuse_request, seen_through, what_is_missing_to_fuse
from .fused_volume import FusionImporter, tell_fusion
from .job_section import SingleJobSection
from .jobs import State


class FuseSection(SingleJobSection):
    """The fusion of the panel's pair.

    Args:
        ui: the panel's widgets.
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        on_fused: called with the fused volume's node.
    """

    def __init__(self, ui, client, get_parameters, on_fused) -> None:
        self._ui, self._get_parameters, self._on_fused = ui, get_parameters, on_fused
        self._reason = ""
        super().__init__(client, ui.fuseButton, ui.fuseProgressBar, ui.fuseStatusLabel)

    def refresh(self) -> None:
        button, running = self._ui.fuseButton, self.is_running()
        problem = "" if running else self.problem()
        button.text = _("Cancel fusion") if running else _("Fuse with {model}").format(model=MODEL_TITLE)
        button.enabled = not problem and not self.is_cancelling()
        button.toolTip = problem or (
            _("Stop the fusion. Nothing is changed and nothing is left behind.")
            if running
            else _(
                "Make one picture of the two volumes as they lie on each other now, by {model}'s network, in the "
                "colours of the moving volume. It becomes a volume of its own; a network made it, for looking at, not "
                "for diagnosis. The window stays usable."
            ).format(model=MODEL_TITLE)
        )
        self._ui.fuseProgressBar.visible = running
        self._ui.fuseWeightsComboBox.enabled = not running
        if running and not self.is_cancelling():
            self._stop_in_vain()

    def _stop_in_vain(self) -> None:
        """What is being fused may be gone: no use to go on."""
        gone = self._importer.what_is_gone()
        if gone:
            self._reason = _("Nothing was fused: {reason}.").format(reason=gone)
            self._client.cancel()

    def problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        return self.occupied() or what_is_missing_to_fuse(parameters)

    def build_request(self, folder) -> dict:
        parameters = self._get_parameters()
        self._reason = ""
        self._importer = FusionImporter(parameters, seen_through(parameters), MODEL_TITLE)
        return build_fuse_request(parameters, folder)

    def take_over(self, result: dict, folder) -> None:
        volume = self._importer.load(result, folder)
        text = _("Fused {how}. The fused image is the volume “{name}”.")
        line = text.format(how=tell_fusion(result.get("report") or {}), name=volume.GetName())
        self.show_status("\n".join([line, *self._warnings]))
        self._on_fused(volume)

    def on_state(self, state: State) -> None:
        super().on_state(state)
        if state is State.RUNNING:
            self._bar.setRange(0, 0)  # a volume is fused in one pass: nothing to count

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        if fraction > 0.0:
            self._bar.setRange(0, 1000)
        super().on_progress(fraction, stage, text)

    def on_failed(self, kind: str, text: str) -> None:
        super().on_failed(kind, self._reason or text)
