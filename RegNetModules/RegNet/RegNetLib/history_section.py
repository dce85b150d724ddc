"""The History section of a registration panel: earlier results, taken up again, compared, deleted; and Revert."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from . import history
from .compare_views import MOST, Shown, SideBySide, leave_empty_layout
from .connections import Connections
from .history_flicker import Flicker
from .history_list import HistoryList, told_run
from .history_settings import problem_of_settings, put_back
from .history_undo import can_revert, remove_result, revert, use_result

HISTORY_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetHistory.ui"


class HistorySection(VTKObservationMixin):
    """Binds the section's widgets to the scene's history.

    Args:
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        model_section: the panel's :class:`ModelSection`.
        on_used: called with the transform node of an earlier result that was taken up again.

    ``widget`` is to be put into the panel. ``side_by_side`` shows results in views of their own.
    """

    def __init__(self, client, get_parameters, model_section, on_used) -> None:
        VTKObservationMixin.__init__(self)
        self._client, self._get_parameters = client, get_parameters
        self._model, self._on_used = model_section, on_used
        self.widget = slicer.util.loadUI(str(HISTORY_UI))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._list = HistoryList(self.ui.historyList)
        self._settings_tip = self.ui.settingsButton.toolTip
        self._flickered: list[str] = []
        self.side_by_side = SideBySide(self.refresh)
        self._flicker = Flicker(self._on_flickered)
        self._later = qt.QTimer()  # of many nodes that come or go at once, the last one tells
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._watchers: list = []
        self._connect()
        client.watch(self.refresh)
        self.show_status("")
        self.refresh()

    def _connect(self) -> None:
        self._connections, ui = Connections(), self.ui
        for widget, signal, slot in (
            (ui.historyList, "itemSelectionChanged()", self._refresh_buttons),
            (ui.historyList, "itemDoubleClicked(QListWidgetItem*)", self._on_double_click),
            (ui.useButton, "clicked()", self.on_use),
            (ui.settingsButton, "clicked()", self.on_settings),
            (ui.deleteButton, "clicked()", self.on_delete),
            (ui.sideBySideButton, "clicked()", self.on_side_by_side),
            (ui.flickerButton, "clicked()", self.on_flicker),
            (ui.rateSlider, "valueChanged(double)", self._flicker.set_rate),
            (ui.revertButton, "clicked()", self.on_revert),
            (self._later, "timeout()", self.refresh),
        ):
            self._connections.add(widget, signal, slot)
        self._flicker.set_rate(ui.rateSlider.value)
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            self.addObserver(scene, event, self._on_nodes_changed)
        self.addObserver(scene, scene.EndImportEvent, self._on_imported)

    def close(self) -> None:
        self._later.stop()
        self._client.unwatch(self.refresh)
        self.removeObservers()
        self._connections.close()
        self._flicker.close()
        self.side_by_side.close()
        self._watchers = []

    def suspend(self) -> None:
        """The panel is left, or the scene is closed: views and volumes are as they were."""
        self._flicker.stop()
        self.side_by_side.end()

    def watch(self, callback) -> None:
        """Call ``callback`` without arguments whenever the history, or what is shown of it, may have changed."""
        self._watchers.append(callback)

    def show_status(self, text: str) -> None:
        self.ui.historyStatusLabel.text = text
        self.ui.historyStatusLabel.visible = bool(text)

    def add(self, transform) -> None:
        """A new result of the panel becomes an entry."""
        parameters = self._get_parameters()
        if parameters is None:
            return
        self.suspend()
        history.add_entry(transform, history.settings_of(parameters, *self._model.chosen()))
        self.show_status("")
        self.refresh()

    def refresh(self) -> None:
        """Show what the scene has, and stop what cannot go on."""
        entries = history.entries()
        self._flicker.check()
        self.side_by_side.check()
        if self._client.is_busy():
            self._flicker.stop()
        self._list.show(entries, self._current())
        self.widget.visible = bool(entries)
        self._refresh_buttons()
        for callback in self._watchers:
            callback()

    def _refresh_buttons(self) -> None:
        ui, parameters, chosen = self.ui, self._get_parameters(), self._chosen()
        free = parameters is not None and not self._client.is_busy()
        one = chosen[0] if len(chosen) == 1 else None
        whole = one is not None and not one.what_is_gone()
        ui.useButton.enabled = free and whole
        problem = problem_of_settings(one, self._model) if one is not None else ""
        ui.settingsButton.enabled = free and one is not None and not problem
        ui.settingsButton.toolTip = problem or self._settings_tip
        ui.deleteButton.enabled = free and bool(chosen)
        ui.revertButton.enabled = free and can_revert(parameters)
        compared = self._compared()
        ui.sideBySideButton.checked = self.side_by_side.is_shown()
        ui.sideBySideButton.enabled = self.side_by_side.is_shown() or 2 <= len(compared) <= MOST
        ui.flickerButton.checked = self._flicker.is_running()
        ui.flickerButton.enabled = self._flicker.is_running() or free and _can_flicker(compared)

    def on_use(self) -> None:
        chosen = self._chosen()
        if len(chosen) == 1:
            self.use(chosen[0])

    def use(self, entry: history.Entry) -> None:
        """Make an entry's result the panel's again."""
        if entry.what_is_gone() or self._get_parameters() is None:
            self.refresh()
            return
        self.suspend()
        use_result(self._get_parameters(), entry.fixed, entry.moving, entry.transform)
        self.show_status(_("{run} is shown again.").format(run=told_run(entry)))
        self._on_used(entry.transform)
        self.refresh()

    def on_settings(self) -> None:
        entry = self._chosen()[0]
        put_back(entry, self._get_parameters(), self._model)
        self.show_status(_("The settings of {run} are in the panel.").format(run=told_run(entry)))

    def on_delete(self) -> None:
        chosen = self._chosen()
        self.suspend()
        kept = []
        for entry in chosen:
            transform, name = entry.transform, entry.transform.GetName() if entry.transform else ""
            slicer.mrmlScene.RemoveNode(entry.node)
            if transform is not None and not remove_result(transform):
                kept.append(name)
        text = _("Deleted. Still in use, and kept: {names}.") if kept else ""
        self.show_status(text.format(names=", ".join(f"“{name}”" for name in kept)))
        self.refresh()

    def on_revert(self) -> None:
        parameters = self._get_parameters()
        entry = self._current()
        self.suspend()
        resampled = parameters.outputVolume if parameters.createVolume else None
        revert(parameters)
        text = _("{run} is undone.").format(run=told_run(entry)) if entry is not None else _("The run is undone.")
        if resampled is not None:
            note = _("The resampled volume “{name}” is still the one of the last run.")
            text = f"{text} {note.format(name=resampled.GetName())}"
        self.show_status(text)
        self.refresh()

    def on_side_by_side(self) -> None:
        if self.side_by_side.is_shown():
            self.side_by_side.end()
            return
        self._flicker.stop()
        self.side_by_side.show([shown(entry) for entry in self._compared()])

    def on_flicker(self) -> None:
        if self._flicker.is_running():
            self._flicker.stop()
            return
        self.side_by_side.end()
        first, second = self._compared()
        self._flickered = [told_run(first), told_run(second)]
        slicer.util.setSliceViewerLayers(background=first.fixed, foreground=first.moving)
        self._flicker.start(first.moving, first.transform, second.transform)
        self.refresh()

    def _on_flickered(self, number: int) -> None:
        self.show_status(_("Now: {run}").format(run=self._flickered[number]) if number >= 0 else "")
        if number < 0:
            self._refresh_buttons()

    def _on_double_click(self, _item) -> None:
        if self.ui.useButton.enabled:
            self.on_use()

    def _on_nodes_changed(self, *_arguments) -> None:
        self._later.start()

    def _on_imported(self, *_arguments) -> None:
        if not self.side_by_side.is_shown():
            leave_empty_layout()

    def _current(self) -> history.Entry | None:
        """The entry of the panel's present result."""
        parameters = self._get_parameters()
        result = parameters.resultTransform if parameters is not None else None
        return history.entry_of(result) if result is not None else None

    def _chosen(self) -> list[history.Entry]:
        """The chosen entries that are still there, from top to bottom."""
        nodes = [slicer.mrmlScene.GetNodeByID(key) for key in self._list.chosen()]
        return [history.Entry(node) for node in nodes if node is not None]

    def _compared(self) -> list[history.Entry]:
        """What is to be compared, the oldest first: the chosen entries, or the present one and the chosen one."""
        found, current = self._chosen(), self._current()
        if len(found) == 1 and current is not None and current.node is not found[0].node:
            found.append(current)
        return sorted((entry for entry in found if not entry.what_is_gone()), key=lambda entry: entry.time)


def shown(entry: history.Entry) -> Shown:
    """An entry as the views show it."""
    return Shown(told_run(entry), entry.fixed, entry.moving, entry.transform)


def _can_flicker(entries: list[history.Entry]) -> bool:
    return len(entries) == 2 and len({(entry.fixed.GetID(), entry.moving.GetID()) for entry in entries}) == 1
