"""Initial alignment finds known transforms, whatever the contrast, orientation and field of view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import blob_image, blob_values, corner_error, histogram_nmi, oblique_grid, random_affine, rotation, threads
from regnet.align import ALIGNMENTS, align
from regnet.errors import Cancelled, InputError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.losses.nmi import normalized_mutual_information
from regnet.transform import Affine

EXTENT = 70.0
GRID = oblique_grid((46, 52, 58), (3.4, 3.6, 3.8), (5, -3, 4), (10, -5, 20), (1, -1, 1))


def pose(degrees, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees)
    matrix[:3, 3] = shift
    return Affine(matrix)


def head(grid, seed=5, inverted=False, moved_by=None):
    """A textured, asymmetric object of about 140 mm; ``inverted`` is the same object in another contrast."""
    points = grid.points().reshape(-1, 3)
    if moved_by is not None:
        points = moved_by(points)
    values = blob_values(points, seed, EXTENT)
    if inverted:
        values = np.where(values > 0.02, np.cos(2.2 * values) + 1.2, 0.0)
    return Image.from_numpy(values.reshape(grid.shape).astype(np.float32), grid.index_to_world)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("degrees,shift", [((40, 0, 0), (0, 60, 0)), ((-15, 30, 25), (35, -30, 30))])
def test_rigid_finds_large_rotations_and_shifts_in_any_contrast(degrees, shift, inverted):
    truth = pose(degrees, shift)
    target = Grid(GRID.shape, truth.matrix @ GRID.index_to_world)
    moving = head(target, inverted=inverted, moved_by=truth.inverse())
    fixed = head(GRID)
    found = align(fixed, moving, "rigid")
    assert corner_error(found, truth, GRID) < 6.0  # Half a percent of the way: under two voxels at the far corners.
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_affine_finds_scale_and_shear_across_fields_of_view():
    truth = random_affine(3, degrees=12, shift=10)
    moving_grid = oblique_grid((36, 62, 50), (3.0, 3.5, 4.5), (-8, 12, 3), (0, 5, 15))
    fixed, moving = head(GRID), head(moving_grid, moved_by=truth.inverse())
    error = corner_error(align(fixed, moving, "affine"), truth, oblique_grid((30, 30, 34), (3, 3, 3)))
    assert error < 4.0
    assert error < 0.3 * corner_error(align(fixed, moving, "moments"), truth, oblique_grid((30, 30, 34), (3, 3, 3)))


def test_centres_and_moments_are_what_they_say():
    shifted = Grid((40, 44, 50), np.diag([3.0, 3.0, 3.0, 1.0]))
    moving = head(shifted, moved_by=pose((0, 0, 0), (-60, -70, -55)))
    fixed = head(GRID)
    centres = align(fixed, moving, "centres")
    assert np.allclose(centres(GRID.center()[None])[0], shifted.center())
    moments = align(fixed, moving, "moments").matrix[:3, 3]
    assert np.abs(moments - np.array([60, 70, 55])).max() < 3.0
    assert np.allclose(align(fixed, moving, "none").matrix, np.eye(4))


def test_masks_decide_what_is_compared():
    fixed = head(GRID)
    spoiled = fixed.data.clone()
    spoiled[:, :, :, 38:] = torch.rand(spoiled[:, :, :, 38:].shape, generator=torch.Generator().manual_seed(0)) * 3
    mask = np.ones(GRID.shape, np.uint8)
    mask[:, :, 38:] = 0
    truth = pose((0, 8, 14), (12, -9, 6))
    moving = head(GRID, moved_by=truth.inverse())
    masked = align(
        Image(spoiled, GRID.index_to_world),
        moving,
        "rigid",
        fixed_mask=Image.from_numpy(mask, GRID.index_to_world),
    )
    assert corner_error(masked, truth, GRID) < 8.0


def test_two_dimensional_images_stay_in_their_plane():
    matrix = np.diag([1.5, 1.2, 1.0, 1.0])
    grid = Grid((1, 60, 72), matrix, ndim=2)
    truth = pose((0, 0, 18), (8, -6, 0))
    center = np.array([[50.0, 35.0, 0.0]])
    about = Affine(np.eye(4))
    about.matrix[:3, 3] = center[0] - truth(center)[0] + [8, -6, 0]
    truth = truth.then(about)

    def picture(moved_by=None):
        points = grid.points().reshape(-1, 3)
        points = (points if moved_by is None else moved_by(points)) - center
        values = blob_values(points, 4, 32.0).reshape(grid.shape).astype(np.float32)
        return Image.from_numpy(values, matrix, 2)

    found = align(picture(), picture(truth.inverse()), "rigid")
    assert np.abs(found.matrix[2] - [0, 0, 1, 0]).max() < 1e-9
    assert np.abs(found.matrix[:2, 2]).max() < 1e-9
    assert corner_error(found, truth, grid) < 2.0


def test_same_input_gives_the_same_bits_and_cancel_is_obeyed():
    fixed = head(GRID)
    moving = head(GRID, moved_by=pose((0, 5, 5), (4, 4, 4)))
    with threads(2):
        first, second = (align(fixed, moving, "affine", seed=3).matrix for _ in range(2))
    assert np.array_equal(first, second)
    seen = []
    with pytest.raises(Cancelled):
        align(fixed, moving, events=Events(emit=seen.append, is_cancelled=lambda: len(seen) > 5))
    fractions = [event.fraction for event in seen]
    assert fractions == sorted(fractions) and len(seen) == 6


def test_bad_requests_are_refused():
    image = blob_image(oblique_grid((20, 24, 28)))
    with pytest.raises(InputError, match="no alignment named 'magic'"):
        align(image, image, "magic")
    empty = Image.from_numpy(np.zeros((20, 24, 28), np.uint8), image.index_to_world)
    with pytest.raises(InputError, match="mask"):
        align(image, image, "rigid", fixed_mask=empty)
    assert set(ALIGNMENTS) == {"none", "centres", "moments", "nearest", "rigid", "affine", "ddim"}


def test_mutual_information_equals_plain_histograms_and_has_a_true_gradient():
    generator = torch.Generator().manual_seed(0)
    bins = 9
    first = torch.randint(0, bins, (3, 4000), generator=generator)
    second = (first * 2 + torch.randint(0, 3, (3, 4000), generator=generator)) % bins
    weight = torch.randint(0, 2, (3, 4000), generator=generator).float()
    found = normalized_mutual_information(first / (bins - 1.0), second / (bins - 1.0), weight, bins)
    expected = [
        histogram_nmi(a[w > 0].numpy(), b[w > 0].numpy(), bins) for a, b, w in zip(first, second, weight, strict=True)
    ]
    assert np.abs(found.numpy() - expected).max() < 1e-4
    assert min(expected) > 0.1
    x = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    y = (0.8 * x**2 + 0.1 * torch.rand(2, 200, generator=generator, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda t: normalized_mutual_information(x, t, torch.ones_like(x), 7), (y,), eps=1e-7, atol=1e-5
    )
