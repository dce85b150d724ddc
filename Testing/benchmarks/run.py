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
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import methods  # noqa: E402
import pairs  # noqa: E402
import runner  # noqa: E402
import table  # noqa: E402


def job(pair: pairs.Pair) -> runner.Job:
    """Scored by what the moving labels become on the fixed image."""
    score = ("score.py", pair.fixed, pair.moving_labels, pair.fixed_labels)
    return runner.Job(pair.name, pair.dataset, pair.title, pair.fixed, pair.moving, score, pair.moving_labels)


def tell(score: dict) -> str:
    return (
        f"Dice {score['dice']:.4f}  HD95 {score['hd95_mm']:.2f} mm  folding {score['folding_percent']:.4f} %  "
        f"SDlogJ {score['sdlogj_inside']:.3f}"
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--pairs", nargs="+", default=["all"], help="names or data sets, such as ixi, oasis-01-02")
    parser.add_argument("--methods", nargs="*", default=["all"], help=f"all, {', '.join(methods.METHODS)}")
    runner.add_options(parser, "out", "RESULTS.md")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    chosen = methods.select(options.methods, options.extra)
    wanted = pairs.select(options.pairs, options.data)
    if options.check:
        return 0
    failed = runner.run(map(job, wanted), chosen, options, tell)
    runner.report("run.py", arguments, options, table.LABELS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
