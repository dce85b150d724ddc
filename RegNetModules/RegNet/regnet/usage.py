"""How much memory a piece of work took at its peak."""

from __future__ import annotations

import threading
from types import TracebackType

SAMPLE_SECONDS = 0.05


class PeakMemory:
    """Watches this process's resident memory while the ``with`` block runs.

    The system's own high-water mark cannot be reset, and a warm worker has a history, so it is sampled.
    """

    def __enter__(self) -> PeakMemory:
        import psutil

        self._process = psutil.Process()
        self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._peak = max(self._peak, self._process.memory_info().rss)

    @property
    def peak_mb(self) -> float:
        return round(self._peak / 1e6, 1)
