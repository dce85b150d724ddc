"""What the benchmark programs share: one registration after the other, each in a process of its own, and going on.

A job is one pair of images; every method registers it, ``peers/common.py`` turns the transform into a displacement, and
a scoring script prints one line of JSON. All of that happens in other processes: this one has to stay small, because
the kernel counts the peak memory of a process from the one that started it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import machine
import table
from measure import measure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "RegNetModules" / "RegNet"


@dataclasses.dataclass(frozen=True)
class Job:
    """One pair of image files and how to score its registration.

    ``score`` is the scoring script with its arguments; the folder of the method's output comes after them. ``prepare``
    is a command that makes the job's files in ``scratch``, run once before the first method that needs them.
    """

    name: str
    dataset: str
    title: str
    fixed: str
    moving: str
    score: tuple[str, ...]
    labels: str | None = None
    prepare: tuple[str, ...] = ()
    scratch: Path | None = None


def environment(threads: int) -> dict[str, str]:
    """The peers' environment: the checkout's own ``regnet``, and the same number of threads for every library."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        "BENCH_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH")))),
    }


def run_one(job: Job, method: str, peer: tuple[str, ...], folder: Path, options: argparse.Namespace) -> dict:
    """Register, resample and score one job with one method; never raises for what the peer did."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    shared = {"environment": environment(options.threads), "timeout": options.timeout, "folder": HERE}
    result = {
        "pair": job.name,
        "dataset": job.dataset,
        "title": job.title,
        "method": method,
        "peer": list(peer),
        "ok": False,
        "date": datetime.date.today().isoformat(),
        "versions": machine.versions(),
    }
    for step, command in _steps(job, peer, work).items():
        log = folder / f"{step}.log"
        try:
            cost = measure(command, log=log, **shared)
        except TimeoutError:
            return {**result, "error": f"{step} took more than {options.timeout:.0f} s"}
        if step == "register":
            result["cost"] = dataclasses.asdict(cost)
        if cost.exit_code != 0:
            return {**result, "error": f"{step}: {last_line(log)} (exit code {cost.exit_code})"}
    result["score"] = json.loads(last_line(folder / "score.log"))
    if not options.keep:
        shutil.rmtree(work)
    return {**result, "ok": True}


def _steps(job: Job, peer: tuple[str, ...], work: Path) -> dict[str, list[str]]:
    """The commands of one registration by name, in their order."""
    python, module, settings = [sys.executable, "-m"], f"peers.{peer[0]}", peer[1:]
    files = [job.fixed, job.moving, str(work)]
    labels = [] if job.labels is None else ["--labels", job.labels]
    steps = {
        "register": [*python, module, "register", *files, *settings],
        "apply": [*python, module, "apply", *files, *labels, *settings],
        "score": [sys.executable, *job.score, str(work)],
    }
    ready = job.scratch is None or (job.scratch / "ready").is_file()
    return steps if ready else {"prepare": [sys.executable, *job.prepare], **steps}


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def kept(folder: Path) -> dict | None:
    """The result of an earlier run, if it succeeded; what failed is tried again."""
    file = folder / "result.json"
    result = json.loads(file.read_text()) if file.is_file() else {"ok": False}
    return result if result["ok"] else None


def save(result: dict, folder: Path) -> None:
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(result, indent=1))
    os.replace(partial, folder / "result.json")


def line(result: dict, tell: Callable[[dict], str]) -> str:
    """One line for the screen; ``tell`` puts the scores into words."""
    head = f"{result['pair']:14} {result['method']:16}"
    if not result["ok"]:
        return f"{head} failed: {result['error']}"
    cost = result["cost"]
    times = f"{cost['wall_s']:.1f} s  CPU {cost['cpu_s']:.1f} s  {cost['peak_mb']:.0f} MB"
    return f"{head} {tell(result['score'])}  {times}"


def add_options(parser: argparse.ArgumentParser, out: str, results: str) -> None:
    """The options that every benchmark program has; ``out`` and ``results`` are their own folder and table."""
    parser.add_argument("--extra", action="append", default=[], help="one more method: NAME=PEER OPTIONS")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / out, help="folder of single results and logs")
    parser.add_argument("--results", type=Path, default=HERE / results, help="the table; its JSON goes beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=3 * 3600, help="seconds that one registration may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what is measured already")
    parser.add_argument("--keep", action="store_true", help="keep transforms, fields and labels in the --out folder")
    parser.add_argument("--check", action="store_true", help="only look whether the data and the methods are there")


def run(
    jobs: Iterable[Job],
    chosen: dict[str, tuple[str, ...]],
    options: argparse.Namespace,
    tell: Callable[[dict], str],
) -> int:
    """Every job with every method, as far as it is not measured already; how many failed."""
    # An exception, so that measure() takes the running peer along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed = 0
    for job in jobs:
        for method, peer in chosen.items():
            folder = options.out.resolve() / job.name / method
            result = None if options.fresh else kept(folder)
            if result is None:
                result = run_one(job, method, peer, folder, options)
                save(result, folder)
            failed += not result["ok"]
            print(line(result, tell), flush=True)
        if job.scratch is not None and not options.keep:
            shutil.rmtree(job.scratch, ignore_errors=True)
    return failed


def report(script: str, arguments: list[str], options: argparse.Namespace, layout: table.Layout) -> None:
    """Write the table of everything in the ``--out`` folder."""
    command = shlex.join(["python", f"Testing/benchmarks/{script}", "--data", "FOLDER", *public(arguments)])
    about = {"command": command, "threads": options.threads, "machine": machine.describe()}
    table.write(table.load(options.out, layout), options.results, about, layout)
    print(f"Written: {options.results} and {options.results.with_suffix('.json')}")


def public(arguments: list[str]) -> list[str]:
    """The arguments without the folders of this machine, for the table."""
    shown, rest = [], iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name not in ("--data", "--out", "--results"):
            shown.append(argument)
        elif not equals:
            next(rest, None)
    return shown
