"""What the parts of Deform-GAN are worth: the same training without some of them, and what each gives in one pass.

    python Testing/benchmarks/deformgan_ablation.py --data FOLDER
    python Testing/benchmarks/deformgan_ablation.py --data FOLDER --steps 0.3 --variants full lncc

Every variant is trained with the configuration that ships but for what its name leaves out, for ``--steps`` of the
steps; then it registers scans of subjects that no variant has seen, whose warps are known, by one pass after the common
affine alignment, beside SyN by mutual information. Trainings that are finished, and registrations that are measured,
are not repeated; a training that was cut short goes on. Run it with the environment that has the ``train`` extra and,
for SyN, antspyx.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "RegNetModules" / "RegNet")]

import methods  # noqa: E402
import multimodal  # noqa: E402
import multimodal_cases as cases  # noqa: E402
import pairs  # noqa: E402
import runner  # noqa: E402
from table import COSTS, Column, Layout  # noqa: E402

CONFIG = ROOT / "Models" / "deformgan" / "train.yaml"
CASES = ["openms-p07-T2-T1", "openms-p07-FLAIR-T1", "cstar-T2-T1"]
NO_GENERATOR = {"similarity": 0.0, "cgan": 0.0, "mu": 0.0, "lambda_": 0.0, "players": ["registration"]}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lg": ("the registration network alone, with local gradients", NO_GENERATOR),
    "lncc": (
        "the same with local correlation of the two contrasts in place of gradients",
        {**NO_GENERATOR, "beta": 0.0, "direct": 1.0},
    ),
    "mind": (
        "the same with MIND-SSC: VoxelMorph with a descriptor",
        {**NO_GENERATOR, "beta": 0.0, "direct": 1.0, "direct_with": "mind"},
    ),
    "no-lg": ("registration network, generator and discriminator, without local gradients", {"beta": 0.0, "mu": 0.0}),
    "full": ("all of it", {}),
}
ROWS = ("identity", "regnet-affine", *VARIANTS, "shipped", "ants-syn-mi")
LAYOUT = Layout(
    introduction="""\
# What the parts of Deform-GAN are worth

Variants of one training, each for the same steps and from the same random numbers, register scans whose warps are known
(see MULTIMODAL.md for how the error is measured) by one pass after RegNet's affine alignment, without refinement, in a
process of its own with {threads} threads. PSNR and SSIM compare the translated moving image with the fixed one, which
is the true T1, over the fixed image's foreground; where there is no trained generator there are none. *shipped* are the
weights that ship, trained for all the steps. The last column divides wall times by that of {references}.
""",
    columns=(
        Column("mean mm", ("score", "mean_mm"), "{:.2f}"),
        Column("95 % mm", ("score", "p95_mm"), "{:.2f}"),
        Column("before mm", ("score", "before_mm"), "{:.2f}"),
        Column("folding %", ("score", "folding_percent"), "{:.4f}"),
        Column("PSNR dB", ("score", "psnr"), "{:.1f}"),
        Column("SSIM", ("score", "ssim"), "{:.3f}"),
        *COSTS,
        Column("cases", ("score", "mean_mm"), "{:d}", len),
    ),
    datasets={name: cases.DATASETS[name] for name in ("openms", "cstar")},
    pairs=cases.NAMES,
    methods=ROWS,
    references=("ants-syn-mi",),
    ratios=("wall",),
    noun="case",
)


def configuration(name: str, share: float) -> Any:
    """The shipped configuration of ``share`` of the steps with the variant's options; a stage without players goes."""
    import yaml
    from regnet.training.config import make_config

    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    changes, stages = VARIANTS[name][1], []
    for stage in values["stages"]:
        players = set(stage["options"].get("players", ("registration",)))
        if changes.get("players") and not players & set(changes["players"]):
            continue
        options = {**stage["options"], **changes}
        if not changes.get("players") and "players" in stage["options"]:
            options["players"] = stage["options"]["players"]
        stages.append({**stage, "steps": math.ceil(stage["steps"] * share), "options": options})
    return make_config({**values, "stages": stages})


def trained(name: str, options: argparse.Namespace, data: Path) -> Path:
    """The folder of the variant's weights, trained now unless it has been."""
    from regnet.training.export import export
    from regnet.training.run import Where, train

    folder = options.out.resolve() / "models" / name
    if not (folder / "deformgan").is_dir():
        where = Where(CONFIG.parent, options.out.resolve() / "runs" / name, data, options.cache)
        export(train(configuration(name, options.steps), where), folder)
    return folder


def method(folder: Path | None) -> tuple[str, ...]:
    translates = folder is None or folder.name in ("no-lg", "full")
    arguments = "--model deformgan --refine off" + (" -p translation=1" if translates else "")
    return ("regnet", *(() if folder is None else ("--models", str(folder))), f"--arguments={arguments}")


def tell(score: dict) -> str:
    return multimodal.tell(score) + (f"  PSNR {score['psnr']:.1f}" if "psnr" in score else "")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--steps", type=float, default=1.0, help="share of the configuration's steps")
    parser.add_argument("--cache", type=Path, help="folder of prepared subjects")
    parser.add_argument("--warps", nargs="+", default=["own"], help="own (one for each case), all, or numbers")
    parser.add_argument("--others", nargs="*", default=["regnet-affine", "shipped", "ants-syn-mi"])
    runner.add_options(parser, "ablation", "ABLATION.md")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    wanted = cases.select(CASES, options.warps, options.data)
    if options.check:
        return 0
    data = pairs.data_folder(options.data, "multimodal_cases.py")
    chosen = {name: methods.MULTIMODAL[name] for name in options.others if name in methods.MULTIMODAL}
    chosen |= {name: method(trained(name, options, data)) for name in options.variants}
    if "shipped" in options.others:
        chosen["shipped"] = method(None)
    methods.DESCRIPTIONS.update({name: text for name, (text, _) in VARIANTS.items()})
    methods.DESCRIPTIONS["shipped"] = "the weights that ship"
    failed = runner.run((multimodal.job(case, options.out) for case in wanted), chosen, options, tell)
    runner.report("deformgan_ablation.py", arguments, options, LAYOUT)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
