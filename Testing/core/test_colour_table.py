"""Values in colour: the ends, what lies between, and matplotlib's own maps."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from regnet.colour_table import ColourTable
from regnet.errors import InputError


def test_a_named_map_is_matplotlibs():
    values = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(1)) * 50 - 5
    found = ColourTable.named("inferno", 2.0, 41.0).apply(values)
    expected = matplotlib.colormaps["inferno"](np.clip((values[0].numpy() - 2) / 39, 0, 1))[..., :3]
    assert found.shape == (3, 3, 9, 7) and found.dtype == torch.float32
    assert np.abs(found.numpy() - np.moveaxis(expected, -1, 0)).max() < 0.02


def test_between_two_entries_colours_are_mixed():
    table = ColourTable(-1.0, 3.0, ((0, 0, 1), (1, 0, 0), (1, 1, 0.5)))
    found = table.apply(torch.tensor([[-9.0, -1.0, 0.0, 1.0, 2.5, 3.0, 8.0]]))
    expected = [(0, 0, 1), (0, 0, 1), (0.5, 0, 0.5), (1, 0, 0), (1, 0.75, 0.375), (1, 1, 0.5), (1, 1, 0.5)]
    torch.testing.assert_close(found.T, torch.tensor(expected, dtype=torch.float32))


def test_a_table_of_greys_is_told_from_one_of_colours():
    assert ColourTable.named("gray", 0, 1).is_grey and not ColourTable.named("hot", 0, 1).is_grey


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.0, 0.0, ((0, 0, 0), (1, 1, 1))), r"begins at 0 and has to end above, not at 0\.$"),
        ((0.0, 1.0, ((0, 0, 0),)), "two or more rows"),
        ((0.0, 1.0, ((0, 0, 0), (1, 1))), "two or more rows"),
        ((0.0, 1.0, ((0, 0, 0), (0, 0, 255))), "each from 0 to 1"),
        ((float("nan"), 1.0, ((0, 0, 0), (1, 1, 1))), "has to end above"),
    ],
)
def test_what_is_no_table_is_refused(values, text):
    with pytest.raises(InputError, match=text):
        ColourTable(*values)


def test_an_unknown_map_is_refused():
    with pytest.raises(InputError, match=r"^There is no colour map 'purple haze'; inferno"):
        ColourTable.named("purple haze", 0, 1)
