"""The non-linear intensity transform against the Bezier curve evaluated directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet.synth.draws import Draws
from regnet.synth.nonlinear import ENTRIES, IntensityTransform, bezier_table
from scipy import interpolate, optimize
from synth_examples import seeded


def control_points(count, seed=0):
    return torch.rand(count, 2, 2, generator=seeded(seed), dtype=torch.float64)


def by_root_finding(points, wanted):
    """y(x) of the cubic curve through (0, 0) and (1, 1), the x of the control points sorted."""
    (x1, x2), (y1, y2) = sorted(points[:, 0]), points[:, 1]

    def curve(first, second, t):
        return 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3

    found = []
    for x in wanted:
        t = 0.0 if x <= 0 else 1.0 if x >= 1 else optimize.brentq(lambda t: curve(x1, x2, t) - x, 0, 1, xtol=1e-14)  # noqa: B023
        found.append(curve(y1, y2, t))
    return np.array(found)


def test_tables_are_the_curve():
    points = control_points(12)
    table = bezier_table(points)
    assert table.shape == (12, ENTRIES)
    place = np.linspace(0, ENTRIES - 1, 60).astype(int)
    for number in range(12):
        expected = by_root_finding(points[number].numpy(), place / (ENTRIES - 1))
        np.testing.assert_allclose(table[number, place].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("pair", [(1 / 3, 2 / 3), (0.1, 0.35), (0.5, 0.5), (0.0, 1.0), (0.9, 0.2)])
def test_points_on_the_diagonal_change_nothing(pair):
    """With (1/3, 1/3) and (2/3, 2/3) the curve runs evenly along the diagonal, else unevenly, but along it."""
    points = torch.tensor([sorted(pair)], dtype=torch.float64)[..., None].expand(1, 2, 2)
    straight = torch.linspace(0, 1, ENTRIES, dtype=torch.float64)
    torch.testing.assert_close(bezier_table(points)[0], straight, rtol=0, atol=1e-5)
    image = torch.rand(1, 1, 9, 7, 5, generator=seeded(1))
    found = IntensityTransform(bezier_table(points.float()))(image)
    torch.testing.assert_close(found, image, rtol=0, atol=1e-4)


def test_curves_stay_between_0_and_1_and_end_there():
    table = bezier_table(control_points(500))
    assert float(table.min()) >= 0 and float(table.max()) <= 1
    assert float(table[:, 0].abs().max()) < 1e-9 and float((table[:, -1] - 1).abs().max()) < 1e-9
    assert float(table.diff(dim=1).abs().max()) < 0.2  # steep at most where both x are one


def test_curves_always_rise():
    """Even between y = 1 and y = 0 the slope is that of (1 - 2 t)^2, never negative."""
    points = control_points(500)
    points[0, :, 1] = torch.tensor([1.0, 0.0])
    assert float(bezier_table(points).diff(dim=1).min()) >= -1e-12


def test_the_order_of_the_x_does_not_matter():
    points = control_points(20)
    swapped = points.clone()
    swapped[..., 0] = points[..., 0].flip(1)
    assert torch.equal(bezier_table(points), bezier_table(swapped))


def drawn(seed, inverted, batch=300):
    return IntensityTransform.draw(Draws(seeded(seed), batch), inverted).table


def test_inversion_reads_the_curve_backwards():
    plain, backwards = drawn(3, 0.0), drawn(3, 1.0)
    assert torch.equal(backwards, plain.flip(1))
    image = torch.rand(300, 1, 4, 3, generator=seeded(1))
    found = IntensityTransform(backwards)(image)
    torch.testing.assert_close(found, IntensityTransform(plain)(1 - image), rtol=0, atol=1e-4)


def test_as_many_fall_as_asked_for_and_no_two_are_alike():
    assert float(drawn(3, 0.0).diff(dim=1).min()) >= -1e-6
    assert float(drawn(3, 1.0).diff(dim=1).max()) <= 1e-6
    table = drawn(3, 0.5)
    assert 0.4 < float((table[:, 0] == 1).float().mean()) < 0.6
    assert float(table.std(dim=0)[1:-1].min()) > 0.1


@pytest.mark.parametrize("shape", [(9, 13), (8, 7, 11)])
def test_images_pass_through_their_own_table(shape):
    transform = IntensityTransform.draw(Draws(seeded(5), 3))
    image = torch.rand(3, 1, *shape, generator=seeded(6))
    image[:, :, 0] = 0.0
    image[:, :, 1] = 1.0
    found = transform(image)
    assert found.shape == image.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    for sample in range(3):
        curve = interpolate.interp1d(np.linspace(0, 1, ENTRIES), transform.table[sample].numpy())
        np.testing.assert_allclose(found[sample].numpy(), curve(image[sample].numpy()), atol=1e-5)
    beyond = transform(2.0 * image - 0.5)
    torch.testing.assert_close(beyond, transform((2.0 * image - 0.5).clamp(0, 1)), rtol=0, atol=0)
