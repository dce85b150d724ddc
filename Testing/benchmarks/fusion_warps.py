"""The deformations of the fusion benchmark, a pure function of the case's name, and how far a registration is off.

A warp T takes a pixel y of the deformed image to the place in the original that it shows, ``deformed(y) =
original(T(y))`` with ``T(y) = c + A (S(y) - c)`` and ``S(y) = y + s(y)``: s is uniform noise under a Gaussian plus a
translation, A turns and scales about the image's middle c. What a registration has to find is ``T⁻¹(x) - x``. Places
and displacements are in pixels, rows first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SIGMA, RADIUS = 16.0, 50  # of the Gaussian, in pixels: 101 taps
MARGIN = 96  # pixels around the image on which s is known too, for places that come from outside
SMALLEST_DETERMINANT = 0.2
ACCURACY = 0.02  # pixels: how far T(T⁻¹(x)) may be from x


@dataclass(frozen=True)
class Kind:
    """``rms`` is of the whole s in pixels, ``shift`` the largest translation along an axis, of which it is a part."""

    rms: float
    shift: float
    degrees: float = 0.0
    scale: float = 0.0


KINDS = {"published": Kind(2.6, 1.0), "larger": Kind(6.5, 2.5, degrees=10.0, scale=0.08)}


@dataclass(frozen=True)
class Warp:
    """``smooth`` is s on the image's lattice with MARGIN more on each side, (2, H + 2 MARGIN, W + 2 MARGIN)."""

    smooth: np.ndarray
    matrix: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(n - 2 * MARGIN for n in self.smooth.shape[1:])

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """T at ``places`` (2, ...)."""
        return self._turned(places + self._smooth_at(places), self.matrix)

    def inverse(self, places: np.ndarray) -> np.ndarray:
        """T⁻¹ at ``places`` (2, ...), by Newton's method on S; it has no folds.

        Raises:
            ArithmeticError: a place comes back more than ACCURACY pixels beside itself.
        """
        target = self._turned(places, np.linalg.inv(self.matrix))
        at = target - self._smooth_at(target)
        for _ in range(30):
            off = target - at - self._smooth_at(at)
            if np.abs(off).max() < 1e-6:
                break
            at = at + _solved(self._slopes_at(at), off)
        worst = float(np.linalg.norm(self(at) - places, axis=0).max())
        if not worst < ACCURACY:
            raise ArithmeticError(f"The inverse of the warp is off by {worst:.3f} pixels.")
        return at

    def displacement(self) -> np.ndarray:
        """T(y) - y on the image's lattice, (2, H, W)."""
        pixels = lattice(self.shape)
        return self(pixels) - pixels

    def truth(self) -> np.ndarray:
        """What a registration has to find, T⁻¹(x) - x on the image's lattice, (2, H, W)."""
        pixels = lattice(self.shape)
        return self.inverse(pixels) - pixels

    def _turned(self, places: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        middle = ((np.array(self.shape) - 1) / 2).reshape(2, *[1] * (places.ndim - 1))
        return middle + np.tensordot(matrix, places - middle, axes=1)

    def _smooth_at(self, places: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.map_coordinates(s, places + MARGIN, order=1, mode="nearest") for s in self.smooth])

    def _slopes_at(self, places: np.ndarray) -> np.ndarray:
        """∂s_i / ∂x_j, (2, 2, ...)."""
        slopes = [np.stack(np.gradient(s)) for s in self.smooth]
        return np.stack(
            [[ndimage.map_coordinates(d, places + MARGIN, order=1, mode="nearest") for d in s] for s in slopes]
        )


def drawn(name: str, kind: str, shape: tuple[int, int]) -> Warp:
    """The warp of the case ``name``; drawn again while it folds or nearly does."""
    wanted = KINDS[kind]
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{name}/{kind}".encode()).digest()[:8], "big"))
    inner = (slice(None), *[slice(MARGIN, -MARGIN)] * 2)
    while True:
        noise = random.uniform(-1, 1, (2, *(n + 2 * MARGIN for n in shape)))
        smooth = np.stack([ndimage.gaussian_filter(one, SIGMA, radius=RADIUS) for one in noise])
        shift = random.uniform(-wanted.shift, wanted.shift, 2)
        smooth *= np.sqrt((wanted.rms**2 - shift @ shift) / np.square(smooth[inner]).sum(axis=0).mean())
        angle = np.deg2rad(random.uniform(-wanted.degrees, wanted.degrees))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        warp = Warp(smooth + shift[:, None, None], turn @ np.diag(1 + random.uniform(-wanted.scale, wanted.scale, 2)))
        if determinants(smooth).min() > SMALLEST_DETERMINANT:
            return warp


def lattice(shape: tuple[int, ...]) -> np.ndarray:
    """The place of every pixel, (2, H, W)."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float64)


def resampled(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """``image`` (H, W) or (H, W, C) at x + ``displacement`` (2, H, W), linear; black outside."""
    places = lattice(displacement.shape[1:]) + displacement
    if image.ndim == 2:
        return ndimage.map_coordinates(image, places, order=1, mode="constant")
    return np.stack([resampled(image[..., channel], displacement) for channel in range(image.shape[2])], axis=-1)


def determinants(displacement: np.ndarray) -> np.ndarray:
    """Jacobian determinants (H, W) of x + ``displacement`` (2, H, W), by central differences."""
    slopes = [np.gradient(part) for part in displacement]
    return (1 + slopes[0][0]) * (1 + slopes[1][1]) - slopes[0][1] * slopes[1][0]


def score(displacement: np.ndarray, truth: np.ndarray, inside: np.ndarray, both: np.ndarray) -> dict[str, float]:
    """End-point errors in pixels of a registration's ``displacement`` (2, H, W), and the share of folded pixels.

    Args:
        inside: where errors count, (H, W).
        both: the part of it where the moving image shows something too.
    """
    displacement, truth = (field.astype(np.float64) for field in (displacement, truth))
    errors = np.linalg.norm(displacement - truth, axis=0)
    return {
        "mean_px": float(errors[inside].mean()),
        "p95_px": float(np.percentile(errors[inside], 95)),
        "both_px": float(errors[both].mean()),
        "before_px": float(np.linalg.norm(truth, axis=0)[inside].mean()),
        "folding_percent": float(100 * (determinants(displacement) <= 0)[inside].mean()),
    }


def _solved(slopes: np.ndarray, off: np.ndarray) -> np.ndarray:
    """(1 + ``slopes``)⁻¹ ``off``, at every place."""
    (a, b), (c, d) = slopes
    a, d = a + 1, d + 1
    return np.stack([d * off[0] - b * off[1], a * off[1] - c * off[0]]) / (a * d - b * c)
