"""What the live preview costs a registration of the demo pair, and how many previews come.

    python Testing/benchmarks/preview.py [--repeat 3] [--methods avsm masr] [--threads 2] [--json FILE]

Each method runs with and without previews in turn, in an order that alternates, after a run that is not counted. A
machine that does other work is now quick and now slow: only the ratios are worth reading. With previews everything is
done that the worker does for a host that asked for them: files are written, and a line about each. What showing one
takes is measured on the tests' stand-in for Slicer (``Testing/slicer/host``), which draws in software; without that
host it is left out, and the program says why.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "RegNetModules" / "RegNet"
sys.path.insert(0, str(SOURCE))

import torch  # noqa: E402
from regnet.events import Events, Progress  # noqa: E402
from regnet.image import Image  # noqa: E402
from regnet.register import register  # noqa: E402
from regnet.worker_previews import sent_previews  # noqa: E402

DEMO = ROOT / "Resources" / "Demo"
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "avsm": ("avsm", "atlas_T1.nii.gz", {}),
    "avsm, weights none": ("avsm", "atlas_T1.nii.gz", {"weights": "none"}),
    "masr": ("masr", "patient_T2.nii.gz", {}),
    "masr, mind": ("masr", "patient_T2.nii.gz", {"descriptor": "mind", "weights": "none"}),
}
"""Model, the image that is matched with the patient's T1, and parameters."""
FAR = 25.0
"""The patient's own T2 is moved by so many millimetres first, and turned a little: otherwise there is nothing to do."""

SHOW = """
import json, sys, time
from pathlib import Path
import numpy as np
root = Path(sys.argv[1])
modules = root / "RegNetModules"
sys.path[:0] = [str(root / "Testing" / "slicer"), str(modules / "RegNet")]
import host
host.install()
import slicer
from host.pictures import render_to_array
from RegNetLib.live_preview import LivePreview
from RegNetLib.private_folder import PrivateFolder
from RegNetLib.sample_data import load_demo_pair
fixed, moving = load_demo_pair()
slicer.util.setSliceViewerLayers(background=fixed, foreground=moving, foregroundOpacity=0.5, fit=True)
manager, folder, times = slicer.app.layoutManager(), PrivateFolder(), []
views = [manager.sliceWidget(name) for name in ("Red", "Yellow", "Green")]
for view in views:
    view._native._set_size((500, 500))
field = np.random.default_rng(0).normal(size=(25, 30, 26, 3)).astype(np.float32)
matrix = np.diag([7.0, 7.0, 7.0, 1.0])
matrix[:3, 3] = -90.0
place = {"index_to_world": matrix.tolist()}
preview = LivePreview()
preview.begin(moving, None)
for number in range(12):
    preview._busy = 0.0
    file = folder.save(f"preview-{number}", field * number / 12)
    started = time.perf_counter()
    assert preview.show({"affine": np.eye(4).tolist(), "displacement": {"file": file, **place}}, folder)
    put, processor = time.perf_counter(), time.process_time()
    for view in views:
        render_to_array(view.sliceView().renderWindow())
    times.append((put - started, time.perf_counter() - put, time.process_time() - processor))
preview.end()
folder.remove()
print("\\n" + json.dumps(np.median(times[2:], axis=0).tolist()))
"""


class Record:
    """What one run tells: when the optimisation was going on, and when previews came."""

    def __init__(self) -> None:
        self.spans: list[float] = []
        self.optimising = False
        self.previews: list[float] = []

    def __call__(self, event: object) -> None:
        if not isinstance(event, Progress):
            return
        now = time.perf_counter()
        if event.can_stop != self.optimising:
            self.spans.append(now)
            self.optimising = event.can_stop

    def seconds(self) -> float:
        """That optimisations took: what can be stopped."""
        return sum(end - begin for begin, end in zip(self.spans[::2], self.spans[1::2], strict=False))

    def during(self) -> list[float]:
        """Times of the previews that came meanwhile."""
        pairs = list(zip(self.spans[::2], self.spans[1::2], strict=False))
        return [one for one in self.previews if any(begin <= one <= end for begin, end in pairs)]


