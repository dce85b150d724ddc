"""Slices for the report: planes in radiological orientation, PNG bytes, deformation grids, Jacobian colours."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .image import Grid, Image, apply_matrix
from .orientation import anatomical_axes
from .transform import Transform

FOLD_COLOUR = (255, 212, 0)


@dataclass(frozen=True)
class Plane:
    """One slice of the fixed grid as it is shown: rows run down, columns to the right.

    ``axis`` is the array axis (D, H, W) that the plane cuts at ``index``. ``row`` and ``column`` are the array axes
    shown downwards and to the right, each with a sign: -1 shows it reversed. ``letters`` name the left, right, top and
    bottom edge, empty where the image has no anatomical directions.
    """

    name: str
    key: str
    axis: int
    index: int
    row: tuple[int, int]
    column: tuple[int, int]
    letters: tuple[str, str, str, str]
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in voxels."""
        return self.grid.shape[self.row[0]], self.grid.shape[self.column[0]]

    @property
    def voxel(self) -> tuple[float, float]:
        """Height and width of a voxel in mm."""
        spacing = self.grid.spacing[::-1]
        return float(spacing[self.row[0]]), float(spacing[self.column[0]])

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of the slice in mm."""
        return self.shape[0] * self.voxel[0], self.shape[1] * self.voxel[1]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The slice of a (D, H, W) array, as shown."""
        return self.turn(np.take(array, self.index, axis=self.axis))

    def turn(self, piece: np.ndarray) -> np.ndarray:
        """A slice in array order, turned as it is shown."""
        if self.row[0] > self.column[0]:
            piece = piece.T
        return piece[:: self.row[1], :: self.column[1]]

    def slab(self) -> tuple[Grid, int]:
        """The grid of the slice and its two neighbours, and the place of the slice in it."""
        count = self.grid.shape[self.axis]
        low, high = max(self.index - 1, 0), min(self.index + 2, count)
        start, shape = [0, 0, 0], list(self.grid.shape)
        start[self.axis], shape[self.axis] = low, high - low
        return self.grid.cropped(tuple(start), tuple(shape)), self.index - low

    def world(self, down: np.ndarray, right: np.ndarray) -> np.ndarray:
        """World points (N, 3) at voxel positions counted from the top left of what is shown."""
        index = np.empty((len(down), 3))
        index[:, self.axis] = self.index
        for values, (axis, sign) in ((down, self.row), (right, self.column)):
            index[:, axis] = values if sign > 0 else self.grid.shape[axis] - 1 - values
        return apply_matrix(self.grid.index_to_world, index[:, ::-1])

    def directions(self) -> np.ndarray:
        """(3, 2): unit world vectors that point right and down on the screen."""
        axes = self.grid.index_to_world[:3, :3] / self.grid.spacing
        return np.stack([sign * axes[:, 2 - axis] for axis, sign in (self.column, self.row)], axis=1)


def planes(grid: Grid, centre: tuple[int, int, int]) -> list[Plane]:
    """Axial, coronal and sagittal planes through the array index ``centre``; for 2D the image itself.

    Radiological convention: the patient's left is on the right of the screen, anterior left in sagittal planes.
    Oblique grids are shown in their own planes, named after the nearest anatomical one.
    """
    if grid.ndim == 2:
        return [Plane("Image", "image", 0, 0, (1, 1), (2, 1), ("", "", "", ""), grid)]
    x, y, z = anatomical_axes(grid)
    up = (z[0], -z[1])
    layouts = (
        ("Axial", z, y, x, ("R", "L", "A", "P")),
        ("Coronal", y, up, x, ("R", "L", "S", "I")),
        ("Sagittal", x, up, y, ("A", "P", "S", "I")),
    )
    return [
        Plane(name, name.lower(), normal[0], centre[normal[0]], row, column, letters, grid)
        for name, normal, row, column, letters in layouts
    ]


def grey(image: Image) -> np.ndarray:
    """(D, H, W) float32 in [0, 1] for display; the channels of a colour image are averaged.

    A gamma brings the middle of what is not background to mid grey, so that two scanners' images look alike.
    """
    scalar = Image(image.data.float().mean(0, keepdim=True), image.index_to_world, image.ndim)
    values = scalar.normalized(0.5, 99.5).data[0].numpy()
    content = values[values > 0.1]
    middle = float(np.median(content)) if content.size else 0.5
    return values ** np.clip(np.log(0.5) / np.log(np.clip(middle, 0.02, 0.98)), 0.7, 1.8)


