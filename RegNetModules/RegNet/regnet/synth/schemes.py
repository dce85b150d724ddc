"""What the ids of known label maps mean: names, which are brain, which belong together, how bright they are in T1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError


@dataclass(frozen=True)
class Structure:
    """One row of a scheme: ids that always look alike (left and right), T1 intensity in [0, 1], brain or not.

    ``fluid`` is what is not brain but stays in images that are stripped with a generous hand. ``ct`` and ``pet`` are
    the intensities in a CT in which bone is 1, and in a PET of glucose; None for what :data:`TISSUE_CT` and
    :data:`TISSUE_PET` say of tissue of that T1 intensity.
    """

    name: str
    ids: tuple[int, ...]
    t1: float
    brain: bool = True
    fluid: bool = False
    ct: float | None = None
    pet: float | None = None

    def intensity(self, modality: str) -> float:
        """In ``t1``, ``ct`` or ``pet``."""
        stated = getattr(self, modality)
        if stated is not None:
            return stated
        levels = {"ct": TISSUE_CT, "pet": TISSUE_PET}[modality]
        return float(np.interp(self.t1, TISSUE_T1, levels))


TISSUE_T1 = (0.14, 0.58, 0.85)
"""Fluid, grey and white matter in T1,"""
TISSUE_CT = (0.26, 0.4, 0.36)
"""in CT,"""
TISSUE_PET = (0.08, 0.9, 0.4)
"""and how much glucose they take up."""


@dataclass(frozen=True)
class Scheme:
    """The structures of one kind of label map; ids that are in none of them look like the background."""

    name: str
    structures: tuple[Structure, ...]

    @property
    def not_brain(self) -> tuple[int, ...]:
        """Ids of the head around the brain: what stripping removes."""
        return tuple(sorted(number for one in self.structures if not one.brain for number in one.ids))

    @property
    def fluid(self) -> tuple[int, ...]:
        """Those of them that generous stripping leaves."""
        return tuple(sorted(number for one in self.structures if one.fluid for number in one.ids))

    @property
    def size(self) -> int:
        """One more than the greatest id."""
        return 1 + max(max(one.ids) for one in self.structures)

    def classes(self) -> tuple[int, ...]:
        """For every id, 0 first, which structure it is, counted from 1; 0 for none."""
        table = [0] * self.size
        for number, one in enumerate(self.structures, start=1):
            for label in one.ids:
                table[label] = number
        return tuple(table)

    def typical(self) -> tuple[float, ...]:
        """For every id, 0 first, its intensity in a T1-weighted image."""
        return self.intensities("t1")

    def intensities(self, modality: str) -> tuple[float, ...]:
        """For every id, 0 first, its intensity in ``t1``, ``ct`` or ``pet``."""
        table = [0.0] * self.size
        for one in self.structures:
            for label in one.ids:
                table[label] = one.intensity(modality)
        return tuple(table)


_FREESURFER_BRAIN = (
    Structure("cerebral white matter", (2, 41), 0.85),
    Structure("cerebral cortex", (3, 42), 0.58),
    Structure("lateral ventricle", (4, 43), 0.14),
    Structure("inferior lateral ventricle", (5, 44), 0.18),
    Structure("cerebellar white matter", (7, 46), 0.82),
    Structure("cerebellar cortex", (8, 47), 0.55),
    Structure("thalamus", (10, 49), 0.69),
    Structure("caudate", (11, 50), 0.61),
    Structure("putamen", (12, 51), 0.65),
    Structure("pallidum", (13, 52), 0.76),
    Structure("middle ventricles", (14, 15, 72), 0.16),
    Structure("brainstem", (16,), 0.78),
    Structure("hippocampus", (17, 53), 0.58),
    Structure("amygdala", (18, 54), 0.57),
    Structure("accumbens", (26, 58), 0.6),
    Structure("ventral diencephalon", (28, 60), 0.74),
    Structure("vessel", (30, 62), 0.35),
    Structure("choroid plexus", (31, 63, 136, 137, 163, 164), 0.35),
    Structure("white matter lesion", (25, 57, 77), 0.6),
    Structure("optic chiasm", (85,), 0.7),
)
"""Ids of FreeSurfer's colour table; 136 to 164 lie in the ventricles."""

