"""Fusing registered images: on whose lattice, in which colours, whole or slice by slice, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fusion_models import write_models
from helpers import blob_image, oblique_grid, smooth_field
from PIL import Image as Picture
from regnet import fusing, zoo
from regnet.colour_table import ColourTable
from regnet.errors import Cancelled, InputError, ModelError
from regnet.events import Events
from regnet.fusing import fuse
from regnet.image import Grid, Image
from regnet.models.bsafusion_run import Network
from regnet.orientation import Orientation

GRID = oblique_grid((22, 40, 34), (1.1, 0.9, 2.5), (6, -4, 8), (3, -10, 20), (-1, 1, 1))
OTHER = oblique_grid((30, 36, 44), (1.4, 1.0, 1.2), (-5, 3, 2), (2, -8, 19))
FLAT = Grid((1, 50, 38), np.diag([1.2, 1.2, 1.0, 1.0]), 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def installed(models, monkeypatch):
    monkeypatch.setattr(zoo, "model_folders", lambda: [models])


def network(models: Path, name: str) -> Network:
    record = zoo.find_weights("bsafusion", name)
    return Network(zoo.load_state(record), record.config, torch.device("cpu"))


def pair(grid: Grid = GRID, other: Grid = OTHER) -> tuple[Image, Image]:
    """Images on two lattices, in ranges of values of their own."""
    fixed, moving = blob_image(grid, 1, 18), blob_image(other, 2, 18)
    return (
        Image(fixed.data * 300 + 20, fixed.index_to_world, fixed.ndim),
        Image(moving.data * 1500 - 1000, moving.index_to_world, moving.ndim),
    )


def unit(image: Image, fixed: Image) -> torch.Tensor:
    """A fused image of one channel back in [0, 1]."""
    low, high = np.percentile(fixed.data.numpy(), (0.1, 99.9))
    return (image.data - low) / (high - low)


def test_a_volume_is_what_the_network_makes_of_the_resampled_images_in_canonical_order(models):
    fixed, moving = pair()
    transform = smooth_field(GRID, 4.0)
    found = fuse(fixed, moving, transform, mode="volume")
    assert found.image.grid.same_as(GRID) and found.image.data.shape == fixed.data.shape
    assert found.report == {"mode": "volume", "weights": "volumes", "reason": "asked for"}
    turn = Orientation.of(GRID)
    sides = [
        turn.apply(image.data[None]) for image in (fixed.normalized(), moving.normalized().resample(GRID, transform))
    ]
    with torch.no_grad():
        expected = turn.back(network(models, "volumes").fuse(*sides, Events()))[0]
    torch.testing.assert_close(unit(found.image, fixed), expected, rtol=0, atol=2e-5)
    still = fuse(fixed, moving, mode="volume")
    assert float((still.image.data - found.image.data).abs().max()) > 1e-4


def test_slices_are_those_across_the_longest_voxels_as_on_a_film(models):
    """Whose first row is anterior, or superior, and whose left is the patient's right."""
    fixed, moving = pair()
    found = fuse(fixed, moving, mode="slices")
    assert found.report["mode"] == "slices" and found.report["weights"] == "ct-mri"
    turn = Orientation.of(GRID)
    first, second = (
        turn.apply(image.data[None])[0, 0] for image in (fixed.normalized(), moving.normalized().resample(GRID))
    )
    axis = [float(GRID.spacing[::-1][one]) for one in turn.axes].index(2.5)
    planes = network(models, "ct-mri")
    result = turn.apply(unit(found.image, fixed)[None])[0, 0]
    for number in (0, 5, result.shape[axis] - 1):
        sides = [image.select(axis, number)[None, None].flip(2, 3) for image in (first, second)]
        expected = planes.fuse(*sides, Events())[0, 0].flip(0, 1)
        torch.testing.assert_close(result.select(axis, number), expected, rtol=0, atol=2e-5)


def test_it_does_not_matter_which_way_round_a_file_is_stored():
    fixed, moving = pair()
    turned = fixed.data.permute(0, 3, 1, 2).flip(1).contiguous()
    exchange = np.zeros((4, 4))
    exchange[0, 2], exchange[1, 0], exchange[2, 1] = -1.0, 1.0, 1.0
    exchange[0, 3], exchange[3, 3] = fixed.data.shape[3] - 1, 1.0
    other = Image(turned, fixed.index_to_world @ exchange)
    for mode in ("volume", "slices"):
        a, b = fuse(fixed, moving, mode=mode).image, fuse(other, moving, mode=mode).image
        back = b.data.flip(1).permute(0, 2, 3, 1)
        torch.testing.assert_close(a.data, back, rtol=0, atol=0.02)


