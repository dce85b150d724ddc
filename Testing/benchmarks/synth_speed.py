"""How long the synthetic training pairs take to make, per maker and per pair.

    python Testing/benchmarks/synth_speed.py [--shape 64 80 64] [--batch 1] [--device cpu] [--threads 1] [--json FILE]

The anatomies are random shapes with 32 labels on a grid of 104 x 120 x 104 voxels (a whole head at 2 mm), so no data is
needed; in 2D, of 240 x 240. Each number is over ``--repeat`` calls after a first one that is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from regnet.synth import pairs
from regnet.synth.deform import AffineRange, random_warp
from regnet.synth.shapes import random_shapes

INPUT = {2: (240, 240), 3: (104, 120, 104)}
LABELS = 32


def inputs(dims: int, batch: int, device: str) -> dict[str, dict[str, Any]]:
    """A batch for every maker."""
    generator = torch.Generator().manual_seed(0)
    first, second = (random_shapes(INPUT[dims], generator, LABELS, device=device, batch=batch) for _ in range(2))
    images = [labels.float() / LABELS for labels in (first, second)]
    return {
        "OneAnatomy": {"labels": first},
        "TwoAnatomies": {"fixed_labels": first, "moving_labels": second},
        "RealPair": {"fixed": images[0], "moving": images[1], "fixed_labels": first, "moving_labels": second},
        "OneImage": {"moving": images[0], "moving_labels": first},
        "Shapes": {"size": batch, "device": device},
    }


def seconds(work: Any, repeat: int, device: str) -> list[float]:
    """Wall time of each call after the first, the device's work included."""
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times[1:]


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds per pair of every maker, and of the warp alone: the median and the least."""
    shape, batch, device = tuple(arguments.shape), arguments.batch, arguments.device
    settings = pairs.PairSettings.from_dict({"shape": list(shape)})
    generator = torch.Generator().manual_seed(1)
    work = {
        "random warp alone": lambda: random_warp(shape, AffineRange(), 6.0, (8.0, 24.0), generator, device, batch),
    }
    for name, given in inputs(len(shape), batch, device).items():
        maker = getattr(pairs, name)(settings)
        work[name] = lambda maker=maker, given=given: maker(given, generator)
    result = {}
    for name, call in work.items():
        times = [1000 * value / batch for value in seconds(call, arguments.repeat, device)]
        result[name] = {"median": statistics.median(times), "least": min(times)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[64, 80, 64], help="grid of the pairs")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    arguments = parser.parse_args()
    if len(arguments.shape) not in INPUT:
        parser.error("--shape takes two or three sizes")
    torch.set_num_threads(arguments.threads)
    result = measure(arguments)
    size = " x ".join(map(str, arguments.shape))
    print(f"{size}, batch {arguments.batch}, {arguments.device}, {arguments.threads} thread(s): ms per pair")
    for name, numbers in result.items():
        print(f"  {name:20s} {numbers['median']:8.1f} median {numbers['least']:8.1f} least")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"arguments": vars(arguments) | {"json": None}, "result": result}, indent=2)
        )


if __name__ == "__main__":
    main()
