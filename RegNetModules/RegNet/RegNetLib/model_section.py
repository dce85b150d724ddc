"""Which model, what it is for, and its own parameters: the Model section of every panel that registers."""

from __future__ import annotations

import json
from collections.abc import Callable

from regnet.models import MODEL_NAMES, get_info, get_parameters

from .connections import Connections
from .parameter_form import ParameterForm


class ModelSection:
    """Binds the section to the parameter node's ``model`` and ``modelParameters`` (JSON: model name -> its parameters).

    Args:
        ui: the panel's widgets.
        get_parameters: gives the panel's parameter node, or None between scenes.
        choose: whether the user chooses the model; else the panel sets it.
        load: gives the widget for the model's parameters, from a .ui file whose object names are parameter names, and
            its children by name; None has the widgets made.

    ``form`` holds the parameters of the model that is shown, None before there is one.
    """

    def __init__(self, ui, get_parameters, choose: bool, load: Callable[[], tuple] | None = None) -> None:
        self._ui, self._get_parameters, self._load = ui, get_parameters, load
        self.form: ParameterForm | None = None
        self._shown, self._chooses = "", choose
        self._connections = Connections()
        self._connections.add(ui.restoreDefaultsButton, "clicked()", self._on_defaults)
        ui.modelLabel.visible = ui.modelComboBox.visible = choose
        if choose:
            for name in MODEL_NAMES:
                ui.modelComboBox.addItem(get_info(name).title, name)
            self._connections.add(ui.modelComboBox, "currentIndexChanged(int)", self._on_model)

    def close(self) -> None:
        self._connections.close()
        self._drop_form()

    def refresh(self) -> None:
        """Show what the parameter node says; a model that is not there gives way to the first one."""
        parameters = self._get_parameters()
        if self._chooses:
            if parameters.model not in MODEL_NAMES:  # a new parameter node, or a scene of another version
                parameters.model = MODEL_NAMES[0]
                return
            self._ui.modelComboBox.currentIndex = MODEL_NAMES.index(parameters.model)
        info = get_info(parameters.model)
        self._ui.modelSummaryLabel.text = info.summary
        self._ui.modelSummaryLabel.toolTip = info.citation
        if parameters.model != self._shown:
            self._drop_form()
            self.form, self._shown = self._make_form(parameters.model), parameters.model
        self.form.show(self._kept().get(parameters.model, {}))

    def chosen(self) -> tuple[str, dict]:
        """Name of the model, and the values of its parameters."""
        return self._shown, self.form.values()

    def offers(self, name: str) -> bool:
        """Whether the user can have that model in this panel."""
        parameters = self._get_parameters()
        return name in MODEL_NAMES if self._chooses else parameters is not None and name == parameters.model

    def kept(self, name: str) -> dict:
        """What the user has set for a model; {} for nothing."""
        return self._kept().get(name) or {}

    def put_back(self, name: str, values: dict) -> None:
        """Choose a model, and give its parameters values."""
        parameters = self._get_parameters()
        parameters.modelParameters = json.dumps({**self._kept(), name: values})
        parameters.model = name

    def _make_form(self, name: str) -> ParameterForm:
        widget, children = self._load() if self._load is not None else (None, None)
        form = ParameterForm(get_parameters(name).describe(), children, self._keep)
        self._ui.modelParametersFrame.layout().addWidget(widget if widget is not None else form.widget)
        return form

    def _drop_form(self) -> None:
        if self.form is not None:
            self.form.close()
        self.form, self._shown = None, ""

    def _kept(self) -> dict:
        """The parameter node's model parameters, {} where a scene brings something unreadable."""
        try:
            kept = json.loads(self._get_parameters().modelParameters)
        except ValueError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self) -> None:
        parameters = self._get_parameters()
        if parameters is not None:
            parameters.modelParameters = json.dumps({**self._kept(), self._shown: self.form.values()})

    def _on_model(self, index: int) -> None:
        parameters = self._get_parameters()
        if parameters is not None and index >= 0:
            parameters.model = MODEL_NAMES[index]

    def _on_defaults(self) -> None:
        self.form.show(self.form.defaults())
        self._keep()
