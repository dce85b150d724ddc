"""How long it takes until something is there: ``import regnet``, and each panel.

    python Testing/benchmarks/startup.py [--repeat 5] [--json FILE]

Each number is the median of fresh processes. Panels are opened on the tests' stand-in for Slicer's Python layer
(``Testing/slicer/host``), from loading the module file to the end of its first event loop; without that host they are
left out, and the program says why.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "RegNetModules" / "RegNet"
sys.path.insert(0, str(SOURCE))

from regnet.models import MODEL_NAMES  # noqa: E402

MODELS = {
    "avsm": "RegNetAVSM",
    "masr": "RegNetMASR",
    "ddim": "RegNetDDIM",
    "deformgan": "RegNetDeformGAN",
    "bsafusion": "RegNetBSAFusion",
}

IMPORTS = {
    "python": "pass",
    "import numpy": "import numpy",
    "import regnet": "import regnet, sys; assert not {'torch', 'numpy', 'SimpleITK'} & set(sys.modules)",
}

OPEN_PANEL = """
import json, sys, time
from pathlib import Path
root, name = Path(sys.argv[1]), sys.argv[2]
modules = root / "RegNetModules"
sys.path[:0] = [str(root / "Testing" / "slicer")]
sys.path[1:1] = [str(folder) for folder in sorted(modules.iterdir()) if (folder / f"{folder.name}.py").is_file()]
import host
application = host.install()
import slicer
def timed(work):
    started = time.perf_counter()
    work()
    slicer.app.processEvents()
    return time.perf_counter() - started
manager = application.moduleManager()
result = {
    "load": timed(lambda: manager.load_scripted(name, modules / name / f"{name}.py")),
    "open": timed(lambda: (slicer.util.selectModule(name), slicer.util.getModuleWidget(name))),
}
result["torch"] = "torch" in sys.modules
slicer.util.moduleSelector().leave()
print("\\n" + json.dumps(result))
"""


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "QT_QPA_PLATFORM": os.environ.get("QT_QPA_PLATFORM", "offscreen")}


def seconds(code: str, repeat: int) -> float:
    """Median wall time of ``python -c code``; one run beforehand fills the file cache and compiles."""
    times = []
    for _ in range(repeat + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def panel(name: str, repeat: int) -> dict:
    """Median seconds to load a module and to open its panel; ``{"error": …}`` where that cannot be done."""
    found = []
    for _ in range(repeat + 1):
        command = [sys.executable, "-c", OPEN_PANEL, str(ROOT), name]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"load"')]
        if not lines:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            return {"error": said[-1] if said else f"exit code {done.returncode}"}
        found.append(json.loads(lines[-1]))
    medians = {key: statistics.median(one[key] for one in found[1:]) for key in ("load", "open")}
    return {**medians, "imports_torch": any(one["torch"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    imports = {name: seconds(code, options.repeat) for name, code in IMPORTS.items()}
    bare = imports["python"]
    for name, value in imports.items():
        print(f"{name:22} {1000 * value:7.0f} ms   {value / bare:5.2f} × python   {1000 * (value - bare):+6.0f} ms")
    names = ("RegNet", *(MODELS[model] for model in MODEL_NAMES), "RegNetPropagation", "RegNetReview")
    panels = {name: panel(name, options.repeat) for name in names}
    for name, found in panels.items():
        if "error" in found:
            print(f"panel {name:16} left out: {found['error']}")
            continue
        note = "imports torch" if found["imports_torch"] else "without torch"
        print(f"panel {name:16} load {1000 * found['load']:5.0f} ms, open {1000 * found['open']:5.0f} ms, {note}")
    if options.json:
        options.json.write_text(json.dumps({"imports_s": imports, "panels_s": panels}, indent=1) + "\n")


if __name__ == "__main__":
    main()
