"""CTK's buttons, boxes and containers, as far as their documented properties, signals and slots go."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from .native_property import stored
from .ui_loader import register

_UNLIMITED = 16777215  # Qt's QWIDGETSIZE_MAX


class Collapsible:
    """Hides the children of a widget while collapsed, and remembers which of them were hidden before."""

    def _read_collapsed(self) -> bool:
        return self.__dict__.get("_collapsed", False)

    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._read_collapsed():
            return
        self.__dict__["_collapsed"] = collapsed
        for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindDirectChildrenOnly):
            if collapsed:
                child.setProperty("_hidden_before", child.isHidden())
                child.hide()
            elif not child.property("_hidden_before"):
                child.show()
        self.setMaximumHeight(self._header_height() if collapsed else _UNLIMITED)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)


@register
class ctkCollapsibleButton(QtWidgets.QAbstractButton, Collapsible):
    """A header that shows and hides the contents below it."""

    contentsCollapsed = QtCore.Signal(bool)
    contentsFrameShape = stored(int, 0, "contentsFrameShape")
    contentsFrameShadow = stored(int, 0, "contentsFrameShadow")
    contentsLineWidth = stored(int, 1, "contentsLineWidth")
    contentsMidLineWidth = stored(int, 0, "contentsMidLineWidth")
    collapsedHeight = stored(int, 10, "collapsedHeight")
    buttonTextAlignment = stored(int, 0x81, "buttonTextAlignment")
    indicatorAlignment = stored(int, 0x81, "indicatorAlignment")
    flat = stored(bool, False, "flat")

    def __init__(self, *args):
        parent = next((a for a in args if isinstance(a, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self.setText(next((a for a in args if isinstance(a, str)), ""))
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 10

    def _write_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, Collapsible._read_collapsed, _write_collapsed)

    def setCollapsed(self, collapsed: bool) -> None:
        Collapsible.setCollapsed(self, collapsed)
        self.setChecked(not collapsed)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._header_height()

    def sizeHint(self) -> QtCore.QSize:
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 30, self._header_height())
        if self._read_collapsed() or self.layout() is None:
            return header
        return self.layout().totalSizeHint().expandedTo(header)

    def minimumSizeHint(self) -> QtCore.QSize:
        header = QtCore.QSize(30, self._header_height())
        if self._read_collapsed() or self.layout() is None:
            return header
        return self.layout().totalMinimumSize().expandedTo(header)

    def paintEvent(self, event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._header_height())
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, self._header_height() // 2 - 5, 10, 10)
        shape = (
            QtWidgets.QStyle.PE_IndicatorArrowRight
            if self._read_collapsed()
            else QtWidgets.QStyle.PE_IndicatorArrowDown
        )
        painter.drawPrimitive(shape, arrow)
        painter.drawItemText(
            option.rect.adjusted(22, 0, 0, 0), QtCore.Qt.AlignVCenter, self.palette(), self.isEnabled(), self.text()
        )


@register
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox, Collapsible):
    """A group box whose check mark shows and hides its contents."""

    contentsCollapsed = QtCore.Signal(bool)
    collapsedHeight = stored(int, 14, "collapsedHeight")

    def __init__(self, *args):
        super().__init__(*args)
        self.setCheckable(True)
        self.toggled.connect(lambda checked: self.setCollapsed(not checked))

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 10

    def _write_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, Collapsible._read_collapsed, _write_collapsed)


@register
class ctkPushButton(QtWidgets.QPushButton):
    """A push button whose text and icon can be aligned."""

    buttonTextAlignment = stored(int, 0x84, "buttonTextAlignment")
    iconAlignment = stored(int, 0x81, "iconAlignment")


@register
class ctkCheckablePushButton(ctkPushButton):
    """A push button with a check box inside."""

    checkBoxToggled = QtCore.Signal(bool)
    checkBoxControlsButton = stored(bool, True, "checkBoxControlsButton")
    checkBoxControlsButtonToggleState = stored(bool, True, "checkBoxControlsButtonToggleState")
    checkBoxUserCheckable = stored(bool, True, "checkBoxUserCheckable")
    checkState = stored(int, 0, "checkState")


@register
class ctkMenuButton(QtWidgets.QPushButton):
    """A push button with a separate drop-down arrow."""

    showMenuOnButtonClicked = stored(bool, False, "showMenuOnButtonClicked")


@register
class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that shows and picks a colour."""

    colorChanged = QtCore.Signal(QtGui.QColor)
    color = stored(QtGui.QColor, QtGui.QColor("black"), "color", "colorChanged")
    displayColorName = stored(bool, True, "displayColorName")

    def setColor(self, color) -> None:
        self.setProperty("color", color)


@register
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows and picks a folder."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)
    directory = stored(str, "", "directory", "directoryChanged")
    caption = stored(str, "", "caption")
    text = stored(str, "", "text")
    acceptMode = stored(int, 0, "acceptMode")

    def setDirectory(self, path: str) -> None:
        self.setProperty("directory", path)


@register
class ctkExpandableWidget(QtWidgets.QFrame):
    """A frame the user can make larger."""

    orientations = stored(int, 2, "orientations")
    sizeGripInside = stored(bool, True, "sizeGripInside")


class ctkWidgetsUtils(QtCore.QObject):
    """Static helpers."""

    @staticmethod
    def grabWidget(widget, rectangle=None):
        return widget.grab().toImage()
