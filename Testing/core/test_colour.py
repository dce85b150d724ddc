"""Luminance and colour against Pillow's, which has the JPEG standard's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from regnet.colour import rgb_to_ycbcr, ycbcr_to_rgb
from regnet.errors import InputError

NAMED = {
    (1.0, 1.0, 1.0): (1.0, 0.5, 0.5),
    (0.25, 0.25, 0.25): (0.25, 0.5, 0.5),
    (1.0, 0.0, 0.0): (0.299, 0.331264, 1.0),
    (0.0, 1.0, 0.0): (0.587, 0.168736, 0.081312),
    (0.0, 0.0, 1.0): (0.114, 1.0, 0.418688),
}


def test_it_is_pillows_within_a_grey_level():
    values = np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)
    expected = np.asarray(Picture.fromarray(values).convert("YCbCr"), dtype=float)
    found = rgb_to_ycbcr(torch.from_numpy(values / 255.0).movedim(-1, 0)[None])[0].movedim(0, -1).numpy()
    # Grey is 128 of 256 there and a half here.
    expected[..., 1:] -= 0.5
    assert np.abs(255.0 * found - expected).max() < 1.01


@pytest.mark.parametrize(("colour", "expected"), NAMED.items())
def test_named_colours(colour, expected):
    image = torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1, 1)
    assert rgb_to_ycbcr(image).flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(7, 12), (5, 6, 4)])
def test_colours_come_back(shape):
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    seen = rgb_to_ycbcr(image)
    assert seen.shape == image.shape and bool(((seen >= 0) & (seen <= 1)).all())
    torch.testing.assert_close(ycbcr_to_rgb(seen), image, rtol=0, atol=1e-6)
    grey = torch.cat([seen[:, :1], torch.full((2, 2, *shape), 0.5)], dim=1)
    torch.testing.assert_close(ycbcr_to_rgb(grey), seen[:, :1].expand_as(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "given", [torch.rand(3, 5, 6), torch.rand(1, 4, 5, 6), torch.zeros(1, 3, 5, 6, dtype=torch.uint8)]
)
def test_other_images_are_refused(given):
    for function in (rgb_to_ycbcr, ycbcr_to_rgb):
        with pytest.raises(InputError, match="three channels"):
            function(given)
