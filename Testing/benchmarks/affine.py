"""Benchmark: RegNet's affine registrations and those of its peers, where the truth is known, and on two subjects.

    python Testing/benchmarks/affine.py --data FOLDER
    python Testing/benchmarks/affine.py --data FOLDER --cases trunk pairs --methods regnet-search regnet-ddim
    python Testing/benchmarks/affine.py --data FOLDER --cases warps --warps 10

``affine_cases.py`` says what the data folder holds and which cases there are, ``affine_warps.py`` which warps, and the
table itself what is measured. A run that was cut short goes on where it stopped: what is measured already stays, unless
``--fresh``; so with new weights, ``--fresh``. The tables show everything that is in the ``--out`` folder. A method that
fails becomes a row that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import affine_cases as cases  # noqa: E402
import affine_table  # noqa: E402
import machine  # noqa: E402
import methods  # noqa: E402
import pairs  # noqa: E402
import runner  # noqa: E402

_DDIM = ("--needs", "ddim/general")
METHODS: dict[str, tuple[str, ...]] = {
    "none": ("affine_none",),
    "regnet-search": ("affine_regnet", "--align", "affine"),
    "regnet-ddim": ("affine_regnet", "--align", "ddim", *_DDIM),
    "ddim-network": ("affine_regnet", "--model", "ddim", "--refine", "off", *_DDIM),
    "ddim": ("affine_regnet", "--model", "ddim", *_DDIM),
    "avsm-network": ("affine_regnet", "--avsm-network", "--needs", "avsm/brain"),
    "ants": ("affine_ants",),
    "elastix": ("affine_elastix",),
    "greedy": ("affine_greedy",),
}
DESCRIPTIONS = {
    "none": "the images as they lie by their headers",
    "regnet-search": "`regnet align --method affine`: normalised mutual information, a wide search first",
    "regnet-ddim": "`regnet align --method ddim`: the same with a narrow search about what DDIM's network proposes",
    "ddim-network": "`regnet register --model ddim --refine off`: what the network proposes",
    "ddim": "`regnet register --model ddim`, refined by mutual information",
    "avsm-network": "AVSM's affine network alone, after `align=moments`",
    "ants": "antspyx `Affine`, Mattes mutual information, from the centres of mass, defaults",
    "elastix": "itk-elastix, default rigid then affine, Mattes mutual information, from the centres of gravity",
    "greedy": "greedy by NMI: rigid with `-ia-image-centers -search 1000 20 20`, then `-dof 12`, `-n 100x50x10`",
}


def job(case: cases.Case, out: Path) -> runner.Job:
    """The moving image of a warp is made when first needed, in a folder that goes when all methods are through."""
    if case.labels is not None:
        score = ("affine_score.py", "pair", *case.labels)
        return runner.Job(case.name, case.dataset, case.title, case.fixed, case.moving, score, labels=case.labels[0])
    scratch = out.resolve() / case.name / "images"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    (scratch / "case.json").write_text(json.dumps(dataclasses.asdict(case), indent=1), encoding="utf-8")
    return runner.Job(
        case.name,
        case.dataset,
        case.title,
        case.fixed,
        str(scratch / "moving.nii.gz"),
        ("affine_score.py", "warped", str(scratch)),
        prepare=("affine_prepare.py", str(scratch)),
        scratch=scratch,
    )


def tell(score: dict) -> str:
    if "dice" in score:
        return f"Dice {score['dice']:.3f}  in {score['seconds']:.2f} s "
    return f"error {score['error_mm']:6.2f} mm of {score['before_mm']:5.1f}  in {score['seconds']:.2f} s "


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--cases", nargs="+", default=["all"], help=f"all, warps, pairs, {', '.join(cases.DATASETS)}")
    parser.add_argument("--warps", type=int, default=cases.WARPS, help="how many of the warps")
    parser.add_argument("--methods", nargs="*", default=["all"], help=f"all, {', '.join(METHODS)}")
    runner.add_options(parser, "affine", "AFFINE.md")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    chosen = methods.select(options.methods, options.extra, METHODS)
    wanted = cases.select(options.cases, options.warps, options.data)
    if options.check:
        return 0
    failed = runner.run((job(case, options.out) for case in wanted), chosen, options, tell)
    command = shlex.join(["python", "Testing/benchmarks/affine.py", "--data", "FOLDER", *runner.public(arguments)])
    about = {"command": command, "threads": options.threads, "machine": machine.describe()}
    affine_table.write(options.out, options.results, about, DESCRIPTIONS)
    print(f"Written: {options.results} and {options.results.with_suffix('.json')}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
