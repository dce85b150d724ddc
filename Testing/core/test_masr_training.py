"""MASR-Net's recipe: that it learns, what it refuses, what validates it, and scans kept in their own field of view."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import blob_image, oblique_grid
from regnet.errors import InputError
from regnet.image import Image
from regnet.models import get_recipe
from regnet.networks.masr import DSIR
from regnet.training.config import Data
from regnet.training.data import Batches, Draws, Sample
from regnet.training.manifest import read_manifest
from regnet.training.prepare import own_grid, prepare
from regnet.training.schedule import Schedule
from regnet.training.validate import ValidationSet
from training_runs import small_config

LOOKS = {"looks": {"any_curve": 0.0}, "shapes": {"count": 6, "rim": 0.0}}
PAINTS = {"maker": "ShapePaints", "settings": LOOKS}
SCANS = {"maker": "TwoLooks", "settings": {"looks": {"zoom": [0.8, 0.8]}}}
CPU = torch.device("cpu")


def config_for(source=PAINTS, shape=(44, 40), window=(32, 30), batch=1, synthetic=3, **options):
    options = {"window": list(window), "samples": 300, "chunk": 100, **options}
    stage = {"name": "one", "steps": 2, "batch": batch, "sources": [source], "options": options}
    network = {"width": 4, "features": 3}
    validation = {"pairs": 0, "synthetic": synthetic}
    return small_config(
        model="masr", variant="general", shape=list(shape), network=network, stages=[stage], validation=validation
    )


def recipe_and_pair(**changes):
    config = config_for(**changes)
    recipe, draws = get_recipe("masr")(config), Draws(config, [])
    samples = Batches(draws, 0, 0, 1)[0]["samples"]
    pair = draws.stages[0][0].make([Sample(**sample) for sample in samples], CPU)
    return recipe, pair, recipe.options(config.stages[0]), Schedule(config).place(0, 0)


def test_learns_one_crop():
    """Of 300 voxels that know nothing of each other each costs about log 300, less for the neighbours left out."""
    torch.manual_seed(0)
    recipe, pair, options, place = recipe_and_pair(shape=(32, 28), window=(28, 24), exclude=2.0, temperature=0.1)
    network = recipe.build()
    optimizer = torch.optim.Adam(recipe.parameters(network, options), lr=4e-3)
    losses = []
    for _ in range(25):
        terms = recipe.losses(network, pair, options, place)
        assert terms.keys() == {"contrast", "total"}
        losses.append(float(terms["total"].detach()))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(300), rel=0.1)
    assert losses[-1] < 0.7 * losses[0]
    exported, values = recipe.export(network)
    again = DSIR.from_config(values)
    again.load_state_dict(exported)
    with torch.no_grad():
        assert torch.equal(again(pair["fixed"]), network(pair["fixed"]))


def test_a_network_that_knows_nothing_pays_the_logarithm():
    recipe, pair, options, place = recipe_and_pair(exclude=0.0)
    constant = torch.nn.functional.normalize(torch.ones(1, 8, *options.window), dim=1)
    loss = recipe.losses(lambda images: constant.expand(len(images), -1, -1, -1), pair, options, place)["total"]
    assert float(loss) == pytest.approx(math.log(300), abs=1e-4)


def test_voxels_are_compared_in_place_although_the_windows_differ():
    """A network that says of every voxel where in the crop it lies, by what is painted there, makes no mistake."""
    recipe, pair, options, place = recipe_and_pair(batch=3, exclude=0.0, temperature=0.02)
    line = torch.arange(44 * 40, dtype=torch.float32).view(1, 1, 44, 40).expand(3, -1, -1, -1)
    windows = []

    def network(images):
        windows.extend(images[:, 0, 0, 0].tolist())
        angle = images * (2 * math.pi / 101)
        other = images * (2 * math.pi / 97)
        return torch.cat([angle.sin(), angle.cos(), other.sin(), other.cos()], dim=1) / math.sqrt(2)

    loss = recipe.losses(network, {**pair, "fixed": line, "moving": line}, options, place)["total"]
    assert len(set(windows)) == 6  # at other places each time
    assert float(loss) < 2.0
    shifted = {**pair, "fixed": line, "moving": line.roll(1, 3)}
    assert float(recipe.losses(network, shifted, options, place)["total"]) > float(loss) + 0.05


def test_gradients_of_a_batch_are_the_mean_of_its_samples():
    torch.manual_seed(0)
    recipe, pair, options, place = recipe_and_pair(batch=2)
    network = recipe.build()

    def gradient(*entries):
        network.zero_grad()
        recipe.losses(network, {name: one[list(entries)] for name, one in pair.items()}, options, place)[
            "total"
        ].backward()
        assert all(one.grad is not None and bool((one.grad != 0).any()) for one in network.parameters())
        return torch.cat([one.grad.flatten() for one in network.parameters()])

    torch.testing.assert_close(gradient(0, 1), (gradient(0) + gradient(1)) / 2, rtol=1e-3, atol=1e-5)


def test_a_crop_without_anatomy_teaches_nothing():
    recipe, pair, options, place = recipe_and_pair()
    network = recipe.build()
    loss = recipe.losses(network, {**pair, "inside": torch.zeros_like(pair["inside"])}, options, place)["total"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(one.grad.abs().max()) == 0 for one in network.parameters() if one.grad is not None)
    assert recipe.measure(network, {**pair, "inside": torch.zeros_like(pair["inside"])}, options) == {}


@pytest.mark.parametrize("window", [(45, 30), (20, 41), (20,), (20, 20, 20), ()])
def test_windows_that_do_not_fit_are_refused_in_one_sentence(window):
    recipe, pair, options, place = recipe_and_pair(window=window)
    with pytest.raises(InputError, match="does not fit into crops of") as caught:
        recipe.losses(recipe.build(), pair, options, place)
    assert str(caught.value).count(".") == 1 and str(list(window)) in str(caught.value)


def test_windows_as_large_as_the_crop_and_small_ones_apart_are_borne():
    for window in ((44, 40), (9, 8)):
        recipe, pair, options, place = recipe_and_pair(window=window, batch=3)
        loss = recipe.losses(recipe.build(), pair, options, place)["total"]
        assert bool(torch.isfinite(loss)) and loss.requires_grad


def test_options_are_checked():
    with pytest.raises(InputError, match="'part' is 'both'"):
        recipe_and_pair(part="both")
    with pytest.raises(InputError, match="'samples'"):
        recipe_and_pair(samples=1)
    with pytest.raises(InputError, match="'temperature'"):
        recipe_and_pair(temperature=0.0)
    with pytest.raises(InputError, match="unknown key 'windw'"):
        recipe_and_pair(windw=3)


@pytest.mark.parametrize("shape", [(44, 40), (24, 28, 26)])
def test_hits_are_a_share_and_sure_for_a_perfect_descriptor(shape):
    recipe, pair, options, _ = recipe_and_pair(shape=shape, window=tuple(n - 6 for n in shape))
    network = recipe.build()
    with torch.no_grad():
        found = recipe.measure(network, pair, options)
    assert found.keys() == {"hits"} <= set(recipe.figures) and 0 <= found["hits"] <= 1
    line = torch.arange(math.prod(shape), dtype=torch.float32).view(1, 1, *shape)
    same = {**pair, "fixed": line, "moving": line}

    def perfect(image):
        return torch.cat([(image * step).sin() for step in (0.07, 1.3, 2.9)] + [(image * 0.07).cos()], dim=1)

    assert recipe.measure(perfect, same, options)["hits"] > 0.98
    mistaken = {**same, "moving": line.roll(5, 2)}
    assert recipe.measure(perfect, mistaken, options)["hits"] < 0.2
    assert recipe.score({"val/hits": 0.4}) == 0.4 and recipe.score({}) == 0.0


def scan_of(number, inverted=False):
    grid = oblique_grid((26 + number, 30, 28), (1.5, 1.4, 1.6), (0, 3 * number, 5), (2, -3, number))
    image = blob_image(grid, number)
    return Image(1.6 - image.data, image.index_to_world) if inverted else image


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three subjects with two columns and one with one; the last two are for validation."""
    folder = tmp_path_factory.mktemp("scans")
    rows = ["id,image,image_t2,split,align"]
    for number, split in enumerate(("train", "train", "val", "val")):
        scan_of(number).write(folder / f"{number}.nii.gz")
        scan_of(number, True).write(folder / f"{number}_t2.nii.gz")
        second = "" if number == 3 else f"{number}_t2.nii.gz"
        rows.append(f"s{number},{number}.nii.gz,{second},{split},native")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    blob_image(oblique_grid((20, 22, 24)), 1).write(folder / "template.nii.gz")
    settings = Data(manifest="data.csv", template="template.nii.gz", spacing=1.5, shape=(20, 22, 24))
    return prepare(read_manifest(folder / "data.csv"), settings, folder, folder / "cache")


