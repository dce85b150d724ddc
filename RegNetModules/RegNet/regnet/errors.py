"""The few kinds of error that the core raises.

Each carries one sentence for the person at the screen: what is wrong, with which value, and what to do. Hosts show
that sentence; a traceback is for bugs only.
"""

from __future__ import annotations


class RegNetError(Exception):
    """Base of every error that is meant for the user. ``exit_code`` is what the command line returns for it."""

    exit_code = 4
    kind = "error"


class InputError(RegNetError):
    """An image, mask, transform, path or option cannot be used as given."""

    exit_code = 3
    kind = "input"


class ModelError(RegNetError):
    """A model is unknown, its weights are damaged, or it cannot do what was asked of it."""

    exit_code = 3
    kind = "model"


class MemoryError_(RegNetError):
    """The work does not fit in the memory of the chosen device."""

    exit_code = 4
    kind = "memory"


class Cancelled(RegNetError):
    """The user asked to stop; nothing half-made is left."""

    exit_code = 130
    kind = "cancelled"

    def __init__(self, message: str = "Cancelled; nothing was changed.") -> None:
        super().__init__(message)


ERROR_KINDS: dict[str, type[RegNetError]] = {
    cls.kind: cls for cls in (RegNetError, InputError, ModelError, MemoryError_, Cancelled)
}
