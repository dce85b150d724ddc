"""What the numbers were measured on: processor, memory, system, versions."""

from __future__ import annotations

import os
import platform
import statistics
from importlib import metadata

PACKAGES = ("picsl_greedy", "antspyx", "itk-elastix", "convexAdam", "torch", "SimpleITK", "numpy", "scipy")


def describe() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    from regnet._version import __version__

    found = {"regnet": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    """The model's name, with its vector extensions: they decide most of a network's speed."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            lines = dict(line.split(":", 1) for line in stream if ":" in line)
    except OSError:
        return platform.processor() or "unknown processor"
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = set(fields.get("flags", "").split())
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}
    extensions = ", ".join(title for flag, title in known.items() if flag in flags)
    return fields.get("model name", "unknown processor") + (f" ({extensions})" if extensions else "")


def measured(results: list[dict], machine: dict[str, str]) -> str:
    """Lines of a report: on what machine, with what versions, when and under what load ``results`` came about."""
    newest = max(results, key=lambda result: result["date"])
    versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
    days, loads = sorted({r["date"] for r in results}), [r["cost"]["load"] for r in results if "cost" in r]
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    if loads:
        when += f"; load of the machine before a run: {statistics.median(loads):.1f} (median), at most {max(loads):.1f}"
    lines = {**machine, "versions": versions, "measured": when}
    return "".join(f"- {key}: {value}\n" for key, value in lines.items())
