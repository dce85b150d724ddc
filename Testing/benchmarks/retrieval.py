"""How often a descriptor finds a point of one real scan again in another image of the same anatomy.

    python Testing/benchmarks/retrieval.py --data FOLDER [--weights VARIANT-OR-FILE] [--results RETRIEVAL.md]

For 300 random voxels of the first image, the most alike voxel of the second is looked for among all of its foreground.
A **hit** is at most 2 voxels from the true place. The pairs are a scan and itself under a random non-linear curve of
its intensities, with and without inversion (its background stays dark), and co-registered scans of one subject. Images
are normalised, cut to their content and reduced to 2 mm as a registration would do it; axes that are coarser stay (the
5 mm slices of the Harvard heads, the 3 mm of the trunks).

Both images lie on one lattice, so a network could tell places apart by their distance from the border, or by where its
strides fall. Therefore each is cut to a window of its own, the second's begins (3, 5, 2) voxels after the first's.

Foreground is where more than half of a voxel's 27 neighbours are above 5 % of the normalised range. The voxels looked
for are foreground in both images and lie at least 4 voxels (of short axes a sixth of their length) within both windows;
candidates are all of the second window's foreground. The exit status is 1 if the learned descriptor does not win.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegNetModules" / "RegNet")]

import pairs  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from regnet import descriptors, spatial  # noqa: E402
from regnet.image import Image  # noqa: E402
from regnet.networks.mind import mind_ssc  # noqa: E402
from regnet.networks.neighbourhood import padded  # noqa: E402
from regnet.pair import make_pair  # noqa: E402
from regnet.retrieval import at_voxels, best_matches, random_places  # noqa: E402
from regnet.synth.draws import Draws  # noqa: E402
from regnet.synth.nonlinear import IntensityTransform  # noqa: E402
from regnet.training.checkpoints import load_checkpoint  # noqa: E402
from regnet.training.export import network_state  # noqa: E402
from regnet.transform import Affine  # noqa: E402
from regnet.zoo import WeightsRecord, find_weights, load_state  # noqa: E402
from retrieval_cases import CASES, Case, missing, seen  # noqa: E402
from retrieval_table import losses, markdown  # noqa: E402
from torch import Tensor  # noqa: E402

SHIFT = (3, 5, 2)
"""Voxels, in array order, by which the second window begins later: no multiples of the network's strides together."""
SPACING_MM = 2.0
RADIUS = 2.0
"""Voxels from the true place that still count as a hit."""
REACH_MM = 20.0
"""Distance from the true place within which a registration would search."""
CONTENT, MARGIN = 0.05, 4
MEMORY_MB = 1e5
"""Never a reason to coarsen a grid here."""
Describe = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class View:
    """Two windows (1, 1, *shape), equal in size, of images that are in place: voxel p of the first shows what voxel
    p - ``SHIFT`` of the second shows. ``inside`` are their foregrounds, ``spacing`` is in mm in array order."""

    first: Tensor
    second: Tensor
    first_inside: Tensor
    second_inside: Tensor
    spacing: tuple[float, ...]

    def places(self, count: int, seed: int) -> Tensor:
        """Up to ``count`` voxels (n, 3) of the first window to look for."""
        wanted = torch.zeros_like(self.first_inside)
        sizes = self.first.shape[2:]
        margins = [min(MARGIN, n // 6) for n in sizes]
        core = [slice(s + m, n - m) for s, m, n in zip(SHIFT, margins, sizes, strict=True)]
        there = [slice(c.start - s, c.stop - s) for c, s in zip(core, SHIFT, strict=True)]
        wanted[(..., *core)] = self.first_inside[(..., *core)] & self.second_inside[(..., *there)]
        return random_places(wanted, count, torch.Generator().manual_seed(seed))


def foreground(image: Tensor) -> Tensor:
    return spatial.box((image > CONTENT).float(), 1) > 0.5


def shifted_view(first: Tensor, second: Tensor, spacing: Sequence[float], insides: Sequence[Tensor]) -> View:
    """The windows of two images on one lattice: the first loses its last voxels, the second its first ones."""
    begin = (..., *(slice(None, -s) for s in SHIFT))
    end = (..., *(slice(s, None) for s in SHIFT))
    return View(first[begin], second[end], insides[0][begin], insides[1][end], tuple(spacing))


def load(case: Case, data: Path) -> View:
    """The case on the grid that a registration of it would describe it on."""
    first = Image.read(data / case.first)
    second = Image.read(data / case.second) if case.second else first
    pair = make_pair(first, second, Affine.identity(), None, None, MEMORY_MB, torch.device("cpu"))
    pair = pair.level(SPACING_MM / pair.spacing_of_finest)
    insides = foreground(pair.fixed), foreground(pair.moving)
    moving = pair.moving
    if case.second is None:
        draws = Draws(torch.Generator().manual_seed(case.curve), 1)
        changed = IntensityTransform.draw(draws, inverted=float(case.curve % 2))(moving)
        # Only now: hidden beforehand, the outline would be seen whatever the curve.
        moving = torch.where(insides[1], changed, moving.clamp(max=CONTENT))
    return shifted_view(pair.fixed, moving, pair.spacing, insides)


def raw_value(image: Tensor) -> Tensor:
    """The intensity; in double precision, as many are nearly equal."""
    return image.double()


def raw_patch(image: Tensor) -> Tensor:
    """The 27 values around each voxel, of zero mean and unit length: equal under any linear change of intensity."""
    wide, shape = padded(image, 1), image.shape[2:]
    steps = torch.cartesian_prod(*[torch.arange(3)] * 3).tolist()
    patch = torch.cat([wide[(..., *(slice(a, a + n) for a, n in zip(s, shape, strict=True)))] for s in steps], dim=1)
    return functional.normalize(patch - patch.mean(dim=1, keepdim=True), dim=1, eps=1e-6)


def methods(dsir: Describe) -> dict[str, Describe]:
    return {"dsir": dsir, "mind": descriptors.mind(), "mind-ssd": mind_ssc, "value": raw_value, "patch": raw_patch}


def ball(spacing: Sequence[float], reach: float) -> Tensor:
    """Offsets (K, 3) in voxels to all points of the lattice within ``reach`` mm."""
    lines = [torch.arange(-int(reach / step), int(reach / step) + 1) for step in spacing]
    offsets = torch.cartesian_prod(*lines)
    return offsets[(offsets * torch.tensor(spacing)).norm(dim=1) <= reach]


def candidates_near(places: Tensor, inside: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices (N, K) of the voxels at ``places`` + ``offsets``, and whether they are candidates."""
    shape = torch.tensor(inside.shape[2:])
    around = places[:, None] + offsets
    valid = ((around >= 0) & (around < shape)).all(dim=2)
    around = around.clamp(min=torch.zeros_like(shape), max=shape - 1)
    index = (around[..., 0] * shape[1] + around[..., 1]) * shape[2] + around[..., 2]
    return index, valid & inside.flatten()[index]


def near_matches(queries: Tensor, volume: Tensor, inside: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    """How far, in voxels (N, 3), the best match among the candidates at ``offsets`` around each place is from it."""
    flat, found = volume[0].flatten(1), []
    for query, place in zip(queries.split(16), places.split(16), strict=True):
        index, valid = candidates_near(place, inside, offsets)
        distance = (flat[:, index] - query.T[:, :, None]).square().sum(0)
        found.append(offsets[distance.masked_fill_(~valid, torch.inf).argmin(dim=1)])
    return torch.cat(found)


@torch.inference_mode()
def score(view: View, describe: Describe, places: Tensor) -> dict[str, float]:
    """``hits``, ``near`` (hits among candidates within 20 mm of the place only) as shares, ``median_mm`` of the error
    of the best match of all."""
    first, second = describe(view.first), describe(view.second)
    queries, truth = at_voxels(first, places), places - torch.tensor(SHIFT)
    apart = (best_matches(queries, second, view.second_inside) - truth).double()
    near = near_matches(queries, second, view.second_inside, truth, ball(view.spacing, REACH_MM)).double()
    return {
        "hits": float((apart.norm(dim=1) <= RADIUS).double().mean()),
        "near": float((near.norm(dim=1) <= RADIUS).double().mean()),
        "median_mm": float((apart * torch.tensor(view.spacing)).norm(dim=1).median()),
    }


def chance(view: View, places: Tensor) -> dict[str, float]:
    """The shares that a blind guess would hit."""
    offsets = ball(view.spacing, REACH_MM)
    _, valid = candidates_near(places - torch.tensor(SHIFT), view.second_inside, offsets)
    close = (valid & (offsets.double().norm(dim=1) <= RADIUS)).sum(dim=1)
    return {
        "hits": float(close.double().mean() / view.second_inside.sum()),
        "near": float((close / valid.sum(dim=1)).double().mean()),
    }


def weights(named: str | None, checkpoint: str | None) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """State and configuration of the network, and its name for the table.

    Raises:
        SystemExit: there are no such weights.
    """
    if checkpoint:
        own = network_state(load_checkpoint(Path(checkpoint))["state_dict"])
        parts = ("extractor.", "squeeze.")
        return {name: one for name, one in own.items() if name.startswith(parts)}, {}, "a checkpoint, for a trial"
    if named and named.endswith(".safetensors"):
        path = Path(named)
        try:
            entries = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except OSError:
            raise SystemExit(f"The weights {named} have no record {path.stem}.json beside them.") from None
        record = WeightsRecord("masr", path.stem, path, entries["sha256"], entries.get("config") or {})
    else:
        record = find_weights("masr", named)
        if record is None:
            raise SystemExit("The weights of MASR-Net are not installed; name a file with --weights.")
    return load_state(record), record.config, f"{record.variant}, sha256 {record.sha256[:12]}"


def measure(cases: Sequence[Case], data: Path, dsir: Describe, queries: int) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        view = load(case, data)
        places = view.places(queries, 1)
        scores = {name: score(view, describe, places) for name, describe in methods(dsir).items()}
        scores["chance"] = chance(view, places)
        rows.append(
            {
                "kind": case.kind,
                "pair": case.title,
                "seen": seen(case.subject),
                "queries": len(places),
                "candidates": int(view.second_inside.sum()),
                "spacing": [round(step, 2) for step in view.spacing],
                "scores": scores,
            }
        )
        print(case.title, {name: round(one["hits"], 3) for name, one in scores.items()}, file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"folder of the images; or ${pairs.DATA_VARIABLE}")
    parser.add_argument("--weights", help="installed variant, or a .safetensors file with its record beside it")
    parser.add_argument("--checkpoint", help="of a training with the default network, instead of weights; for trials")
    parser.add_argument("--kinds", nargs="+", choices=sorted({case.kind for case in CASES}), help="only these")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE / "RETRIEVAL.md", help="and a .json beside it")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = pairs.data_folder(options.data, "retrieval_cases.py")
    cases = [case for case in CASES if case.kind in (options.kinds or case.kind)]
    for path in [path for case in cases for path in missing(case, data)]:
        raise SystemExit(f"The benchmark needs {path}, which is not there; is {data} the right data folder?")
    state, config, name = weights(options.weights, options.checkpoint)
    rows = measure(cases, data, descriptors.dsir(state, config), options.queries)
    text = markdown(rows, name, __doc__ or "")
    print(text)
    options.results.write_text(text, encoding="utf-8")
    options.results.with_suffix(".json").write_text(json.dumps({"weights": name, "rows": rows}, indent=1) + "\n")
    lost = losses(rows)
    for sentence in lost:
        print(sentence)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
