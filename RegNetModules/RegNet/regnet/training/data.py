"""From the number of a sample to what a training pair is made of, and to the pair.

Which source, which subjects and which seed belong to a sample is a pure function of the configuration's seed, the
stage and the sample's number in it. So a resumed run, any number of workers and any number of devices see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..synth import looks, painted, pairs
from ..synth.schemes import SCHEMES
from .config import Source, TrainConfig
from .prepare import Prepared

NEEDS = {
    "OneAnatomy": "labels",
    "TwoAnatomies": "labels",
    "RealPair": "images",
    "OneImage": "images",
    "Shapes": "",
    "TwoLooks": "images",
    "TwoPaints": "labels",
    "ShapePaints": "",
    "OnePainted": "images",
}
"""What each maker needs of a subject."""
HOMES = dict.fromkeys(pairs.__all__, pairs) | {"OnePainted": painted}
"""Where makers are that are not in :mod:`regnet.synth.looks`."""
TWO_SUBJECTS = ("TwoAnatomies", "RealPair")
KNOWN = ("OneAnatomy", "OneImage", "OnePainted", "Shapes", "TwoLooks", "TwoPaints", "ShapePaints")
"""Makers whose displacement is known,"""
HELD_OUT = ("TwoLooks",)
"""and those of them that are validated on other subjects than they train on."""
VALIDATION = 1_000_000
"""Added to a stage's number for the samples of its validation."""


@dataclass(frozen=True)
class Sample:
    """What one pair is made of: tensors of the subjects without batch, a seed, and whether the contrasts are one."""

    tensors: dict[str, Tensor]
    seed: int
    same_contrast: bool


class SampleSource:
    """Draws samples of one :class:`~regnet.training.config.Source` and makes pairs of them."""

    def __init__(
        self, source: Source, shape: Sequence[int], subjects: Sequence[Prepared], split: str = "train"
    ) -> None:
        self.name, self.dims, self.split = source.maker, len(shape), split
        self.fixed, self.transaxial, self.mirrored = source.fixed, source.transaxial, source.mirrored
        if source.maker not in NEEDS:
            raise InputError(f"There is no pair maker {source.maker!r}; choose from {', '.join(NEEDS)}.")
        settings = {**source.settings, "shape": tuple(shape)}
        if len(source.schemes) == 1 and source.schemes[0] in SCHEMES:
            settings.setdefault("scheme", source.schemes[0])
        settings = pairs.PairSettings.from_dict(settings)
        self.maker = getattr(HOMES.get(source.maker, looks), source.maker)(settings)
        self.subjects = [entry for entry in subjects if self._fits(source, entry)]
        if self.name in TWO_SUBJECTS:
            count = {entry.scheme: 0 for entry in self.subjects}
            for entry in self.subjects:
                count[entry.scheme] += 1
            self.subjects = [entry for entry in self.subjects if count[entry.scheme] > 1]
        if NEEDS[self.name] and not self.subjects:
            raise InputError(
                f"No subject of the manifest suits {self.name!r} with schemes {list(source.schemes)}; it needs "
                f"{NEEDS[self.name]} of {'two subjects of one scheme' if self.name in TWO_SUBJECTS else 'a subject'}."
            )

    def _fits(self, source: Source, entry: Prepared) -> bool:
        needed = NEEDS[self.name]
        return (
            entry.split == self.split
            and (not source.schemes or entry.scheme in source.schemes)
            and (not source.subjects or entry.id in source.subjects)
            and (needed != "labels" or entry.labelled)
            and (needed != "images" or bool(entry.columns))
            and (not source.fixed or source.fixed in entry.columns)
        )

    def sample(self, random: np.random.Generator) -> Sample:
        """The subjects of one pair, read from their files. A 2D pair of a 3D subject is of one slice."""
        sample = self._whole(random)
        if self.dims == 2 and any(tensor.ndim == 4 for tensor in sample.tensors.values()):
            if self.name in TWO_SUBJECTS:
                raise InputError(f"{self.name!r} would need one slice of two subjects; give it 2D subjects.")
            seen = self._content(sample.tensors)
            return replace(sample, tensors=random_slice(sample.tensors, random, seen, self.transaxial, self.mirrored))
        return sample

    def _content(self, tensors: dict[str, Tensor]) -> Tensor:
        """(*shape) bool, what a slice has to show: the brain where it is known, else anything."""
        labels = tensors.get("labels", tensors.get("moving_labels"))
        if labels is not None:
            brain = self.maker.is_brain(labels[0].long())
            if bool(brain.any()):
                return brain
        return next(iter(tensors.values()))[0] > 0

    def _whole(self, random: np.random.Generator) -> Sample:
        seed = int(random.integers(2**62))
        if not NEEDS[self.name]:
            return Sample({}, seed, False)
        first = self.subjects[random.integers(len(self.subjects))]
        if self.name not in TWO_SUBJECTS:
            held = first.load()
            if NEEDS[self.name] == "labels":
                return Sample({"labels": held["labels"]}, seed, False)
            return self._one_image(first, held, random, seed)
        others = [entry for entry in self.subjects if entry.scheme == first.scheme and entry.id != first.id]
        second = others[random.integers(len(others))]
        if self.name == "TwoAnatomies":
            tensors = {"fixed_labels": first.load()["labels"], "moving_labels": second.load()["labels"]}
            return Sample(tensors, seed, False)
        return real_pair(first, second, random, seed)

    def _one_image(self, entry: Prepared, held: dict[str, Tensor], random: np.random.Generator, seed: int) -> Sample:
        """An image and, for the fixed side, the same or another contrast of the same subject.

        A descriptor is trained on stand-alone scans; another contrast then only serves for validation.
        """
        moving, fixed = (int(random.integers(len(entry.columns))) for _ in range(2))
        if self.name == "TwoLooks":
            several = len(entry.columns) > 1 and self.split == "val"
            fixed = (moving + 1 + fixed % (len(entry.columns) - 1)) % len(entry.columns) if several else moving
        if self.fixed:
            fixed, count = entry.columns.index(self.fixed), len(entry.columns)
            moving = (fixed + 1 + moving % (count - 1)) % count if count > 1 else fixed
        tensors = {"moving": held["images"][moving : moving + 1], "fixed": held["images"][fixed : fixed + 1]}
        if entry.labelled:
            tensors["moving_labels"] = held["labels"]
        return Sample(tensors, seed, fixed == moving)

    def make(self, samples: Sequence[Sample], device: torch.device) -> dict[str, Tensor]:
        """The pair, batch first. Each sample has a generator of its own: how samples are grouped changes nothing."""
        groups: dict[tuple[Any, ...], list[Sample]] = {}
        for sample in samples:
            groups.setdefault(tuple((name, t.shape) for name, t in sample.tensors.items()), []).append(sample)
        made = [self._make_alike(group, device) for group in groups.values()]
        shared = [name for name in made[0] if all(name in pair for pair in made)]
        return {name: torch.cat([pair[name] for pair in made]) for name in shared}

    def _make_alike(self, samples: Sequence[Sample], device: torch.device) -> dict[str, Tensor]:
        """A pair of samples that hold the same kinds of tensors."""
        batch: dict[str, Any] = {"device": device, "size": len(samples)}
        for name in samples[0].tensors:
            batch[name] = torch.cat([as_input(sample.tensors[name], device) for sample in samples])
        if "moving" in batch:
            batch["same_contrast"] = torch.tensor([sample.same_contrast for sample in samples])
        pair = self.maker(batch, [torch.Generator().manual_seed(sample.seed) for sample in samples])
        return {**pair, "seed": torch.tensor([sample.seed for sample in samples])}


