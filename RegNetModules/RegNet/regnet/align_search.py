"""The search behind ``align``: many candidate transforms at once, as one batch of 4x4 matrices."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from . import spatial
from .adam import Adam
from .align import CANDIDATES, LEVELS_PER_EXTENT, NEAR_DEGREES, SEARCH_DEGREES
from .errors import InputError
from .events import Events
from .image import Image, apply_matrix
from .losses.nmi import normalized_mutual_information
from .quasi_newton import minimise
from .transform import Affine

LEVEL_POINTS = (5000, 15000, 30000, 100_000)
EVALUATIONS = (0, 25, 15, 15)
"""Of the similarity when optimising at each level with all freedom; none at the coarsest."""
LEAST_OVERLAP = 0.2
FOREGROUND, BACKGROUND_SHARE = 0.02, 0.2
"""Most points go where the fixed image has content; the rest tell where it has none."""


class Level:
    """Both images at one resolution: sample points of the fixed image with their values, and the moving image."""

    def __init__(self, problem: AlignmentProblem, step: float, points: int) -> None:
        device = problem.device
        self.fixed, self.moving = _reduced(problem.fixed, step), _reduced(problem.moving, step)
        self.volume = self.moving.data[None].to(device)
        self.world_to_index = torch.from_numpy(self.moving.grid.world_to_index).to(device)
        self.size = torch.tensor(self.moving.grid.shape, device=device, dtype=torch.float32).view(1, 3, 1)
        where, values = _points(self.fixed, problem.fixed_mask, points, problem.generator)
        self.points = torch.from_numpy((where - problem.center).T.astype(np.float32)).to(device)
        self.values = torch.from_numpy(values).to(device)
        mask = problem.moving_mask
        self.mask = None if mask is None else mask.resample(self.moving.grid, labels=True).data[None].float().to(device)

    def similarity(self, matrices: Tensor, bins: int = 32) -> Tensor:
        """NMI of each of (B, 4, 4) ``matrices``, from points relative to the problem's middle to the moving world."""
        to_index = (self.world_to_index @ matrices).float()
        index = torch.matmul(to_index[:, :3, :3], self.points) + to_index[:, :3, 3:]
        index = index.flip(1)
        lattice = index.view(index.shape[0], 3, 1, 1, -1)
        moved = spatial.sample(self.volume, lattice, padding="border")[:, 0, 0, 0]
        slack = torch.minimum(index + 0.5, self.size - 0.5 - index).amin(dim=1)
        weight = slack.detach().clamp(0.0, 1.0)
        if self.mask is not None:
            weight = weight * spatial.sample(self.mask, lattice.detach())[:, 0, 0, 0]
        overlap = weight.mean(dim=1)
        value = normalized_mutual_information(self.values.expand_as(moved), moved, weight, bins)
        # A sliver of overlap can look perfect by chance: below the least overlap the value is pulled down steeply.
        return value - (LEAST_OVERLAP - overlap).clamp(min=0.0) * 10.0


