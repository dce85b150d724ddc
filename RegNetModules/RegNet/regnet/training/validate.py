"""Validation: real pairs scored by their labels, synthetic ones by their known displacement, all by folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import spatial
from ..errors import InputError
from ..synth.deform import AffineRange, affine_displacement, random_affine
from .config import Source, TrainConfig
from .data import HELD_OUT, KNOWN, VALIDATION, Draws, Sample, SampleSource, as_input, real_pair
from .prepare import Prepared
from .scores import warped_labels

FOREGROUND = 0.02
MARGIN = 2
"""Voxels around the content of both images that a real pair keeps."""


class ValidationSet:
    """The pairs of every validation, always the same ones.

    Real pairs are of the ``val`` subjects, each with the next of its scheme, and so on with the one after next, until
    there are as many as configured. Synthetic ones come from those sources of the stage whose displacement is known.
    """

    def __init__(self, config: TrainConfig, subjects: Sequence[Prepared], draws: Draws) -> None:
        self.config, self.draws = config, draws
        self.known = [
            [self._known(source, config.shape_of(number), subjects) for source in stage.sources]
            for number, stage in enumerate(config.stages)
        ]
        self.pairs = _pairs([entry for entry in subjects if entry.split == "val"], config.validation.pairs)

    @staticmethod
    def _known(source: Source, shape: Sequence[int], subjects: Sequence[Prepared]) -> SampleSource | None:
        """The source for validation: of the ``val`` subjects, if some suit it; None if it makes no known pairs."""
        if source.maker not in KNOWN:
            return None
        if source.maker in HELD_OUT:
            try:
                return SampleSource(source, shape, subjects, "val")
            except InputError:
                pass
        return SampleSource(source, shape, subjects)

    def items(self, stage: int) -> list[dict[str, Any]]:
        """What the pairs of a stage are made of, see :meth:`build`."""
        looks = (False, True) if self.config.validation.stripped else (False,)
        real = [
            {"stage": stage, "pair": number, "strip": strip}
            for number, (first, _) in enumerate(self.pairs)
            for strip in looks
            if first.labelled or not strip
        ]
        known = [n for n, source in enumerate(self.known[stage]) if source is not None]
        count = self.config.validation.synthetic if known else 0
        return real + [{"stage": stage, "known": known[n % len(known)], "number": n} for n in range(count)]

    def part(self, stage: int, rank: int, ranks: int) -> Items:
        return Items(self.items(stage)[rank::ranks])

    def build(self, item: dict[str, Any], device: torch.device) -> dict[str, Tensor]:
        """The pair of one of :meth:`items`."""
        stage = item["stage"]
        if "known" in item:
            random = self.draws.random(VALIDATION + stage, item["number"])
            source = self.known[stage][item["known"]]
            return source.make([source.sample(random)], device)
        random = self.draws.random(VALIDATION, item["pair"])
        fixed, moving = self.pairs[item["pair"]]
        sample = real_pair(fixed, moving, random, int(random.integers(2**62)))
        ranges = self.config.stages[stage].validation_affine
        return real_validation_pair(sample, self.config.shape_of(stage), item["strip"], ranges, device)


class Items(Dataset):
    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def _pairs(subjects: Sequence[Prepared], count: int) -> list[tuple[Prepared, Prepared]]:
    """Up to ``count`` ordered pairs of labelled or imaged subjects of one scheme."""
    schemes: dict[str, list[Prepared]] = {}
    for entry in subjects:
        if entry.columns:
            schemes.setdefault(entry.scheme, []).append(entry)
    found = []
    for step in range(1, max(map(len, schemes.values()), default=0)):
        for group in schemes.values():
            if step < len(group):
                found += [(entry, group[(place + step) % len(group)]) for place, entry in enumerate(group)]
    return found[:count]


def real_validation_pair(
    sample: Sample, shape: Sequence[int], strip: bool, ranges: dict[str, float] | None, device: torch.device
) -> dict[str, Tensor]:
    """Two prepared subjects as a registration would give them to the network: cut to the content of both, with a
    margin, and the images resampled to ``shape``; before that the moving one is misaligned within ``ranges``."""
    held = {name: as_input(tensor, device) for name, tensor in sample.tensors.items()}
    if strip:
        for role in ("fixed", "moving"):
            held[role] = held[role] * (held[f"{role}_labels"] > 0)
    size = tuple(held["fixed"].shape[2:])
    if ranges is not None:
        generator = torch.Generator().manual_seed(sample.seed)
        matrix = random_affine(len(size), AffineRange(**ranges), generator)
        displacement = affine_displacement(matrix, size, device)
        for name in [name for name in held if name.startswith("moving")]:
            held[name] = _warped(held[name], displacement)
    box = _box((held["fixed"] > FOREGROUND) | (held["moving"] > FOREGROUND))
    pair = {}
    for name, tensor in held.items():
        cut = tensor[(slice(None), slice(None), *box)]
        # Labels keep their resolution: on the network's grid moves of less than half a coarse voxel would not show.
        pair[name] = cut if name.endswith("labels") else spatial.reduce(cut, shape)
    return {**pair, "same_contrast": torch.tensor([sample.same_contrast]), "seed": torch.tensor([sample.seed])}


def _box(content: Tensor) -> tuple[slice, ...]:
    slices = []
    for axis in range(2, content.ndim):
        line = torch.nonzero(content.amax(dim=[other for other in range(content.ndim) if other != axis])).flatten()
        n = content.shape[axis]
        low, high = (int(line[0]), int(line[-1]) + 1) if len(line) else (0, n)
        slices.append(slice(max(low - MARGIN, 0), min(high + MARGIN, n)))
    return tuple(slices)


def _warped(tensor: Tensor, displacement: Tensor) -> Tensor:
    if tensor.is_floating_point():
        return spatial.warp(tensor, displacement)
    return warped_labels(tensor, displacement)
