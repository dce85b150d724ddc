"""What the parts of Deform-GAN are worth: the same training without some of them, and what each gives in one pass.

    python Testing/benchmarks/deformgan_ablation.py train --data FOLDER
    python Testing/benchmarks/deformgan_ablation.py measure --data FOLDER

Every variant is trained with ``Models/deformgan/train-2d.yaml`` but for what its name leaves out. Then it registers
slices of subjects that no variant has seen, deformed by known displacements, in one pass and without any alignment
ahead, beside SyN by mutual information. A training that is finished is not repeated; one that was cut short goes on.
``train`` needs the ``train`` extra, ``measure`` antspyx.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "RegNetModules" / "RegNet")]

import machine  # noqa: E402
import pairs  # noqa: E402
import torch  # noqa: E402
from regnet import image_quality, spatial  # noqa: E402
from regnet.image import Image  # noqa: E402
from regnet.synth.deform import random_diffeomorphism  # noqa: E402
from regnet.synth.draws import Draws  # noqa: E402

CONFIG = ROOT / "Models" / "deformgan" / "train-2d.yaml"
VARIANT = "to-t1-2d"
ALONE = {"similarity": 0.0, "cgan": 0.0, "mu": 0.0, "lambda_": 0.0, "players": ["registration"]}
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lg": ("T alone, with local gradients", ALONE, {}),
    "lncc": ("T alone, with local correlation of the two contrasts", {**ALONE, "beta": 0.0, "direct": 1.0}, {}),
    "mind": (
        "T alone, with MIND-SSC",
        {**ALONE, "beta": 0.0, "direct": 1.0, "direct_with": "mind"},
        {},
    ),
    "vxm-mind": (
        "VoxelMorph's U-Net in the place of T, with MIND-SSC",
        {**ALONE, "beta": 0.0, "direct": 1.0, "direct_with": "mind"},
        {"matching": 0},
    ),
    "no-lg": ("T, G and D, without local gradients", {"beta": 0.0, "mu": 0.0}, {}),
    "full": ("T, G and D, with local gradients", {}, {}),
}
TRANSLATING = ("no-lg", "full")
SUBJECTS = (("openms_p07", "T2"), ("openms_p07", "FLAIR"), ("cstar_stroke", "T2"), ("cstar_stroke", "FLAIR"))
SLICES = (0.4, 0.5, 0.6)
"""Of each axis, in shares of the extent of what is shown."""
LARGEST, SMOOTHNESS = (4.0, 9.0), (10.0, 24.0)
"""Of the displacements, in mm."""
SHOWN = 0.02


@dataclass(frozen=True)
class Case:
    """``fixed`` is a T1 slice, deformed; ``moving`` another contrast's, as it is; ``truth`` (2, H, W) in voxels of 1 mm
    takes the one to the other."""

    name: str
    fixed: np.ndarray
    moving: np.ndarray
    truth: np.ndarray


def cases(data: Path) -> Iterator[Case]:
    """Slices across each axis; a pure function of the files."""
    for subject, contrast in SUBJECTS:
        stem = data / "brain_multimodal" / subject
        volumes = [Image.read(f"{stem}_{name}.nii.gz").normalized().data[0].numpy() for name in ("T1", contrast)]
        for axis in range(3):
            seen = np.flatnonzero((volumes[0] > SHOWN).any(axis=tuple(a for a in range(3) if a != axis)))
            for share in SLICES:
                index = int(seen[0] + share * (seen[-1] - seen[0]))
                reference, moving = (np.ascontiguousarray(volume.take(index, axis)) for volume in volumes)
                draws = Draws(torch.Generator().manual_seed(1000 * axis + index), 1)
                truth = random_diffeomorphism(reference.shape, draws.uniform(*LARGEST), SMOOTHNESS, draws)
                fixed = spatial.warp(torch.from_numpy(reference)[None, None], truth)
                yield Case(f"{subject} {contrast} {axis}-{index}", fixed[0, 0].numpy(), moving, truth[0].numpy())


def image(plane: np.ndarray) -> Image:
    return Image.from_numpy(plane[None].astype(np.float32), np.eye(4), 2)


def by_network(parameters: dict[str, Any]) -> Callable[[Case], tuple[np.ndarray, np.ndarray | None]]:
    """Displacement and translated image of a case, from the weights that ``$REGNET_MODELS`` names first."""
    from regnet.register import register

    def found(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
        fixed = image(case.fixed)
        result = register(fixed, image(case.moving), "deformgan", align="none", parameters=parameters, **REFINE)
        points = fixed.grid.points()
        moved = result.transform(points.reshape(-1, 3)).reshape(points.shape) - points
        made = None if result.synthetic is None else result.synthetic.data[0, 0].numpy()
        return moved[0, ..., 1::-1].transpose(2, 0, 1), made

    return found


REFINE: dict[str, Any] = {"refine": "off"}


def by_syn(case: Case) -> tuple[np.ndarray, None]:
    """SyN by Mattes mutual information without an affine part, antspyx's defaults."""
    import ants

    fixed, moving = (ants.from_numpy(np.ascontiguousarray(plane.T)) for plane in (case.fixed, case.moving))
    found = ants.registration(fixed, moving, type_of_transform="SyNOnly", initial_transform="Identity")
    rows, columns = np.indices(case.fixed.shape)
    import pandas

    points = pandas.DataFrame({"x": columns.ravel() * 1.0, "y": rows.ravel() * 1.0})
    moved = ants.apply_transforms_to_points(2, points, found["fwdtransforms"])
    both = np.stack([moved["y"] - points["y"], moved["x"] - points["x"]])
    return both.reshape(2, *case.fixed.shape), None