class AlignmentProblem:
    """Finds the linear transform of two images. Positions are kept relative to the fixed image's middle."""

    def __init__(
        self,
        fixed: Image,
        moving: Image,
        fixed_mask: Image | None,
        moving_mask: Image | None,
        *,
        device: str,
        seed: int,
    ) -> None:
        self.fixed, self.moving = fixed.normalized(), moving.normalized()
        self.fixed_mask, self.moving_mask = fixed_mask, moving_mask
        self.device = torch.device(device)
        self.generator = np.random.default_rng(seed)
        self.center = fixed.grid.center()
        extents = [(np.array(image.grid.size) - 1) * image.spacing for image in (fixed, moving)]
        self.extent = float(max(extent.max() for extent in extents))
        self.scale = self.extent / LEVELS_PER_EXTENT[0]
        self.radius = float(np.linalg.norm(extents[0])) / 4
        self.planar = fixed.ndim == 2
        self.levels: dict[int, Level] = {}

    def solve(self, starts: list[np.ndarray], *, affine: bool, events: Events, finest: int = 3) -> np.ndarray:
        """The best 4x4 matrix, fixed world to moving world, starting from each translation in ``starts``.

        ``finest`` is the last level: 2 places images to a fraction of a millimetre, 3 to a tenth of their voxels.
        """
        with torch.no_grad():
            candidates = self._search(self.level(0), starts, events)
            self._show(candidates[0], events)
        return self._climbed(candidates, affine, finest, EVALUATIONS[finest], events)

    def best(self, matrices: list[np.ndarray]) -> int:
        """Which of some 4x4 matrices, fixed world to moving world, makes the images most alike."""
        with torch.no_grad():
            values = self.level(0).similarity(self._to_center(matrices))
        self._require_overlap(values)
        return int(values.argmax())

    def climb(
        self, starts: list[np.ndarray], events: Events, *, finest: int = 3, evaluations: int | None = None
    ) -> np.ndarray:
        """The affine 4x4 matrix of most similarity near one of ``starts``, within :data:`NEAR_DEGREES` or so, fixed
        world to moving world; so many ``evaluations`` at the ``finest`` level."""
        poses = self._to_center(starts)
        with torch.no_grad():
            self._require_overlap(self.level(0).similarity(poses))
            turned = torch.from_numpy(self._turns(NEAR_DEGREES)).to(self.device)
            turned = self._most_similar(self.level(0), (poses[:, None] @ turned).flatten(0, 1), events, 0.15)
        return self._climbed(torch.cat([poses, turned]), True, finest, evaluations or EVALUATIONS[finest], events)

    def _climbed(self, candidates: Tensor, affine: bool, finest: int, evaluations: int, events: Events) -> np.ndarray:
        """The best of ``candidates`` (n, 4, 4) optimised through all levels, at first with one scale for all axes: with
        all its freedom a pose shrinks or shears to something alike where little is seen, and without any it turns to
        make up for a difference in size. A plane shows so little that even the one scale leads astray."""
        kind = "similarity" if affine and not self.planar else "rigid"
        poses = self._optimise(self.level(0), candidates, kind, 28, self.scale, events, 0.15, 0.4)
        poses = self._optimise(self.level(1), poses[:2], kind, 18, self.scale / 4, events, 0.4, 0.5)
        return self._descend(poses[0], "affine" if affine else "rigid", finest, evaluations, events)

    def _descend(self, pose: Tensor, kind: str, finest: int, evaluations: int, events: Events) -> np.ndarray:
        """``pose`` (4, 4) optimised from the second level to the ``finest``."""
        for number in range(1, finest + 1):
            low, high = ((1 + step / finest) / 2 for step in (number - 1, number))
            count = evaluations if number == finest else EVALUATIONS[number]
            with events.stage(f"align at level {number + 1}", low, high):
                pose = self._settle(self.level(number), pose, kind, count, self.scale / 4**number, events)
        return self._on_world_points(pose)

    def level(self, number: int) -> Level:
        """Made when it is first asked for."""
        if number not in self.levels:
            self.levels[number] = Level(self, self.extent / LEVELS_PER_EXTENT[number], LEVEL_POINTS[number])
        return self.levels[number]

    def _to_center(self, matrices: list[np.ndarray]) -> Tensor:
        """As matrices (n, 4, 4) on points relative to the fixed image's middle."""
        from_center = np.eye(4)
        from_center[:3, 3] = self.center
        return torch.from_numpy(np.stack([matrix @ from_center for matrix in matrices])).to(self.device)

    def _on_world_points(self, pose: Tensor) -> np.ndarray:
        to_center = np.eye(4)
        to_center[:3, 3] = -self.center
        return pose.cpu().numpy() @ to_center

    def _show(self, pose: Tensor, events: Events) -> None:
        """Offer the best of the poses so far to whoever looks."""
        if events.wants_preview():
            events.preview_alignment(Affine(self._on_world_points(pose), self.fixed.ndim), self.fixed.grid)

    @staticmethod
    def _require_overlap(values: Tensor) -> None:
        if not torch.isfinite(values).any() or float(values.max()) < -0.5:
            raise InputError(
                "The images have nothing to compare: no overlap in space, or masks that exclude everything."
            )

    def _search(self, level: Level, starts: list[np.ndarray], events: Events) -> Tensor:
        """The most similar of many rotations and translations, (n, 4, 4)."""
        shifts = np.tile(np.eye(4), (len(starts), 1, 1))
        shifts[:, :3, 3] = self.center + np.stack(starts)
        poses = torch.from_numpy((shifts[None] @ self._turns(SEARCH_DEGREES)[:, None]).reshape(-1, 4, 4))
        return self._most_similar(level, poses.to(self.device), events, 0.15)

    def _turns(self, degrees: tuple[float, ...]) -> np.ndarray:
        """Rotations (n, 4, 4) by all combinations of ``degrees`` about the axes; about z alone in a plane."""
        others = (0.0,) if self.planar else degrees
        turns = []
        for angles in itertools.product(others, others, degrees):
            turn = np.eye(4)
            turn[:3, :3] = _rotation(*angles)
            turns.append(turn)
        return np.stack(turns)

    def _most_similar(self, level: Level, poses: Tensor, events: Events, done: float) -> Tensor:
        """The best few of ``poses`` (N, 4, 4), by a coarse histogram."""
        values = []
        for number, chunk in enumerate(poses.split(32)):
            values.append(level.similarity(chunk, bins=16))
            events.progress(min(done * (number + 1) * 32 / len(poses), done))
        values = torch.cat(values)
        self._require_overlap(values)
        return poses[values.argsort(descending=True)[:CANDIDATES]]

    def _optimise(
        self,
        level: Level,
        poses: Tensor,
        kind: str,
        iterations: int,
        step: float,
        events: Events,
        low: float,
        high: float,
    ) -> Tensor:
        """Improve each pose by Adam in units of millimetres at the rim; best first."""
        free = torch.zeros(len(poses), 12, dtype=torch.float64, device=self.device, requires_grad=True)
        usable = torch.from_numpy(_degrees_of_freedom(kind, self.planar)).to(self.device)
        adam = Adam(free.detach())
        best = torch.full((len(poses),), -math.inf, device=self.device)
        kept = poses.clone()
        for number in range(iterations + 1):
            matrices = poses @ self._increment(free * usable, kind)
            value = level.similarity(matrices)
            with torch.no_grad():
                better = value > best
                best = torch.where(better, value.detach(), best)
                kept[better] = matrices.detach()[better]
                self._show(kept[best.argmax()], events)
            if number == iterations:
                break
            rate = step * (0.5 * (1 + math.cos(math.pi * number / iterations)) * 0.95 + 0.05)
            (gradient,) = torch.autograd.grad(value.sum(), free)
            with torch.no_grad():
                free += rate * adam.step(gradient)
            events.progress(low + (high - low) * (number + 1) / iterations)
        return kept[best.argsort(descending=True)]

    def _settle(
        self, level: Level, pose: Tensor, kind: str, evaluations: int, longest: float, events: Events
    ) -> Tensor:
        """``pose`` (4, 4) at the nearest optimum, by BFGS: ten times as near in a given time as Adam gets."""
        usable = torch.from_numpy(_degrees_of_freedom(kind, self.planar)).to(self.device)
        count, best = 0, -math.inf

        def dissimilarity(numbers: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal count, best
            count += 1
            free = torch.from_numpy(numbers)[None].to(self.device).requires_grad_(True)
            matrices = pose @ self._increment(free * usable, kind)
            value = level.similarity(matrices)
            (gradient,) = torch.autograd.grad(value.sum(), free)
            if float(value.detach()) > best:
                best = float(value.detach())
                self._show(matrices[0].detach(), events)
            events.progress(min(count / evaluations, 1.0))
            return -float(value.detach()), -gradient[0].cpu().numpy()

        found = minimise(dissimilarity, np.zeros(12), evaluations, longest)
        return (pose @ self._increment(torch.from_numpy(found)[None].to(self.device) * usable, kind))[0]

    def _increment(self, free: Tensor, kind: str) -> Tensor:
        """(B, 12) millimetres at the rim to (B, 4, 4): translation, then a rotation, one with a scale, or a general
        linear map."""
        batch = free.shape[0]
        generator = torch.zeros(batch, 4, 4, dtype=free.dtype, device=free.device)
        linear = free[:, 3:].view(batch, 3, 3) / self.radius
        if kind != "affine":
            axes = torch.tensor([1.0, 1.0, 0.0 if self.planar else 1.0], dtype=free.dtype, device=free.device)
            linear = linear - linear.transpose(1, 2) + linear[:, :1, :1] * torch.diag(axes)
        generator[:, :3, :3] = linear
        generator[:, :3, 3] = free[:, :3]
        return torch.linalg.matrix_exp(generator)


def _degrees_of_freedom(kind: str, planar: bool) -> np.ndarray:
    """Which of the 12 parameters may move: a rigid map needs one of each skew pair, a similarity one of the diagonal as
    well; a planar map stays in x, y."""
    linear = np.ones((3, 3)) if kind == "affine" else np.triu(np.ones((3, 3)), 1)
    if kind == "similarity":
        linear[0, 0] = 1
    shift = np.ones(3)
    if planar:
        linear[2, :] = linear[:, 2] = 0
        shift[2] = 0
    return np.concatenate([shift, linear.ravel()])


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    a, b, c = np.deg2rad([x, y, z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _reduced(image: Image, step: float) -> Image:
    """The image smoothed and resampled to a spacing of about ``step`` mm, never finer than it is."""
    grid = image.grid.with_spacing(np.maximum(image.spacing, step))
    return Image(spatial.reduce(image.data[None], grid.shape)[0], grid.index_to_world, image.ndim)


def _points(
    image: Image, mask: Image | None, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``count`` world points (N, 3) on the image's lattice, and its values there, evenly spread."""
    values = image.data[0].numpy().ravel()
    allowed = np.arange(values.size)
    if mask is not None:
        allowed = allowed[mask.resample(image.grid, labels=True).data[0].numpy().ravel() > 0]
        if allowed.size < 16:
            raise InputError(
                "The fixed mask leaves nothing to compare; give a mask that covers part of the fixed image."
            )
    if allowed.size > count:
        near = spatial.box((image.data[None] > FOREGROUND).float(), 2)[0, 0].numpy().ravel()[allowed] > 0
        inside, outside = allowed[near], allowed[~near]
        most = count - min(outside.size, int(count * BACKGROUND_SHARE))
        allowed = np.concatenate([_spread(inside, most, generator), _spread(outside, count - most, generator)])
    k, j, i = np.unravel_index(allowed, image.grid.shape)
    return apply_matrix(image.index_to_world, np.stack([i, j, k], axis=1).astype(np.float64)), values[allowed]


def _spread(indices: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """One random member of each of ``count`` consecutive runs: even cover without a lattice's aliasing."""
    if indices.size <= count:
        return indices
    edges = np.linspace(0, indices.size, count + 1)
    return indices[(edges[:-1] + generator.random(count) * np.diff(edges)).astype(int)]