def content_mask(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a slice shows something, holes filled; everything if it has no dark background."""
    from scipy import ndimage

    mask = ndimage.binary_fill_holes(ndimage.binary_dilation(picture > 0.1, iterations=2))
    return mask if 0.02 < mask.mean() < 0.98 else np.ones_like(mask)


def content_centre(array: np.ndarray) -> tuple[int, int, int]:
    """Array index of the middle of what is brighter than a tenth of the range; the grid's middle if nothing is."""
    centre = []
    for axis in range(3):
        profile = (array > 0.1).sum(axis=tuple(other for other in range(3) if other != axis)).astype(float)
        positions = np.arange(len(profile))
        total = profile.sum()
        centre.append(int(round((profile * positions).sum() / total)) if total else len(profile) // 2)
    return tuple(centre)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] to uint8."""
    return np.clip(np.asarray(values) * 255 + 0.5, 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """PNG file bytes of a uint8 array (H, W), (H, W, 3) or (H, W, 4). Source: W3C PNG specification, third edition."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows = pixels.reshape(height, width * channels)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    # Filter type 2, "up": each byte less the one above it, which compresses smooth pictures well.
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def data_uri(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


@dataclass(frozen=True)
class LinearPart:
    """The affine map nearest to a transform: x -> matrix (x - middle) + middle + shift, in mm."""

    transform: Transform
    matrix: np.ndarray
    middle: np.ndarray
    shift: np.ndarray

    @staticmethod
    def fit(transform: Transform, grid: Grid, inside: np.ndarray) -> LinearPart:
        """By least squares over the points of ``grid`` where ``inside`` is true."""
        step = max(1, int(np.ceil((inside.size / 20_000) ** (1 / 3))))
        index = np.argwhere(inside[::step, ::step, ::step]) * step
        if len(index) < 50:
            lines = [np.linspace(0, n - 1, 8) for n in grid.shape]
            index = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
        points = apply_matrix(grid.index_to_world, index[:, ::-1].astype(float))
        middle = points.mean(axis=0)
        design = np.c_[points - middle, np.ones(len(points))]
        # Least norm: the flat axis of a 2D image, and any other that the points do not span, stays as it is.
        solution, *_ = np.linalg.lstsq(design, transform(points) - points, rcond=1e-8)
        return LinearPart(transform, np.eye(3) + solution[:3].T, middle, solution[3])

    @property
    def scale(self) -> float:
        """Volume in the moving image of a unit of volume of the fixed image."""
        return abs(float(np.linalg.det(self.matrix)))

    def rest(self, points: np.ndarray) -> np.ndarray:
        """Displacement (N, 3) in mm that is left when the affine is taken out of the transform."""
        moved = self.transform(points) - self.shift - self.middle
        return np.linalg.solve(self.matrix, moved.T).T + self.middle - points


def grid_lines(plane: Plane, displacement: Callable[[np.ndarray], np.ndarray], spacing_mm: float) -> list[np.ndarray]:
    """Lines of a regular grid after the displacement, each (N, 2) in mm (right, down) from the top-left corner."""
    height, width = plane.size_mm
    directions = plane.directions()
    lines = []
    for across, along, swap in ((height, width, False), (width, height, True)):
        steps = np.linspace(0, along, max(2, int(along / spacing_mm * 4) + 1))
        for place in np.arange((across % spacing_mm) / 2, across + 1e-6, spacing_mm):
            fixed = np.full_like(steps, place)
            right, down = (fixed, steps) if swap else (steps, fixed)
            points = plane.world(down / plane.voxel[0] - 0.5, right / plane.voxel[1] - 0.5)
            lines.append(np.stack([right, down], axis=1) + displacement(points) @ directions)
    return lines


def nice_step(length: float, parts: int) -> float:
    """A round number near ``length / parts``: 1, 2 or 5 times a power of ten."""
    raw = max(length / parts, 1e-6)
    power = 10.0 ** np.floor(np.log10(raw))
    return float(min((power * m for m in (1, 2, 5, 10)), key=lambda step: abs(np.log(step / raw))))


def jacobian_colours(determinant: np.ndarray, anatomy: np.ndarray, reach: float) -> np.ndarray:
    """(H, W, 3) uint8: blue below 1, orange above, colourless at 1 with the anatomy shining through, folds in yellow.

    ``reach`` is the size of log2 of the determinant at full colour. Colours fade outside the image's content, where a
    transform is only carried on.
    """
    level = np.log2(np.maximum(determinant, 1e-6)) / reach
    strength = np.clip(np.abs(level), 0, 1) ** 0.8 * np.where(content_mask(anatomy), 1.0, 0.3)
    strength = strength[..., None]
    colour = colour_scale(np.clip(level, -1, 1))
    rgb = (1 - strength) * 0.55 * anatomy[..., None] * 255 + strength * colour
    rgb[determinant <= 0] = FOLD_COLOUR
    return np.clip(rgb + 0.5, 0, 255).astype(np.uint8)


def colour_scale(level: np.ndarray) -> np.ndarray:
    """(..., 3) in 0..255 for -1 (blue) to 1 (orange); the two differ in hue and stay apart for the colour-blind."""
    stops = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    colours = np.array([(120, 200, 255), (40, 120, 215), (18, 20, 26), (205, 85, 35), (255, 190, 130)], dtype=float)
    return np.stack([np.interp(level, stops, colours[:, channel]) for channel in range(3)], axis=-1)


def label_colours(labels: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8: a steady bright colour per label id, transparent where there is none."""
    hue = (labels.astype(np.int64) * 0.61803398875) % 1.0 * 6.0
    offsets = np.array([0.0, 4.0, 2.0])
    rgb = np.clip(np.abs((hue[..., None] + offsets) % 6.0 - 3.0) - 1.0, 0, 1) * 0.75 + 0.2
    return np.concatenate([to_bytes(rgb), np.where(labels[..., None] != 0, 255, 0).astype(np.uint8)], axis=-1)
