"""Makers of training pairs: each turns label maps, real images or nothing into a fixed and a moving image.

A pair is a dict of tensors, batch first: ``fixed`` and ``moving`` (B, 1, *s) float32 in [0, 1]; where labels are known
``fixed_labels`` and ``moving_labels`` (B, 1, *s) int64 with the input's ids; where the truth is known ``displacement``
(B, d, *s) in voxels: content at fixed x lies at moving x + u(x). ``same_contrast`` (B,) bool says whether equal tissue
has equal intensity on both sides, up to a scanner's artefacts. Labels beyond a cut field of view stay; labels that
stripping removes on either side are 0 on both.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from .. import spatial
from ..errors import InputError
from .artefacts import STRIP_RADIUS, antialiased, scan, strip_mask
from .contrast import MOST_LABELS, LabelContrast, check_labels
from .deform import AffineRange
from .draws import Draws, Randomness
from .intensity import FOREGROUND, Curves, augment
from .settings import PairSettings
from .shapes import random_shapes
from .views import Views, ViewSettings, content, draw_views

__all__ = [
    "AffineRange",
    "OneAnatomy",
    "OneImage",
    "PairSettings",
    "RealPair",
    "Shapes",
    "TwoAnatomies",
    "ViewSettings",
]

Batch = dict[str, Any]

VOLUMES = {"labels", "fixed", "moving", "fixed_labels", "moving_labels"}

TIGHT = 0.4
"""Looseness of stripping up to which the fluid around the brain goes too."""


@dataclasses.dataclass(frozen=True)
class Stripping:
    """Which sides of which samples are stripped, and how loosely: (B,) bool and (B,) in [0, 1], on the CPU."""

    fixed: Tensor
    moving: Tensor
    looseness: Tensor

    @staticmethod
    def draw(draws: Draws, both: float, one: float, moving: float) -> Stripping:
        which, side, looseness = draws.uniform(0, 1), draws.chance(0.5), draws.uniform(0, 1, 2)
        all_of_it, half = which < both, (which >= both) & (which < both + one)
        second = (which >= both + one) & (which < both + one + moving)
        return Stripping(all_of_it | (half & side), all_of_it | (half & ~side) | second, looseness)

    def keep(self, brain: Tensor, fluid: Tensor | None, side: int) -> Tensor | None:
        """What stays of a side, 0 fixed or 1 moving, (B, 1, *s) bool; None if all does.

        Loose stripping leaves the fluid around the brain in its place, tight stripping a smooth border.
        """
        stripped, looseness = (self.fixed, self.moving)[side], self.looseness[:, side]
        if not bool(stripped.any()):
            return None
        mask = strip_mask(brain, looseness, STRIP_RADIUS)
        if fluid is not None:
            mask |= fluid & _column(looseness > TIGHT, brain)
        return mask | ~_column(stripped, brain)

    def content(self, brain: Tensor, fluid: Tensor | None, everything: Tensor) -> Tensor:
        """What either image can show, (B, 1, *s) bool: ``everything`` unless both are stripped."""
        if fluid is not None:
            brain = brain | (fluid & _column((self.looseness > TIGHT).any(dim=1), brain))
        return torch.where(_column(self.fixed & self.moving, brain), brain, everything)

    def labels(self, labels: Tensor, brain: Tensor) -> Tensor:
        """Labels without those that are hidden on either side."""
        hidden = self.fixed | self.moving
        return labels * (brain | ~_column(hidden, brain)) if bool(hidden.any()) else labels


class Maker(ABC):
    """What all makers share. Call one with a batch and a generator, or with one generator per sample."""

    needs: tuple[str, ...] = ()

    def __init__(self, settings: PairSettings | None = None) -> None:
        self.settings = settings or PairSettings()
        self.contrast = LabelContrast(self.settings.contrast)
        other = self.settings.moving_contrast
        self.contrasts = (self.contrast, self.contrast if other is None else LabelContrast(other))
        count = max(self.settings.contrast.labels, MOST_LABELS)
        for name in ("not_brain", "fluid"):
            for label in getattr(self.settings, name):
                if not 0 < label < count:
                    raise InputError(
                        f"{name} holds {label}, but label ids besides the background's are 1 to {count - 1}."
                    )
        self._fluid = torch.zeros(count, dtype=torch.bool)
        self._fluid[list(self.settings.fluid)] = True
        self._brain = torch.ones(count, dtype=torch.bool)
        self._brain[[0, *self.settings.not_brain]] = False

    def __call__(self, batch: Batch, generator: Randomness) -> dict[str, Tensor]:
        for name in self.needs:
            if not isinstance(batch.get(name), Tensor):
                who, wanted = type(self).__name__, " and ".join(self.needs)
                raise InputError(f"{who} makes pairs from {wanted}; {name} is missing.")
        first = batch[self.needs[0]]
        for name in sorted(VOLUMES & set(batch)):
            if batch[name].shape != first.shape or first.ndim not in (4, 5) or first.shape[1] != 1:
                raise InputError(
                    f"{type(self).__name__} takes tensors (B, 1, *shape) of one shape in 2D or 3D; {name} is "
                    f"{tuple(batch[name].shape)} beside {tuple(first.shape)}."
                )
        shape = self.settings.shape or tuple(first.shape[2:])
        if len(shape) != first.ndim - 2:
            raise InputError(f"The settings ask for a grid of {len(shape)} axes, but the input has {first.ndim - 2}.")
        draws = Draws(generator, first.shape[0], first.device)
        with torch.no_grad():
            return self._make(batch, tuple(shape), draws)

    @abstractmethod
    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        """The pair, from a batch that has been checked."""

    def is_brain(self, labels: Tensor) -> Tensor:
        return self._brain.to(labels.device)[labels]

    def is_fluid(self, labels: Tensor) -> Tensor | None:
        return self._fluid.to(labels.device)[labels] if self.settings.fluid else None

    def _views(
        self, fixed: Tensor, moving: Tensor, shape: tuple[int, ...], known: bool, strip: Stripping, draws: Draws
    ) -> Views:
        """Views that hold what the images of both label maps can show."""

        def visible(labels: Tensor) -> Tensor:
            return strip.content(self.is_brain(labels), self.is_fluid(labels), labels > 0)

        masks = [content(labels, visible) for labels in ((fixed,) if moving is fixed else (fixed, moving))]
        return draw_views(masks[0], masks[-1], fixed.shape[2:], shape, known, self.settings.views, draws)

    def _from_labels(self, fixed: Tensor, moving: Tensor, shape: tuple[int, ...], known: bool, draws: Draws) -> dict:
        """A pair of synthetic images of two label maps, or of one with itself."""
        settings = self.settings
        if settings.typical_fixed and not settings.contrast.typical:
            raise InputError("A typical contrast is asked for, but none is known; name the scheme of the labels.")
        for labels in (fixed,) if moving is fixed else (fixed, moving):
            check_labels(labels, settings.contrast.labels)
        strip = Stripping.draw(draws, settings.strip, settings.strip_one, settings.strip_moving)
        views = self._views(fixed, moving, shape, known, strip, draws)
        same = ~draws.chance(settings.different_contrast)
        looks = [self.contrast.appearance(draws, 1.0 if settings.typical_fixed else None)]
        looks.append(self.contrasts[1].appearance(draws))
        looks[1] = looks[1].where(same, looks[0])
        pair: dict[str, Tensor] = {"same_contrast": draws.put(same)}
        for side, (name, source, points) in enumerate(
            (("fixed", fixed, views.fixed), ("moving", moving, views.moving))
        ):
            labels = nearest(source, points)
            brain = self.is_brain(labels)
            image = self.contrasts[side].paint(labels, looks[side], draws)
            kept = strip.keep(brain, self.is_fluid(labels), side)
            pair[name] = scan(image, brain, kept, settings.artefacts_of(side), draws)
            pair[f"{name}_labels"] = strip.labels(labels, brain)
        if views.displacement is not None:
            pair["displacement"] = views.displacement
        return pair

    def _from_images(
        self, images: list[Tensor], labels: list[Tensor] | None, shape: tuple[int, ...], known: bool, same: Tensor,
        draws: Draws,
    ) -> dict:  # fmt: skip
        """A pair of two real images, or of one with itself; ``same`` (B,) bool: of one contrast as they are given."""
        settings = self.settings
        for one in labels or ():
            check_labels(one, len(self._brain))
        shares = (settings.strip, settings.strip_one, settings.strip_moving) if labels else (0.0, 0.0, 0.0)
        strip = Stripping.draw(draws, *shares)
        views = self._image_views(images, labels, shape, known, strip, draws)
        alike = ~draws.chance(settings.different_contrast)
        remaps = (0.0 if settings.typical_fixed else settings.remap, settings.remap)
        curves = [Curves.draw(draws, share, settings.invert) for share in remaps]
        curves[1] = curves[1].where(alike, curves[0])
        unchanged = alike | ~(curves[0].used | curves[1].used)
        pair: dict[str, Tensor] = {"same_contrast": draws.put(unchanged) & same.to(draws.device)}
        for side, (name, points) in enumerate((("fixed", views.fixed), ("moving", views.moving))):
            image = spatial.sample(antialiased(images[side].float(), views.zoom, shape), points)
            keep = None
            if labels:
                drawn = nearest(labels[side], points)
                brain = self.is_brain(drawn)
                keep = strip.keep(brain, self.is_fluid(drawn), side)
                pair[f"{name}_labels"] = strip.labels(drawn, brain)
            pair[name] = augment(image, curves[side], keep, settings.artefacts_of(side), draws)
        if views.displacement is not None:
            pair["displacement"] = views.displacement
        return pair

    def _image_views(
        self, images: list[Tensor], labels: list[Tensor] | None, shape: tuple[int, ...], known: bool, strip: Stripping,
        draws: Draws,
    ) -> Views:  # fmt: skip
        """Views that hold what is visible of both images: the brain where both are stripped, else the foreground."""
        seen = [content(image, lambda values: values > FOREGROUND) for image in images]
        if labels:
            thin = [content(one, lambda values: values) for one in labels]
            seen = [
                strip.content(self.is_brain(one), self.is_fluid(one), whole)
                for one, whole in zip(thin, seen, strict=True)
            ]
        return draw_views(seen[0], seen[1], images[0].shape[2:], shape, known, self.settings.views, draws)


class OneAnatomy(Maker):
    """``labels`` (B, 1, *s) int64: two scans of one anatomy in two contrasts, with a known deformation between them."""

    needs = ("labels",)

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        return self._from_labels(batch["labels"], batch["labels"], shape, True, draws)


class TwoAnatomies(Maker):
    """``fixed_labels`` and ``moving_labels`` (B, 1, *s) int64: scans of two people, each with its own deformation."""

    needs = ("fixed_labels", "moving_labels")

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        return self._from_labels(batch["fixed_labels"], batch["moving_labels"], shape, False, draws)


class RealPair(Maker):
    """``fixed`` and ``moving`` (B, 1, *s) in [0, 1], and perhaps both label maps: two real scans, augmented.

    The batch may say ``same_contrast`` (B,) bool, by default True. Without labels nothing is stripped.
    """

    needs = ("fixed", "moving")

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        labels = [batch[name] for name in ("fixed_labels", "moving_labels") if name in batch]
        same = batch.get("same_contrast", torch.ones(draws.batch, dtype=torch.bool))
        images = [batch["fixed"], batch["moving"]]
        return self._from_images(images, labels if len(labels) == 2 else None, shape, False, same, draws)


class OneImage(Maker):
    """``moving`` (B, 1, *s) in [0, 1], perhaps with ``moving_labels``: a real scan and its deformed copy.

    If there is a ``fixed``, it is another scan of the same anatomy on the same grid, T2 beside T1 say, and is deformed
    in place of a copy; ``same_contrast`` (B,) bool then says whether the two are of one contrast, by default True.
    """

    needs = ("moving",)

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        labels = [batch["moving_labels"]] * 2 if "moving_labels" in batch else None
        same = batch.get("same_contrast", torch.ones(draws.batch, dtype=torch.bool))
        images = [batch.get("fixed", batch["moving"]), batch["moving"]]
        return self._from_images(images, labels, shape, True, same, draws)


class FromNothing(Maker):
    """What needs nothing but the settings' ``shape``.

    The batch may hold ``device``, and ``size``, how many pairs to make (1).
    """

    def __call__(self, batch: Batch, generator: Randomness) -> dict[str, Tensor]:
        if not self.settings.shape:
            raise InputError(
                f"{type(self).__name__} makes pairs from nothing and has to be told the grid; set 'shape'."
            )
        draws = Draws(generator, int(batch.get("size", 1)), batch.get("device", "cpu"))
        with torch.no_grad():
            return self._make(batch, tuple(self.settings.shape), draws)


class Shapes(FromNothing):
    """One anatomy of random shapes, with a known deformation, from nothing."""

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        settings = self.settings.shapes
        labels = random_shapes(shape, draws, settings.count, settings.spacing, settings.rim)
        return self._from_labels(labels, labels, shape, True, draws)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, ...) beside ``like`` (B, 1, *s)."""
    return values.to(like.device).view(-1, *(1,) * (like.ndim - 1))


def nearest(labels: Tensor, points: Tensor) -> Tensor:
    """``labels`` (B, 1, *n) at the voxels nearest to ``points`` (B, d, *m), 0 beyond: quicker than a sampler."""
    place = points.round().to(torch.int32)
    index, inside = torch.zeros_like(place[:, 0]), torch.ones_like(place[:, 0], dtype=torch.bool)
    for axis, n in enumerate(labels.shape[2:]):
        line = place[:, axis]
        inside &= (line >= 0) & (line < n)
        index = index * n + line
    found = labels.flatten(1).gather(1, (index * inside).flatten(1).long())
    return (found * inside.flatten(1)).view(labels.shape[0], 1, *points.shape[2:])
