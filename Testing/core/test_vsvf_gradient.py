"""Gradients of the vSVF unit, from images and maps to the momentum."""

from __future__ import annotations

import pytest
import torch
from regnet.networks.maps import identity_map, warp_by_map
from regnet.networks.transport import advect, flow
from regnet.networks.vsvf import VSVF
from velocities import distance, inside, rippling_map, smooth_velocity


class TestGradient:
    @pytest.mark.parametrize("checkpoint", [False, True])
    @pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5)])
    def test_advection_is_differentiated_exactly(self, shape, checkpoint):
        velocity = smooth_velocity(shape, 1.2, batch=2).requires_grad_(True)
        field = torch.randn(2, 2, *shape, dtype=torch.float64, requires_grad=True)

        def moved(values, rate):
            return advect(values, rate, 3, guard=False, checkpoint=checkpoint)

        assert torch.autograd.gradcheck(moved, (field, velocity), fast_mode=True)

    def test_from_warped_image_to_momentum(self):
        """Finite differences in double precision through warp, ten RK4 steps, and the smoother."""
        shape = (7, 9, 8)
        generator = torch.Generator().manual_seed(0)
        image, target = torch.rand(2, 1, 1, *shape, generator=generator, dtype=torch.float64)
        momentum = (2.0 * torch.randn(1, 3, *shape, generator=generator, dtype=torch.float64)).requires_grad_(True)
        unit = VSVF()

        def loss(values):
            return (warp_by_map(image, unit(values)[0]) - target).square().sum()

        (gradient,) = torch.autograd.grad(loss(momentum), momentum)
        assert float(gradient.abs().max()) > 1e-4
        with torch.no_grad():
            for seed in range(3):
                direction = torch.randn(momentum.shape, generator=generator, dtype=torch.float64)
                step = 1e-6
                change = float(loss(momentum + step * direction) - loss(momentum - step * direction)) / (2 * step)
                assert change == pytest.approx(float((gradient * direction).sum()), rel=1e-5), seed

    def test_checkpoints_and_partial_gradients_change_nothing(self):
        shape = (10, 13, 11)
        velocity, start = smooth_velocity(shape, 2.0, dtype=torch.float32), rippling_map(shape, 1.0, torch.float32)
        results = []
        cases = ((True, True, True), (False, True, True), (True, False, True), (None, True, False))
        for checkpoint, by_map, by_rate in cases:
            pair = start.clone().requires_grad_(by_map), velocity.clone().requires_grad_(by_rate)
            moved = advect(*pair, checkpoint=checkpoint)
            moved.square().sum().backward()
            results.append((moved.detach(), *(tensor.grad for tensor in pair)))
        for moved, by_start, by_velocity in results[1:]:
            assert torch.equal(moved, results[0][0])
            assert by_start is None or torch.allclose(by_start, results[0][1], rtol=1e-5, atol=1e-5)
            assert by_velocity is None or torch.allclose(by_velocity, results[0][2], rtol=1e-4, atol=1e-4)
        assert results[2][1] is None
        assert results[3][2] is None
        with torch.no_grad():
            assert torch.equal(advect(start, velocity), results[0][0])

    def test_forward_map_is_differentiable(self):
        velocity = smooth_velocity((6, 8), 0.4).requires_grad_(True)
        start = 0.8 * identity_map((6, 8), velocity) + 0.11
        assert torch.autograd.gradcheck(lambda rate: flow(start, rate, 3), (velocity,), eps=1e-7, atol=1e-5)

    def test_training_may_follow_inference_on_the_same_grid(self):
        """What is kept between calls was made under inference mode, and still takes part in gradients."""
        shape, unit = (15, 18, 13), VSVF(sigmas=(0.07, 0.2))
        with torch.inference_mode():
            before = unit(torch.ones(1, 3, *shape))[0].clone()
        momentum = torch.ones(1, 3, *shape, requires_grad=True)
        after = unit(momentum)[0]
        assert torch.equal(before, after.detach())
        after[:, 0].sum().backward()
        assert float(momentum.grad.abs().max()) > 0

    def test_descending_it_recovers_a_known_deformation(self):
        """Momentum alone, optimised on a pair, finds the map that made the pair."""
        shape, unit = (40, 47), VSVF(steps=4)
        coarse = torch.rand(1, 1, 14, 16, generator=torch.Generator().manual_seed(3))
        fixed = torch.nn.functional.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)
        wanted = unit.forward_map(smooth_velocity(shape, 2.5, 4, torch.float32), method="advect")
        moving = warp_by_map(fixed, unit.inverse_map(smooth_velocity(shape, 2.5, 4, torch.float32)))
        momentum = torch.zeros(1, 2, *shape, requires_grad=True)
        optimiser = torch.optim.Adam([momentum], 0.02)
        for _ in range(60):
            found = unit(momentum)[0]
            optimiser.zero_grad()
            inside(warp_by_map(moving, found) - fixed, 4).square().mean().backward()
            optimiser.step()
        assert distance(found.detach(), wanted, 8) < 0.3 * distance(identity_map(shape, momentum), wanted, 8)