def as_input(tensor: Tensor, device: torch.device) -> Tensor:
    """A kept tensor (1, *shape) as the makers and losses want it: (1, 1, *shape), float32 or int64."""
    tensor = tensor.to(device)[None]
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def random_slice(
    tensors: dict[str, Tensor],
    random: np.random.Generator,
    seen: Tensor,
    transaxial: float = 1 / 3,
    mirrored: bool = False,
) -> dict[str, Tensor]:
    """One slice (1, *s) of all ``tensors`` (1, *shape), in canonical order, that shows no less than a quarter of what
    the fullest one does of ``seen`` (*shape) bool; ``transaxial`` is how often it lies across the first axis, along
    which the body stands."""
    other = (1 - transaxial) / 2
    axis = int(random.choice(3, p=(transaxial, other, other)))
    areas = seen.movedim(axis, 0).flatten(1).sum(1)
    full = torch.nonzero(areas * 4 >= areas.max()).flatten()
    place = int(full[random.integers(len(full))])
    turned = [number + 1 for number in range(2) if mirrored and random.random() < 0.5]
    return {name: tensor.select(axis + 1, place).flip(turned).contiguous() for name, tensor in tensors.items()}


def real_pair(fixed: Prepared, moving: Prepared, random: np.random.Generator, seed: int) -> Sample:
    """Two subjects' images, of contrasts drawn at random."""
    tensors, columns = {}, []
    for role, entry in (("fixed", fixed), ("moving", moving)):
        held, place = entry.load(), int(random.integers(len(entry.columns)))
        tensors[role] = held["images"][place : place + 1]
        if fixed.labelled and moving.labelled:
            tensors[f"{role}_labels"] = held["labels"]
        columns.append(entry.columns[place])
    return Sample(tensors, seed, columns[0] == columns[1])


class Draws:
    """All sources of a configuration: which one a step uses, and what its samples are."""

    def __init__(self, config: TrainConfig, subjects: Sequence[Prepared]) -> None:
        self.config = config
        self.stages = [
            [SampleSource(source, config.shape_of(number), subjects) for source in stage.sources]
            for number, stage in enumerate(config.stages)
        ]

    def random(self, stage: int, number: int, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stage, number, *more])

    def source(self, stage: int, number: int) -> int:
        """Of all samples of one global batch, so that its pairs hold the same things."""
        weights = np.array([source.weight for source in self.config.stages[stage % VALIDATION].sources])
        return int(self.random(stage, number).choice(len(weights), p=weights / weights.sum()))

    def samples(self, stage: int, number: int, places: Sequence[int]) -> tuple[int, list[Sample]]:
        """The source of global batch ``number`` and those of its samples that are at ``places``."""
        chosen = self.source(stage, number)
        source = self.stages[stage % VALIDATION][chosen]
        return chosen, [source.sample(self.random(stage, number, 1, place)) for place in places]


class Batches(Dataset):
    """The batches of one epoch for one of ``ranks`` devices; without ``moves`` all of them are the first one."""

    def __init__(
        self, draws: Draws, stage: int, first: int, count: int, rank: int = 0, ranks: int = 1, moves: bool = True
    ) -> None:
        self.draws, self.stage, self.first, self.count, self.moves = draws, stage, first, count, moves
        batch = draws.config.stages[stage].batch
        self.places = range(rank * batch, (rank + 1) * batch)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        number = self.first + index if self.moves else 0
        source, samples = self.draws.samples(self.stage, number, self.places)
        return {"stage": self.stage, "source": source, "samples": [vars(sample) for sample in samples]}