def once(run: Callable[[Events], Any], with_previews: bool) -> dict[str, float]:
    """Wall and processor time of a run, and what its previews took."""
    record = Record()

    def send(event: Any) -> None:
        event.model_dump_json()
        record.previews.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, sent_previews(send, "1", Path(folder)) as previews:
        events = Events(emit=record, previews=previews if with_previews else None)
        wall, processor = time.perf_counter(), time.process_time()
        run(events)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    found = {"wall": wall, "processor": processor, "optimising": record.seconds()}
    if with_previews:
        during = record.during()
        gaps = [later - earlier for earlier, later in zip(during, during[1:], strict=False)]
        found |= {"previews": previews.count, "share": previews.seconds / wall}
        found |= {"rate": len(during) / max(record.seconds(), 1e-9), "gap": max(gaps, default=float("nan"))}
        found["one"] = previews.seconds / max(previews.count, 1)
    return found


def moved(image: Image) -> Image:
    """The image somewhere else in the world."""
    import numpy as np

    turn = np.deg2rad(6.0)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[0, 3] = FAR
    return Image(image.data, matrix @ image.index_to_world, image.ndim)


def measure(method: str, repeat: int) -> dict[str, float]:
    """Medians over ``repeat`` pairs of runs."""
    model, name, parameters = METHODS[method]
    fixed, moving = Image.read(DEMO / "patient_T1.nii.gz"), Image.read(DEMO / name)
    moving = moved(moving) if name.startswith("patient") else moving

    def run(events: Events) -> None:
        register(fixed, moving, model, parameters=parameters, device="cpu", events=events)

    once(run, False)
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(repeat):
        for with_previews in (bool(number % 2), not number % 2):
            runs[with_previews].append(once(run, with_previews))
    with_, without = runs[True], runs[False]
    result = {key: statistics.median(one[key] for one in with_) for key in with_[0]}
    for key in ("wall", "processor"):
        ratios = [one[key] / other[key] for one, other in zip(with_, without, strict=True)]
        result[f"{key}_ratio"] = statistics.median(ratios)
        result[f"{key}_ratios"] = [round(ratio, 3) for ratio in ratios]
    return result


def showing() -> tuple[float, float, float] | str:
    """Seconds to put a preview on the volume, to draw three slice views, and of the processor for drawing them; or why
    that could not be measured."""
    environment = {**os.environ, "QT_QPA_PLATFORM": os.environ.get("QT_QPA_PLATFORM", "offscreen")}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(ROOT)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    put, drawn, processor = json.loads(done.stdout.strip().splitlines()[-1])
    return put, drawn, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["avsm", "masr"])
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results: dict[str, Any] = {}
    for method in options.methods:
        found = results[method] = measure(method, options.repeat)
        print(
            f"{method}: previews take {found['share']:.1%} of the run ({1000 * found['one']:.1f} ms each); with "
            f"previews / without: processor {found['processor_ratio']:.3f} {found['processor_ratios']}, wall "
            f"{found['wall_ratio']:.3f} {found['wall_ratios']}; {found['rate']:.1f} previews a second of the "
            f"{found['optimising']:.1f} s of optimisation, the longest wait {found['gap']:.2f} s",
            flush=True,
        )
    shown = showing()
    if isinstance(shown, str):
        print(f"What showing takes was left out: {shown}")
    else:
        put, drawn, processor = (1000 * seconds for seconds in shown)
        results["showing"] = {"put_ms": put, "drawn_ms": drawn, "processor_ms": processor}
        print(
            f"showing one: {put:.1f} ms, and {drawn:.0f} ms ({processor:.0f} ms of the processor) to draw three slice "
            "views in software"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
