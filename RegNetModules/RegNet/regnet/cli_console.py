"""How the commands speak: progress and errors on standard error, results on standard output, exit codes."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .errors import Cancelled, MemoryError_, RegNetError
from .events import Event, Events, Message
from .events import Progress as ProgressEvent

DEBUG_VARIABLE = "REGNET_DEBUG"
SECONDS_BETWEEN_LINES = 5.0
"""Where standard error is not a terminal, one line per stage, and one this often within a stage."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into one sentence on standard error and an exit code.

    0 is success, 2 wrong usage, 3 bad input, 4 failure, 130 cancelled. ``REGNET_DEBUG=1`` shows tracebacks of bugs.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _terminable():
                command(*args, **kwargs)
        except RegNetError as error:
            fail(error)
        except KeyboardInterrupt:
            fail(Cancelled())
        except (typer.Exit, typer.BadParameter, BrokenPipeError):
            raise
        except Exception as error:  # the last resort: a bug must not show a traceback to a user
            if os.environ.get(DEBUG_VARIABLE):
                raise
            fail(_unexpected(error))

    return run


def fail(error: RegNetError) -> None:
    """Print the error's sentence and leave with its exit code."""
    word = "" if isinstance(error, Cancelled) else "Error: "
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(word, style="bold red") + Text(str(error)))
    raise typer.Exit(error.exit_code)


def _unexpected(error: Exception) -> RegNetError:
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return MemoryError_("The work does not fit in memory; close other programs or lower --memory.")
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    return RegNetError(f"RegNet failed unexpectedly ({what}); set {DEBUG_VARIABLE}=1 to see where.")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a termination signal clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGTERM"):
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Events]:
    """An event sink that draws a bar on a terminal, or prints a line now and then elsewhere."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield Events(emit=_Quiet(console))
    elif not console.is_terminal:
        yield Events(emit=_Lines())
    else:
        columns = (
            TextColumn("[bold]{task.fields[stage]:<12}"),
            BarColumn(bar_width=36),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[text]}"),
        )
        with Progress(*columns, console=console) as bar:
            yield Events(emit=_Bar(bar))


class _Quiet:
    """Warnings only."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message) and event.level == "warning":
            self.console.print(Text("Warning: ", style="yellow") + Text(event.text))


class _Bar(_Quiet):
    def __init__(self, bar: Progress) -> None:
        super().__init__(bar.console)
        self.bar = bar
        self.task = bar.add_task("", total=1.0, stage="starting", text="")

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, ProgressEvent):
            stage = event.stage or "starting"
            self.bar.update(self.task, completed=event.fraction, stage=stage, text=event.text)


class _Lines:
    """Plain lines for logs; flushed, so that someone who watches a file sees them come."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.stage: str | None = None
        self.printed_at = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            if event.level == "warning":
                print(f"Warning: {event.text}", file=sys.stderr, flush=True)
            return
        if not isinstance(event, ProgressEvent):
            return
        now = time.monotonic()
        if event.stage == self.stage and now - self.printed_at < SECONDS_BETWEEN_LINES:
            return
        self.stage, self.printed_at = event.stage, now
        line = f"{event.fraction:4.0%}  {now - self.started:6.1f} s  {event.stage or 'starting':<12} {event.text}"
        print(line.rstrip(), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """``value`` as JSON, alone on standard output."""
    from .report_numbers import plain

    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def print_table(title: str, rows: Sequence[Sequence[str]], columns: Sequence[str] = (), justify: str = "right") -> None:
    """A table on standard output; ``justify`` aligns the columns after the first."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=bool(columns), header_style="dim")
    names = list(columns) or [""] * max(len(row) for row in rows)
    for place, name in enumerate(names):
        table.add_column(Text(name), justify="left" if place == 0 else justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def report_rows(report: dict) -> list[tuple[str, str]]:
    """The few numbers of a registration that belong on a screen."""
    from .report_numbers import number, region_text, stage_times

    seconds = stage_times(report)
    total = seconds.pop("total", None)
    memory = report.get("peak_memory_mb")
    metric = report.get("similarity_metric") or "similarity"
    return [
        (f"Similarity ({metric}), before", number(report.get("similarity_before"))),
        (f"Similarity ({metric}), after", number(report.get("similarity_after"))),
        ("Folding", f"{number(report.get('folding_percent'))} %"),
        ("SDlogJ", number(report.get("sdlogj"))),
        *((("Region", region_text(report)),) if report.get("region") else ()),
        *((f"Time: {stage}", f"{value:.1f} s") for stage, value in seconds.items()),
        ("Time: total", f"{total:.1f} s" if total is not None else number(None)),
        ("Peak memory", f"{number(round(memory)) if memory is not None else number(None)} MB"),
    ]


def leave(code: int | str | None) -> NoReturn:
    """End the process with the exit code of a ``SystemExit``, as the interpreter would.

    Everything that Python registered for the end still runs; only the taking apart of the loaded libraries is left
    out, which with torch takes as long as a small registration's refinement.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # A reader that is gone, as after `regnet models | head`, is no error.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
