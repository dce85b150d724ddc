"""What PythonQt does differently when it calls Qt: out-parameters, and dialogs that would wait for a click."""

from __future__ import annotations

from PySide6 import QtWidgets

from .errors import ModalDialogError

# Answers for the next modal dialogs: values, or functions that receive the dialog (or the static method's name).
_answers: list = []

_FILE_DIALOGS = {"getOpenFileName", "getSaveFileName", "getOpenFileNames"}
_STATIC_DIALOGS = {
    QtWidgets.QFileDialog: _FILE_DIALOGS | {"getExistingDirectory"},
    QtWidgets.QMessageBox: {"question", "information", "warning", "critical", "about"},
    QtWidgets.QInputDialog: {"getText", "getItem", "getInt", "getDouble", "getMultiLineText"},
}


def answer_next(answer) -> None:
    """Prepare what the next modal dialog returns: a value, or a function called with the dialog that returns it."""
    _answers.append(answer)


def forget_answers() -> None:
    _answers.clear()


def modal_answer(owner, name: str, wrap):
    """(True, answer) where the call would block on a dialog, else (False, None)."""
    shows = isinstance(owner, QtWidgets.QDialog) and name == "exec_"
    static = isinstance(owner, type) and any(
        issubclass(owner, kind) and name in names for kind, names in _STATIC_DIALOGS.items()
    )
    if not (shows or static):
        return False, None
    what = owner.windowTitle() or type(owner).__name__ if shows else f"{owner.__name__}.{name}"
    text = f": {owner.text()}" if isinstance(owner, QtWidgets.QMessageBox) else ""
    if not _answers:
        raise ModalDialogError(
            f"The dialog '{what}'{text} would wait for a click; prepare it with slicer_host.answer_next(…)"
        )
    answer = _answers.pop(0)
    return True, answer(wrap(owner) if shows else name) if callable(answer) else answer


def without_out_parameters(name: str, result):
    """PySide6 returns (value, filter); PythonQt returns the value."""
    return result[0] if name in _FILE_DIALOGS and isinstance(result, tuple) else result
