"""Two looks of one piece of anatomy, voxel for voxel in place: what a descriptor learns to see as the same.

Made of one stand-alone scan, by two intensity transforms, or of one label map, painted twice. ``inside`` (B, 1, *shape)
bool says where there is anatomy; the displacement is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import spatial
from .artefacts import acquire, antialiased
from .contrast import check_labels
from .deform import transform_points
from .draws import Draws
from .intensity import FOREGROUND, Curves
from .nonlinear import IntensityTransform
from .pairs import Batch, FromNothing, Maker
from .shapes import random_shapes

TRIES = 24
"""Places that are tried for a crop; the one with the most anatomy of some of them is taken."""


class Looks(Maker):
    """What the makers of this file share: where the crop lies, and what scanners do."""

    def _place(self, seen: Tensor, shape: Sequence[int], draws: Draws) -> tuple[Tensor, Tensor]:
        """Voxel coordinates (B, d, *shape) of a random crop around a voxel of ``seen`` (B, 1, *s) bool, and its zoom.

        The crop is turned by up to ``degrees``, its axes are permuted and mirrored, and it is zoomed, along each axis
        by another factor.
        """
        settings, d = self.settings.looks, len(shape)
        matrix = torch.zeros(draws.batch, d, d + 1)
        zoom = draws.log_uniform(*settings.zoom, 1) * draws.log_uniform(*settings.stretch, d)
        turn = draws.uniform(-settings.degrees, settings.degrees, d * d).deg2rad().view(-1, d, d).triu(1)
        orders, signs = draws.uniform(0.0, 1.0, d).argsort(dim=1), 1.0 - 2.0 * (draws.uniform(0.0, 1.0, d) < 0.5)
        places = draws.uniform(0.0, 1.0, TRIES)
        for sample in range(draws.batch):
            rotation = torch.linalg.matrix_exp(turn[sample] - turn[sample].T)
            axes = torch.diag(signs[sample])[orders[sample]] if settings.mirror else torch.eye(d)
            linear = rotation @ axes @ torch.diag(zoom[sample])
            middle = linear @ ((torch.tensor([float(n) for n in shape]) - 1) / 2)
            matrix[sample, :, :d] = linear
            matrix[sample, :, d] = self._center(seen[sample, 0], places[sample], middle) - middle
        matrix = torch.cat([matrix, torch.eye(d + 1)[None, d:].expand(draws.batch, 1, d + 1)], dim=1)
        grid = spatial.identity(shape, torch.zeros((), device=draws.device))
        return transform_points(matrix.to(draws.device), grid.expand(draws.batch, *grid.shape[1:])), zoom

    @staticmethod
    def _center(seen: Tensor, places: Tensor, reach: Tensor) -> Tensor:
        """A voxel of ``seen`` (*s) bool whose crop, about ``reach`` to each side, is mostly within the volume."""
        found = torch.nonzero(seen)
        size = torch.tensor([float(n) for n in seen.shape])
        if not len(found):
            return (size - 1) / 2
        chosen = found[(places * len(found)).long().clamp(max=len(found) - 1).to(found.device)].float().cpu()
        beyond = (reach.abs() - torch.minimum(chosen, size - 1 - chosen)).clamp(min=0).sum(dim=1)
        return chosen[int(beyond[: max(2, len(places) // 8)].argmin())]

    def _pair(self, looks: list[Tensor], inside: Tensor, draws: Draws) -> dict[str, Tensor]:
        shape = looks[0].shape
        scanned = [acquire(look, None, self.settings.artefacts, draws) for look in looks]
        return {
            "fixed": scanned[0],
            "moving": scanned[1],
            "inside": inside,
            "displacement": torch.zeros(shape[0], len(shape) - 2, *shape[2:], device=draws.device),
        }


class TwoLooks(Looks):
    """``moving`` (B, 1, *s) in [0, 1]: a crop of one scan under two intensity transforms.

    If there is a ``fixed``, another scan of the same anatomy on the same grid, the fixed look is of that.
    """

    needs = ("moving",)

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        moving = batch["moving"].float()
        seen = moving > FOREGROUND
        points, zoom = self._place(seen, shape, draws)
        zoom = draws.put(zoom)
        window, points = _window(points, moving.shape[2:])
        both = [image[window].contiguous() for image in (batch.get("fixed", moving).float(), moving)]
        crops = [spatial.sample(antialiased(image, zoom, shape), points) for image in both]
        inside = spatial.box((crops[1] > FOREGROUND).float(), 1) > 0.3
        keep_dark = draws.put(draws.chance(self.settings.looks.dark), len(shape))
        looks = []
        for crop in crops:
            look = self._transformed(crop, draws)
            # Only now: hidden beforehand, the outline of the field of view would be seen in every look.
            looks.append(torch.where(keep_dark & ~inside, crop.clamp(max=FOREGROUND), look))
        return self._pair(looks, inside, draws)

    def _transformed(self, image: Tensor, draws: Draws) -> Tensor:
        settings = self.settings.looks
        smooth = IntensityTransform.draw(draws, settings.inverted)
        curves = Curves.draw(draws, 1.0, 0.0)
        any_curve = draws.put(draws.chance(settings.any_curve), image.ndim - 2)
        plain = draws.put(draws.chance(settings.plain), image.ndim - 2)
        return torch.where(plain, image, torch.where(any_curve, curves(image), smooth(image)))


class TwoPaints(Looks):
    """``labels`` (B, 1, *s) int64: a crop of one label map, painted in two contrasts."""

    needs = ("labels",)

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        labels = batch["labels"]
        check_labels(labels, self.settings.contrast.labels)
        points, _ = self._place(labels > 0, shape, draws)
        crop = spatial.sample(labels.float(), points, "nearest").long()
        return self._painted(crop, draws)

    def _painted(self, labels: Tensor, draws: Draws) -> dict[str, Tensor]:
        looks = [self.contrast.paint(labels, self.contrast.appearance(draws), draws) for _ in range(2)]
        return self._pair(looks, labels > 0, draws)


class ShapePaints(FromNothing, TwoPaints):
    """Nothing but the settings' ``shape``: random shapes, painted in two contrasts."""

    needs = ()

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        settings = self.settings.shapes
        return self._painted(random_shapes(shape, draws, settings.count, settings.spacing, settings.rim), draws)


def _window(points: Tensor, size: Sequence[int]) -> tuple[tuple[slice, ...], Tensor]:
    """The part of a volume of ``size`` around ``points`` (B, d, *shape), and the points in voxels of it."""
    window, first = [slice(None), slice(None)], []
    for axis, n in enumerate(size):
        low, high = (float(value) for value in points[:, axis].aminmax())
        start = min(max(int(low) - 3, 0), n - 1)
        window.append(slice(start, max(min(int(high) + 4, n), start + 1)))
        first.append(start)
    shift = torch.tensor(first, dtype=points.dtype, device=points.device)
    return tuple(window), points - shift.view(1, -1, *(1,) * len(size))
