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

_PIECE = 1 << 17
"""Voxels of a field worked on at a time on a CPU: a few arrays of this length fit in a core's own cache."""

_KEEP = 1 << 28
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
    """``A = -(v . D) / N`` and its transpose, on fields that carry one layer of voxels around the grid.

    The layer holds the linear extrapolation, so that central differences are right at the border too; and with it
    every neighbour is a constant offset away in the flat array. Differences are then plain operations on contiguous
    memory, done piece by piece so that what one writes is still in the cache for the next.
    """

    def __init__(self, velocity: Tensor, steps: int, channels: int) -> None:
        self.shape = tuple(velocity.shape[2:])
        self.padded = tuple(n + 2 for n in self.shape)
        self.offsets = [math.prod(self.padded[axis + 1 :]) for axis in range(len(self.shape))]
        self.scale = [-(n - 1) / (2.0 * steps) for n in self.shape]
        rates = velocity.new_zeros(*velocity.shape[:2], *self.padded)
        inside = self.crop(rates)
        for axis, scale in enumerate(self.scale):
            torch.mul(velocity[:, axis], scale, out=inside[:, axis])
        self.rates = rates.flatten(2)
        piece = _PIECE if velocity.device.type == "cpu" else self.rates.shape[2]
        first, last = self.offsets[0], self.rates.shape[2] - self.offsets[0]
        self.pieces = [(low, min(low + piece, last)) for low in range(first, last, piece)]
        self._scratch = velocity.new_empty(velocity.shape[0], channels, min(piece, last - first))

    def crop(self, field: Tensor) -> Tensor:
        """The grid's own voxels, (B, C, *shape), of a field with its layer, as a view."""
        field = field.view(*field.shape[:2], *self.padded)
        for axis, n in enumerate(self.shape):
            field = field.narrow(axis + 2, 1, n)
        return field

    def pad(self, field: Tensor) -> Tensor:
        """A copy (B, C, voxels) with the layer around it still zero."""
        padded = field.new_zeros(*field.shape[:2], *self.padded)
        self.crop(padded).copy_(field)
        return padded.flatten(2)

    def extrapolate(self, field: Tensor) -> Tensor:
        """Fill the layer in place: twice the border voxel less the one behind it."""
        for layer, edge, behind in self._layers(field):
            torch.mul(edge, 2.0, out=layer).sub_(behind)
        return field

    def extrapolate_transpose(self, field: Tensor) -> Tensor:
        """What came to the layer goes back to the voxels that made it; in place."""
        for layer, edge, behind in self._layers(field)[::-1]:
            edge.add_(layer, alpha=2.0)
            behind.sub_(layer)
            layer.zero_()
        return field

    def _layers(self, field: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        field = field.view(*field.shape[:2], *self.padded)
        planes = []
        for axis in reversed(range(len(self.shape))):
            last = self.padded[axis] - 1
            for places in ((0, 1, 2), (last, last - 1, last - 2)):
                planes.append(tuple(field.select(axis + 2, place) for place in places))
        return planes

    def apply(self, field: Tensor, out: Tensor) -> Tensor:
        """``A field`` into ``out``, with its layer."""
        for low, high in self.pieces:
            target = out[:, :, low:high]
            for axis in range(len(self.shape)):
                rate = self.rates[:, axis : axis + 1, low:high]
                difference = self._difference(field, axis, low, high)
                if axis == 0:
                    torch.mul(difference, rate, out=target)
                else:
                    target.addcmul_(difference, rate)
        return self.extrapolate(out)

    def add_transpose(self, field: Tensor, out: Tensor) -> Tensor:
        """Add ``A^T field`` to ``out``, whose layer is zero before and after."""
        for low, high in self.pieces:
            source = field[:, :, low:high]
            for axis, offset in enumerate(self.offsets):
                rate = self.rates[:, axis : axis + 1, low:high]
                out[:, :, low + offset : high + offset].addcmul_(source, rate)
                out[:, :, low - offset : high - offset].addcmul_(source, rate, value=-1.0)
        return self.extrapolate_transpose(out)

    def add_rate_gradient(self, field: Tensor, adjoint: Tensor, out: Tensor) -> None:
        """Add to ``out`` (B, d, voxels) the derivative of ``<adjoint, A field>`` by the rates."""
        for low, high in self.pieces:
            for axis in range(len(self.shape)):
                difference, target = self._difference(field, axis, low, high), out[:, axis, low:high]
                for channel in range(field.shape[1]):
                    target.addcmul_(difference[:, channel], adjoint[:, channel, low:high])

    def velocity_gradient(self, rate_gradient: Tensor) -> Tensor:
        inside = self.crop(rate_gradient)
        return torch.stack([inside[:, axis] * scale for axis, scale in enumerate(self.scale)], dim=1)

    def _difference(self, field: Tensor, axis: int, low: int, high: int) -> Tensor:
        offset, out = self.offsets[axis], self._scratch[:, :, : high - low]
        return torch.sub(field[:, :, low + offset : high + offset], field[:, :, low - offset : high - offset], out=out)


class _Advection(torch.autograd.Function):
    """RK4 as a Taylor polynomial of the operator, and its exact adjoint by Horner's rule."""

    @staticmethod
    def forward(ctx, fields: Tensor, velocity: Tensor, steps: int, checkpoint: bool) -> Tensor:
        operator = _Operator(velocity, steps, fields.shape[1])
        keep = any(ctx.needs_input_grad)
        saved: list[Tensor] = []
        current = operator.extrapolate(operator.pad(fields))
        spare = [torch.empty_like(current), torch.empty_like(current)]
        for _ in range(steps):
            stages = [current.clone() if keep else current]
            for order in range(1, 5):
                out = torch.empty_like(current) if keep and not checkpoint and order < 4 else spare[order % 2]
                stages.append(operator.apply(stages[-1], out))
                current.add_(out, alpha=_TAYLOR[order])
            saved += stages[: 1 if checkpoint else 4] if keep else []
        ctx.save_for_backward(velocity, *saved)
        ctx.steps, ctx.checkpoint = steps, checkpoint
        return operator.crop(current).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        velocity, *saved = ctx.saved_tensors
        operator = _Operator(velocity, ctx.steps, gradient.shape[1])
        adjoint = operator.pad(gradient)
        spare = [torch.empty_like(adjoint), torch.empty_like(adjoint)]
        rates = torch.zeros_like(operator.rates) if ctx.needs_input_grad[1] else None
        recompute = [torch.empty_like(adjoint) for _ in range(3)] if ctx.checkpoint and rates is not None else []
        per_step = 1 if ctx.checkpoint else 4
        for step in reversed(range(ctx.steps)):
            stages = saved[step * per_step : (step + 1) * per_step]
            for out in recompute:
                stages.append(operator.apply(stages[-1], out))
            inner = torch.mul(adjoint, _TAYLOR[4], out=spare[0])
            for order in range(4, 0, -1):
                if rates is not None:
                    operator.add_rate_gradient(stages[order - 1], inner, rates)
                outer = torch.mul(adjoint, _TAYLOR[order - 1], out=spare[1])
                inner = operator.add_transpose(inner, outer)
                spare.reverse()
            adjoint, spare[0] = inner, adjoint
        moved = operator.crop(adjoint).contiguous() if ctx.needs_input_grad[0] else None
        return moved, None if rates is None else operator.velocity_gradient(rates), None, None