def score(case: Case, displacement: np.ndarray, made: np.ndarray | None, seconds: float) -> dict[str, float]:
    """Error in mm where the fixed image shows something, folds, and how like the fixed image the translation is."""
    shown = case.fixed > SHOWN
    error = np.linalg.norm(displacement - case.truth, axis=0)[shown]
    rows, columns = (np.gradient(displacement[axis], axis=(0, 1)) for axis in range(2))
    determinant = (1 + rows[0]) * (1 + columns[1]) - rows[1] * columns[0]
    result = {
        "mean_mm": float(error.mean()),
        "p95_mm": float(np.percentile(error, 95)),
        "folding_percent": float((determinant <= 0).mean() * 100),
        "seconds": seconds,
    }
    if made is not None:
        result["psnr"] = image_quality.psnr(made, case.fixed, mask=shown)
        result["ssim"] = image_quality.ssim(made, case.fixed, mask=shown)
    return result


def configuration(name: str) -> Any:
    """The shipped configuration with the variant's options; a stage of which nobody is left to be trained goes."""
    import yaml
    from regnet.training.config import make_config

    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    _, changes, network = VARIANTS[name]
    stages = []
    for stage in values["stages"]:
        options = {**stage["options"], **changes}
        if "players" in stage["options"]:
            options["players"] = stage["options"]["players"]
            if "players" in changes:
                continue
        stages.append({**stage, "options": options})
    return make_config({**values, "network": {**values["network"], **network}, "stages": stages})


def train(options: argparse.Namespace, data: Path) -> None:
    from regnet.training.export import export
    from regnet.training.run import Where
    from regnet.training.run import train as run

    for name in options.variants:
        folder = options.out / "models" / name
        if folder.is_dir():
            print(f"{name}: trained already")
            continue
        print(f"{name}: {VARIANTS[name][0]}", flush=True)
        export(run(configuration(name), Where(CONFIG.parent, options.out / "runs" / name, data, options.cache)), folder)


def methods(options: argparse.Namespace) -> dict[str, tuple[str, Path | None, Callable]]:
    """What is measured: a description, the folder of weights and what finds a displacement."""
    chosen: dict[str, tuple[str, Path | None, Callable]] = {
        "none": ("as they are", None, lambda case: (np.zeros_like(case.truth), None))
    }
    for name in options.variants:
        if (folder := options.out / "models" / name).is_dir():
            chosen[name] = (VARIANTS[name][0], folder, by_network({"translation": name in TRANSLATING}))
    chosen["SyN, MI"] = ("antspyx `SyNOnly`, Mattes mutual information, defaults", None, by_syn)
    return chosen


def measure(options: argparse.Namespace, data: Path) -> None:
    torch.set_num_threads(options.threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(options.threads)
    stored, rows = list(cases(data)), {}
    for name, (_, folder, find) in methods(options).items():
        os.environ["REGNET_MODELS"] = str(folder or "")
        find(stored[0])
        rows[name] = [timed(case, find) for case in stored]
        print(line(name, rows[name]), flush=True)
    write(options, rows)


def timed(case: Case, find: Callable) -> dict[str, float]:
    started = time.perf_counter()
    displacement, made = find(case)
    return score(case, displacement, made, time.perf_counter() - started)


COLUMNS = {
    "mean_mm": "{:.2f}",
    "p95_mm": "{:.2f}",
    "folding_percent": "{:.4f}",
    "psnr": "{:.1f}",
    "ssim": "{:.3f}",
    "seconds": "{:.2f}",
}


def line(name: str, scores: list[dict[str, float]]) -> str:
    cells = []
    for column, form in COLUMNS.items():
        values = [entry[column] for entry in scores if column in entry]
        cells.append(form.format(statistics.fmean(values)) if values else "")
    return f"| {name} | {' | '.join(cells)} |"


def write(options: argparse.Namespace, rows: dict[str, list[dict[str, float]]]) -> None:
    described = {"none": "as they are", "SyN, MI": methods(options)["SyN, MI"][0]}
    described |= {name: text for name, (text, _, _) in VARIANTS.items()}
    kind = machine.describe()
    text = f"""# What the parts of Deform-GAN are worth

Variants of one training, each with the same steps and random numbers (`Models/deformgan/train-2d.yaml`), register
slices of two subjects that none has seen, T2 and FLAIR to T1, {len(rows["none"])} cases, each with a known displacement
of up to {LARGEST[0]:.0f} to {LARGEST[1]:.0f} mm: one pass, no alignment ahead, no refinement. The error is a mean over
the fixed image's foreground; PSNR and SSIM compare the translated moving image, registered, with the fixed one there.
Seconds are of one registration in memory after a first one, {options.threads} thread(s), {kind["processor"]}, busy.

    python Testing/benchmarks/deformgan_ablation.py measure --data FOLDER --threads {options.threads}

| | mean mm | 95 % mm | folding % | PSNR dB | SSIM | s |
|---|---:|---:|---:|---:|---:|---:|
"""
    text += "".join(line(name, scores) + "\n" for name, scores in rows.items())
    text += "\n" + "".join(f"- **{name}**: {described[name]}\n" for name in rows)
    for path, content in ((options.results, text), (options.results.with_suffix(".json"), json.dumps(rows, indent=1))):
        partial = path.with_name(path.name + ".partial")
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--cache", type=Path, help="folder of prepared subjects")
    parser.add_argument("--out", type=Path, default=ROOT / ".bench" / "ablation", help="folder of runs and weights")
    parser.add_argument("--results", type=Path, default=HERE / "ABLATION.md", help="the table; its JSON beside it")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    (train if options.what == "train" else measure)(options, pairs.data_folder(options.data, "this program"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
