"""Exceptions that Slicer would only print: collected here, so that a test can fail on them."""

from __future__ import annotations

import sys
import traceback

slot_errors: list[BaseException] = []


class UnknownSignalError(ValueError):
    """A connection to a signal that the object does not have."""


class ModalDialogError(RuntimeError):
    """A dialog that waits for a click, opened while no answer was prepared."""


class HostGapError(AttributeError):
    """Something valid in Slicer that this host does not offer (extend the host)."""


def record(error: BaseException) -> None:
    """Keep an exception raised where nobody can catch it, and print it as Slicer's console would."""
    slot_errors.append(error)
    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)


def install_excepthook() -> None:
    """VTK and PySide6 hand exceptions raised in observers and virtual methods to `sys.excepthook`."""
    previous = sys.excepthook

    def hook(kind, error, trace):
        if isinstance(error, Exception):
            slot_errors.append(error)
        previous(kind, error, trace)

    sys.excepthook = hook


# Printed by Qt's off-screen platform for every window; nothing to act on.
_NOISE = "This plugin does not support"
_FROM_A_THREAD = ("another thread", "different thread")


def handle_qt_message(kind, context, text: str) -> None:
    """Qt's own warnings: using Qt from another thread is an error here, because it crashes Slicer now and then."""
    if any(phrase in text for phrase in _FROM_A_THREAD):
        slot_errors.append(RuntimeError(text))
    if not text.startswith(_NOISE):
        print(text, file=sys.stderr)
