"""Moving maps along a stationary velocity: the map equation of vSVF, and its counterpart for points.

Velocities are in coordinates of the unit cube per unit time, channels in array order (z, y, x), the grid's corners
being 0 and 1. The end time is 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ModelError
from ..spatial import sample

CFL_LIMIT = 2.8
"""Largest stable ``sum_i max|v_i| / (h_i N)``: RK4 with central differences, whose spectrum is imaginary."""

_TAYLOR = (1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0)

_PIECE = 1 << 20
"""Voxels of a channel worked on at a time on a CPU: a few arrays of this length fit in its cache."""

_KEEP = 1 << 29
"""Bytes of stages that are rather kept for the backward pass than computed again."""


def stable_steps(velocity: Tensor, steps: int, limit: float = CFL_LIMIT) -> int:
    """``steps``, or as many more as the Courant number of ``velocity`` (B, d, *shape) needs to stay below ``limit``.

    Raises:
        ModelError: the velocity is not finite.
    """
    if steps < 1:
        raise ModelError(f"Integration takes at least one time step, not {steps}.")
    courant = 0.0
    for axis, n in enumerate(velocity.shape[2:]):
        courant += float(velocity.detach()[:, axis].abs().max()) * (n - 1)
    if not math.isfinite(courant):
        raise ModelError("The velocity holds values that are not finite; lower the learning rate or check the images.")
    return max(steps, math.ceil(courant / limit))


def advect(
    fields: Tensor, velocity: Tensor, steps: int = 10, *, guard: bool = True, checkpoint: bool | None = None
) -> Tensor:
    """Solve ``d phi / dt + D phi v = 0`` up to time 1 by RK4; what starts as ``phi_0`` ends as ``phi_0`` read upstream.

    Derivatives are central differences, with linear extrapolation beyond the border. Each channel is moved alone, so
    ``fields`` may be a map, or any other image on the velocity's grid.

    The equation is linear and its operator ``A`` does not change in time, so one RK4 step is exactly
    ``(1 + A + A^2/2 + A^3/6 + A^4/24) phi``: one buffer instead of four stages, and an adjoint of the same form,
    which is written out here. The gradient is that of the discrete scheme, exact to rounding.

    Args:
        fields: (B, C, *shape).
        velocity: (B, d, *shape) in the unit cube's coordinates.
        steps: time steps; ``guard`` raises them where they would not be stable.
        checkpoint: keep one copy of ``fields`` per time step for the backward pass, and compute the stages again;
            without it, four copies and about a fifth less time. None decides by their size.
    """
    if fields.shape[2:] != velocity.shape[2:] or min(velocity.shape[2:]) < 3:
        raise ModelError(
            f"A map of {tuple(fields.shape[2:])} voxels cannot be moved by a velocity of "
            f"{tuple(velocity.shape[2:])} voxels: both need the same grid, with at least three voxels per axis."
        )
    if guard:
        steps = stable_steps(velocity, steps)
    if checkpoint is None:
        checkpoint = 4 * steps * fields.numel() * fields.element_size() > _KEEP
    return _Advection.apply(fields, velocity, steps, checkpoint)


def flow(points: Tensor, velocity: Tensor, steps: int = 10) -> Tensor:
    """Solve ``d phi / dt = v(phi)`` up to time 1 by RK4 with interpolated velocity: points carried downstream.

    Args:
        points: (B, d, *any) in the unit cube's coordinates; beyond the border the velocity stays as at the border.
        velocity: (B, d, *shape).
    """
    sizes = velocity.new_tensor([n - 1 for n in velocity.shape[2:]]).view(1, -1, *(1,) * (velocity.ndim - 2))

    def rate(position: Tensor) -> Tensor:
        return sample(velocity, position * sizes, padding="border")

    step = 1.0 / steps
    for _ in range(steps):
        first = rate(points)
        second = rate(points + (step / 2) * first)
        third = rate(points + (step / 2) * second)
        fourth = rate(points + step * third)
        points = points + (step / 6) * (first + 2 * (second + third) + fourth)
    return points


class _Operator:
    """``A = -(v . D) / N`` of one velocity (d, *shape) and its transpose, on lines: channels (C, voxels) laid out flat.

    A line carries one layer of voxels around the grid, which holds the linear extrapolation. So central differences
    are right at the border too, and every neighbour is a constant offset away: differences are plain operations on
    contiguous memory, done piece by piece so that what one writes is still in the cache for the next.
    """

    def __init__(self, velocity: Tensor, steps: int) -> None:
        self.shape = tuple(velocity.shape[1:])
        self.padded = tuple(n + 2 for n in self.shape)
        self.offsets = [math.prod(self.padded[axis + 1 :]) for axis in range(len(self.shape))]
        self.scale = [-(n - 1) / (2.0 * steps) for n in self.shape]
        self.rates = self.pad(velocity)
        for rate, scale in zip(self.rates, self.scale, strict=True):
            rate.mul_(scale)
        first, last = self.offsets[0], self.rates.shape[1] - self.offsets[0]
        piece = _PIECE if velocity.device.type == "cpu" else last - first
        self.pieces = [(low, min(low + piece, last)) for low in range(first, last, piece)]
        self._scratch: Tensor | None = None

    def crop(self, line: Tensor) -> Tensor:
        """The grid's own voxels, (C, *shape), of a line, as a view."""
        field = line.view(-1, *self.padded)
        for axis, n in enumerate(self.shape):
            field = field.narrow(axis + 1, 1, n)
        return field

    def pad(self, field: Tensor) -> Tensor:
        """A line of ``field`` (C, *shape), its layer still zero."""
        line = field.new_zeros(len(field), math.prod(self.padded))
        self.crop(line).copy_(field)
        return line

    def extrapolate(self, line: Tensor) -> Tensor:
        """Fill the layer in place: twice the border voxel less the one behind it."""
        for layer, edge, behind in self._layers(line):
            torch.mul(edge, 2.0, out=layer).sub_(behind)
        return line

    def extrapolate_transpose(self, line: Tensor) -> Tensor:
        """What came to the layer goes back to the voxels that made it; in place."""
        for layer, edge, behind in self._layers(line)[::-1]:
            edge.add_(layer, alpha=2.0)
            behind.sub_(layer)
            layer.zero_()
        return line

    def _layers(self, line: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        field = line.view(-1, *self.padded)
        planes = []
        for axis in reversed(range(len(self.shape))):
            last = self.padded[axis] - 1
            for places in ((0, 1, 2), (last, last - 1, last - 2)):
                planes.append(tuple(field.select(axis + 1, place) for place in places))
        return planes

    def apply(self, line: Tensor, out: Tensor) -> Tensor:
        """``A line`` into ``out``, with its layer."""
        for low, high in self.pieces:
            target, rates = out[:, low:high], self.rates[:, low:high]
            torch.mul(self._difference(line, 0, low, high), rates[0], out=target)
            for axis in range(1, len(rates)):
                target.addcmul_(self._difference(line, axis, low, high), rates[axis])
        return self.extrapolate(out)

    def add_transpose(self, line: Tensor, out: Tensor) -> Tensor:
        """Add ``A^T line`` to ``out``, whose layer is zero before and after."""
        for low, high in self.pieces:
            source, rates = line[:, low:high], self.rates[:, low:high]
            for offset, rate in zip(self.offsets, rates, strict=True):
                out[:, low + offset : high + offset].addcmul_(source, rate)
                out[:, low - offset : high - offset].addcmul_(source, rate, value=-1.0)
        return self.extrapolate_transpose(out)

    def add_rate_gradient(self, line: Tensor, adjoint: Tensor, out: Tensor) -> None:
        """Add to ``out`` (d, voxels) the derivative of ``<adjoint, A line>`` by the rates."""
        for low, high in self.pieces:
            for axis, target in enumerate(out[:, low:high]):
                difference = self._difference(line, axis, low, high)
                for part, weight in zip(difference, adjoint[:, low:high], strict=True):
                    target.addcmul_(part, weight)

    def velocity_gradient(self, rate_gradient: Tensor) -> Tensor:
        inside = self.crop(rate_gradient)
        return torch.stack([part * scale for part, scale in zip(inside, self.scale, strict=True)])

    def _difference(self, line: Tensor, axis: int, low: int, high: int) -> Tensor:
        """Next less previous along ``axis`` for the voxels from ``low`` to ``high``; valid until the next call."""
        if self._scratch is None:
            self._scratch = line.new_empty(len(line), max(high - low for low, high in self.pieces))
        offset, out = self.offsets[axis], self._scratch[:, : high - low]
        return torch.sub(line[:, low + offset : high + offset], line[:, low - offset : high - offset], out=out)


class _Advection(torch.autograd.Function):
    """RK4 as a Taylor polynomial of the operator, and its exact adjoint by Horner's rule.

    Channels do not meet, so on a CPU each goes through all time steps alone: one third of the memory in use at a time.
    """

    @staticmethod
    def forward(ctx, fields: Tensor, velocity: Tensor, steps: int, checkpoint: bool) -> Tensor:
        ctx.steps, ctx.checkpoint = steps, checkpoint
        ctx.together = 1 if fields.device.type == "cpu" else fields.shape[1]
        keep = any(ctx.needs_input_grad)
        moved, saved = torch.empty_like(fields, memory_format=torch.contiguous_format), []
        for result, field, rate in zip(moved, fields, velocity, strict=True):
            operator = _Operator(rate, steps)
            for channels, out in zip(field.split(ctx.together), result.split(ctx.together), strict=True):
                line = operator.extrapolate(operator.pad(channels))
                out.copy_(operator.crop(_integrate(operator, line, steps, checkpoint, saved if keep else None)))
        ctx.save_for_backward(velocity, *saved)
        return moved

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        velocity, *saved = ctx.saved_tensors
        by_field, by_velocity = ctx.needs_input_grad[:2]
        fields = torch.empty_like(gradient, memory_format=torch.contiguous_format) if by_field else None
        velocities = torch.empty_like(velocity) if by_velocity else None
        kept = ctx.steps * (1 if ctx.checkpoint else 4)
        for entry, rate in enumerate(velocity):
            operator = _Operator(rate, ctx.steps)
            rates = torch.zeros_like(operator.rates) if by_velocity else None
            for first in range(0, gradient.shape[1], ctx.together):
                channels = slice(first, first + ctx.together)
                adjoint = operator.pad(gradient[entry, channels])
                adjoint = _integrate_adjoint(operator, adjoint, saved[:kept], ctx.checkpoint, rates)
                del saved[:kept]
                if by_field:
                    fields[entry, channels] = operator.crop(adjoint)
            if by_velocity:
                velocities[entry] = operator.velocity_gradient(rates)
        return fields, velocities, None, None


def _integrate(operator: _Operator, line: Tensor, steps: int, checkpoint: bool, saved: list[Tensor] | None) -> Tensor:
    """``line`` at time 1, in place; what the adjoint will need is added to ``saved``."""
    spare = [torch.empty_like(line), torch.empty_like(line)]
    for _ in range(steps):
        stage = line if saved is None else line.clone()
        for order in range(1, 5):
            if saved is not None and (order == 1 or not checkpoint):
                saved.append(stage)
            last = order == 4 or saved is None or checkpoint
            stage = operator.apply(stage, spare[order % 2] if last else torch.empty_like(line))
            line.add_(stage, alpha=_TAYLOR[order])
    return line


def _integrate_adjoint(
    operator: _Operator, adjoint: Tensor, saved: list[Tensor], checkpoint: bool, rates: Tensor | None
) -> Tensor:
    """``adjoint`` carried from time 1 to 0, the gradient by the operator's rates added to ``rates`` on the way."""
    spare = [torch.empty_like(adjoint), torch.empty_like(adjoint)]
    again = [torch.empty_like(adjoint) for _ in range(3)] if checkpoint and rates is not None else []
    kept = 1 if checkpoint else 4
    for start in reversed(range(0, len(saved), kept)):
        stages = saved[start : start + kept]
        for out in again:
            stages.append(operator.apply(stages[-1], out))
        inner = torch.mul(adjoint, _TAYLOR[4], out=spare[0])
        for order in range(4, 0, -1):
            if rates is not None:
                operator.add_rate_gradient(stages[order - 1], inner, rates)
            inner = operator.add_transpose(inner, torch.mul(adjoint, _TAYLOR[order - 1], out=spare[1]))
            spare.reverse()
        adjoint, spare[0] = inner, adjoint
    return adjoint
