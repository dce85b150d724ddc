"""Result folders that fill up completely or not at all."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


@contextmanager
def staged_folder(target: Path, names: Iterable[str]) -> Iterator[Path]:
    """A hidden folder inside ``target`` whose files move into ``target`` together once the work is done.

    If the work fails or is cancelled nothing of it stays, not even folders that were made for it, and files of an
    earlier run are as they were. Where it succeeds, those of ``names`` that it did not make are removed: they would be
    an earlier run's and not fit the others.

    Raises:
        InputError: ``target`` cannot be made or written, or one of ``names`` in it is a folder.
    """
    made = _make_folders(target)
    done = False
    staging: Path | None = None
    try:
        for name in names:
            if (target / name).is_dir():
                raise InputError(f"{str(target / name)!r} is a folder; choose another output folder with -o.")
        try:
            staging = Path(tempfile.mkdtemp(prefix=".regnet-", dir=target))
        except OSError as error:
            raise _cannot_write(target, error) from None
        yield staging
        with uninterrupted():
            try:
                made_now = sorted(staging.iterdir())
                for file in made_now:
                    file.replace(target / file.name)
                for name in set(names) - {file.name for file in made_now}:
                    (target / name).unlink(missing_ok=True)
            except OSError as error:
                raise _cannot_write(target, error) from None
            done = True
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if not done:
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()


def _make_folders(target: Path) -> list[Path]:
    """Make ``target`` and its parents; returns those that were not there, the outermost first."""
    missing = [folder for folder in (target, *target.parents) if not folder.exists()][::-1]
    made: list[Path] = []
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
            made.append(folder)
        if not target.is_dir():
            raise NotADirectoryError(0, "it is a file")
    except OSError as error:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise _cannot_write(target, error) from None
    return made


def _cannot_write(target: Path, error: OSError) -> InputError:
    reason = error.strerror or type(error).__name__
    return InputError(f"The output folder {str(target)!r} cannot be written ({reason}); choose another one with -o.")


def check_output(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse an output file before the work rather than after it.

    Raises:
        InputError: an unknown ending, a folder that does not exist, or a folder of that name.
    """
    if not path.name.lower().endswith(endings):
        raise InputError(f"The output {path.name!r} has no known ending; use one of {', '.join(endings)}.")
    if path.is_dir():
        raise InputError(f"The output {str(path)!r} is a folder; give a file name.")
    if not path.parent.is_dir():
        raise InputError(f"The folder {str(path.parent)!r} of the output does not exist; make it first.")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and termination for a moment in which work must not stop half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]
    before = {name: signal.signal(name, signal.SIG_IGN) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
