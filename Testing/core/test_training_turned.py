"""More misalignments of one pair: images, labels and displacement turn together."""

from __future__ import annotations

import pytest
import torch
from regnet.spatial import identity, sample
from regnet.synth.deform import AffineRange
from regnet.training.turned import turned

SHAPES = {2: (28, 36), 3: (20, 28, 24)}
RANGES = AffineRange(degrees=12.0, scale=0.1, shear=0.05, shift=0.05)


def blobs(dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image (1, 1, *shape) well inside the grid, and its level sets as labels."""
    points = identity(SHAPES[dims], torch.zeros(()))
    middle = torch.tensor([(n - 1) / 2 for n in SHAPES[dims]]).view(1, dims, *(1,) * dims)
    axes = torch.tensor([5.0, 7.0, 4.0][:dims]).view_as(middle)
    image = torch.exp(-(((points - middle) / axes) ** 2).sum(1, keepdim=True))
    return image, (image > 0.3).long() + (image > 0.7).long()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_known_displacement_stays_true(dims):
    image, labels = blobs(dims)
    pair = {
        "fixed": image, "moving": image, "fixed_labels": labels, "moving_labels": labels,
        "displacement": torch.zeros(1, dims, *SHAPES[dims]), "seed": torch.tensor([5]),
    }  # fmt: skip
    found = turned(pair, RANGES, 3)
    assert {name: len(tensor) for name, tensor in found.items()} == dict.fromkeys(pair, 3)
    where = identity(SHAPES[dims], image) + found["displacement"]
    assert float(found["displacement"].abs().max()) > 2.0
    back = sample(found["moving"], where)
    assert float((back - image).abs().mean()) < 0.1 * float((found["moving"] - image).abs().mean())
    same = (sample(found["moving_labels"].float(), where, "nearest") == labels)[..., 4:-4]
    assert found["moving_labels"].dtype == labels.dtype and float(same.float().mean()) > 0.98
    assert not torch.equal(found["moving"][0], found["moving"][1])


def test_a_pair_turns_the_same_in_any_batch():
    image, _ = blobs(2)
    both = {"fixed": torch.cat([image, image]), "moving": torch.cat([image, 1 - image]), "seed": torch.tensor([5, 9])}
    alone = {name: tensor[1:] for name, tensor in both.items()}
    assert torch.equal(turned(both, RANGES, 2)["moving"][2:], turned(alone, RANGES, 2)["moving"])
