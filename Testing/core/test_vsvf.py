"""The vSVF unit: the map equation, its stability, and the forward map."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regnet.errors import ModelError
from regnet.networks import transport
from regnet.networks.maps import (
    affine_map,
    compose_maps,
    displacement_to_map,
    identity_map,
    map_to_displacement,
    transform_map,
    warp_by_map,
)
from regnet.networks.smoothing import MultiGaussian
from regnet.networks.transport import CFL_LIMIT, advect, flow, stable_steps
from regnet.networks.vsvf import VSVF
from regnet.spatial import resize
from velocities import (
    PLANE,
    VOLUME,
    determinant,
    distance,
    inside,
    rippling_map,
    sizes,
    smooth_velocity,
    start_function,
)


class TestMapEquation:
    @pytest.mark.parametrize("shape", [PLANE, (14, 19, 16)])
    def test_zero_momentum_is_the_identity_exactly(self, shape):
        momentum = torch.zeros(2, len(shape), *shape)
        moved, velocity = VSVF()(momentum)
        assert torch.equal(moved, identity_map(shape, momentum).expand_as(moved))
        assert torch.equal(velocity, momentum)
        initial = rippling_map(shape, 2.0, torch.float32).expand(2, -1, *shape)
        assert torch.equal(VSVF()(momentum, initial)[0], initial)

    @pytest.mark.parametrize("shape", [PLANE, (14, 19, 16)])
    def test_constant_velocity_is_an_exact_translation(self, shape):
        shift = (torch.tensor([1.7, -2.3, 0.9])[: len(shape)].double() / sizes(shape).flatten()).view(
            1, -1, *(1,) * len(shape)
        )
        velocity = shift.expand(1, len(shape), *shape).contiguous()
        start = identity_map(shape, velocity)
        assert float((advect(start, velocity) - (start - shift)).abs().max()) < 1e-12
        assert float((flow(start, velocity) - (start + shift)).abs().max()) < 1e-12
        single = advect(start.float(), velocity.float())
        assert float((single - (start - shift)).abs().max()) < 1e-6

    def test_rotation_is_exact_up_to_the_time_step(self):
        """A velocity that is linear in space keeps the map linear, so only RK4's error in time is left."""
        shape, angle = (25, 30, 28), 0.3
        generator = torch.zeros(1, 3, 3, dtype=torch.float64)
        generator[0, 0, 1], generator[0, 1, 0], generator[0, 2, 2] = -angle, angle, 0.1
        start = identity_map(shape, generator)
        velocity = torch.einsum("bij,bj...->bi...", generator, start - 0.5)
        expected = torch.einsum("bij,bj...->bi...", torch.linalg.matrix_exp(-generator), start - 0.5) + 0.5
        assert float((advect(start, velocity) - expected).abs().max()) < 1e-7
        # Followed downstream, points may leave the grid, where the velocity is that of the border.
        expected = torch.einsum("bij,bj...->bi...", torch.linalg.matrix_exp(generator), start - 0.5) + 0.5
        assert float(inside(flow(start, velocity) - expected, 7).abs().max()) < 1e-7

    @pytest.mark.parametrize("shape", [(11, 14), (8, 11, 9)])
    def test_one_polynomial_is_four_stages_of_runge_kutta(self, shape, monkeypatch):
        velocity, field = smooth_velocity(shape, 1.5, batch=2), torch.randn(2, 4, *shape, dtype=torch.float64)

        def rate(values):
            total = torch.zeros_like(values)
            for axis, n in enumerate(shape):
                slope = torch.gradient(values, dim=axis + 2, spacing=1.0 / (n - 1))[0]
                total -= velocity[:, axis : axis + 1] * slope
            return total

        expected, step = field, 1.0 / 7
        for _ in range(7):
            first = rate(expected)
            second = rate(expected + step / 2 * first)
            third = rate(expected + step / 2 * second)
            fourth = rate(expected + step * third)
            expected = expected + step / 6 * (first + 2 * second + 2 * third + fourth)
        for piece in (50, 1 << 20):
            monkeypatch.setattr(transport, "_PIECE", piece)
            assert torch.allclose(advect(field, velocity, 7), expected, atol=1e-12)

    def test_affine_initial_map_commutes(self):
        affine = torch.tensor([[[1.1, 0.05, -0.1, 0.1], [-0.08, 0.9, 0.02, -0.2], [0.1, 0.07, 1.05, 0.05]]])
        flat = torch.tensor([[[1.1, 0.05, -0.1], [-0.08, 0.9, 0.02]]])
        for shape, given, dtype, tolerance in (
            (PLANE, flat, torch.float32, 5e-5),
            (VOLUME, affine, torch.float64, 1e-9),
        ):
            velocity, given = smooth_velocity(shape, 4.4, dtype=dtype), given.to(dtype)
            moved = advect(affine_map(given, shape), velocity)
            expected = transform_map(given, advect(identity_map(shape, velocity), velocity))
            assert distance(moved, expected, 4) < tolerance

    def test_any_initial_map_is_read_upstream(self):
        """Second order: twice as fine a grid leaves a quarter of the error."""
        errors = []
        for factor in (1, 2):
            shape = tuple(factor * (n - 1) + 1 for n in (49, 57))
            coarse = smooth_velocity((49, 57), 3.0)
            velocity = MultiGaussian((0.04,))(resize(coarse, shape))
            start = rippling_map(shape, 1.5 * factor)
            upstream = advect(identity_map(shape, velocity), velocity)
            exact = start_function(upstream, shape, 1.5 * factor)
            errors.append(distance(advect(start, velocity), exact, 6 * factor) / factor)
        assert errors[0] < 0.03
        assert errors[1] < 0.4 * errors[0]

    def test_any_initial_map_in_three_dimensions(self):
        velocity, start = smooth_velocity(VOLUME, 3.0), rippling_map(VOLUME, 1.0)
        upstream = advect(identity_map(VOLUME, velocity), velocity)
        assert distance(advect(start, velocity), compose_maps(start, upstream), 6) < 0.03

    def test_steps_compose_and_fields_move_like_maps(self):
        """Half the velocity twice is the velocity once, and moving an image is warping it."""
        velocity = smooth_velocity(PLANE, 4.0)
        start = identity_map(PLANE, velocity)
        once = advect(start, velocity, 10)
        twice = advect(advect(start, velocity / 2, 5), velocity / 2, 5)
        assert torch.allclose(once, twice, atol=1e-12)
        image = rippling_map(PLANE, 3.0)[:, :1]
        assert float(inside(advect(image, velocity) - warp_by_map(image, once), 8).abs().max()) < 2e-3


