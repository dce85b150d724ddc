"""Subjects in the working space, and samples that depend on nothing but the seed, the stage and their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import blob_image, oblique_grid, random_affine
from regnet.errors import InputError
from regnet.image import Image
from regnet.training.config import Data
from regnet.training.data import Batches, Draws, Sample, random_slice
from regnet.training.manifest import read_manifest
from regnet.training.prepare import prepare, working_grid
from training_runs import small_config

TEMPLATE = oblique_grid((30, 34, 28), (1.5, 1.4, 1.6))
SETTINGS = Data(manifest="data.csv", template="template.nii.gz", spacing=2.0, shape=(24, 26, 22))


def labels_of(image: Image) -> Image:
    values = (image.data > 0.25).int() * 3 + (image.data > 0.7).int() * 2
    return Image(values, image.index_to_world, image.ndim)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A template, two subjects with an image and labels, one with two images, and two with labels alone."""
    folder = tmp_path_factory.mktemp("data")
    blob_image(TEMPLATE, 1).write(folder / "template.nii.gz")
    rows = ["id,image,image_t2,labels,scheme,split,source,licence"]
    for number in range(5):
        grid = oblique_grid((28, 26, 30), (1.6, 1.7, 1.5), (0, 4 * number, -5), center=(3, -2, number))
        image = blob_image(grid, 1, moved_by=random_affine(number, degrees=5, shift=3))
        image.write(folder / f"{number}.nii.gz")
        labels_of(image).write(folder / f"{number}_labels.nii.gz")
        Image(1.5 - image.data, image.index_to_world).write(folder / f"{number}_t2.nii.gz")
        first = "" if number > 2 else f"{number}.nii.gz"
        second = f"{number}_t2.nii.gz" if number == 2 else ""
        labels, scheme = ("", "") if number == 2 else (f"{number}_labels.nii.gz", "alone" if number > 2 else "blobs")
        rows.append(f"s{number},{first},{second},{labels},{scheme},train,made up,CC0")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(folder):
    said: list[str] = []
    found = prepare(read_manifest(folder / "data.csv"), SETTINGS, folder, folder / "cache", said.append)
    assert len(said) == 5
    return found


def test_everything_lies_on_the_template(folder, prepared):
    template = Image.read(folder / "template.nii.gz")
    grid = working_grid(template, SETTINGS)
    np.testing.assert_allclose(grid.center(), template.grid.center(), atol=1e-6)
    np.testing.assert_allclose(grid.spacing, 2.0)
    target = template.normalized().resample(grid).data[0]
    for entry in prepared:
        held = entry.load()
        if entry.columns:
            assert held["images"].shape == (len(entry.columns), 24, 26, 22) and held["images"].dtype == torch.float16
            pair = torch.stack([target.flatten(), held["images"][0].float().flatten()])
            assert float(torch.corrcoef(pair)[0, 1]) > 0.9
        if entry.labelled:
            assert set(torch.unique(held["labels"]).tolist()) == {0, 3, 5}
            inside = target > 0.35
            assert float((held["labels"][0][inside] > 0).float().mean()) > 0.8


def test_prepared_once_and_again_when_a_byte_differs(folder, prepared):
    again: list[str] = []
    found = prepare(read_manifest(folder / "data.csv"), SETTINGS, folder, folder / "cache", again.append)
    assert again == [] and found == prepared
    subjects = read_manifest(folder / "data.csv")
    other = SETTINGS.model_copy(update={"spacing": 2.5})
    prepare(subjects[:1], other, folder, folder / "cache", again.append)
    labels = Image.read(subjects[0].labels, labels=True)
    Image(labels.data * 2, labels.index_to_world).write(folder / "changed.nii.gz")
    rows = (folder / "data.csv").read_text().splitlines()
    (folder / "other.csv").write_text("\n".join([rows[0], rows[1].replace("0_labels", "changed")]) + "\n")
    prepare(read_manifest(folder / "other.csv"), SETTINGS, folder, folder / "cache", again.append)
    assert again == ["preparing s0 (1 of 1)"] * 2