def test_planes_are_fused_as_they_are(models):
    fixed, moving = pair(FLAT, Grid((1, 44, 60), np.diag([1.0, 1.3, 1.0, 1.0]), 2))
    found = fuse(fixed, moving)
    assert found.image.ndim == 2 and found.report["mode"] == "plane"
    sides = [fixed.normalized().data, moving.normalized().resample(FLAT).data]
    expected = network(models, "ct-mri").fuse(*sides, Events())
    torch.testing.assert_close(unit(found.image, fixed), expected, rtol=0, atol=2e-5)


def test_a_coloured_moving_image_gives_its_colours_and_the_fusion_the_brightness():
    fixed, moving = pair(FLAT, FLAT)
    table = ColourTable.named("hot", -1000.0, 400.0)
    found = fuse(fixed, moving, colours=table)
    assert found.image.data.dtype == torch.uint8 and found.image.data.shape == (3, *FLAT.shape)
    # The same picture, coloured by hand, in red, green and blue from the start.
    by_hand = Image((table.apply(moving.data) * 255).round().to(torch.uint8), moving.index_to_world, 2)
    again = fuse(fixed, by_hand)
    assert float((found.image.data.float() - again.image.data.float()).abs().max()) <= 2
    ours = np.asarray(Picture.fromarray(found.image.data[:, 0].permute(1, 2, 0).numpy()).convert("YCbCr")).astype(float)
    theirs = np.asarray(Picture.fromarray(by_hand.data[:, 0].permute(1, 2, 0).numpy()).convert("YCbCr")).astype(float)
    # Where the brightness leaves room for the colour, it is the moving image's.
    room = (found.image.data.amin(0) > 4)[0].numpy() & (found.image.data.amax(0) < 251)[0].numpy()
    assert room.mean() > 0.1 and np.abs(ours[..., 1:] - theirs[..., 1:])[room].max() <= 3
    grey = fuse(fixed, by_hand.luminance()).image
    brightness = np.clip(unit(grey, fixed)[0, 0].numpy(), 0, 1) * 255
    assert np.abs(ours[..., 0] - brightness)[room].max() < 12


def test_beyond_its_view_a_coloured_ct_shows_air():
    """Nearly black in the colours of heated iron from -1000 to 400, where 0 HU would be a bright orange."""
    fixed, moving = pair(FLAT, FLAT)
    near = np.eye(4)
    near[0, 3] = 30.0 * 1.2  # only the fixed image's right part is in view
    part = Image(moving.data, near @ moving.index_to_world, 2)
    found = fuse(fixed, part, colours=ColourTable.named("hot", -1000.0, 400.0)).image.data[:, 0].float()
    spread = found.amax(0) - found.amin(0)
    assert float(spread[:, :29].max()) <= 12 and float(spread[:, 31:].max()) > 30


def test_auto_takes_slices_where_a_volume_is_too_much(monkeypatch):
    fixed, moving = pair()
    assert fuse(fixed, moving).report["mode"] == "volume"
    monkeypatch.setattr(fusing, "MOST_VOXELS", 20_000)
    report = fuse(fixed, moving).report
    assert report["mode"] == "slices" and report["reason"] == "0.0 million voxels take long as a volume"
    monkeypatch.setattr(fusing, "BYTES_PER_VOXEL", {2: 1, 3: 10_000})
    assert fuse(fixed, moving, memory_mb=100).report["reason"] == "the volume would need 299 MB"
    with pytest.raises(
        InputError, match=r"needs 299 MB, more than the 100 MB there are for it; fuse slices instead\.$"
    ):
        fuse(fixed, moving, mode="volume", memory_mb=100)


def test_what_cannot_be_fused_is_refused(monkeypatch):
    fixed, moving = pair()
    with pytest.raises(InputError, match="no way to fuse named 'both'; choose from auto, volume, slices"):
        fuse(fixed, moving, mode="both")
    with pytest.raises(InputError, match="The fixed image is 3D and the moving image 2D"):
        fuse(fixed, pair(FLAT, FLAT)[1])
    with pytest.raises(InputError, match="The moving image has 2 channels"):
        fuse(fixed, Image(moving.data.repeat(2, 1, 1, 1), moving.index_to_world))
    with pytest.raises(ModelError, match=r"^Fusing needs the trained weights 'pet-mri' of BSAFusion; install them\.$"):
        fuse(fixed, moving, weights="pet-mri", mode="slices")


def test_a_cancel_takes_effect_between_slices():
    fixed, moving = pair()
    asked = []
    events = Events(is_cancelled=lambda: len(asked) > 1, emit=asked.append)
    with pytest.raises(Cancelled):
        fuse(fixed, moving, mode="slices", events=events)
    assert len(asked) == 2
