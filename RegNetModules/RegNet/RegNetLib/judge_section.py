"""The verdict on a registration: a traffic light with its reasons, maps, numbers in a table, and a page to keep."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import conversion
from .job_section import SingleJobSection
from .judge_choices import JudgeChoices
from .judge_inputs import build_judge_request, fingerprint, target_errors, what_is_missing_to_judge
from .judge_light import WORDS, light_picture
from .judge_nodes import MAP_TITLES, TABLE, fill_nodes, judged_nodes
from .judge_state import judgement_of, keep_judgement, last_judgement
from .slice_views import slice_views

JUDGE_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetJudge.ui"


class JudgeSection(SingleJobSection):
    """The judgement of the subject's transform.

    Args:
        ui: the panel's widgets; those of this section, which are loaded here into ``ui.reviewSection``, are added.
        client: the shared :class:`WorkerClient`.
        subject: what is judged, see :class:`PanelSubject`.
        review: the :class:`ReviewSection` whose views show the maps.
    """

    def __init__(self, ui, client, subject, review) -> None:
        self._ui, self._subject, self._review = ui, subject, review
        frame = slicer.util.loadUI(str(JUDGE_UI))
        ui.reviewSection.layout().addWidget(frame)
        vars(ui).update(vars(slicer.util.childWidgetVariables(frame)))
        frame.setMRMLScene(slicer.mrmlScene)
        ui.reportDirectoryButton.directory = slicer.app.defaultScenePath or slicer.app.temporaryPath
        self._choices = JudgeChoices(ui, subject, self.refresh)
        self._page = self._showing = False
        self._asked: dict = {}
        self._watched, self._tag = None, 0
        ui.mapComboBox.addItem(_("None"), "")
        super().__init__(client, ui.judgeButton, ui.judgeProgressBar, ui.judgeStatusLabel)
        for widget, signal, slot in (
            (ui.reportButton, "clicked()", self._on_report),
            (ui.mapComboBox, "currentIndexChanged(int)", self._on_map),
            (ui.jumpMovedButton, "clicked()", self._on_jump_moved),
            (ui.jumpFoldButton, "clicked()", self._on_jump_fold),
            (ui.showTableButton, "clicked()", self._on_table),
        ):
            self._connections.add(widget, signal, slot)
        review.watch_overlay(self._show_maps)
        self.refresh()

    def close(self) -> None:
        self._watch(None)
        self._choices.close()
        super().close()

    def refresh(self) -> None:
        running, ui = self.is_running(), self._ui
        problem = "" if running else self.problem()
        ui.judgeButton.text = _("Cancel") if running else _("Judge")
        ui.judgeButton.enabled = not problem and not self.is_cancelling()
        ui.judgeButton.toolTip = problem or (
            _("Stop judging. The last judgement stays.")
            if running
            else _(
                "Find out whether the transform is right: folds, similarity of the two volumes, what lies outside the "
                "field of view. Works for the transform of any program. Takes some seconds; the window stays usable."
            )
        )
        ui.reportButton.enabled = not problem and not running
        ui.judgeProgressBar.visible = running
        ui.judgeChoicesSection.enabled = not running
        self._choices.refresh()
        self._watch(self._subject.transform())
        self._show_verdict()
        self._show_maps()

    def problem(self) -> str:
        if self._subject.parameters() is None:
            return _("The scene is being closed.")
        return self.occupied() or what_is_missing_to_judge(self._subject)

    def build_request(self, folder) -> dict:
        fixed, moving = self._subject.volumes()
        errors = target_errors(self._subject, self._choices)
        self._asked = {
            "nodes": [node.GetID() for node in (fixed, moving, self._subject.transform())],
            "title": f"{moving.GetName()} to {fixed.GetName()}",
            "fingerprint": fingerprint(self._subject),
            "tre": errors,
        }
        return build_judge_request(self._subject, self._choices, self._page, folder)

    def start(self) -> None:
        super().start()
        self._page = False

    def take_over(self, result: dict, folder) -> None:
        nodes = [slicer.mrmlScene.GetNodeByID(identity) for identity in self._asked["nodes"]]
        if None in nodes:
            raise ValueError(_("a volume or the transform was removed meanwhile"))
        maps = {
            name: (folder.load(sent["file"]), sent["index_to_world"])
            for name, sent in (result.get("maps") or {}).items()
            if name in MAP_TITLES
        }
        report = {**result["report"], **({"tre": self._asked["tre"]} if self._asked["tre"] else {})}
        page = self._kept_page(result, folder)
        try:
            fill_nodes(nodes[2], maps, report)
        except Exception:
            if page is not None:
                page.unlink(missing_ok=True)
            raise
        keep_judgement(nodes[2], report, self._asked["fingerprint"])
        self.show_status("\n".join(self._warnings))
        if page is not None:
            self.show_status(_("The report was written to “{path}”.").format(path=page))
            open_page(page)

    def _kept_page(self, result: dict, folder) -> Path | None:
        """Copy the page to where the user wants reports, under a name of its own."""
        if not result.get("page"):
            return None
        place = Path(self._ui.reportDirectoryButton.directory)
        stem = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", self._asked["title"])[:120]
        path, number = place / f"{stem}.html", 1
        while path.exists():
            number += 1
            path = place / f"{stem} {number}.html"
        try:
            shutil.copyfile(Path(folder.path) / Path(result["page"]).name, path)
        except OSError as error:
            path.unlink(missing_ok=True)
            text = _("the report cannot be written to “{place}” ({reason}); choose another folder")
            raise ValueError(text.format(place=place, reason=error.strerror)) from None
        return path

    # What is shown

    def _show_verdict(self) -> None:
        ui, judgement = self._ui, judgement_of(self._subject)
        level = judgement.get("verdict", "unknown") if judgement is not None else ""
        ui.lightLabel.setPixmap(light_picture(level))
        if judgement is not None:
            ui.verdictLabel.text = WORDS.get(level, WORDS["unknown"])
            ui.reasonsLabel.text = "\n".join([*_bulleted(judgement.get("reasons") or []), *_scores(judgement)])
        elif last_judgement(self._subject) is not None and not what_is_missing_to_judge(self._subject):
            ui.verdictLabel.text = _("Not judged since it changed")
            ui.reasonsLabel.text = _("The transform or a volume is another one than at the last judgement.")
        else:
            ui.verdictLabel.text, ui.reasonsLabel.text = _("Not judged yet"), ""
        ui.reasonsLabel.visible = bool(ui.reasonsLabel.text)
        numbers = judgement["numbers"] if judgement is not None else {}
        ui.jumpMovedButton.enabled = bool(numbers.get("displacement_max_at"))
        ui.jumpFoldButton.enabled = bool(numbers.get("smallest_determinant_at"))

    def _show_maps(self) -> None:
        """Offer the maps that there are of the present transform."""
        found = judged_nodes(self._subject.transform())
        names = [name for name in MAP_TITLES if name in found]
        combo = self._ui.mapComboBox
        self._ui.showTableButton.enabled = TABLE in found
        offered = [combo.itemData(n) for n in range(1, combo.count)]
        chosen = combo.itemData(combo.currentIndex)
        self._showing = True
        try:
            if offered != names:
                while combo.count > 1:
                    combo.removeItem(1)
                for name in names:
                    combo.addItem(MAP_TITLES[name], name)
                combo.currentIndex = names.index(chosen) + 1 if chosen in names else 0
            if combo.currentIndex and not self._review.has_overlay():
                combo.currentIndex = 0
        finally:
            self._showing = False
        combo.enabled = bool(names)

    def _on_map(self, _index: int) -> None:
        if not self._showing:
            name = self._ui.mapComboBox.itemData(self._ui.mapComboBox.currentIndex)
            self._review.show_overlay(judged_nodes(self._subject.transform()).get(name))

    def _on_report(self) -> None:
        self._page = True
        self.start()

    def _on_jump_moved(self) -> None:
        self._jump("displacement_max_at")

    def _on_jump_fold(self) -> None:
        self._jump("smallest_determinant_at")

    def _jump(self, name: str) -> None:
        judgement = judgement_of(self._subject)
        if judgement is not None and judgement["numbers"].get(name):
            place = conversion.flipped_points(judgement["numbers"][name])[0].tolist()
            for view in slice_views():
                view.slice_node.JumpSliceByCentering(*place)

    def _on_table(self) -> None:
        """Show the table node in Slicer's layout with a table."""
        table = judged_nodes(self._subject.transform()).get(TABLE)
        logic = slicer.app.applicationLogic()
        if table is not None:
            slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
            logic.GetSelectionNode().SetActiveTableID(table.GetID())
            logic.PropagateTableSelection()

    def _watch(self, transform) -> None:
        """A verdict is about the transform as it was."""
        if transform is self._watched:
            return
        if self._watched is not None:
            self._watched.RemoveObserver(self._tag)
        self._watched = transform
        if transform is not None:
            event = slicer.vtkMRMLTransformNode.TransformModifiedEvent
            self._tag = transform.AddObserver(event, self._on_transform)

    def _on_transform(self, *_arguments) -> None:
        if self._subject.parameters() is not None:
            self._show_verdict()


def open_page(path: Path) -> None:
    """Show a page in the user's browser."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))


def _bulleted(sentences: list[str]) -> list[str]:
    return [f"• {sentence}" for sentence in sentences] if len(sentences) > 1 else list(sentences)


def _scores(judgement: dict) -> list[str]:
    """Dice, HD95 and TRE in a line each, where there are any."""
    lines = []
    segments = [one for one in judgement.get("segments") or [] if one.get("dice") is not None]
    if segments:
        dice = sum(one["dice"] for one in segments) / len(segments)
        distances = [one["hd95_mm"] for one in segments if one.get("hd95_mm") is not None]
        hd95 = f"{sum(distances) / len(distances):.1f} mm" if distances else "–"
        text = _("Dice {dice:.3f}, HD95 {hd95}: mean of {count} segments.")
        lines.append(text.format(dice=dice, hd95=hd95, count=len(segments)))
    errors = judgement.get("tre")
    if errors:
        text = _("Target registration error {mean:.2f} mm: mean of {count} points, largest {largest:.2f} mm.")
        lines.append(text.format(**errors))
    return lines
