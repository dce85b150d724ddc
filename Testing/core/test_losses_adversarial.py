"""GAN losses against their formulas, and the pool of past fakes: what it returns, keeps, and goes on with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regnet.errors import ModelError
from regnet.losses.adversarial import GANLoss, ImagePool


def scores(seed):
    return 3.0 * torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cross_entropy_is_that_of_the_formula():
    real, fake = scores(0), scores(1)
    a, b = (1.0 / (1.0 + np.exp(-x.numpy())) for x in (real, fake))
    loss = GANLoss("bce")
    assert float(loss.discriminator(real, fake)) == pytest.approx(-np.log(a).mean() - np.log(1 - b).mean(), abs=1e-12)
    assert float(loss.generator(fake)) == pytest.approx(-np.log(b).mean(), abs=1e-12)
    none = torch.zeros(1, 1, 3, 3)
    assert float(loss.discriminator(none, none)) == pytest.approx(2 * math.log(2))


def test_least_squares_are_those_of_the_formula():
    real, fake = scores(0), scores(1)
    a, b = real.numpy(), fake.numpy()
    loss = GANLoss("lsgan")
    expected = 0.5 * ((a - 1) ** 2).mean() + 0.5 * (b**2).mean()
    assert float(loss.discriminator(real, fake)) == pytest.approx(expected, abs=1e-12)
    assert float(loss.generator(fake)) == pytest.approx(0.5 * ((b - 1) ** 2).mean(), abs=1e-12)


@pytest.mark.parametrize("kind", ["bce", "lsgan"])
def test_both_sides_pull_where_they_should(kind):
    loss, start = GANLoss(kind), torch.full((1, 1, 2, 2), 0.4, requires_grad=True)
    (up,) = torch.autograd.grad(loss.generator(start), start)
    (real,) = torch.autograd.grad(loss.real(start), start)
    (down,) = torch.autograd.grad(loss.fake(start), start)
    assert bool((up < 0).all()) and bool((real < 0).all()) and bool((down > 0).all())
    perfect = (40.0, -40.0) if kind == "bce" else (1.0, 0.0)
    assert float(loss.discriminator(*(torch.full((1, 1, 2, 2), value) for value in perfect))) < 1e-6


def test_certain_scores_do_not_overflow_and_still_teach():
    """The logarithm of a logistic function that has become 0 would be infinite."""
    sure = torch.full((1, 1, 2, 2), -500.0, requires_grad=True)
    loss = GANLoss("bce").generator(sure)
    assert float(loss.detach()) == pytest.approx(500.0)
    (gradient,) = torch.autograd.grad(loss, sure)
    torch.testing.assert_close(gradient, torch.full((1, 1, 2, 2), -0.25))


def numbered(start, count=1, shape=(1, 2, 3)):
    """``count`` images whose every voxel is their number."""
    return torch.arange(start, start + count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, *shape).clone()


def numbers(images):
    assert bool((images == images[:, :1, :1, :1]).all())
    return images[:, 0, 0, 0].tolist()


def test_the_first_images_pass_through():
    pool = ImagePool(5, seed=1)
    for start in range(5):
        assert numbers(pool(numbered(start))) == [start]
    assert [float(image.mean()) for image in pool.images] == [0, 1, 2, 3, 4]


def test_then_half_of_them_change_places_with_past_ones():
    pool, size = ImagePool(10, seed=3), 10
    pool(numbered(0, size))
    past, kept, places = 0, set(range(size)), []
    for number in range(size, size + 1000):
        (returned,) = numbers(pool(numbered(number)))
        if returned != number:
            past += 1
            assert returned in kept
            places.append([float(image.mean()) for image in pool.images].index(number))
            kept = kept - {returned} | {number}
        assert {float(image.mean()) for image in pool.images} == kept
    assert past == pytest.approx(500, abs=5 * math.sqrt(250))
    counts = np.bincount(places, minlength=size)
    assert ((counts - past / size) ** 2).sum() / (past / size) < 28  # chi-squared, 9 degrees: 1 in 1000


def test_images_of_a_batch_are_drawn_one_by_one():
    together, apart = ImagePool(4, seed=7), ImagePool(4, seed=7)
    batches = [numbered(start, 3) for start in range(0, 90, 3)]
    expected = [torch.cat([apart(image[None]) for image in batch]) for batch in batches]
    for batch, one_by_one in zip(batches, expected, strict=True):
        assert torch.equal(together(batch), one_by_one)


def drawn(pool, start, count):
    return [numbers(pool(numbered(number)))[0] for number in range(start, start + count)]


def test_the_seed_decides():
    assert drawn(ImagePool(8, seed=2), 0, 100) == drawn(ImagePool(8, seed=2), 0, 100)
    assert drawn(ImagePool(8, seed=2), 0, 100) != drawn(ImagePool(8, seed=3), 0, 100)
    torch.manual_seed(0)
    drawn(ImagePool(8, seed=2), 0, 50)
    first = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(first, torch.rand(1))


@pytest.mark.parametrize("before", [3, 40])
def test_a_pool_goes_on_as_if_never_stopped(before, tmp_path):
    pool = ImagePool(8, seed=2)
    drawn(pool, 0, before)
    torch.save(pool.state_dict(), tmp_path / "pool.pt")
    expected = drawn(pool, before, 60)
    resumed = ImagePool(8, seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))
    assert drawn(resumed, before, 60) == expected


def test_a_stored_state_does_not_change_with_the_pool():
    pool = ImagePool(4)
    drawn(pool, 0, 6)
    state = pool.state_dict()
    before = [float(image.mean()) for image in state["images"]]
    expected = drawn(pool, 6, 40)
    assert [float(image.mean()) for image in state["images"]] == before
    resumed = ImagePool(4)
    resumed.load_state_dict(state)
    assert drawn(resumed, 6, 40) == expected
    with pytest.raises(ModelError, match="room for 2"):
        ImagePool(2).load_state_dict(state)


def test_what_is_kept_has_no_graph_and_memory_of_its_own():
    pool = ImagePool(2)
    given = (numbered(0, 2).requires_grad_() * 2.0) + 0.0
    returned = pool(given)
    assert not returned.requires_grad and all(not image.requires_grad for image in pool.images)
    with torch.no_grad():
        given.mul_(0.0)
    assert [float(image.mean()) for image in pool.images] == [0.0, 2.0]
    assert all(image.untyped_storage().nbytes() == image.numel() * 4 for image in pool.images)


def test_no_pool_passes_all_and_another_shape_starts_anew():
    none = ImagePool(0)
    given = numbered(0, 3).requires_grad_()
    assert torch.equal(none(given), given) and not none(given).requires_grad and none.images == []
    pool = ImagePool(3)
    pool(numbered(0, 3))
    assert numbers(pool(numbered(7, 2, shape=(1, 4, 3)))) == [7, 8]
    assert [float(image.mean()) for image in pool.images] == [7, 8]


def test_what_cannot_be_is_refused():
    with pytest.raises(ModelError, match="no adversarial loss 'wgan'"):
        GANLoss("wgan")
    with pytest.raises(ModelError, match="0 images or more"):
        ImagePool(-1)
