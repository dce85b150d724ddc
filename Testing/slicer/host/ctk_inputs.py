"""CTK's input widgets, as far as their documented properties, signals and slots go."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from .native_property import forwarded, stored
from .ui_loader import register

_STEPS = 1000


@register
class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """A spin box; the number of decimals can follow the value (not in this host)."""

    setMode = stored(int, 0, "setMode")
    decimalsOption = stored(int, 0, "decimalsOption")
    invertedControls = stored(bool, False, "invertedControls")


class _Row(QtWidgets.QWidget):
    """Inner widgets in one line."""

    def _arrange(self, *parts) -> None:
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in parts:
            layout.addWidget(part)


@register
class ctkSliderWidget(_Row):
    """A slider and a spin box for one number."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    rangeChanged = QtCore.Signal(float, float)
    tracking = stored(bool, True, "tracking")
    popupSlider = stored(bool, False, "popupSlider")
    tickInterval = stored(float, 0.0, "tickInterval")
    pageStep = stored(float, 10.0, "pageStep")
    invertedAppearance = stored(bool, False, "invertedAppearance")
    invertedControls = stored(bool, False, "invertedControls")
    spinBoxAlignment = stored(int, 0x20, "spinBoxAlignment")
    orientation = stored(int, 1, "orientation")
    decimals = forwarded(int, "_spin", "decimals", "setDecimals")
    singleStep = forwarded(float, "_spin", "singleStep", "setSingleStep")
    prefix = forwarded(str, "_spin", "prefix", "setPrefix")
    suffix = forwarded(str, "_spin", "suffix", "setSuffix")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._spin.setRange(0.0, 99.0)
        self._arrange(self._slider, self._spin)
        self._slider.valueChanged.connect(self._slider_moved)
        self._spin.valueChanged.connect(self._spin_changed)

    def _slider_moved(self, position: int) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        step = self._spin.singleStep() or 1e-9
        self._spin.setValue(low + round((high - low) * position / _STEPS / step) * step)

    def _spin_changed(self, value: float) -> None:
        self._place_slider()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _place_slider(self) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        with QtCore.QSignalBlocker(self._slider):
            self._slider.setValue(round(_STEPS * (self._spin.value() - low) / (high - low)) if high > low else 0)

    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    def reset(self) -> None:
        self._spin.setValue(0.0)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._place_slider()
        self.rangeChanged.emit(minimum, maximum)

    def setMinimum(self, minimum: float) -> None:
        self.setRange(minimum, max(minimum, self._spin.maximum()))

    def setMaximum(self, maximum: float) -> None:
        self.setRange(min(maximum, self._spin.minimum()), maximum)

    value = QtCore.Property(float, lambda self: self._spin.value(), setValue)
    minimum = QtCore.Property(float, lambda self: self._spin.minimum(), setMinimum)
    maximum = QtCore.Property(float, lambda self: self._spin.maximum(), setMaximum)
    spinBoxVisible = QtCore.Property(
        bool, lambda self: not self._spin.isHidden(), lambda self, shown: self._spin.setVisible(shown)
    )


@register
class ctkRangeWidget(_Row):
    """Two numbers, the lower never above the upper."""

    valuesChanged = QtCore.Signal(float, float)
    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    rangeChanged = QtCore.Signal(float, float)
    tracking = stored(bool, True, "tracking")
    symmetricMoves = stored(bool, False, "symmetricMoves")
    spinBoxAlignment = stored(int, 0x20, "spinBoxAlignment")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        self._arrange(self._low, self._high)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(self._low_changed)
        self._high.valueChanged.connect(self._high_changed)

    def _low_changed(self, value: float) -> None:
        self._high.setMinimum(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._high.value())

    def _high_changed(self, value: float) -> None:
        self._low.setMaximum(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), value)

    def setValues(self, low: float, high: float) -> None:
        with QtCore.QSignalBlocker(self._low), QtCore.QSignalBlocker(self._high):
            self._low.setMaximum(high)
            self._high.setMinimum(low)
            self._low.setValue(low)
            self._high.setValue(high)
        self.valuesChanged.emit(self._low.value(), self._high.value())

    def setRange(self, minimum: float, maximum: float) -> None:
        self._low.setRange(minimum, min(self._high.value(), maximum))
        self._high.setRange(max(self._low.value(), minimum), maximum)
        self.rangeChanged.emit(minimum, maximum)

    def _set_step(self, step: float) -> None:
        self._low.setSingleStep(step)
        self._high.setSingleStep(step)

    def _set_decimals(self, decimals: int) -> None:
        self._low.setDecimals(decimals)
        self._high.setDecimals(decimals)

    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)

    minimumValue = QtCore.Property(float, lambda self: self._low.value(), setMinimumValue)
    maximumValue = QtCore.Property(float, lambda self: self._high.value(), setMaximumValue)
    minimum = QtCore.Property(
        float, lambda self: self._low.minimum(), lambda self, v: self.setRange(v, self._high.maximum())
    )
    maximum = QtCore.Property(
        float, lambda self: self._high.maximum(), lambda self, v: self.setRange(self._low.minimum(), v)
    )
    singleStep = QtCore.Property(float, lambda self: self._low.singleStep(), _set_step)
    decimals = QtCore.Property(int, lambda self: self._low.decimals(), _set_decimals)


@register
class ctkPathLineEdit(_Row):
    """A path, typed or browsed for."""

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    label = stored(str, "", "label")
    filters = stored(str, "", "filters")
    options = stored(str, "", "options")
    nameFilters = stored("QStringList", [], "nameFilters")
    settingKey = stored(str, "", "settingKey")
    showHistoryButton = stored(bool, True, "showHistoryButton")
    sizeAdjustPolicy = stored(int, 0, "sizeAdjustPolicy")
    minimumContentsLength = stored(int, 0, "minimumContentsLength")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit, self._browse = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        self._browse.setText("…")
        self._arrange(self._edit, self._browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """Slicer keeps the path in its settings; a test host keeps nothing."""

    currentPath = QtCore.Property(str, lambda self: self._edit.text(), setCurrentPath)
    showBrowseButton = QtCore.Property(
        bool, lambda self: not self._browse.isHidden(), lambda self, shown: self._browse.setVisible(shown)
    )


@register
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for when nothing is chosen."""

    defaultText = stored(str, "", "defaultText")
    forceDefault = stored(bool, False, "forceDefault")
    elideMode = stored(int, 3, "elideMode")
    scrollWheelEffect = stored(int, 0, "scrollWheelEffect")


@register
class ctkSearchBox(QtWidgets.QLineEdit):
    """A line edit with a clear button."""

    showSearchIcon = stored(bool, False, "showSearchIcon")
    alwaysShowClearIcon = stored(bool, False, "alwaysShowClearIcon")


@register
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as high as its text."""

    collapsed = stored(bool, True, "collapsed")
    collapsibleText = stored(str, "", "collapsibleText")
