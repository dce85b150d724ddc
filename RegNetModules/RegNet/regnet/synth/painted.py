"""Pairs of a real scan and a painted one of another modality: the real looks of one side, the known truth of both."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import spatial
from ..errors import InputError
from .artefacts import antialiased, scan
from .contrast import check_labels
from .draws import Draws
from .intensity import FOREGROUND, Curves, augment
from .pairs import Batch, Maker, Stripping, nearest
from .schemes import HEAD


class OnePainted(Maker):
    """``moving`` (B, 1, *s) in [0, 1] with ``moving_labels`` of the brain in the scheme ``dlmuse``: the scan itself is
    the fixed image, and its labels, painted in the moving side's contrast and deformed, are the moving one.

    What the scan shows around the brain is painted as one tissue, whose blurred intensity a PET or SPECT has there.
    """

    needs = ("moving", "moving_labels")

    def _make(self, batch: Batch, shape: tuple[int, ...], draws: Draws) -> dict[str, Tensor]:
        settings = self.settings
        if settings.scheme != "dlmuse":
            raise InputError(f"OnePainted paints label maps of the scheme 'dlmuse', not {settings.scheme!r}.")
        image, labels = batch["moving"].float(), batch["moving_labels"]
        check_labels(labels, settings.contrast.labels)
        labels = torch.where((labels == 0) & (image > FOREGROUND), HEAD, labels)
        strip = Stripping.draw(draws, settings.strip, settings.strip_one, settings.strip_moving)
        views = self._views(labels, labels, shape, True, strip, draws)
        curves = Curves.draw(draws, settings.remap, settings.invert)
        own, other = (nearest(labels, points) for points in (views.fixed, views.moving))
        seen = spatial.sample(antialiased(image, views.zoom, shape), views.fixed)
        keep = strip.keep(self.is_brain(own), self.is_fluid(own), 0)
        painted = self.contrasts[1].paint(other, self.contrasts[1].appearance(draws), draws)
        brain = self.is_brain(other)
        kept = strip.keep(brain, self.is_fluid(other), 1)
        return {
            "fixed": augment(seen, curves, keep, settings.artefacts_of(0), draws),
            "moving": scan(painted, brain, kept, settings.artefacts_of(1), draws),
            "displacement": views.displacement,
            "same_contrast": draws.put(torch.zeros(draws.batch, dtype=torch.bool)),
        }