SYNTHSEG = Scheme(
    "synthseg",
    (
        *_FREESURFER_BRAIN,
        Structure("fluid around the brain", (24,), 0.14, brain=False, fluid=True),
        Structure("bone", (515,), 0.08, brain=False, ct=1.0, pet=0.06),
        Structure("bone marrow", (516,), 0.5, brain=False, ct=0.85, pet=0.12),
        Structure("soft tissue", (507,), 0.5, brain=False, ct=0.36, pet=0.22),
        Structure("skin", (511,), 0.6, brain=False, ct=0.3, pet=0.15),
        Structure("eye", (506,), 0.2, brain=False, ct=0.28, pet=0.1),
        Structure("optic nerve", (508, 530), 0.5, brain=False, ct=0.34, pet=0.3),
        Structure("nose", (509,), 0.35, brain=False, ct=0.3, pet=0.15),
        Structure("air", (502,), 0.02, brain=False, ct=0.0, pet=0.02),
        Structure("spinal cord", (512,), 0.7, brain=False),
        Structure("large vessel", (514,), 0.3, brain=False, ct=0.4, pet=0.2),
    ),
)
"""SynthSeg's training label maps (Billot et al. 2023); ids from 500 up are named by where they lie."""

SYNTHSR = Scheme("synthsr", (*_FREESURFER_BRAIN, Structure("undetermined", (29,), 0.5)))
"""SynthSR's brains (Iglesias et al. 2021); both sides have the left ids."""

HOA2 = Scheme(
    "hoa2",
    (
        Structure("ventricles and fluid", (1, 2, 3, 4, 5, 6, 18, 19), 0.15),
        Structure("accumbens", (7, 8), 0.6),
        Structure("caudate", (9, 10), 0.61),
        Structure("putamen", (11, 12), 0.65),
        Structure("pallidum", (13, 14), 0.76),
        Structure("brainstem", (15,), 0.78),
        Structure("thalamus", (16, 17), 0.69),
        Structure("hippocampus", (20, 21), 0.58),
        Structure("amygdala", (22, 23), 0.57),
        Structure("optic chiasm", (24,), 0.7),
        Structure("ventral diencephalon", (25, 26, 27, 28), 0.74),
        Structure("cerebellar cortex", (29, 30), 0.55),
        Structure("cerebellar white matter", (31, 32), 0.82),
    ),
)
"""The Harvard-Oxford Atlas 2.0 subcortical parcellations: no cerebrum."""

HEAD = 208
"""An id that DLMUSE leaves free: what of a head is not brain, where :mod:`regnet.synth.painted` adds it."""

DLMUSE = Scheme(
    "dlmuse",
    (
        Structure("fluid", (1, 46), 0.2),
        Structure("ventricles", (4, 11, 49, 50, 51, 52), 0.14),
        Structure("accumbens and basal forebrain", (23, 30, 75, 76), 0.6),
        Structure("amygdala", (31, 32), 0.57),
        Structure("brainstem", (35,), 0.78),
        Structure("caudate", (36, 37), 0.61),
        Structure("cerebellar cortex", (38, 39, 71, 72, 73), 0.55),
        Structure("cerebellar white matter", (40, 41), 0.82),
        Structure("hippocampus", (47, 48), 0.58),
        Structure("pallidum", (55, 56), 0.76),
        Structure("putamen", (57, 58), 0.65),
        Structure("thalamus", (59, 60), 0.69),
        Structure("ventral diencephalon and optic chiasm", (61, 62, 69), 0.74),
        Structure("cerebral white matter", tuple(range(81, 96)), 0.85),
        Structure("cerebral cortex", tuple(range(100, HEAD)), 0.58),
        Structure("head around the brain", (HEAD,), 0.5, brain=False, ct=0.4, pet=0.2),
    ),
)
"""The regions of DLMUSE, those of MUSE (Doshi et al. 2016): fluid around the brain counts as brain."""

SCHEMES = {scheme.name: scheme for scheme in (SYNTHSEG, SYNTHSR, HOA2, DLMUSE)}


def get_scheme(name: str) -> Scheme:
    """A scheme by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SCHEMES:
        raise InputError(f"There is no label scheme named {name!r}; choose from {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def t1_picture(labels: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """A plain T1-like picture of a label map of any shape, float32, to align it with real images."""
    table = torch.tensor(scheme.typical())
    known = labels.long().clamp(0, scheme.size - 1)
    return table.to(labels.device)[known] * (labels < scheme.size)