def test_a_turned_subject_comes_back_upright(tmp_path):
    """Without alignment the world decides: a picture stored turned and flipped is read in the template's frame."""
    template = blob_image(TEMPLATE, 4)
    template.write(tmp_path / "template.nii.gz")
    turned = oblique_grid((40, 44, 42), (1.3, 1.3, 1.2), (90, 0, 180), flip=(1, -1, 1))
    blob_image(turned, 4).write(tmp_path / "turned.nii.gz")
    (tmp_path / "data.csv").write_text("id,image,split,align\na,turned.nii.gz,train,none\n")
    (entry,) = prepare(read_manifest(tmp_path / "data.csv"), SETTINGS, tmp_path, tmp_path / "cache")
    target = blob_image(working_grid(template, SETTINGS), 4).data[0]
    pair = torch.stack([target.flatten(), entry.load()["images"][0].float().flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.97


def config_for(*sources, batch=1, **changes):
    stage = {"name": "one", "steps": 4, "batch": batch, "sources": list(sources), "options": {"part": "affine"}}
    return small_config(shape=[16, 20, 18], stages=[stage], **changes)


def test_sources_take_what_suits_them(prepared):
    config = config_for(
        {"maker": "OneAnatomy", "schemes": ["alone"]},
        {"maker": "RealPair"},
        {"maker": "OneImage", "subjects": ["s2"]},
        {"maker": "TwoAnatomies"},
    )
    anatomy, real, image, two = Draws(config, prepared).stages[0]
    assert {entry.id for entry in anatomy.subjects} == {"s3", "s4"}
    assert {entry.id for entry in real.subjects} == {"s0", "s1"}  # the only two of one scheme
    assert {entry.id for entry in image.subjects} == {"s2"}
    assert {entry.id for entry in two.subjects} == {"s0", "s1", "s3", "s4"}
    seen = set()
    for number in range(12):
        sample = image.sample(np.random.default_rng(number))
        same = torch.equal(sample.tensors["fixed"], sample.tensors["moving"])
        assert same == sample.same_contrast
        seen.add(same)
    assert seen == {True, False}
    with pytest.raises(InputError, match=r"No subject.*'OneAnatomy' with schemes \['hearts'\]"):
        Draws(config_for({"maker": "OneAnatomy", "schemes": ["hearts"]}), prepared)
    with pytest.raises(InputError, match="no pair maker 'Pairs'"):
        Draws(config_for({"maker": "Pairs"}), prepared)


def test_two_subjects_are_different_ones_of_one_scheme(prepared):
    source = Draws(config_for({"maker": "TwoAnatomies"}), prepared).stages[0][0]
    tables = {entry.id: entry.load()["labels"] for entry in prepared if entry.labelled}
    pairs = set()
    for number in range(30):
        sample = source.sample(np.random.default_rng(number)).tensors
        names = [
            next(name for name, labels in tables.items() if torch.equal(labels, sample[f"{side}_labels"]))
            for side in ("fixed", "moving")
        ]
        pairs.add(tuple(names))
    assert pairs == {("s0", "s1"), ("s1", "s0"), ("s3", "s4"), ("s4", "s3")}


def made(batches: Batches, index: int) -> dict[str, torch.Tensor]:
    batch = batches[index]
    source = batches.draws.stages[batch["stage"]][batch["source"]]
    return source.make([Sample(**sample) for sample in batch["samples"]], torch.device("cpu"))


def test_pairs_do_not_depend_on_grouping_ranks_or_order(prepared):
    sources = ({"maker": "OneAnatomy", "weight": 2}, {"maker": "RealPair"})
    whole = Batches(Draws(config_for(*sources, batch=2), prepared), 0, 0, 6)
    ranks = [Batches(Draws(config_for(*sources), prepared), 0, 0, 6, rank, 2) for rank in (0, 1)]
    later = Batches(Draws(config_for(*sources, batch=2), prepared), 0, 4, 2)
    used = set()
    for index in (5, 0, 3, 4, 1):
        joined, parts = made(whole, index), [made(rank, index) for rank in ranks]
        used.add(whole[index]["source"])
        for name in joined:
            torch.testing.assert_close(joined[name], torch.cat([part[name] for part in parts]), rtol=0, atol=1e-5)
        assert not torch.equal(parts[0]["fixed"], parts[1]["fixed"])
    assert used == {0, 1}
    assert torch.equal(made(later, 1)["fixed"], made(whole, 5)["fixed"])
    assert len(later) == 2 and len(list(later)) == 2
    other = Batches(Draws(config_for(*sources, batch=2, seed=4), prepared), 0, 0, 6)
    assert not torch.equal(made(other, 0)["moving"], made(whole, 0)["moving"])


def test_stages_have_their_own_grids():
    config = small_config()
    coarse = config.stages[0].model_copy(update={"shape": (16, 20)})
    draws = Draws(config.model_copy(update={"stages": (coarse, config.stages[1])}), [])
    shapes = [made(Batches(draws, stage, 0, 1), 0)["displacement"].shape for stage in (0, 1)]
    assert shapes == [(2, 2, 16, 20), (1, 2, 24, 32)]


def test_overfitting_repeats_the_first_batch():
    draws = Draws(small_config(), [])
    still = Batches(draws, 1, 6, 3, moves=False)
    first = made(Batches(draws, 1, 0, 1), 0)
    for index in range(3):
        assert torch.equal(made(still, index)["fixed"], first["fixed"])
    assert not torch.equal(made(Batches(draws, 1, 6, 3), 0)["fixed"], first["fixed"])


def test_a_plane_of_a_volume_is_one_slice_of_all_it_holds():
    """Image and labels of one slice, of a place that shows something, across every axis, any way up."""
    shape = (12, 15, 18)
    volume = torch.zeros(1, *shape)
    volume[:, 3:9, 4:11, 5:16] = 1.0 + torch.arange(6 * 7 * 11).view(1, 6, 7, 11)
    labels = (volume * 3).long()
    axes, mirrored = set(), set()

    def same(plane, image, way):
        return torch.equal(plane.flip(way), image)

    for seed in range(40):
        held = {"moving": volume, "moving_labels": labels}
        found = random_slice(held, np.random.default_rng(seed), volume[0] > 0, mirrored=True)
        image = found["moving"]
        axis = next(axis for axis in range(3) if image.shape[1:] == shape[:axis] + shape[axis + 1 :])
        axes.add(axis)
        assert torch.equal(found["moving_labels"], (image * 3).long())
        ways = [(), (1,), (2,), (1, 2)]
        found = [(n, way) for n in range(shape[axis]) for way in ways if same(volume.select(axis + 1, n), image, way)]
        assert len(found) == 1 and bool((image > 0).any())
        mirrored.add(found[0][1])
    assert axes == {0, 1, 2} and mirrored == {(), (1,), (2,), (1, 2)}


@pytest.mark.parametrize(("transaxial", "axes"), [(1.0, {0}), (0.0, {1, 2})])
def test_how_often_a_plane_is_transaxial(transaxial, axes):
    volume = torch.ones(1, 12, 15, 18)
    shapes = {axis: tuple(np.delete([12, 15, 18], axis)) for axis in range(3)}
    drawn = [
        random_slice({"moving": volume}, np.random.default_rng(seed), volume[0] > 0, transaxial) for seed in range(30)
    ]
    assert {tuple(one["moving"].shape[1:]) for one in drawn} == {shapes[axis] for axis in axes}


def test_planes_are_drawn_from_volumes(prepared):
    sources = [{"maker": "OneImage", "schemes": ["blobs"]}, {"maker": "OneAnatomy", "schemes": ["alone"]}]
    stages = [{"name": "planes", "steps": 4, "batch": 2, "sources": sources, "options": {"part": "affine"}}]
    draws = Draws(small_config(shape=[20, 28], stages=stages), prepared)
    for number in range(4):
        source, samples = draws.samples(0, number, range(2))
        pair = draws.stages[0][source].make(samples, torch.device("cpu"))
        assert pair["fixed"].shape == (2, 1, 20, 28) and pair["displacement"].shape == (2, 2, 20, 28)
        assert float(pair["fixed"].flatten(1).std(dim=1).min()) > 0.02
    two = [{**stages[0], "sources": [{"maker": "TwoAnatomies", "schemes": ["alone"]}]}]
    with pytest.raises(InputError, match="would need one slice of two subjects"):
        Draws(small_config(shape=[20, 28], stages=two), prepared).samples(0, 0, range(1))
