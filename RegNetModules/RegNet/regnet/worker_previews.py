"""The previews of the worker's registrations: files in a request's folder, and a line about each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import protocol
from .previews import Preview, Previews
from .worker_files import KEPT_PREVIEWS, preview_name, write_preview


@contextmanager
def sent_previews(send: Callable[[protocol.Event], None], job_id: str, folder: Path) -> Iterator[Previews]:
    """Previews that ``send`` is told of; at the end nothing of them is left in ``folder``."""
    writer = _Writer(send, job_id, folder)
    try:
        yield Previews(writer)
    finally:
        writer.remove()


class _Writer:
    def __init__(self, send: Callable[[protocol.Event], None], job_id: str, folder: Path) -> None:
        self._send, self._job_id, self._folder = send, job_id, folder
        self._count, self._fails = 0, False

    def __call__(self, preview: Preview) -> None:
        if self._fails:
            return
        try:
            entry = write_preview(self._folder, self._count, preview)
        except OSError as error:  # the registration itself is none the worse for it
            print(f"No more previews: {error}", file=sys.stderr)
            self._fails = True
            return
        self._count += 1
        affine = preview.alignment.matrix.tolist()
        self._send(protocol.PreviewEvent(id=self._job_id, stage=preview.stage, affine=affine, displacement=entry))

    def remove(self) -> None:
        for number in range(max(0, self._count - KEPT_PREVIEWS), self._count):
            (self._folder / preview_name(number)).unlink(missing_ok=True)
