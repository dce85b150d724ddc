"""Runs the tests of the Slicer modules inside a real Slicer.

From a terminal, with any Python:
    python Testing/slicer/run_in_slicer.py /path/to/Slicer [pytest arguments]
which starts:
    Slicer --testing … --python-script Testing/slicer/run_in_slicer.py [pytest arguments]

Slicer's Python needs pytest once: PythonSlicer -m pip install pytest
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "RegNetModules"


def inside_slicer() -> bool:
    """Whether this file runs as Slicer's start script."""
    return hasattr(sys.modules.get("slicer"), "app")


def run_tests(arguments: list[str]) -> int:
    """Run pytest in this Slicer; the host's own tests, and those that count what the host holds, make no sense here."""
    try:
        import pytest
    except ImportError:
        print("Slicer's Python has no pytest: run `PythonSlicer -m pip install pytest` once", file=sys.stderr)
        return 2
    ignored = [f"--ignore={path}" for path in (*HERE.glob("test_host*.py"), HERE / "test_endurance.py")]
    return int(pytest.main(["-p", "no:cacheprovider", *ignored, *(arguments or [str(HERE)])]))


def start_slicer(executable: str, arguments: list[str]) -> int:
    """Start Slicer with the modules of this checkout, and hand on its exit code."""
    folders = [str(folder) for folder in sorted(MODULES.iterdir()) if (folder / f"{folder.name}.py").is_file()]
    command = [executable, "--testing", "--no-splash", "--additional-module-paths", *folders]
    return subprocess.call([*command, "--python-script", str(Path(__file__).resolve()), *arguments])


def main() -> None:
    """Either side of the start."""
    if inside_slicer():
        import slicer

        slicer.util.exit(run_tests(sys.argv[1:]))
    elif len(sys.argv) > 1:
        sys.exit(start_slicer(sys.argv[1], sys.argv[2:]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
