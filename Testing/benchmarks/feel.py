"""How long the window makes its user wait: for the first preview after a click, and for every other action.

    python Testing/benchmarks/feel.py [--size 256] [--repeat 3] [--threads 2] [--before FILE.json] [--results FEEL.md]

Two synthetic scans of SIZE^3 int16 voxels, 25 mm and 6 degrees apart, are registered by RegNet AVSM's panel on the
tests' stand-in for Slicer (``Testing/slicer/host``), with the real worker; a run is cancelled once its first preview is
on the volume. Every number is the median, and in brackets the least, of fresh processes: on a machine that does other
work at the same time the least is nearer to what a user feels. ``--before`` sets the numbers of an earlier version
beside these.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "RegNetModules" / "RegNet"))

CLICKS = {
    "cold": "as soon as the panel is there",
    "first": "on a warm worker",
    "second": "the same pair again",
    "changed": "after a voxel was changed",
    "restarted": "after the worker was ended",
}
PARTS = {
    "handler": "the click itself, ms",
    "preview": "click to first preview, s",
    "blocked": "longest stall of the window until then, ms",
    "files": "image files written",
}
OPENING = {
    "open": "the panel is there",
    "worker started": "the worker was started behind it",
    "warm": "and has nothing left to load",
    "warm blocked": "longest stall of the window meanwhile",
}


def window(mode: str, size: int, threads: int) -> dict:
    """The numbers of one process."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"QT_QPA_PLATFORM": os.environ.get("QT_QPA_PLATFORM", "offscreen"), "REGNET_THREADS": str(threads)}
    command = [sys.executable, str(HERE / "feel_window.py"), mode, str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise SystemExit(f"{mode} could not be measured: {said[-1] if said else f'exit code {done.returncode}'}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def gathered(many: list[dict]) -> dict:
    """The numbers of several processes, a list for each."""
    first = many[0]
    return {
        key: gathered([one[key] for one in many]) if isinstance(first[key], dict) else [one[key] for one in many]
        for key in first
    }


def measure(size: int, repeat: int, threads: int) -> dict:
    runs, colds = [], []
    for _ in range(repeat):
        runs.append(window("runs", size, threads))
        colds.append(window("cold", size, threads))
    found = gathered(runs)
    clicks = {name: found[name] for name in CLICKS if name in found} | {"cold": gathered(colds)}
    opening = {name: found[name] for name in OPENING if name in found}
    return {"clicks": clicks, "opening": opening, "actions": window("actions", size, threads)}


def told(values: list[float], factor: float = 1.0) -> str:
    """Median and, in brackets, the least."""
    digits = 2 if factor == 1.0 else 0
    return f"{factor * statistics.median(values):.{digits}f} ({factor * min(values):.{digits}f})"


def cell(name: str, part: str, clicks: dict) -> str:
    if name not in clicks:
        return ""
    values = clicks[name][part]
    if part == "files":
        return str(max(values))
    return told(values, 1.0 if part == "preview" else 1000.0)


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def report(record: dict) -> str:
    """The page."""
    sides = [("", record["found"])]
    if "before" in record:
        sides = [("before: ", record["before"]), ("now: ", record["found"])]
    command = f"python Testing/benchmarks/feel.py --size {record['size']} --repeat {record['repeat']}"
    text = f"# {__doc__.splitlines()[0]}\n\n    {command} --threads {record['threads']}\n\n"
    text += "\n\n".join(__doc__.split("\n\n")[2:]).strip() + "\n\n## From Apply to the first preview\n\n"
    rows = [
        [side + what, *(cell(name, part, found["clicks"]) for part in PARTS)]
        for name, what in CLICKS.items()
        for side, found in sides
    ]
    text += table(["Apply", *PARTS.values()], rows) + "\n"
    opening = record["found"]["opening"]
    if opening:
        text += "## Opening the panel\n\nThe stall is told without drawing.\n\n"
        text += table(["", "s"], [[OPENING[name], told(values)] for name, values in opening.items()]) + "\n"
    text += "## Actions\n\nTime until the window lives again, and to draw three slice views of 500 x 500 pixels in "
    text += "software, ms; the longest of all repetitions is in the last column.\n\n"
    rows = []
    for name, times in record["found"]["actions"].items():
        values = [told([one[column] for one in times], 1000.0) for column in (0, 1)]
        rows.append([name, *values, f"{1000 * max(one[0] for one in times):.0f}"])
    text += table(["action", "action", "drawing", "slowest action"], rows)
    lines = {**record["machine"], "versions": "", "measured": record["date"], "load before": record["load"]}
    lines["versions"] = ", ".join(f"{name} {record['versions'][name]}" for name in ("regnet", "torch", "numpy"))
    return text + "\n## Measured on\n\n" + "".join(f"- {key}: {value}\n" for key, value in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the worker")
    parser.add_argument("--before", type=Path, help="FEEL.json of an earlier version")
    parser.add_argument("--results", type=Path, default=HERE / "FEEL.md", help="the page; the numbers go beside it")
    options = parser.parse_args()
    load = f"{os.getloadavg()[0]:.1f}"
    record = {
        "size": options.size, "repeat": options.repeat, "threads": options.threads, "load": load,
        "date": datetime.date.today().isoformat(), "machine": machine.describe(), "versions": machine.versions(),
        "found": measure(options.size, options.repeat, options.threads),
    }  # fmt: skip
    if options.before:
        record["before"] = json.loads(options.before.read_text(encoding="utf-8"))["found"]
    options.results.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    options.results.write_text(report(record), encoding="utf-8")
    print(report(record))


if __name__ == "__main__":
    main()
