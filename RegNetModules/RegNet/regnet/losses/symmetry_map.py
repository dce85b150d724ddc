"""Whether the maps of the two directions undo each other."""

from __future__ import annotations

from torch import Tensor

from ..networks.maps import compose_maps, identity_map


def map_symmetry(first: Tensor, second: Tensor, *, both_orders: bool = True) -> Tensor:
    """``mean |first o second - id|^2`` of two maps (B, d, *shape) in the unit cube's coordinates (Shen 2019).

    The published form composes in one order; ``both_orders`` averages it with the other, so that neither direction is
    called the first.
    """
    one = (compose_maps(first, second) - identity_map(first.shape[2:], first)).square().mean()
    return 0.5 * (one + map_symmetry(second, first, both_orders=False)) if both_orders else one
