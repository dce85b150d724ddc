"""A job of the worker, who asked for it, and the states that it goes through."""

from __future__ import annotations

import enum

from slicer.i18n import tr as _


class State(enum.Enum):
    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    IMPORTING = "importing"
    CANCELLING = "cancelling"
    FAILED = "failed"


class Job:
    """A request and who asked for it. The listener's methods are called in the main thread, see :class:`Listener`."""

    def __init__(self, request: dict, folder, listener: Listener) -> None:
        self.request, self.folder, self.listener = request, folder, listener
        self.identity = ""

    @property
    def command(self) -> str:
        """What the worker is asked for, by the name that the protocol has for it."""
        return str(self.request.get("command", ""))


class Listener:
    """What a job's owner can react to; every method may be left as it is."""

    def on_state(self, state: State) -> None:
        """The client entered ``state``."""

    def on_progress(self, fraction: float, stage: str, text: str) -> None:
        """``fraction`` of all the work in [0, 1]."""

    def on_message(self, level: str, text: str) -> None:
        """One sentence; ``level`` is "info" or "warning"."""

    def on_preview(self, preview: dict, folder) -> None:
        """The present transform of a job that asked for previews, see the protocol; only the newest is told."""

    def on_done(self, result: dict, folder) -> None:
        """Take the result over; the folder is removed afterwards. Raising makes the run fail."""

    def on_failed(self, kind: str, text: str) -> None:
        """The run ended without a result; ``kind`` is "cancelled" where the user asked for that."""


def not_handed_over(error: Exception) -> str:
    """Why a job's images could not be written, as a sentence for the user."""
    reason = getattr(error, "strerror", None) or (
        _("not enough memory") if isinstance(error, MemoryError) else str(error) or type(error).__name__
    )
    text = _("The images could not be handed to the worker ({reason}); free some space and try again.")
    return text.format(reason=reason)
