"""How long work speaks: progress, previews, messages, and cancellation.

Long functions take an :class:`Events`. They call :meth:`Events.progress` often; that call is also where a cancel takes
effect, so a function that reports progress twice a second can be stopped within half a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """``fraction`` of all the work in [0, 1], never smaller than the one before; ``stage`` is a short name."""

    fraction: float
    stage: str
    text: str = ""


@dataclass(frozen=True)
class Message:
    """One sentence for the user; ``level`` is ``"info"`` or ``"warning"``."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Preview:
    """The present state of a dense model: a coarse displacement in LPS millimetres, see ``DisplacementField``."""

    transform: Any
    stage: str = ""


Event = Progress | Message | Preview


@dataclass
class Events:
    """A sink for events. ``emit`` receives each event; ``is_cancelled`` is polled at every progress call.

    >>> seen = []
    >>> events = Events(emit=seen.append)
    >>> with events.stage("align", 0.0, 0.4):
    ...     events.progress(0.5)
    >>> round(seen[-1].fraction, 6)
    0.4
    """

    emit: Callable[[Event], None] | None = None
    is_cancelled: Callable[[], bool] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    wants_preview: bool = False
    _low: float = 0.0
    _high: float = 1.0
    _last: float = 0.0
    _stage: str = ""

    def check(self) -> None:
        """Raise :class:`Cancelled` if the user asked to stop."""
        if self.is_cancelled is not None and self.is_cancelled():
            raise Cancelled()

    def progress(self, fraction: float, text: str = "") -> None:
        """Report ``fraction`` in [0, 1] of the present stage, and stop here if cancelled."""
        self.check()
        inside = self._low + (self._high - self._low) * min(max(float(fraction), 0.0), 1.0)
        self._last = max(self._last, inside)
        if self.emit is not None:
            self.emit(Progress(self._last, self._stage, text))

    @contextmanager
    def stoppable(self, network: Any) -> Iterator[None]:
        """Let a cancel take effect after each layer of ``network``: all of them together can take seconds.

        Anything that has no layers (a plain function) passes through unchanged.
        """
        modules = network.modules() if hasattr(network, "modules") else ()
        hooks = [module.register_forward_hook(lambda *_: self.check()) for module in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def message(self, text: str) -> None:
        if self.emit is not None:
            self.emit(Message(text))

    def warn(self, text: str) -> None:
        """Tell the user, and remember the sentence for the report."""
        if text not in self.warnings:
            self.warnings.append(text)
            if self.emit is not None:
                self.emit(Message(text, "warning"))

    def preview(self, transform: Any) -> None:
        if self.emit is not None and self.wants_preview:
            self.emit(Preview(transform, self._stage))

    def share(self, low: float, high: float, title: str = "") -> Events:
        """A sink for a part of the work, with seconds and warnings of its own; its fractions fill [low, high] of the
        present stage, and ``title`` goes before its texts."""
        start, span = self._low, self._high - self._low

        def emit(event: Event) -> None:
            if isinstance(event, Progress):
                self._last = max(self._last, start + span * (low + (high - low) * event.fraction))
                text = ": ".join(part for part in (title, event.text) if part)
                event = replace(event, fraction=self._last, text=text)
            if self.emit is not None:
                self.emit(event)

        return Events(emit=emit, is_cancelled=self.is_cancelled, wants_preview=self.wants_preview)

    @contextmanager
    def stage(self, name: str, low: float, high: float) -> Iterator[None]:
        """Name a part of the work, map its fractions into [low, high] of the enclosing stage, and time it."""
        before = (self._low, self._high, self._stage)
        span = self._high - self._low
        self._low, self._high, self._stage = self._low + span * low, self._low + span * high, name
        started = time.perf_counter()
        try:
            self.progress(0.0)
            yield
            self.progress(1.0)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self._low, self._high, self._stage = before
