"""How long work speaks: progress, previews, messages, and how it is ended before its time.

Long functions take an :class:`Events`. They call :meth:`Events.progress` often; that call is also where a cancel takes
effect, so a function that reports progress twice a second can be stopped within half a second. A cancel throws the work
away. A stop keeps what has been reached: optimisers ask :meth:`Events.stops` before every iteration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .errors import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

    from .image import Grid
    from .pair import Pair
    from .previews import Previews
    from .transform import Affine

STOPPED_EARLY = "Stopped early"
"""How the warning of a run begins whose optimisation was ended by the user."""


@dataclass(frozen=True)
class Progress:
    """``fraction`` of all the work in [0, 1], never smaller than the one before; ``stage`` is a short name;
    ``can_stop`` says whether a stop would take effect in it."""

    fraction: float
    stage: str
    text: str = ""
    can_stop: bool = False


@dataclass(frozen=True)
class Message:
    """One sentence for the user; ``level`` is ``"info"`` or ``"warning"``."""

    text: str
    level: str = "info"


Event = Progress | Message


@dataclass
class Events:
    """A sink for events. ``emit`` receives each event; ``is_cancelled`` is polled at every progress call, and
    ``is_stopped`` before every iteration of an optimisation; ``previews`` gets the present state of alignments and of
    dense models. After a stop took effect ``stopped_in`` names the stage.

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
    is_stopped: Callable[[], bool] | None = None
    previews: Previews | None = None
    stopped_in: str = ""
    _low: float = 0.0
    _high: float = 1.0
    _last: float = 0.0
    _stage: str = ""
    _can_stop: bool = False

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
            self.emit(Progress(self._last, self._stage, text, self._can_stop))

    def stops(self) -> bool:
        """Whether the user asked to keep what there is: an optimisation ends here then, and returns its present state.

        Only to be asked where there is more to do, because the report will say that it was left out.
        """
        if self.is_stopped is None or not self.is_stopped():
            return False
        if not self.stopped_in:
            self.stopped_in = self._stage or "the optimisation"
            self.warn(f"{STOPPED_EARLY}, as asked, in {self.stopped_in}: the result is what had been reached by then.")
        return True

    @contextmanager
    def stoppable(self, network: Any) -> Iterator[None]:
        """Let a cancel take effect after each layer of ``network``: all of them together can take seconds.

        Anything that has no layers (a plain function) passes through unchanged.
        """
        listens = self.is_cancelled is not None and hasattr(network, "modules")
        modules = network.modules() if listens else ()
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

    def wants_preview(self) -> bool:
        """Whether somebody looks, and it is time again."""
        return self.previews is not None and self.previews.is_due()

    def preview(self, displacement: Tensor, pair: Pair) -> None:
        """Offer the present state of a dense model, see :meth:`Previews.offer`; costs nothing where nobody looks."""
        if self.previews is not None:
            self.previews.offer(displacement, pair, self._stage)

    def preview_alignment(self, alignment: Affine, grid: Grid) -> None:
        """Offer the best alignment so far of an image on ``grid``, the same way."""
        if self.previews is not None:
            self.previews.offer_alignment(alignment, grid, self._stage)

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

        return Events(emit, self.is_cancelled, is_stopped=self.is_stopped, previews=self.previews)

    @contextmanager
    def stage(self, name: str, low: float, high: float, *, can_stop: bool = False) -> Iterator[None]:
        """Name a part of the work, map its fractions into [low, high] of the enclosing stage, and time it.

        ``can_stop`` says that the part, and all within it, asks :meth:`stops`.
        """
        before = (self._low, self._high, self._stage, self._can_stop)
        span = self._high - self._low
        self._low, self._high, self._stage = self._low + span * low, self._low + span * high, name
        self._can_stop = self._can_stop or can_stop
        started = time.perf_counter()
        try:
            self.progress(0.0)
            yield
            self.progress(1.0)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self._low, self._high, self._stage, self._can_stop = before
