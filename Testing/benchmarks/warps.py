"""Ten stored warps that the multimodal benchmark applies to images whose truth is known; see ``warps.json``.

    python Testing/benchmarks/warps.py

writes that file anew. It is committed, so that the benchmark depends on no random generator.

A warp T takes a point y of the warped image to the point it shows of the original: first a rigid transform about the
centre of the fixed image, then a smooth displacement. That is a uniform cubic B-spline whose lattice has a node at the
centre and repeats itself every ``NODES`` nodes, so it covers an image of any size. All in LPS millimetres.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

FILE = Path(__file__).resolve().with_name("warps.json")
COUNT = 10
SPACING = 55.0  # mm between nodes
NODES = 8  # along every axis: the displacement repeats itself every 440 mm
# Degrees about any axis, length of the translation and longest displacement in mm; the least and the most.
ROTATION, TRANSLATION, DISPLACEMENT = (5.0, 20.0), (5.0, 20.0), (8.0, 15.0)
SMALLEST_DETERMINANT = 0.3
SEED = 20
_POINTS = 1 << 20  # at a time: temporaries stay small


@dataclass(frozen=True)
class Warp:
    """``rotation`` is a rotation vector in degrees; ``lattice`` (NODES, NODES, NODES, 3) by z, y, x."""

    rotation: np.ndarray
    translation: np.ndarray
    lattice: np.ndarray

    def __call__(self, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """T at world ``points`` (N, 3), for a fixed image with its middle at ``centre``."""
        turn = Rotation.from_rotvec(self.rotation, degrees=True).as_matrix().T
        result = np.empty((len(points), 3))
        for start in range(0, len(points), _POINTS):
            part = slice(start, start + _POINTS)
            turned = (points[part] - centre) @ turn + self.translation
            result[part] = turned + self.displacement(turned) + centre
        return result

    def displacement(self, offsets: np.ndarray) -> np.ndarray:
        """The smooth part at ``offsets`` (N, 3) from the centre, (N, 3)."""
        nodes = np.asarray(offsets, float).T[::-1] / SPACING
        parts = (self.lattice[..., axis] for axis in range(3))
        return np.stack([map_coordinates(p, nodes, order=3, mode="grid-wrap", prefilter=False) for p in parts], axis=1)

    def turned_back(self, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """The inverse of the rigid part alone, (N, 3)."""
        turn = Rotation.from_rotvec(self.rotation, degrees=True).as_matrix()
        return (points - centre - self.translation) @ turn + centre

    def extremes(self, step: float) -> tuple[float, float]:
        """The longest displacement in mm and the smallest Jacobian determinant, sampled every ``step`` mm."""
        axis = np.arange(0, NODES * SPACING, step)
        offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        longest = float(np.linalg.norm(self.displacement(offsets), axis=1).max())
        return longest, float(determinants(lambda p: p + self.displacement(p), offsets).min())


def determinants(mapping: Callable[[np.ndarray], np.ndarray], points: np.ndarray, step: float = 0.5) -> np.ndarray:
    """Jacobian determinants of ``mapping`` at ``points`` (N, 3), by differences over ``step`` mm to either side."""
    columns = [(mapping(points + shift) - mapping(points - shift)) / (2 * step) for shift in step * np.eye(3)]
    return np.linalg.det(np.stack(columns, axis=-1))


def read(file: Path = FILE) -> list[Warp]:
    stored = json.loads(file.read_text(encoding="utf-8"))
    if stored["spacing_mm"] != SPACING or stored["nodes"] != NODES:
        raise ValueError(f"{file} is for another lattice; write it anew with {Path(__file__).name}.")
    shape = (NODES, NODES, NODES, 3)
    return [
        Warp(np.array(one["rotation_degrees"]), np.array(one["translation_mm"]), np.reshape(one["lattice_mm"], shape))
        for one in stored["warps"]
    ]


def draw(random: np.random.RandomState) -> Warp:
    """One warp within the bounds, with numbers as the file keeps them; drawn again while it folds or nearly does."""

    def arrow(lengths: tuple[float, float]) -> np.ndarray:
        direction = random.normal(size=3)
        return np.round(random.uniform(*lengths) * direction / np.linalg.norm(direction), 2)

    rotation, translation = arrow(ROTATION), arrow(TRANSLATION)
    while True:
        warp = Warp(rotation, translation, random.normal(size=(NODES, NODES, NODES, 3)))
        # A little shorter than the bound, for what the sampling misses and rounding adds.
        scale = random.uniform(DISPLACEMENT[0], DISPLACEMENT[1] - 0.3) / warp.extremes(10.0)[0]
        warp = Warp(rotation, translation, np.round(scale * warp.lattice, 1))
        longest, determinant = warp.extremes(5.0)
        if longest < DISPLACEMENT[1] and determinant > SMALLEST_DETERMINANT + 0.02:
            return warp


def text(warps: list[Warp]) -> str:
    """The file: one line of numbers for each row of the lattice, its nodes along x, with (x, y, z) of each."""
    parts = []
    for warp in warps:
        rows = ",\n".join(f"   {json.dumps(row.ravel().tolist())}" for row in warp.lattice.reshape(NODES**2, NODES, 3))
        parts.append(
            f'  {{\n   "rotation_degrees": {json.dumps(warp.rotation.tolist())},\n'
            f'   "translation_mm": {json.dumps(warp.translation.tolist())},\n   "lattice_mm": [\n{rows}\n   ]\n  }}'
        )
    about = "Warps of the multimodal benchmark; Testing/benchmarks/warps.py says what the numbers mean and wrote them."
    head = f'{{\n "about": "{about}",\n "spacing_mm": {SPACING},\n "nodes": {NODES},\n "warps": [\n'
    return head + ",\n".join(parts) + "\n ]\n}\n"


if __name__ == "__main__":
    source = np.random.RandomState(SEED)  # its stream is frozen for good, unlike that of newer generators
    FILE.write_text(text([draw(source) for _ in range(COUNT)]), encoding="utf-8")
