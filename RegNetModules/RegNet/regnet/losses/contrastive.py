"""InfoNCE between two descriptors of one piece of anatomy: each voxel is to find itself again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor


@dataclass(frozen=True)
class InfoNCE:
    """``-mean_k log(exp(a_k . b_k / t) / sum_l exp(a_k . b_l / t))`` over sampled voxels k, l.

    Mok et al. 2024, after van den Oord et al. 2018. The log of the number of voxels for descriptors that know nothing,
    0 for perfect ones.

    Args:
        temperature: ``t``.
        exclude: voxels nearer than this to k, but k itself, are not counted as wrong answers.
        chunk: voxels k worked on at a time; memory grows with ``chunk`` times the number of voxels.
    """

    temperature: float = 0.07
    exclude: float = 4.0
    chunk: int = 2048

    def __call__(self, first: Tensor, second: Tensor, places: Tensor) -> Tensor:
        """Loss of unit vectors (N, C) and (N, C) at voxel coordinates ``places`` (N, d)."""
        total = first.new_zeros(())
        answers = torch.arange(len(first), device=first.device)
        places = places.to(first.dtype)
        for rows in answers.split(self.chunk):
            likeness = first[rows] @ second.T / self.temperature
            if self.exclude > 0:
                near = torch.cdist(places[rows], places) < self.exclude
                near[torch.arange(len(rows), device=near.device), rows] = False
                likeness = likeness.masked_fill(near, -torch.inf)
            total = total + functional.cross_entropy(likeness, rows, reduction="sum")
        return total / max(len(first), 1)
