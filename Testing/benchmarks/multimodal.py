"""Benchmark: RegNet and its peers on images of different contrasts, each registration in a process of its own.

    python Testing/benchmarks/multimodal.py --data FOLDER
    python Testing/benchmarks/multimodal.py --data FOLDER --cases ctmr liver --methods regnet-masr convexadam
    python Testing/benchmarks/multimodal.py --data FOLDER --cases openms-p07-T1-T2 --warps 0 1 2
    python Testing/benchmarks/multimodal.py --data FOLDER --cases all --warps all

``multimodal_cases.py`` says what the data folder holds and which cases there are; without ``--cases`` and ``--warps``
some of each data set run, each with one of the ten stored warps. A run that was cut short goes on where it stopped:
what is measured already stays, unless ``--fresh``. The tables show everything that is in the ``--out`` folder. A method
that fails becomes a row that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import methods  # noqa: E402
import multimodal_cases as cases  # noqa: E402
import pairs  # noqa: E402
import runner  # noqa: E402
from table import COSTS, Column, Layout  # noqa: E402

LAYOUT = Layout(
    introduction="""\
# Images of different contrasts, side by side with other registration programs

Every method registers the same pairs of images, in a process of its own, with {threads} threads. Wall and CPU time
cover everything from the image files to a transform on disk, with starting the program; scoring is outside. CPU time is
user and system time of all threads; memory is the peak resident size.

In a warped case both images show one subject in one space, until the moving one is warped with one of ten stored warps
T: up to 20 degrees and 20 mm, then a smooth displacement of up to 15 mm. The registration's φ takes fixed to moving
points, and T takes moving points back to where they were; so the error at a fixed voxel x is |T(φ(x)) - x|. It is taken
over the fixed image's foreground: positive voxels where the skull is stripped, elsewhere the largest part above Otsu's
threshold with its holes filled. Where landmarks are set, the error is the distance of φ(fixed landmark) to the moving
landmark. Mean, 95th percentile and largest error are over the points of a case and then, as all else, means over the
cases; *worst case* is the largest mean of a case. *Before* is the mean error without registration.

Folding is the share of voxels where the determinant of the whole mapping, by central differences, is not positive: over
every voxel of the fixed image, and over its foreground. SDlogJ is over the foreground, too; the warps themselves have
one. The same code scores all methods. The last column divides a method's wall time by that of {references}, over the
cases that both managed: below 1 is faster.
""",
    columns=(
        Column("mean mm", ("score", "mean_mm"), "{:.2f}"),
        Column("median mm", ("score", "median_mm"), "{:.2f}"),
        Column("95 % mm", ("score", "p95_mm"), "{:.2f}"),
        Column("max mm", ("score", "max_mm"), "{:.2f}"),
        Column("before mm", ("score", "before_mm"), "{:.2f}"),
        Column("worst case mm", ("score", "mean_mm"), "{:.2f}", max),
        Column("folding %", ("score", "folding_percent"), "{:.4f}"),
        Column("in foreground", ("score", "folding_percent_inside"), "{:.4f}"),
        Column("SDlogJ", ("score", "sdlogj_inside"), "{:.3f}"),
        *COSTS,
        Column("cases", ("score", "mean_mm"), "{:d}", len),
    ),
    own={
        "liver": (
            Column("liver mm", ("score", "liver_mm"), "{:.2f}"),
            Column("outside mm", ("score", "outside_mm"), "{:.2f}"),
        )
    },
    datasets=cases.DATASETS,
    pairs=cases.NAMES,
    methods=tuple(methods.MULTIMODAL),
    references=methods.MULTIMODAL_REFERENCES,
    ratios=("wall",),
    noun="case",
)


def job(case: cases.Case, out: Path) -> runner.Job:
    """Its images are made when they are first needed, in a folder that goes when all methods are through."""
    scratch = out.resolve() / case.name / "images"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "case.json").write_text(json.dumps(dataclasses.asdict(case), indent=1), encoding="utf-8")
    return runner.Job(
        case.name,
        case.dataset,
        case.title,
        str(scratch / "fixed.nii.gz"),
        str(scratch / "moving.nii.gz"),
        ("multimodal_score.py", str(scratch)),
        prepare=("multimodal_prepare.py", str(scratch)),
        scratch=scratch,
    )


def tell(score: dict) -> str:
    return (
        f"error {score['mean_mm']:6.2f} mm of {score['before_mm']:5.2f}  95 % {score['p95_mm']:6.2f} mm  "
        f"folding {score['folding_percent']:.4f} %  SDlogJ {score['sdlogj_inside']:.3f}"
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    known = ", ".join(cases.DATASETS)
    parser.add_argument("--cases", nargs="+", default=["short"], help=f"short, all, {known}, or names")
    parser.add_argument("--warps", nargs="+", default=["own"], help="own (one for each case), all, or numbers")
    parser.add_argument("--methods", nargs="*", default=["all"], help=f"all, {', '.join(methods.MULTIMODAL)}")
    runner.add_options(parser, "multimodal", "MULTIMODAL.md")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    chosen = methods.select(options.methods, options.extra, methods.MULTIMODAL)
    wanted = cases.select(options.cases, options.warps, options.data)
    if options.check:
        return 0
    failed = runner.run((job(case, options.out) for case in wanted), chosen, options, tell)
    runner.report("multimodal.py", arguments, options, LAYOUT)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
