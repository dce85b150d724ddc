"""Initial alignment: nothing, centres, centres of mass, rigid, affine. Any modality, multi-resolution, no weights.

The similarity is the normalised mutual information of Studholme et al. (1999), from a joint histogram with linear
Parzen windows, over a jittered lattice of points of the fixed image. It is searched widely first (rotations to 40
degrees about every axis, from several translations), then the best few candidates are optimised side by side.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from .callable_module import make_callable
from .errors import InputError
from .events import Events

if TYPE_CHECKING:
    from .align_search import AlignmentProblem
    from .image import Image
    from .transform import Affine

SIMILARITIES = ("nmi", "dsir", "mind")
ALIGNMENTS = ("none", "centres", "moments", "nearest", "rigid", "affine", "ddim")
SEARCH_DEGREES = (-40.0, -20.0, 0.0, 20.0, 40.0)
NEAR_DEGREES = (-20.0, 0.0, 20.0)
"""Turns about every axis that a search tries: from nothing, and about a proposal."""
CANDIDATES = 6
LEVELS_PER_EXTENT = (26, 52, 104, 416)
"""Steps of the levels over the larger image's longest side: 8, 4, 2 and at least 0.5 mm for a head of 208 mm."""


def align(
    fixed: Image,
    moving: Image,
    method: str = "affine",
    *,
    similarity: str = "nmi",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    events: Events | None = None,
    device: str = "cpu",
    seed: int = 0,
    precise: bool = True,
) -> Affine:
    """The linear transform, fixed to moving points in LPS mm, that brings the images together.

    Args:
        fixed, moving: one-channel images of the same dimension.
        method: one of :data:`ALIGNMENTS`; ``moments`` matches the centres of mass of the intensities,
            ``nearest`` is the most alike of the three before it, ``ddim`` is affine, from where DDIM's network leads
            instead of a search.
        similarity: what ``rigid``, ``affine`` and ``ddim`` end with: normalised mutual information, or after it a
            structural descriptor, learned (``dsir``) or not (``mind``), see :mod:`regnet.descriptors`.
        fixed_mask, moving_mask: non-zero where the images may be compared.
        precise: whether ``rigid``, ``affine`` and ``ddim`` end at full resolution, to a tenth of a voxel; without, to
            a fraction of a millimetre in half the time, which is enough where a deformation follows.

    Raises:
        InputError: an unknown method, or a mask or overlap that leaves nothing to compare.
    """
    from .align_search import AlignmentProblem
    from .transform import Affine

    check_alignment(method)
    if similarity not in SIMILARITIES:
        raise InputError(f"There is no similarity named {similarity!r}; choose from {', '.join(SIMILARITIES)}.")
    events = events or Events()
    if method == "none":
        return Affine.identity(fixed.ndim)
    if method == "centres":
        return Affine(_shift(moving.grid.center() - fixed.grid.center()), fixed.ndim)
    if method == "moments":
        return Affine(_shift(center_of_mass(moving, moving_mask) - center_of_mass(fixed, fixed_mask)), fixed.ndim)
    from .devices import one_thread

    with one_thread():
        between_masses = center_of_mass(moving, moving_mask) - center_of_mass(fixed, fixed_mask)
    starts = [np.zeros(3), moving.grid.center() - fixed.grid.center(), between_masses]
    if events.wants_preview():
        _show_first(fixed, moving, starts, events)
    problem = AlignmentProblem(fixed, moving, fixed_mask, moving_mask, device=device, seed=seed)
    finest = 3 if precise and similarity == "nmi" else 2
    if method == "nearest":
        with one_thread():
            return _nearest(problem, starts)
    if similarity == "nmi":
        return _searched(problem, starts, method, finest, events, device)
    with events.stage("search", 0.0, 0.6):
        found = _searched(problem, starts, method, finest, events, device)
    with events.stage("descriptors", 0.6, 1.0):
        return _polished(found, fixed, moving, method, similarity, fixed_mask, moving_mask, events, device)


def check_alignment(method: str) -> None:
    """Raise :class:`InputError` unless ``method`` is one of :data:`ALIGNMENTS`."""
    if method not in ALIGNMENTS:
        raise InputError(f"There is no alignment named {method!r}; choose from {', '.join(ALIGNMENTS)}.")


