"""Benchmark: RegNet and its peers on the same pairs, each registration in a process of its own.

    python Testing/benchmarks/run.py --data FOLDER
    python Testing/benchmarks/run.py --data FOLDER --pairs ixi --methods regnet greedy-ncc2
    python Testing/benchmarks/run.py --data FOLDER --methods regnet --fresh
    python Testing/benchmarks/run.py --data FOLDER --extra "regnet-off=regnet --arguments=--refine=off"

A run that was cut short goes on where it stopped: what is measured already stays, unless ``--fresh``. The tables show
everything that is in the ``--out`` folder. A method that fails becomes a row that says so.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "RegNetModules" / "RegNet"
sys.path[:0] = [str(HERE), str(SOURCE)]

import machine  # noqa: E402
import methods  # noqa: E402
import pairs  # noqa: E402
import table  # noqa: E402
from measure import measure  # noqa: E402


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


def run_one(pair: pairs.Pair, method: str, peer: tuple[str, ...], folder: Path, options: argparse.Namespace) -> dict:
    """Register, resample and score one pair with one method; never raises for what the peer did."""
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    shared = {"environment": environment(options.threads), "timeout": options.timeout, "folder": HERE}
    result = {
        "pair": pair.name,
        "dataset": pair.dataset,
        "title": pair.title,
        "method": method,
        "peer": list(peer),
        "ok": False,
        "date": datetime.date.today().isoformat(),
        "versions": machine.versions(),
    }
    python, module, settings = [sys.executable, "-m"], f"peers.{peer[0]}", peer[1:]
    images = [pair.fixed, pair.moving]
    steps = {
        "register": [*python, module, "register", *images, str(work), *settings],
        "apply": [*python, module, "apply", *images, pair.moving_labels, str(work), *settings],
        # A process of its own here, too: this one has to stay small, see measure().
        "score": [sys.executable, "score.py", pair.fixed, pair.moving_labels, pair.fixed_labels, str(work)],
    }
    for step, command in steps.items():
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


def line(result: dict) -> str:
    head = f"{result['pair']:14} {result['method']:16}"
    if not result["ok"]:
        return f"{head} failed: {result['error']}"
    cost, score = result["cost"], result["score"]
    return (
        f"{head} Dice {score['dice']:.4f}  HD95 {score['hd95_mm']:.2f} mm  folding {score['folding_percent']:.4f} %  "
        f"SDlogJ {score['sdlogj_inside']:.3f}  "
        f"{cost['wall_s']:.1f} s  CPU {cost['cpu_s']:.1f} s  {cost['peak_mb']:.0f} MB"
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--pairs", nargs="+", default=["all"], help="names or data sets, such as ixi, oasis-01-02")
    parser.add_argument("--methods", nargs="*", default=["all"], help=f"all, {', '.join(methods.METHODS)}")
    parser.add_argument("--extra", action="append", default=[], help="one more method: NAME=PEER OPTIONS")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "out", help="folder of single results and logs")
    parser.add_argument("--results", type=Path, default=HERE / "RESULTS.md", help="the table; its JSON goes beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=3 * 3600, help="seconds that one registration may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what is measured already")
    parser.add_argument("--keep", action="store_true", help="keep transforms, fields and labels in the --out folder")
    parser.add_argument("--check", action="store_true", help="only look whether the data and the methods are there")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # An exception, so that measure() takes the running peer along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = methods.select(options.methods, options.extra)
    wanted = pairs.select(options.pairs, options.data)
    if options.check:
        return 0
    failed = 0
    for pair in wanted:
        for method, peer in chosen.items():
            folder = options.out.resolve() / pair.name / method
            result = None if options.fresh else kept(folder)
            if result is None:
                result = run_one(pair, method, peer, folder, options)
                save(result, folder)
            failed += not result["ok"]
            print(line(result), flush=True)
    command = shlex.join(["python", "Testing/benchmarks/run.py", "--data", "FOLDER", *public(arguments)])
    about = {"command": command, "threads": options.threads, "machine": machine.describe()}
    table.write(table.load(options.out), options.results, about)
    print(f"Written: {options.results} and {options.results.with_suffix('.json')}")
    return 1 if failed else 0


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
