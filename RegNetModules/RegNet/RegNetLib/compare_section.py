"""The Compare models section of the home module: several models on one pair, a table, and the results side by side."""

from __future__ import annotations

import json
from pathlib import Path

import qt
import slicer
from regnet.errors import RegNetError
from regnet.models import MODEL_NAMES, get_info, get_parameters
from regnet.zoo import list_weights
from slicer.i18n import tr as _

from .compare_run import ComparisonRun
from .compare_table import UNKNOWN, column_titles, entries_of, fill_table, table_of, texts_of
from .compare_views import MOST
from .history_section import HistorySection, shown
from .inputs import problem_of_pair
from .job_section import SingleJobSection, stage_title
from .jobs import State
from .propagation_list import Row, TickList

COMPARE_UI = Path(__file__).resolve().parent.parent / "Resources" / "UI" / "RegNetCompare.ui"
DEFAULTS, PANELS = 0, 1
"""Where the models' own parameters come from: rows of the combo box."""


class CompareSection(SingleJobSection):
    """Registers the panel's pair with each ticked model. What is ready stays, whatever becomes of the rest.

    Args:
        client: the shared :class:`WorkerClient`.
        get_parameters: gives the panel's parameter node, or None between scenes.
        model_section: the panel's :class:`ModelSection`.
        history: the panel's :class:`HistorySection`, which shows results and takes them up.

    ``widget`` is to be put into the panel.
    """

    def __init__(self, client, get_parameters, model_section, history: HistorySection) -> None:
        self._get_parameters, self._model, self._history = get_parameters, model_section, history
        self.widget = slicer.util.loadUI(str(COMPARE_UI))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._run: ComparisonRun | None = None
        self._goes_on = self._suspended = False
        self._models = TickList(self.ui.comparedModelList, self.refresh)
        names = models_with_weights()
        self._models.show([Row(name, get_info(name).title, True) for name in names])
        self.ui.comparedParametersComboBox.addItems([_("Defaults"), _("As set in the panels")])
        self._rows: list[tuple[str, ...]] = []
        self._prepare_table()
        super().__init__(client, self.ui.compareButton, self.ui.compareProgressBar, self.ui.compareStatusLabel)
        for widget, signal, slot in (
            (self.ui.comparisonTable, "itemSelectionChanged()", self._refresh_buttons),
            (self.ui.comparisonViewsButton, "clicked()", self.on_side_by_side),
            (self.ui.comparisonUseButton, "clicked()", self.on_use),
        ):
            self._connections.add(widget, signal, slot)
        history.watch(self._refresh_buttons)
        self.refresh()

    def close(self) -> None:
        super().close()
        self._models.close()

    def suspend(self) -> None:
        """Another module is shown: the comparison goes on, but its end does not change the layout."""
        self._suspended = True

    def resume(self) -> None:
        self._suspended = False
        self.refresh()

    def problem(self) -> str:
        parameters = self._get_parameters()
        if parameters is None:
            return _("The scene is being closed.")
        if self._run is not None:
            return self.occupied() or self._run.pair.what_is_gone()
        problem = self.occupied() or problem_of_pair(parameters.fixedVolume, parameters.movingVolume)
        return problem or ("" if self._models.ticked() else _("Tick the models that are to be compared."))

    def refresh(self) -> None:
        button, running = self.ui.compareButton, self.is_running()
        problem = "" if running else self.problem()
        button.text = _("Cancel") if running else _("Compare")
        button.enabled = not problem and not self.is_cancelling()
        button.toolTip = problem or (
            _("Stop. The models that are ready stay in the table and in the history.")
            if running
            else _("Register the pair with each ticked model, one after the other. The window stays usable.")
        )
        self.ui.compareProgressBar.visible = running
        self.ui.comparedModelList.enabled = self.ui.comparedParametersComboBox.enabled = not running
        if running and not self.is_cancelling() and self._run.pair.what_is_gone():
            self._client.cancel()
        self._show_table()
        self._refresh_buttons()

    def start(self) -> None:
        problem = self.problem()
        if problem:
            self.show_status(problem, failed=True)
            return
        values = self._panel_values if self.ui.comparedParametersComboBox.currentIndex == PANELS else _default_values
        self._run = ComparisonRun(self._get_parameters(), [(name, values(name)) for name in self._models.ticked()])
        self._history.suspend()
        super().start()

    def build_request(self, folder) -> dict:
        return {**self._run.next_request(folder, self._client.images), "preview": False}

    def take_over(self, result: dict, folder) -> None:
        """One model's result becomes an entry and a row; the next model is due."""
        self._run.take(result, folder)

    def abandon(self) -> None:
        self._run, self._goes_on = None, False
        super().abandon()

    def on_side_by_side(self) -> None:
        views = self._history.side_by_side
        if views.is_shown():
            views.end()
        else:
            views.show([shown(entry) for entry in self._to_show()])

    def on_use(self) -> None:
        entries = self._chosen()
        if len(entries) == 1:
            self._history.use(entries[0])

    def _panel_values(self, name: str) -> dict:
        """What was set for a model in this panel, else in its own, else its defaults."""
        defaults, kept = _default_values(name), self._model.kept(name) or _kept_in_own_panel(name)
        return {**defaults, **{key: value for key, value in kept.items() if key in defaults}}

    def _prepare_table(self) -> None:
        table, titles = self.ui.comparisonTable, column_titles()
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.verticalHeader().visible = False
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(len(titles) - 1, qt.QHeaderView.Stretch)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def _node(self):
        """The table node of the pair that is compared, or of the panel's."""
        pair = self._run.pair if self._run is not None else self._get_parameters()
        return table_of(pair.fixedVolume, pair.movingVolume) if pair is not None else None

    def _show_table(self) -> None:
        table, rows = self.ui.comparisonTable, texts_of(self._node())
        visible = bool(rows)
        table.visible = self.ui.comparisonViewsButton.visible = self.ui.comparisonUseButton.visible = visible
        if rows == self._rows:
            return
        self._rows = rows
        table.clearContents()
        table.clearSpans()
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            failed = row[1] == UNKNOWN and bool(row[-1])
            for column, text in enumerate((row[0], row[-1]) if failed else row):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(number, column, item)
            if failed:  # the reason takes the place of the numbers
                table.setSpan(number, 1, 1, table.columnCount - 1)
        table.resizeRowsToContents()
        height = sum(table.rowHeight(number) for number in range(len(rows)))
        table.setFixedHeight(height + table.horizontalHeader().sizeHint.height() + 2 * table.frameWidth + 2)

    def _refresh_buttons(self) -> None:
        views = self._history.side_by_side
        self.ui.comparisonViewsButton.checked = views.is_shown()
        self.ui.comparisonViewsButton.enabled = views.is_shown() or len(self._to_show()) > 1
        self.ui.comparisonUseButton.enabled = len(self._chosen()) == 1 and not self._client.is_busy()

    def _chosen(self) -> list:
        """The entries of the chosen rows that have one."""
        entries, table = entries_of(self._node()), self.ui.comparisonTable
        rows = range(min(len(entries), table.rowCount))
        return [entries[n] for n in rows if table.item(n, 0).isSelected() and entries[n] is not None]

    def _to_show(self) -> list:
        """The entries that go side by side: those of the chosen rows, or of all, as many as there are views."""
        chosen = self._chosen()
        found = chosen if len(chosen) > 1 else [entry for entry in entries_of(self._node()) if entry is not None]
        return found[:MOST]

    def _give_up(self, folder, text: str) -> None:
        """Nothing can be handed to the worker: the next model would fare no better."""
        self._run = None
        super()._give_up(folder, text)

    def _end_model(self) -> None:
        """A model has its row: the table grows, and the next one is due."""
        fill_table(self._run.rows, self._run.pair.fixedVolume, self._run.pair.movingVolume)
        self._show_table()
        self._goes_on = not self._run.is_done()

    def _stop(self, reason: str = "") -> None:
        """The comparison ends, with all its results or with some."""
        run, self._job, self._run, self._goes_on = self._run, None, None, False
        ready = [row for row in run.rows if row.entry is not None]
        text = _("{ready} of {count} models are ready.").format(ready=len(ready), count=run.count)
        self.show_status(" ".join(filter(None, [reason, text])), failed=bool(reason))
        self.refresh()
        self._history.refresh()
        if len(self._to_show()) > 1 and not reason and not self._suspended:
            self.on_side_by_side()

    # What the client tells, see Listener.

    def on_state(self, state: State) -> None:
        super().on_state(state)
        if self._run is None:
            return
        if state is State.RUNNING:
            self.on_progress(0.0, "read", "")
        elif state is State.IDLE and (self._goes_on or self._run.is_done()):
            self._go_on()  # the job before this one is over, and the client free

    def _go_on(self) -> None:
        """The next model, or the end."""
        self._goes_on = False
        gone = self._run.pair.what_is_gone()
        if gone or self._run.is_done():
            self._stop(gone)
        else:
            super().start()

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        if self._run is not None:
            self._bar.value = int(1000 * self._run.fraction(fraction))
            self.show_status(": ".join(filter(None, [self._run.title(), stage_title(stage), text])))

    def on_done(self, result: dict, folder) -> None:
        if self._run is None:
            return
        self.take_over(result, folder)
        self._end_model()

    def on_failed(self, kind: str, text: str) -> None:
        if self._run is None:
            return
        gone = self._run.pair.what_is_gone()
        if gone or kind == "cancelled":
            self._stop(gone or _("Cancelled."))
            return
        self._run.fail(text)
        self._end_model()
        self._go_on()


def models_with_weights() -> list[str]:
    """The models that have trained weights; where those are damaged, the run will say so."""
    found = []
    for name in MODEL_NAMES:
        try:
            if list_weights(name):
                found.append(name)
        except RegNetError:
            found.append(name)
    return found


def _default_values(name: str) -> dict:
    return get_parameters(name)().to_dict()


def _kept_in_own_panel(name: str) -> dict:
    """What the user has set for a model in the module that is this model's alone."""
    for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode"):
        if node.GetParameter("model") == name and node.GetModuleName() != "RegNet":
            try:
                kept = json.loads(node.GetParameter("modelParameters") or "{}")
            except ValueError:
                continue
            if isinstance(kept, dict) and kept.get(name):
                return kept[name]
    return {}
