"""The Correct section of a registration panel: points and a region that say where the result is wrong, and Refine."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .correct_import import CorrectionImporter, correction_of
from .correct_inputs import (
    build_correct_request,
    chosen_segment,
    what_is_missing_to_correct,
    what_is_missing_to_place,
)
from .correct_points import Pair, PointPairs
from .correct_table import PairRow, PairTable
from .history_undo import can_revert, revert
from .job_section import SingleJobSection
from .segment_choice import SegmentChoice, segment_identities
from .slice_views import views_kept

CORRECT_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetCorrect.ui"
SAME = 0.02
"""Errors in mm nearer to each other than this are one: Slicer and the worker round differently."""


class CorrectSection(SingleJobSection):
    """Corrects the panel's present result.

    Args:
        ui: the panel's widgets; those of the section are added to them.
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        on_result: called with the transform node after a successful correction.

    ``widget`` is to be put into the panel.
    """

    def __init__(self, ui, client, get_parameters, on_result) -> None:
        self._ui, self._get_parameters, self._on_result = ui, get_parameters, on_result
        self._reason = ""
        self.widget = slicer.util.loadUI(str(CORRECT_UI))
        vars(ui).update(vars(slicer.util.childWidgetVariables(self.widget)))
        ui.correctSection = self.widget
        ui.correctSegmentationSelector.setMRMLScene(slicer.mrmlScene)
        self._later = qt.QTimer()  # a point that is dragged moves many times before anybody looks
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self.points = PointPairs(get_parameters, self._later.start)
        self._table = PairTable(ui.pairsTable, self.points.jump)
        self._segment = SegmentChoice(ui.correctSegmentComboBox, self._on_segment)
        super().__init__(client, ui.correctButton, ui.correctProgressBar, ui.correctStatusLabel)
        for widget, signal, slot in (
            (ui.addPairButton, "clicked()", self.points.begin_placing),
            (ui.deletePairButton, "clicked()", self.on_delete),
            (ui.clearPairsButton, "clicked()", self.points.clear),
            (ui.undoCorrectionButton, "clicked()", self.on_undo),
            (ui.pairsTable, "itemSelectionChanged()", self._refresh_buttons),
            (self._later, "timeout()", self.refresh),
        ):
            self._connections.add(widget, signal, slot)

    def close(self) -> None:
        self._later.stop()
        self.suspend()
        self.points.close()
        self._table.close()
        self._segment.close()
        super().close()

    def suspend(self) -> None:
        """The panel is left, or the scene is closed: clicks place no more points."""
        self.points.end_placing()

    def refresh(self) -> None:
        self.points.refresh()
        parameters = self._get_parameters()
        if parameters is None:
            self._segment.show(None, "")
        else:
            self._segment.show(parameters.correctSegmentation, chosen_segment(parameters))
        self._table.show(self._rows())
        button, running = self._ui.correctButton, self.is_running()
        problem = "" if running else self.problem()
        button.text = _("Cancel") if running else _("Refine")
        button.enabled = not problem and not self.is_cancelling()
        button.toolTip = problem or (
            _("Stop the correction. Nothing is changed and nothing is left behind.")
            if running
            else _(
                "Correct the present result by the points, and in the region. It becomes a transform of its own, which "
                "is the panel's result then; the one before it stays as it is. The window stays usable."
            )
        )
        self._ui.correctProgressBar.visible = running
        self._refresh_buttons()
        if running and not self.is_cancelling():
            self._stop_in_vain()

    def _refresh_buttons(self) -> None:
        ui, parameters, free = self._ui, self._get_parameters(), not self.is_running()
        missing = _("The scene is being closed.") if parameters is None else what_is_missing_to_place(parameters)
        ui.addPairButton.enabled = free and not missing
        ui.deletePairButton.enabled = free and bool(self._table.chosen())
        ui.clearPairsButton.enabled = free and bool(self.points.pairs())
        corrected = parameters is not None and bool(correction_of(parameters.resultTransform))
        ui.undoCorrectionButton.enabled = corrected and not self._client.is_busy() and can_revert(parameters)
        for widget in (ui.correctModeComboBox, ui.correctSegmentationSelector, ui.correctAdvancedSection):
            widget.enabled = free
        segments = parameters is not None and bool(segment_identities(parameters.correctSegmentation))
        ui.correctSegmentComboBox.enabled = free and segments
        ui.correctImagesCheckBox.enabled = free and not segments

    def problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        return self.occupied() or what_is_missing_to_correct(parameters, self.points.pairs())

    def build_request(self, folder) -> dict:
        parameters, pairs = self._get_parameters(), self.points.pairs()
        self._reason = ""
        request, sent = build_correct_request(parameters, pairs, folder)
        self._importer = CorrectionImporter(parameters, [pair.label for pair in pairs], sent)
        return request

    def take_over(self, result: dict, folder) -> None:
        transform = self._importer.load(result, folder)
        self.show_status("\n".join([_told(result.get("report") or {}), *self._warnings, *self._notes()]))
        with views_kept():  # at what was corrected
            self._on_result(transform)

    def on_failed(self, kind: str, text: str) -> None:
        super().on_failed(kind, self._reason or text)

    def on_delete(self) -> None:
        self.points.delete(self._table.chosen())

    def on_undo(self) -> None:
        """Back to the result before the last correction."""
        parameters = self._get_parameters()
        corrected = parameters.resultTransform
        revert(parameters)
        before = parameters.resultTransform
        text = _("Back to “{before}”. “{corrected}” stays in the scene.")
        name = before.GetName() if before is not None else _("no result")
        self.show_status(text.format(before=name, corrected=corrected.GetName()))
        self.refresh()

    def _stop_in_vain(self) -> None:
        """What is being corrected may be gone: no use to go on."""
        gone = self._importer.what_is_gone()
        if gone:
            self._reason = _("Nothing was corrected: {reason}.").format(reason=gone)
            self._client.cancel()

    def _notes(self) -> list[str]:
        """What the correction has not changed although one might think so."""
        parameters = self._get_parameters()
        volume = parameters.outputVolume if parameters.createVolume else None
        if volume is None:
            return []
        text = _("The resampled volume “{name}” is still the one before the correction.")
        return [text.format(name=volume.GetName())]

    def _rows(self) -> list[PairRow]:
        """The pairs with their present errors; beside the errors before where the result was corrected by them."""
        parameters = self._get_parameters()
        result = parameters.resultTransform if parameters is not None else None
        if result is None:
            return []
        known = {row["name"]: row for row in correction_of(result).get("points") or []}
        return [_row(pair, pair.error(result), known.get(pair.label)) for pair in self.points.pairs()]

    def _on_segment(self, identity: str) -> None:
        self._get_parameters().correctSegment = identity


def _row(pair: Pair, error: float, known: dict | None) -> PairRow:
    if known is not None and abs(known["after_mm"] - error) < SAME:
        return PairRow(pair.label, known["before_mm"], error)
    return PairRow(pair.label, error, None)


def _told(report: dict) -> str:
    """The result of a correction in one or two sentences."""
    points, seconds = report.get("points") or [], (report.get("time_s") or {}).get("total")
    lines = [_("Corrected in {seconds:.1f} s.").format(seconds=seconds) if seconds else _("Corrected.")]
    if points:
        means = [sum(row[name] for row in points) / len(points) for name in ("before_mm", "after_mm")]
        lines.append(_("Mean error of the points: {0:.2f} → {1:.2f} mm.").format(*means))
    if report.get("reach_mm"):
        lines.append(_("Nothing changed beyond {reach:.0f} mm.").format(reach=report["reach_mm"]))
    return " ".join(lines)