class TestInverses:
    @pytest.mark.parametrize("method", ["flow", "advect"])
    @pytest.mark.parametrize(("shape", "voxels", "one", "other"), [(PLANE, 5.0, 0.07, 0.12), (VOLUME, 4.4, 0.15, 0.26)])
    def test_forward_and_inverse_map_undo_each_other(self, shape, voxels, one, other, method):
        unit = VSVF()
        for seed in (0, 1):
            velocity = smooth_velocity(shape, voxels, seed, torch.float32)
            inverse, forward = unit.inverse_map(velocity), unit.forward_map(velocity, method=method)
            start = identity_map(shape, velocity)
            assert distance(start, inverse) > 0.7 * voxels
            assert distance(compose_maps(inverse, forward), start, 8) < one
            assert distance(compose_maps(forward, inverse), start, 8) < other
            assert float(determinant(inverse).min()) > 0.0
            assert float(determinant(forward).min()) > 0.0

    def test_error_falls_with_resolution_and_time_steps_are_enough(self):
        errors = {}
        base = smooth_velocity((33, 37), 2.0)
        for factor in (1, 2, 4):
            shape = tuple(factor * (n - 1) + 1 for n in (33, 37))
            velocity = MultiGaussian((0.03,))(resize(base, shape))
            start = identity_map(shape, velocity)
            for steps in (10, 40):
                closed = compose_maps(advect(start, velocity, steps), flow(start, velocity, steps))
                # In coordinates of the unit cube, so that grids compare.
                errors[factor, steps] = float(inside(closed - start, 4 * factor).abs().max())
        assert errors[2, 10] < 0.5 * errors[1, 10]
        assert errors[4, 10] < 0.5 * errors[2, 10]
        for factor in (1, 2, 4):
            assert errors[factor, 40] == pytest.approx(errors[factor, 10], rel=0.05)

    def test_a_chain_is_undone_in_order(self):
        """Two velocities over an affine map: followed one after the other from the inverse affine map."""
        unit = VSVF()
        shape = (24, 31, 28)
        first, second = smooth_velocity(shape, 3.0, 2), smooth_velocity(shape, 2.0, 3)
        affine = torch.tensor([[[1.02, 0.03, 0.0, 0.02], [-0.03, 0.97, 0.0, 0.0], [0.0, 0.02, 1.0, -0.03]]]).double()
        linear = torch.linalg.inv(affine[..., :-1])
        back = torch.cat([linear, -linear @ affine[..., -1:]], dim=-1)
        there = unit.inverse_map(second, unit.inverse_map(first, affine_map(affine, shape)))
        here = unit.forward_map(second, unit.forward_map(first, affine_map(back, shape)))
        wrong = unit.forward_map(first, unit.forward_map(second, affine_map(back, shape)))
        start = identity_map(shape, affine)
        assert distance(compose_maps(there, here), start, 8) < 0.25
        assert distance(compose_maps(there, wrong), start, 8) > 0.5


