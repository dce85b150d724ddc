"""Pairs of points in files: a CSV table, or two lists of control points as Slicer saves them (``.mrk.json``)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import InputError

TO_LPS = {"LPS": (1.0, 1.0, 1.0), "1": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0), "0": (-1.0, -1.0, 1.0)}
"""Signs of x, y and z by the name, or the number, that Slicer gives a coordinate system."""
MARKUPS = (".mrk.json", ".json")


def read_pairs(paths: Sequence[Path]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, fixed and moving points (N, 3) in LPS mm.

    Args:
        paths: one CSV file with a pair in each row, x, y and z of the fixed and then of the moving point in LPS mm,
            with a name before them or not, and a line of titles or not; or two ``.mrk.json`` files, fixed and moving,
            whose points belong together by their labels, or, if these differ, by their order.

    Raises:
        InputError: missing, damaged, or no pairs.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"There is no file of points {str(path)!r}; check the path.")
    if len(paths) == 1 and not paths[0].name.lower().endswith(MARKUPS):
        return _read_table(paths[0])
    if len(paths) != 2 or not all(path.name.lower().endswith(MARKUPS) for path in paths):
        raise InputError("Give the points as one CSV file, or as two .mrk.json files: the fixed and the moving ones.")
    fixed, moving = (_read_markups(path) for path in paths)
    if len(fixed) != len(moving):
        raise InputError(
            f"{paths[0].name!r} has {len(fixed)} points and {paths[1].name!r} has {len(moving)}; they must be pairs."
        )
    names = [name for name, _ in fixed]
    by_name = dict(moving)
    if len(by_name) == len(moving) and set(by_name) == set(names):
        moving = [(name, by_name[name]) for name in names]
    return names, *(np.array([place for _, place in points], float).reshape(-1, 3) for points in (fixed, moving))


def _read_table(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(f"{str(path)!r} cannot be read as a table; save it as CSV text.") from None
    names, values = [], []
    for number, row in enumerate(rows):
        try:
            numbers = [float(cell) for cell in row[-6:]]
        except ValueError:
            if number == 0:  # titles
                continue
            numbers = []
        if len(numbers) != 6 or len(row) > 7:
            raise InputError(
                f"Row {number + 1} of {str(path)!r} is not x, y, z of the fixed and then of the moving point in mm."
            )
        names.append(row[0] if len(row) == 7 else str(len(names) + 1))
        values.append(numbers)
    table = np.array(values, float).reshape(-1, 6)
    return names, table[:, :3], table[:, 3:]


def _read_markups(path: Path) -> list[tuple[str, list[float]]]:
    """(label, LPS mm) of the points of the first list that have a place."""
    try:
        markup = json.loads(path.read_text(encoding="utf-8"))["markups"][0]
        signs = TO_LPS[str(markup.get("coordinateSystem", "LPS")).upper()]
        points = [
            (str(point.get("label", "")), [float(v) * s for v, s in zip(point["position"], signs, strict=True)])
            for point in markup["controlPoints"]
            if point.get("positionStatus", "defined") == "defined"
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise InputError(f"{str(path)!r} does not hold control points as Slicer saves them.") from None
    return points
