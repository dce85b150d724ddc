"""The vSVF unit: a stationary velocity field given by its momentum, that moves a map (Shen 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .maps import compose_maps, identity_map
from .smoothing import PAPER_SIGMAS, MultiGaussian
from .transport import advect, flow

FORWARD_METHODS = ("flow", "advect")


class VSVF(nn.Module):
    """Momentum to velocity to maps.

    The inverse map ``phi^-1`` of the flow, which warps the moving image, moves by ``d phi^-1 / dt + D phi^-1 v = 0``;
    the forward map ``phi`` by ``d phi / dt = v o phi``; both from any map at time 0 to time 1.

    Args:
        steps: time steps; more are taken where the velocity would make so few unstable.
        sigmas, weights, pad: of the smoother, :class:`~regnet.networks.smoothing.MultiGaussian`.
        extents: lengths of the axes for a smoother that is isotropic in millimetres
            (:func:`~regnet.networks.smoothing.relative_extents`); None for the unit cube of the paper.
        checkpoint: compute stages again in the backward pass instead of keeping them; None decides by their size.
    """

    def __init__(
        self,
        steps: int = 10,
        sigmas: Sequence[float] = PAPER_SIGMAS,
        weights: Sequence[float] | None = None,
        extents: Sequence[float] | None = None,
        pad: bool = False,
        checkpoint: bool | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.checkpoint = int(steps), checkpoint
        self.smoother = MultiGaussian(sigmas, weights, extents, pad)

    def velocity(self, momentum: Tensor) -> Tensor:
        """``K m`` in coordinates of the unit cube, (B, d, *shape)."""
        return self._by_extent(self.smoother(momentum))

    def forward(self, momentum: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inverse map (B, d, *shape) that ``initial``, or the identity, becomes; and the velocity."""
        velocity = self.velocity(momentum)
        return self.inverse_map(velocity, initial), velocity

    def inverse_map(self, velocity: Tensor, initial: Tensor | None = None) -> Tensor:
        """``initial o phi^-1``: what warps images forward along ``velocity``."""
        if initial is None:
            initial = identity_map(velocity.shape[2:], velocity)
        initial = initial.expand(velocity.shape[0], *initial.shape[1:])
        return advect(initial, velocity, self.steps, checkpoint=self.checkpoint)

    def forward_map(self, velocity: Tensor, initial: Tensor | None = None, method: str = "flow") -> Tensor:
        """``phi o initial``: the flow of ``velocity``, followed from each point of ``initial``, or of the grid.

        ``method="flow"`` interpolates the velocity along each path, as published; ``"advect"`` moves the identity
        against the velocity, which is some ten times faster and as accurate inside, and interpolates that.
        """
        if method not in FORWARD_METHODS:
            raise ModelError(f"A forward map is made by one of {', '.join(FORWARD_METHODS)}, not {method!r}.")
        if method == "advect":
            moved = self.inverse_map(-velocity)
            return moved if initial is None else compose_maps(moved, initial)
        if initial is None:
            initial = identity_map(velocity.shape[2:], velocity)
        return flow(initial.expand(velocity.shape[0], *initial.shape[1:]), velocity, self.steps)

    def energy(self, momentum: Tensor, velocity: Tensor) -> Tensor:
        """``<m, K m>`` of a momentum and the :meth:`velocity` it gave; see ``regnet.losses.momentum_energy``."""
        from ..losses.energy import momentum_energy

        if self.smoother.extents is None:
            return momentum_energy(momentum, velocity)
        lengths = torch.tensor(self.smoother.extents, dtype=velocity.dtype, device=velocity.device)
        return momentum_energy(momentum, velocity * _per_channel(lengths, velocity), self.smoother.extents)

    def _by_extent(self, velocity: Tensor) -> Tensor:
        if self.smoother.extents is None:
            return velocity
        lengths = torch.tensor(self.smoother.extents, dtype=velocity.dtype, device=velocity.device)
        return velocity / _per_channel(lengths, velocity)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (like.ndim - 2))
