"""What an idle worker is to load ahead for the panel that is shown: one model after the other, each once."""

from __future__ import annotations

import qt

WARM_AFTER_MS = 300
"""After a panel was opened: the window comes first."""


class WarmUp:
    """Calls ``on_due`` without arguments soon after something was asked for; the worker's client does the rest."""

    def __init__(self, on_due) -> None:
        self._wanted = self._loading = ""
        self._loaded: set[str] = set()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(WARM_AFTER_MS)
        self._timer.connect("timeout()", on_due)

    def want(self, model: str) -> None:
        self._wanted = model
        self._timer.start()

    def is_wanted(self) -> bool:
        return bool(self._wanted)

    def is_loading(self) -> bool:
        return bool(self._loading)

    def is_done(self) -> bool:
        return self._wanted in self._loaded and not self._loading

    def next_request(self) -> dict | None:
        """What to ask of an idle worker; None for nothing."""
        if self._loading or not self._wanted or self._wanted in self._loaded:
            return None
        self._loading = self._wanted
        return {"id": f"warm-{self._loading}", "command": "warm", "model": self._loading}

    def take_answer(self, complete: bool) -> None:
        if complete:
            self._loaded.add(self._loading)
        self._loading = ""

    def note_job(self, request: dict) -> None:
        """A job loads its own model."""
        self._loaded.add(str(request.get("model", "")))

    def forget_worker(self) -> None:
        self._loading = ""
        self._loaded.clear()

    def stop(self) -> None:
        self._timer.stop()