def whose(tensor, prepared):
    """(subject, column) of a tensor of a sample."""
    return next(
        (entry.id, place)
        for entry in prepared
        for place, image in enumerate(entry.load()["images"])
        if image.shape == tensor.shape[1:] and torch.equal(image, tensor[0])
    )


def test_training_never_pairs_two_columns(prepared):
    source = Draws(config_for(SCANS, (20, 18, 16), (12, 12, 12)), prepared).stages[0][0]
    assert {entry.id for entry in source.subjects} == {"s0", "s1"}
    seen = set()
    for number in range(40):
        sample = source.sample(np.random.default_rng(number))
        fixed, moving = (whose(sample.tensors[role], prepared) for role in ("fixed", "moving"))
        assert fixed == moving and sample.same_contrast
        seen.add(moving)
    assert seen == {("s0", 0), ("s0", 1), ("s1", 0), ("s1", 1)}


def test_validation_looks_at_other_subjects_and_at_another_column_where_there_is_one(prepared):
    config = config_for(SCANS, (20, 18, 16), (12, 12, 12), synthetic=12)
    validation = ValidationSet(config, prepared, Draws(config, prepared))
    items = validation.items(0)
    assert len(items) == 12 and all("known" in item for item in items)
    source = validation.known[0][0]
    assert {entry.id for entry in source.subjects} == {"s2", "s3"}
    seen = set()
    for number in range(40):
        sample = source.sample(np.random.default_rng(number))
        (first, fixed), (second, moving) = (whose(sample.tensors[role], prepared) for role in ("fixed", "moving"))
        assert first == second and (fixed != moving) == (first == "s2") and sample.same_contrast == (fixed == moving)
        seen.add((first, moving))
    assert seen == {("s2", 0), ("s2", 1), ("s3", 0)}
    again = validation.build(items[3], CPU)
    assert torch.equal(validation.build(items[3], CPU)["fixed"], again["fixed"])
    recipe = get_recipe("masr")(config)
    with torch.no_grad():
        hits = recipe.measure(recipe.build(), again, recipe.options(config.stages[0]))
    assert hits == {} or 0 <= hits["hits"] <= 1


