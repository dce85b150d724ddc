"""BSAFusion learns a pair, and all of it learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from bsafusion_models import SHAPES, made, moving_model, smooth_flow, texture
from regnet import spatial
from regnet.losses.fusion import FusionWeights, StructureBalance, consistency_loss, endpoint_loss, fusion_losses


def pair(shape, size):
    """A fixed image of inverted contrast, a moving one, what it was before it was deformed, and how to undo that."""
    undistorted, truth = texture(shape, 1, sigma=3.0), smooth_flow(shape, size)
    return 1.0 - undistorted, spatial.warp(undistorted, spatial.invert(truth), padding="border"), undistorted, truth


SHORT = {"tokens": 16, "widths": (16, 16, 12, 8, 8), "depth": 1, "positions": 32}


def descended(accumulate, loss, steps):
    """Distance to the known displacement before and after a few steps on one pair."""
    fixed, moving, undistorted, truth = pair((32, 48), 3.0)
    model = made(**SHORT, accumulate=accumulate).train()
    optimizer = torch.optim.Adam([entry for entry in model.parameters() if entry.requires_grad], lr=2e-3)
    errors = []
    for _ in range(steps):
        found = model.register(fixed, moving)
        errors.append(float(endpoint_loss(found.detach(), truth)))
        optimizer.zero_grad()
        loss(spatial.warp(moving, found), undistorted, found, truth).backward()
        optimizer.step()
    return errors[0], errors[-1]


@pytest.mark.slow
def test_it_learns_a_pair_from_how_the_warped_image_should_look():
    before, after = descended("sum", lambda warped, undistorted, *_: consistency_loss(warped, undistorted), 36)
    assert before > 1.0 and after < 0.5 * before


@pytest.mark.slow
def test_it_learns_a_pair_from_the_displacement_by_composing():
    before, after = descended("compose", lambda warped, undistorted, found, truth: endpoint_loss(found, truth), 22)
    assert before > 1.0 and after < 0.4 * before


@pytest.mark.parametrize("dims", [2, 3])
def test_all_of_it_learns_from_all_of_the_losses(dims):
    fixed, moving, undistorted, truth = pair(SHAPES[dims - 2], 3.0)
    model, balance = moving_model(dims).train(), StructureBalance()
    optimizer = torch.optim.Adam([entry for entry in model.parameters() if entry.requires_grad], lr=1e-3)
    totals = []
    for _ in range(3):
        terms = fusion_losses(model(fixed, moving), fixed, undistorted, truth, FusionWeights(endpoint=1.0), balance)
        assert list(terms) == [entry.name for entry in dataclasses.fields(FusionWeights)]
        total = sum(terms.values())
        totals.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        if len(totals) == 1:
            named = [(name, entry.grad) for name, entry in model.named_parameters() if entry.requires_grad]
            assert [name for name, grad in named if grad is None or not bool(grad.any())] == []
            assert all(bool(grad.isfinite().all()) for _, grad in named)
        optimizer.step()
    assert totals[-1] < totals[0]
