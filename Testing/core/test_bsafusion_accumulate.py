"""How BSAFusion's levels become one displacement: by composing exactly, by adding nearly."""

from __future__ import annotations

import pytest
import torch
from bsafusion_models import inside, smooth_flow, texture
from regnet import spatial
from regnet.networks.bsafusion_align import accumulated


def levels_of(shape, size, seed):
    """Smooth random displacements at five levels of up to ``size`` voxels of the whole resolution each."""
    grids = [[max(n // divisor, 2) for n in shape] for divisor in (16, 8, 4, 2, 1)]
    found = []
    for number, grid in enumerate(grids):
        wide = smooth_flow(shape, size, seed + number, sigma=8.0)
        found.append(spatial.resize_displacement(wide, grid))
    return found


@pytest.mark.parametrize("shape", [(80, 96), (32, 48, 40)])
def test_composed_levels_are_warps_one_after_the_other(shape):
    """Coarse first, as the features are: also the way by which both sides meet."""
    image, there = texture(shape, sigma=4.0), inside(shape, 8)
    fixed, moving = levels_of(shape, 3.0, 0), levels_of(shape, 3.0, 10)
    nothing = [torch.zeros_like(field) for field in fixed]
    stepwise = image
    for field in moving:
        stepwise = spatial.warp(stepwise, spatial.resize_displacement(field, shape), padding="border")

    def error(field, target):
        return float((spatial.warp(image, field, padding="border") - target)[there].abs().mean())

    found = accumulated((nothing, moving), shape, "compose", "exact")
    reverse = accumulated((nothing, moving[::-1]), shape, "compose", "exact")
    unmoved = float((image - stepwise)[there].abs().mean())
    assert error(found, stepwise) < 0.15 * unmoved
    assert error(reverse, stepwise) > 1.4 * error(found, stepwise)

    # The fixed image is made such that both meet half way; its own way is then undone.
    half_way = accumulated((nothing, fixed), shape, "compose", "exact")
    target = spatial.warp(stepwise, spatial.invert(half_way), padding="border")
    errors = {how: error(accumulated((fixed, moving), shape, how, "exact"), target) for how in ("compose", "sum")}
    unmoved = float((image - target)[there].abs().mean())
    assert errors["compose"] < 0.15 * unmoved
    assert errors["sum"] > 1.5 * errors["compose"] and errors["sum"] < 0.6 * unmoved


@pytest.mark.parametrize("seed", [0, 1])
def test_adding_is_right_to_first_order(seed):
    """Five levels of a pixel a side: within a tenth of a pixel on average; twice that makes four times the error."""
    shape, errors = (96, 112), []
    for size in (1.0, 2.0):
        levels = levels_of(shape, size, 20 + seed), levels_of(shape, size, 40 + seed)
        difference = accumulated(levels, shape, "sum", "exact") - accumulated(levels, shape, "compose", "exact")
        errors.append(float(difference[inside(shape, 10)].norm(dim=1).mean()))
    assert 0.0 < errors[0] < 0.1
    assert 2.5 < errors[1] / errors[0] < 6.0


def test_inverses_are_taken_of_the_fixed_side_only():
    shape = (48, 64)
    fixed = levels_of(shape, 1.0, 3)
    nothing = [torch.zeros_like(field) for field in fixed]
    there = accumulated((nothing, fixed), shape, "compose", "exact")
    back = accumulated((fixed, nothing), shape, "compose", "exact")
    left = spatial.compose(back, there)[inside(shape, 8)].abs().max()
    assert float(left) < 0.02 and float(there.abs().max()) > 0.5