def test_without_subjects_held_out_it_validates_on_those_of_training(prepared):
    config = config_for(SCANS, (20, 18, 16), (12, 12, 12))
    train = [entry for entry in prepared if entry.split == "train"]
    validation = ValidationSet(config, train, Draws(config, train))
    assert {entry.id for entry in validation.known[0][0].subjects} == {"s0", "s1"}
    with pytest.raises(InputError, match="No subject of the manifest suits 'TwoLooks'"):
        Draws(config, [entry for entry in prepared if entry.split == "val"])


def own_field_of_view(path, spacing):
    """By SimpleITK: canonical axes (right to left, front to back, foot to head), smoothed, linear, about one middle."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat64), "LPS")
    size = [round((n - 1) * step / spacing) + 1 for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    directions = np.array(image.GetDirection()).reshape(3, 3)
    origin = np.array(middle) - directions @ ((np.array(size) - 1) / 2 * spacing)
    reference = sitk.Image(size, sitk.sitkFloat64)
    reference.SetSpacing([spacing] * 3)
    reference.SetOrigin(origin.tolist())
    reference.SetDirection(image.GetDirection())
    smoothed = image
    for axis, step in enumerate(image.GetSpacing()):
        sigma = 0.42 * math.sqrt(max(spacing / step, 1.0) ** 2 - 1) * step
        if sigma > 0:
            smoothed = sitk.RecursiveGaussian(smoothed, sigma, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    return sitk.Resample(smoothed, reference, sitk.Transform(), sitk.sitkLinear, 0.0)


@pytest.mark.parametrize("spacing", [1.5, 3.0])
@pytest.mark.parametrize(
    ("degrees", "flip"),
    [((0, 0, 0), (1, 1, 1)), ((12, -8, 20), (1, -1, 1)), ((85, 4, -7), (-1, 1, -1)), ((5, 3, 93), (1, 1, 1))],
)
def test_native_scans_keep_their_field_of_view(degrees, flip, spacing, tmp_path):
    grid = oblique_grid((34, 27, 30), (1.2, 1.5, 1.1), degrees, (30, -60, 9), flip)
    values = blob_image(oblique_grid((34, 27, 30), (1.2, 1.5, 1.1)), 3).data[0].numpy()
    Image.from_numpy(values, grid.index_to_world).write(tmp_path / "scan.nii.gz")
    blob_image(oblique_grid((20, 22, 24)), 1).write(tmp_path / "template.nii.gz")
    (tmp_path / "data.csv").write_text("id,image,split,align\na,scan.nii.gz,train,native\n")
    settings = Data(manifest="data.csv", template="template.nii.gz", spacing=spacing, shape=(20, 22, 24))
    subjects = read_manifest(tmp_path / "data.csv")
    (entry,) = prepare(subjects, settings, tmp_path, tmp_path / "cache")
    found = entry.load()["images"][0].double().numpy()
    reference = own_field_of_view(tmp_path / "scan.nii.gz", spacing)
    mine = own_grid(subjects[0], spacing)
    np.testing.assert_allclose(mine.spacing, spacing)
    np.testing.assert_allclose(mine.center(), grid.center(), atol=1e-5)
    expected = sitk.GetArrayFromImage(reference)
    # Canonical here may run the other way along an axis than LPS; the world decides which voxel is which.
    points = mine.points().reshape(-1, 3)[:: 97 if spacing < 2 else 13]
    assert sorted(found.shape) == sorted(expected.shape)
    index = np.round([reference.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()]).astype(
        int
    )
    inverse = np.linalg.inv(mine.index_to_world)
    own = np.round(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    a, b = found[tuple(own.T[::-1])], expected[tuple(index.T[::-1])]
    slope, offset = np.polyfit(b, a, 1)  # intensities were normalised
    assert np.abs(slope * b + offset - a).max() < 0.05
    assert np.corrcoef(a, b)[0, 1] > 0.995
    # All turned the same way: the axes of the array follow those of the body.
    axes = mine.index_to_world[:3, :3] / spacing
    assert np.abs(axes).argmax(axis=0).tolist() == [0, 1, 2]


def test_native_preparation_is_done_anew_for_another_alignment_or_spacing(tmp_path):
    scan_of(1).write(tmp_path / "scan.nii.gz")
    blob_image(oblique_grid((20, 22, 24)), 1).write(tmp_path / "template.nii.gz")
    paths, shapes = set(), set()
    for align, spacing in (("native", 2.0), ("none", 2.0), ("native", 3.0)):
        (tmp_path / "data.csv").write_text(f"id,image,split,align\na,scan.nii.gz,train,{align}\n")
        settings = Data(manifest="data.csv", template="template.nii.gz", spacing=spacing, shape=(20, 22, 24))
        (entry,) = prepare(read_manifest(tmp_path / "data.csv"), settings, tmp_path, tmp_path / "cache")
        paths.add(entry.path)
        shapes.add(tuple(entry.load()["images"].shape[1:]))
    assert len(paths) == len(shapes) == 3 and (20, 22, 24) in shapes
