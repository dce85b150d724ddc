"""How MASR-Net's descriptor is trained: contrastive, on stand-alone scans, without labels or pairs (Mok et al. 2024).

Both looks of a crop (:mod:`regnet.synth.looks`) go through the network; each of some thousand voxels has to find itself
in the other look among all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import InputError
from ..losses.contrastive import InfoNCE
from ..losses.roughness import roughness
from ..matching import moved, reduced
from ..networks.masr import DSIR, MASRConfig
from ..retrieval import at_voxels, hit_rate, random_places
from ..spatial import reduce, resize_displacement
from ..training.config import Strict
from ..training.losses import foreground
from ..training.recipe import Pair
from ..training.recipe import Recipe as Base
from ..training.schedule import Place
from ..training.scores import FIGURES, measure

QUERIES = 256
"""Voxels that validation looks for."""


class Options(Strict):
    """Of a stage. ``part`` is what it trains: the ``descriptor``, or the ``matcher``, which registers two descriptors.

    Of the descriptor:

    ``window``: the network sees a window of so many voxels of each look, at two random places of the crop. In one and
    the same place it would learn where in the window a voxel lies, which it can tell from the borders, and nothing
    else. ``samples`` voxels of what both show are compared at ``temperature``; wrong answers nearer than ``exclude``
    voxels are left out.

    Of the matcher: the weight of the deformation's ``smoothness`` and of the end-point ``error`` in voxels, where that
    is known, beside the frozen descriptor's likeness.
    """

    part: Literal["descriptor", "matcher"] = "descriptor"
    window: tuple[int, ...] = ()
    samples: int = Field(8192, gt=1)
    temperature: float = Field(0.07, gt=0)
    exclude: float = Field(4.0, ge=0)
    chunk: int = Field(2048, gt=0)
    smoothness: float = Field(0.3, ge=0)
    error: float = Field(0.02, ge=0)


class Recipe(Base):
    """Stages train one part after the other; see :class:`Options`."""

    Options = Options
    parts = ("extractor", "squeeze.first", "squeeze.second")
    figures = ("hits", *FIGURES)

    def build(self) -> DSIR:
        return DSIR(MASRConfig.from_dict({"dims": len(self.config.shape), **self.config.network}))

    def parameters(self, network: DSIR, options: Options) -> Iterable[nn.Parameter]:
        if options.part == "matcher":
            if network.matcher is None:
                raise InputError("The stage trains a matcher, but the network has none; set network.matcher_width.")
            return network.matcher.parameters()
        return [*network.extractor.parameters(), *network.squeeze.parameters()]

    def losses(self, network: DSIR, pair: Pair, options: Options, place: Place) -> dict[str, Tensor]:
        if options.part == "matcher":
            return self._matching(network, pair, options)
        return self._contrast(network, pair, options)

    def _contrast(self, network: DSIR, pair: Pair, options: Options) -> dict[str, Tensor]:
        windows, starts = [], []
        for entry, seed in enumerate(pair["seed"].tolist()):
            random = torch.Generator().manual_seed(int(seed))
            for name in ("fixed", "moving"):
                start = [int(torch.randint(n - w + 1, (), generator=random)) for n, w in self._sizes(pair, options)]
                windows.append(pair[name][entry : entry + 1][_box(start, options.window)])
                starts.append(start)
        descriptors = network(torch.cat(windows)).split(1)
        loss = InfoNCE(options.temperature, options.exclude, options.chunk)
        terms = []
        for entry, seed in enumerate(pair["seed"].tolist()):
            first, second = (torch.tensor(starts[2 * entry + side]) for side in range(2))
            both = torch.zeros_like(pair["inside"][entry : entry + 1])
            low, high = torch.maximum(first, second), torch.minimum(first, second) + torch.tensor(options.window)
            box = _box(low.tolist(), (high - low).tolist())
            both[box] = pair["inside"][entry : entry + 1][box]
            places = random_places(both, options.samples, torch.Generator().manual_seed(int(seed)))
            if len(places) > 1:
                found = [
                    at_voxels(descriptors[2 * entry + side], places - start.to(places.device))
                    for side, start in enumerate((first, second))
                ]
                terms.append(loss(*found, places))
        total = torch.stack(terms).mean() if terms else sum(one.sum() for one in descriptors) * 0.0
        return {"contrast": total, "total": total}

    def _matching(self, network: DSIR, pair: Pair, options: Options) -> dict[str, Tensor]:
        """Likeness, smoothness and error at every resolution of the matcher, the finest counting most."""
        terms: dict[str, list[Tensor]] = {"likeness": [], "smoothness": [], "error": []}
        for entry in range(len(pair["fixed"])):
            with torch.no_grad():
                fixed, moving = (network(pair[name][entry : entry + 1]) for name in ("fixed", "moving"))
            inside = foreground(pair, tuple(fixed.shape[2:]))[entry : entry + 1]
            steps = network.matcher.all_steps(fixed, moving)
            for number, displacement in enumerate(steps):
                shape, weight = displacement.shape[2:], 0.5 ** (len(steps) - 1 - number)
                target, source, within = reduced(fixed, shape), reduced(moving, shape), reduce(inside, shape)
                unlike = 1.0 - (target * moved(source, displacement)).sum(1, keepdim=True)
                terms["likeness"].append(weight * (unlike * within).sum() / within.sum().clamp(min=1e-6))
                terms["smoothness"].append(weight * options.smoothness * roughness(displacement))
                if options.error and "displacement" in pair:
                    truth = resize_displacement(pair["displacement"][entry : entry + 1], shape)
                    distance = (displacement - truth).square().sum(1, keepdim=True).add(1e-6).sqrt()
                    error = (distance * within).sum() / within.sum().clamp(min=1e-6)
                    terms["error"].append(weight * options.error * error)
        means = {name: torch.stack(values).sum() / len(pair["fixed"]) for name, values in terms.items() if values}
        return {**means, "total": torch.stack(list(means.values())).sum()}

    def _sizes(self, pair: Pair, options: Options) -> list[tuple[int, int]]:
        shape = tuple(pair["fixed"].shape[2:])
        if len(options.window) != len(shape) or any(w > n for n, w in zip(shape, options.window, strict=True)):
            raise InputError(f"A window of {list(options.window)} does not fit into crops of {list(shape)}.")
        return list(zip(shape, options.window, strict=True))

    def measure(self, network: DSIR, pair: Pair, options: Options) -> dict[str, float]:
        """``hits``: how many voxels are found within two voxels of their place, among all of the crop's anatomy; of a
        matcher what its displacement is worth."""
        if options.part == "matcher":
            return measure(pair, network.matcher(network(pair["fixed"]), network(pair["moving"])))
        shape = tuple(pair["fixed"].shape[2:])
        # Voxels that neither look's border is near to.
        inside = torch.zeros_like(pair["inside"])
        core = _box([n // 8 for n in shape], [n - n // 4 for n in shape])
        inside[core] = pair["inside"][core]
        fixed = network(pair["fixed"])
        # Shifted, so that where a voxel lies in the crop does not tell it.
        shift = [n // 16 + 1 for n in shape]
        moving = network(torch.roll(pair["moving"], shift, dims=tuple(range(2, len(shape) + 2))))
        moving = torch.roll(moving, [-s for s in shift], dims=tuple(range(2, len(shape) + 2)))
        places = random_places(inside, QUERIES, torch.Generator().manual_seed(int(pair["seed"][0])))
        return {"hits": hit_rate(fixed, moving, places, inside)} if len(places) else {}

    def score(self, figures: dict[str, float]) -> float:
        return figures["val/hits"] if "val/hits" in figures else -figures.get("val/error", 0.0)

    def export(self, network: DSIR) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return network.state_dict(), network.config()


def _box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The index of a box of (B, C, *shape)."""
    return (slice(None), slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))
