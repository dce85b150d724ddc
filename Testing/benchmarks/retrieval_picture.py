"""Draws where a point of a T1 image is found again in the co-registered T2 image: a similarity map per descriptor.

    python Testing/benchmarks/retrieval_picture.py --data FOLDER --output Models/masr/similarity.png

As in the first figure of Mok et al., CVPR 2024 (arXiv 2402.18933). The scan is the C-STAR stroke case (MIT licence), so
that the picture may be passed on. Its points are the first ones of a seeded draw within one axial slice, not chosen by
hand. A map shows the scalar product of the point's unit vector with those of the T2 slice, on one scale for all
descriptors; the patient's left is on the left. The two images are described on windows that are shifted against each
other (see ``retrieval.py``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pairs  # noqa: E402
import torch  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from retrieval import SHIFT, Describe, View, at_voxels, descriptors, load, methods, weights  # noqa: E402
from retrieval_cases import CASES, missing  # noqa: E402
from torch import Tensor  # noqa: E402

CASE = next(case for case in CASES if case.title == "C-STAR, T1 → T2")
COLUMNS = {"dsir": "DSIR", "mind": "MIND-SSC", "patch": "raw 3 × 3 × 3 patch"}
HEIGHT = 0.55
"""Of the slice, as a share of the volume: through the basal ganglia and the ventricles."""
POINTS, SEED = 4, 1
SCALE = {"vmin": 0.0, "vmax": 1.0, "cmap": "viridis"}


def slice_points(view: View, level: int) -> Tensor:
    """Voxels (n, 3) of the first window in its slice ``level``, foreground of both images."""
    every = view.places(view.first.numel(), SEED)
    return every[every[:, 0] == level][:POINTS]


@torch.inference_mode()
def similarity(view: View, describe: Describe, places: Tensor) -> np.ndarray:
    """(n, H, W) on the second window's slice that shows what ``places`` (n, 3), all in one slice, show; NaN outside
    the foreground."""
    level = int(places[0, 0]) - SHIFT[0]
    queries = at_voxels(describe(view.first), places)
    second = describe(view.second)[0, :, level]
    maps = torch.einsum("nc,chw->nhw", queries, second)
    return maps.masked_fill(~view.second_inside[0, 0, level], torch.nan).double().numpy()


def mark(axes: Axes, place: Sequence[float], colour: str) -> None:
    """A cross with a dark rim, to be seen on any colour."""
    axes.plot(place[1], place[0], "+", color="black", markersize=15, markeredgewidth=3.5)
    axes.plot(place[1], place[0], "+", color=colour, markersize=14, markeredgewidth=1.6)


def best_mark(axes: Axes, found: np.ndarray) -> None:
    """A ring around the most alike voxel."""
    row, column = np.unravel_index(np.nanargmax(found), found.shape)
    axes.plot(column, row, "o", color="black", markersize=13, markerfacecolor="none", markeredgewidth=3.5)
    axes.plot(column, row, "o", color="white", markersize=13, markerfacecolor="none", markeredgewidth=1.6)


def draw(view: View, maps: dict[str, np.ndarray], places: Tensor, output: Path) -> None:
    level = int(places[0, 0])
    first, second = view.first[0, 0, level].numpy(), view.second[0, 0, level - SHIFT[0]].numpy()
    rows, columns = len(places), 2 + len(maps)
    aspect = view.spacing[1] / view.spacing[2]
    figure, grid = plt.subplots(rows, columns, figsize=(12, 2.72 * rows + 0.9), dpi=100, squeeze=False)
    for number, place in enumerate(places.tolist()):
        there = [place[1] - SHIFT[1], place[2] - SHIFT[2]]
        for axes, picture, at in ((grid[number, 0], first, place[1:]), (grid[number, 1], second, there)):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
            mark(axes, at, "red")
        for axes, name in zip(grid[number, 2:], maps, strict=True):
            shown = axes.imshow(maps[name][number], origin="lower", aspect=aspect, interpolation="nearest", **SCALE)
            mark(axes, there, "red")
            best_mark(axes, maps[name][number])
    for axes, title in zip(grid[0], ("T1, the point", "T2, its place", *(COLUMNS[name] for name in maps)), strict=True):
        axes.set_title(title, fontsize=14)
    for axes in grid.flat:
        axes.set_facecolor("black")
        axes.set(xticks=[], yticks=[])
    figure.subplots_adjust(left=0.01, right=0.915, top=0.955, bottom=0.05, wspace=0.03, hspace=0.03)
    bar = figure.colorbar(shown, cax=figure.add_axes((0.928, 0.2, 0.016, 0.6)))
    bar.set_label("similarity of the unit vectors", fontsize=12)
    look = {"linestyle": "none", "markersize": 12, "markeredgewidth": 1.6}
    handles = [
        Line2D([], [], marker="+", color="red", label="true place", **look),
        Line2D([], [], marker="o", color="black", markerfacecolor="none", label="best match in the slice", **look),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, fontsize=13, frameon=False)
    figure.savefig(output)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--weights", help="installed variant, or a .safetensors file with its record beside it")
    parser.add_argument("--checkpoint", help="of a training with the default network, instead of weights; for trials")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = pairs.data_folder(options.data, "retrieval_cases.py")
    for path in missing(CASE, data):
        raise SystemExit(f"The picture needs {path}, which is not there; is {data} the right data folder?")
    state, config, _ = weights(options.weights, options.checkpoint)
    view = load(CASE, data)
    places = slice_points(view, round(HEIGHT * view.first.shape[2]))
    all_methods = methods(descriptors.dsir(state, config))
    draw(view, {name: similarity(view, all_methods[name], places) for name in COLUMNS}, places, options.output)


if __name__ == "__main__":
    main()
