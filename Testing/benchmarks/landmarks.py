"""Reads points from a ``.vtk`` file (legacy format, ASCII, POLYDATA), with nothing but Python."""

from __future__ import annotations

from pathlib import Path


def read(file: Path) -> list[list[float]]:
    """The points [[x, y, z], …] as they are written; neither flipped nor scaled.

    Raises:
        ValueError: it is no such file, or it holds fewer numbers than it says.
    """
    words = file.read_text(encoding="ascii", errors="replace").split()
    if "ASCII" not in words or "POINTS" not in words:
        raise ValueError(f"{file} is not an ASCII .vtk file with points.")
    start = words.index("POINTS")
    count = int(words[start + 1])
    numbers = [float(word) for word in words[start + 3 : start + 3 + 3 * count] if _is_number(word)]
    if len(numbers) != 3 * count:
        raise ValueError(f"{file} states {count} points and holds {len(numbers)} coordinates.")
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