class TestGuard:
    def test_raises_the_steps_only_where_needed(self):
        velocity = smooth_velocity(PLANE, 13.0)
        courant = float((velocity.abs().amax(dim=(2, 3)) * sizes(PLANE).flatten()).sum())
        assert stable_steps(velocity, 2) == math.ceil(courant / CFL_LIMIT)
        assert stable_steps(velocity, 30) == 30
        assert stable_steps(0 * velocity, 2) == 2

    def test_too_few_steps_would_fold_and_the_guard_prevents_it(self):
        folded = 0
        for seed in (0, 1):
            velocity = smooth_velocity(PLANE, 13.0, seed)
            start = identity_map(PLANE, velocity)
            folded += int((determinant(advect(start, velocity, 2, guard=False)) <= 0).sum())
            guarded, fine = advect(start, velocity, 2), advect(start, velocity, 40)
            assert float(determinant(guarded).min()) > 0.0
            assert distance(guarded, fine, 8) < 0.05
        assert folded > 0

    def test_refuses_what_cannot_be_integrated(self):
        velocity = smooth_velocity((9, 12), 1.0)
        start = identity_map((9, 12), velocity)
        with pytest.raises(ModelError, match="not finite"):
            advect(start, velocity * float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            advect(start, velocity * float("inf"))
        with pytest.raises(ModelError, match="same grid"):
            advect(identity_map((9, 13), velocity), velocity)
        with pytest.raises(ModelError, match="three voxels"):
            advect(start[..., :2], velocity[..., :2])
        with pytest.raises(ModelError, match="at least one time step"):
            advect(start, velocity, 0)
        with pytest.raises(ModelError, match="forward map"):
            VSVF().forward_map(velocity, method="guess")


class TestUnit:
    def test_extents_change_units_not_the_meaning_of_maps(self):
        """A grid with one axis half as long: momentum in units of the longest axis, maps still in the unit cube."""
        shape, extents = (13, 25), (0.5, 1.0)
        momentum = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        unit = VSVF(extents=extents)
        smooth = MultiGaussian(extents=extents)(momentum)
        velocity = unit.velocity(momentum)
        assert torch.allclose(velocity[:, 0], 2.0 * smooth[:, 0])
        assert torch.allclose(velocity[:, 1], smooth[:, 1])
        density = (momentum * smooth).sum(dim=1).clamp(min=0.0).sum()
        assert float(unit.energy(momentum, velocity)) == pytest.approx(float(density) * 0.5 / 12 / 24, rel=1e-10)

    def test_maps_agree_with_simpleitk(self):
        """Axis order, sense and spacing: ITK resamples by the same displacement, and finds the same determinant."""
        shape = (18, 25, 21)
        where = advect(identity_map(shape, torch.zeros((), dtype=torch.float64)), smooth_velocity(shape, 2.5))
        image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        displacement = map_to_displacement(where)
        components = np.moveaxis(displacement[0].numpy()[::-1], 0, -1)
        field = sitk.GetImageFromArray(np.ascontiguousarray(components), isVector=True)
        expected = sitk.Resample(
            sitk.GetImageFromArray(image[0, 0].numpy()),
            sitk.DisplacementFieldTransform(sitk.Image(field)),
            sitk.sitkLinear,
            0.0,
        )
        found = warp_by_map(image, where)[0, 0].numpy()
        assert np.abs(found - sitk.GetArrayFromImage(expected))[3:-3, 3:-3, 3:-3].max() < 1e-6
        jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
        assert np.abs(determinant(where)[0].numpy() - jacobian)[1:-1, 1:-1, 1:-1].max() < 1e-5

    def test_map_helpers_close(self):
        where = rippling_map((9, 12, 10), 1.0)
        assert torch.allclose(displacement_to_map(map_to_displacement(where)), where, atol=1e-14)
        start = identity_map((9, 12, 10), where)
        assert torch.allclose(compose_maps(where, start), where, atol=1e-14)
        assert torch.allclose(compose_maps(start, where), where, atol=1e-14)
        assert float(start.amin()) == 0.0
        assert torch.equal(start[0, :, -1, -1, -1], torch.ones(3, dtype=torch.float64))
