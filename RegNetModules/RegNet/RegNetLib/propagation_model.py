"""The model of a propagation's registrations: the home module's chooser and the model's own parameters."""

from __future__ import annotations

import json

from regnet.models import MODEL_NAMES, get_info, get_parameters

from .connections import Connections
from .parameter_form import ParameterForm


class ModelSection:
    """Binds the chooser to the parameter node's ``model`` and ``modelParameters``.

    Args:
        ui: the panel's widgets.
        get_parameters: gives the panel's parameter node, or None between scenes.
    """

    def __init__(self, ui, get_parameters) -> None:
        self._ui, self._get_parameters = ui, get_parameters
        self._form: ParameterForm | None = None
        self._shown = ""
        for name in MODEL_NAMES:
            ui.modelComboBox.addItem(get_info(name).title, name)
        self._connections = Connections()
        self._connections.add(ui.modelComboBox, "currentIndexChanged(int)", self._on_model)
        self._connections.add(ui.restoreDefaultsButton, "clicked()", self._on_defaults)

    def close(self) -> None:
        self._connections.close()
        self._drop_form()

    def refresh(self) -> None:
        """Show what the parameter node says; a model that is not there gives way to the first one."""
        parameters = self._get_parameters()
        if parameters.model not in MODEL_NAMES:
            parameters.model = MODEL_NAMES[0]
            return
        self._ui.modelComboBox.currentIndex = MODEL_NAMES.index(parameters.model)
        info = get_info(parameters.model)
        self._ui.modelSummaryLabel.text = info.summary
        self._ui.modelSummaryLabel.toolTip = info.citation
        if parameters.model != self._shown:
            self._drop_form()
            self._form = ParameterForm(get_parameters(parameters.model).describe(), None, self._keep)
            self._ui.modelParametersFrame.layout().addWidget(self._form.widget)
            self._shown = parameters.model
        self._form.show(self._kept().get(parameters.model, {}))

    def chosen(self) -> tuple[str, dict]:
        """Name of the model, and the values of its parameters."""
        return self._shown, self._form.values()

    def _drop_form(self) -> None:
        if self._form is not None:
            self._form.close()
        self._form, self._shown = None, ""

    def _kept(self) -> dict:
        try:
            kept = json.loads(self._get_parameters().modelParameters)
        except ValueError:
            return {}
        return kept if isinstance(kept, dict) else {}

    def _keep(self) -> None:
        parameters = self._get_parameters()
        if parameters is not None:
            parameters.modelParameters = json.dumps({**self._kept(), self._shown: self._form.values()})

    def _on_model(self, index: int) -> None:
        parameters = self._get_parameters()
        if parameters is not None and index >= 0:
            parameters.model = MODEL_NAMES[index]

    def _on_defaults(self) -> None:
        self._form.show(self._form.defaults())
        self._keep()