def climb(
    fixed: Image,
    moving: Image,
    starts: list[Affine],
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    events: Events | None = None,
    device: str = "cpu",
    seed: int = 0,
    iterations: int | None = None,
) -> Affine:
    """The affine transform of most mutual information near one of ``starts``; ``iterations``: at full detail."""
    from .align_search import AlignmentProblem
    from .devices import one_thread
    from .transform import Affine

    problem = AlignmentProblem(fixed, moving, fixed_mask, moving_mask, device=device, seed=seed)
    with one_thread():
        found = problem.climb([start.matrix for start in starts], events or Events(), evaluations=iterations)
        return Affine(found, fixed.ndim)


def better(
    fixed: Image,
    moving: Image,
    choices: list[Affine],
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Affine:
    """Which of ``choices`` makes the images more alike, by mutual information."""
    from .align_search import AlignmentProblem
    from .devices import one_thread

    with one_thread():
        return _best(AlignmentProblem(fixed, moving, fixed_mask, moving_mask, device=device, seed=seed), choices)


def _best(problem: AlignmentProblem, choices: list[Affine]) -> Affine:
    return choices[problem.best([choice.matrix for choice in choices])]


def _show_first(fixed: Image, moving: Image, starts: list[np.ndarray], events: Events) -> None:
    """Offer the most alike of ``starts`` to whoever looks, long before the whole images are prepared for the search:
    what a few voxels of them tell is enough to choose among three."""
    from .align_search import AlignmentProblem
    from .devices import one_thread

    with one_thread(), contextlib.suppress(InputError):  # of no overlap, which the search will say of the whole images
        problem = AlignmentProblem(fixed.thinned(), moving.thinned(), None, None, device="cpu", seed=0)
        events.preview_alignment(_nearest(problem, starts), fixed.grid)


def _nearest(problem: AlignmentProblem, starts: list[np.ndarray]) -> Affine:
    from .transform import Affine

    return _best(problem, [Affine(_shift(start), problem.fixed.ndim) for start in starts])


def _searched(
    problem: AlignmentProblem, starts: list[np.ndarray], method: str, finest: int, events: Events, device: str
) -> Affine:
    """``rigid``, ``affine`` or ``ddim``: of most mutual information, after a search or from the network's proposal;
    after a search, too, where the network has no weights."""
    from .devices import one_thread
    from .models.ddim import propose
    from .transform import Affine

    if method == "ddim":
        with one_thread():
            start = _nearest(problem, starts)
        with events.stage("network", 0.0, 0.3):
            # The network sees voxels of a centimetre: the second level shows it all.
            seen = problem.level(1)
            proposed = propose(seen.fixed, seen.moving, start, events, device)
        if proposed is not None:
            with one_thread(), events.stage("optimise", 0.3, 1.0):
                near = [proposed.matrix, *map(_shift, starts)]
                return Affine(problem.climb(near, events, finest=finest), problem.fixed.ndim)
    with one_thread():
        return Affine(problem.solve(starts, affine=method != "rigid", events=events, finest=finest), problem.fixed.ndim)


def _polished(
    found: Affine,
    fixed: Image,
    moving: Image,
    method: str,
    similarity: str,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    events: Events,
    device: str,
) -> Affine:
    """``found`` moved on to where the descriptors of the images agree most."""
    import torch

    from .described import Described, described_level
    from .descriptor_affine import improve_affine
    from .descriptors import installed
    from .pair import LINEAR_MB, make_pair
    from .transform import Affine

    pair = make_pair(fixed, moving, found, fixed_mask, moving_mask, LINEAR_MB, torch.device(device))
    held = Described(described_level(pair), installed(similarity, fixed.ndim, events, device), events)
    return Affine(improve_affine(held, events, rigid=method == "rigid"), fixed.ndim).then(found)


def center_of_mass(image: Image, mask: Image | None = None) -> np.ndarray:
    """World position of the intensity-weighted centre, (3,), intensities counted from the 5th percentile up."""
    import torch

    from .image import apply_matrix, percentiles

    thinned = image.thinned()  # enough to place the centre to a fraction of a millimetre
    values = thinned.data[0].float()
    values = (values - percentiles(values, (5.0,))[0]).clamp_(min=0)
    if mask is not None:
        values = values * (mask.resample(image.grid, labels=True).thinned().data[0] > 0)
    total = float(values.sum(dtype=torch.float64))
    if total <= 0:
        return image.grid.center()
    index = []
    for axis in (2, 1, 0):
        line = values.sum(dim=[other for other in range(3) if other != axis], dtype=torch.float64)
        index.append(float((line * torch.arange(len(line))).sum()) / total)
    return apply_matrix(thinned.index_to_world, np.array([index]))[0]


def _shift(vector: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = vector
    return matrix


make_callable(__name__, align)
