"""AVSM's affine network beside the alignment by search, where the truth is known.

    python Testing/benchmarks/affine.py --data FOLDER [--draws 4] [--threads 2]

Each image of the benchmark is registered to itself, moved by drawn affine transforms about its centre: within 15
degrees, 12 percent of scale, 5 percent of shear and 12 mm along every axis. The error is the mean distance, over the
eight corners of the image's box, between the points the found transform and the true one lead to. Times are medians of
one process, the first call left out, from the images in memory to the transform. Writes ``AFFINE.md`` beside itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import numpy as np  # noqa: E402
import pairs  # noqa: E402
import torch  # noqa: E402
from regnet.affine_ascent import to_world  # noqa: E402
from regnet.align import align  # noqa: E402
from regnet.events import Events  # noqa: E402
from regnet.image import Image  # noqa: E402
from regnet.models import avsm  # noqa: E402
from regnet.models.avsm_network import Prediction  # noqa: E402
from regnet.models.avsm_optimise import improve_affine  # noqa: E402
from regnet.pair import make_pair  # noqa: E402
from regnet.transform import Affine  # noqa: E402
from regnet.zoo import find_weights, load_state  # noqa: E402

RANGES = {"degrees": 15.0, "scale": 0.12, "shear": 0.05, "shift": 12.0}
METHODS = {
    "none": "the misalignment as it is",
    "search": "`align=affine`: mutual information, several starts",
    "network": "`align=centres`, then the affine network alone",
    "network + optimisation": "the same, then the affine transform optimised on the pair (`align=centres`)",
}


def draw(image: Image, random: np.random.Generator) -> np.ndarray:
    """A world matrix about the image's centre."""
    angles = np.deg2rad(random.uniform(-RANGES["degrees"], RANGES["degrees"], 3))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = random.uniform(-RANGES["shear"], RANGES["shear"], 3)
    scale = np.diag(np.exp(random.uniform(-1, 1, 3) * np.log1p(RANGES["scale"])))
    world, centre = np.eye(4), image.grid.center()
    world[:3, :3] = matrix @ shear @ scale
    world[:3, 3] = centre - world[:3, :3] @ centre + random.uniform(-RANGES["shift"], RANGES["shift"], 3)
    return world


def find(method: str, fixed: Image, moving: Image, weights: tuple) -> np.ndarray:
    if method == "none":
        return np.eye(4)
    if method == "search":
        return align(fixed, moving, "affine").matrix
    centred = align(fixed, moving, "centres")
    pair = make_pair(fixed, moving, centred, None, None, 4000.0, torch.device("cpu"))
    start = Prediction(pair, *weights, Events()).affine(avsm.Parameters())
    matrix = to_world(start, pair.grid) if method == "network" else improve_affine(pair, Events(), start)
    return Affine(matrix).then(centred).matrix


def error(image: Image, found: np.ndarray, truth: np.ndarray) -> float:
    corners = np.c_[image.grid.corners(), np.ones(8)]
    return float(np.linalg.norm((corners @ (found - truth).T)[:, :3], axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record = find_weights("avsm", "brain")
    if record is None:
        raise SystemExit("The trained weights 'brain' of AVSM are not installed.")
    weights = load_state(record), record.config
    chosen = pairs.select(["all"], options.data)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for dataset in pairs.DATASETS:
        paths = sorted({path for pair in chosen if pair.dataset == dataset for path in (pair.fixed, pair.moving)})
        table = found.setdefault(dataset, {method: [] for method in METHODS})
        for number, path in enumerate(paths):
            fixed, random = Image.read(path), np.random.default_rng(number)
            for _ in range(options.draws):
                truth = draw(fixed, random)
                moving = Image(fixed.data, truth @ fixed.index_to_world, fixed.ndim)
                for method in METHODS:
                    started = time.perf_counter()
                    matrix = find(method, fixed, moving, weights)
                    table[method].append((error(fixed, matrix, truth), time.perf_counter() - started))
            print(path, {method: round(statistics.mean(e for e, _ in rows), 2) for method, rows in table.items()})
    (HERE / "AFFINE.md").write_text(text(found, options))


def text(found: dict, options: argparse.Namespace) -> str:
    head = (__doc__ or "").split("\n\n")
    lines = [f"# {head[0]}", "", head[2], "", *(f"- **{name}**: {what}" for name, what in METHODS.items()), ""]
    command = f"python Testing/benchmarks/affine.py --data FOLDER --draws {options.draws} --threads {options.threads}"
    lines[3:3] = ["", f"    {command}"]
    for dataset, table in found.items():
        count = len(table["none"])
        lines += [f"## {pairs.DATASETS[dataset]}", "", f"{count} registrations.", ""]
        lines += [
            "| method | mean error mm | median mm | worst mm | time s | time ÷ search |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        reference = statistics.median(seconds for _, seconds in table["search"][1:])
        for method, rows in table.items():
            errors, seconds = [one for one, _ in rows], statistics.median(one for _, one in rows[1:])
            figures = f"{statistics.mean(errors):.2f} | {statistics.median(errors):.2f} | {max(errors):.2f}"
            lines.append(f"| {method} | {figures} | {seconds:.2f} | {seconds / reference:.2f} |")
        lines.append("")
    return "\n".join(lines).replace("``", "`")


if __name__ == "__main__":
    main()
