"""A registration wanted in a region: there it is the deformation, beyond the taper it is the alignment."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cli_pair import run
from helpers import blob_image, oblique_grid, random_affine, smooth_field
from refusals import refused
from regnet.errors import InputError
from regnet.events import Events
from regnet.image import Grid, Image
from regnet.models import get_model
from regnet.pair import make_pair
from regnet.previews import Previews
from regnet.region import Region
from regnet.register import register
from regnet.transform import Affine, Composite, DisplacementField
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

GRID = oblique_grid((34, 52, 46), (1.2, 1.0, 1.7), (10, -14, 8), (3, -10, 20))
SHIFT = Affine(np.array([[1.0, 0, 0, -2], [0, 1, 0, 9], [0, 0, 1, -21], [0, 0, 0, 1]]))
TRUTH = Composite((smooth_field(GRID, 4.0, sigma=7.0), SHIFT))
MIDDLE = GRID.center() + np.array([4.0, -6.0, 3.0])
RADIUS = 8.0


def ball(grid: Grid, middle: np.ndarray, radius: float = RADIUS) -> Image:
    inside = np.linalg.norm(grid.points() - middle, axis=-1) < radius
    return Image.from_numpy(inside.astype(np.uint8), grid.index_to_world, grid.ndim)


def flat() -> Grid:
    """The plane z = 0 with axes of its own, as 2D files have it."""
    matrix = np.eye(4)
    turn = np.deg2rad(14.0)
    matrix[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([1.3, 0.9])
    matrix[:2, 3] = -20.0, -25.0
    return Grid((1, 60, 52), matrix, 2)


def away_from(region: Image, points: np.ndarray) -> np.ndarray:
    """Least distance of points (N, 3) from the voxels of the region, as boxes: never more than it is."""
    found = np.argwhere(region.data[0].numpy() > 0)[:, ::-1]
    centres = found @ region.index_to_world[:3, :3].T + region.index_to_world[:3, 3]
    half = 0.5 * np.linalg.norm(region.spacing[: region.ndim])
    return cKDTree(centres).query(points)[0] - half


def around(grid: Grid, count: int = 20_000) -> np.ndarray:
    """Random points in and around a grid, not on its lattice."""
    index = np.random.default_rng(0).uniform(-8.0, 8.0 + np.array(grid.size), (count, 3))
    index[:, grid.ndim :] = 0.0
    return index @ grid.index_to_world[:3, :3].T + grid.index_to_world[:3, 3]


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image]:
    return blob_image(GRID, 0, 22, moved_by=TRUTH), blob_image(oblique_grid((50, 56, 60), (1.1, 1.2, 1.3)), 0, 22)


@pytest.fixture(scope="module")
def planes() -> tuple[Image, Image]:
    fixed, matrix = flat(), np.eye(4)
    matrix[:2, 3] = 3.0, -2.0
    values = blob_image(Grid(fixed.shape, fixed.index_to_world, 3), 0, 22, moved_by=Affine(matrix))
    still = blob_image(Grid(fixed.shape, fixed.index_to_world, 3), 0, 22)
    return tuple(Image(image.data, fixed.index_to_world, 2) for image in (values, still))


def started(pair, **options):
    """Registered with nothing before the deformation but that the images lie about on each other."""
    fixed, moving = pair
    return register(fixed, moving, parameters={"weights": "none"}, **{"align": "centres", **options})


def confined(displacement: torch.Tensor, grid: Grid, mask: Image, fixed: Grid, taper: float):
    events = Events()
    field, used = Region.of(mask, fixed, taper).confine(displacement, grid, events)
    return field, used, events.warnings


def random_displacement(shape, voxels: float, seed: int = 0) -> torch.Tensor:
    """(1, d, *shape), smooth, not folded."""
    coarse = torch.randn((1, len(shape), *(6,) * len(shape)), generator=torch.Generator().manual_seed(seed))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return voxels * torch.nn.functional.interpolate(coarse, tuple(shape), mode=mode, align_corners=True)


def determinants(field: DisplacementField) -> np.ndarray:
    """Of what ITK makes of the field."""
    return sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field.to_image()))


def test_in_the_region_it_fits_and_beyond_the_taper_it_is_the_alignment_to_the_bit(pair):
    region, whole = ball(GRID, MIDDLE), started(pair)
    found = started(pair, region=region, taper=12.0)
    points = GRID.points()[region.data[0].numpy() > 0]

    def error(transform) -> float:
        return float(np.linalg.norm(transform(points) - TRUTH(points), axis=1).mean())

    assert error(found.transform) < 0.35 * error(found.alignment)
    assert error(found.transform) < error(whole.transform) + 0.15
    np.testing.assert_array_equal(found.alignment.matrix, whole.alignment.matrix)
    used = found.report["region"]["taper_mm"]
    assert used >= 12.0
    spread = around(GRID)
    beyond = spread[away_from(region, spread) > used]
    assert len(beyond) > 2000
    np.testing.assert_array_equal(found.transform(beyond), found.alignment(beyond))
    moved = pair[1].resample(GRID, found.alignment).data[0].numpy()
    there = away_from(region, GRID.points().reshape(-1, 3)).reshape(GRID.shape) > used
    np.testing.assert_array_equal(found.warped.data[0].numpy()[there], moved[there])
    assert found.report["folding_percent"] == 0 and determinants(found.transform.parts[0]).min() > 0
    volume = float(region.data.sum()) * np.prod(GRID.spacing) / 1000
    assert found.report["region"]["volume_ml"] == pytest.approx(volume, abs=1e-3)
    assert np.prod(found.report["working_grid"]["shape"]) < 0.9 * np.prod(whole.report["working_grid"]["shape"])


@pytest.mark.parametrize(
    ("spacing", "shape"), [((1.2, 1.0, 1.7), (34, 52, 46)), ((1.0, 1.0, 1.0), (12, 17, 15)), ((3.0, 3.0, 3.0), None)]
)
def test_what_is_confined_is_itself_in_the_region_and_nothing_beyond(spacing, shape):
    """On the images' lattice, on a coarser one over the same corners, and on one with steps longer than the taper."""
    grid = GRID.resized(shape) if shape else GRID.with_spacing(spacing)
    mask, displacement = ball(GRID, MIDDLE), random_displacement(grid.shape, 0.5)
    full = DisplacementField.from_voxels(displacement, grid)
    field, used, _warnings = confined(displacement, grid, mask, GRID, 6.0)
    inside = GRID.points()[mask.data[0].numpy() > 0]
    np.testing.assert_allclose(field(inside), full(inside), atol=2e-4)
    spread = around(GRID)
    away = away_from(mask, spread)
    beyond, between = spread[away > used], spread[(away > 0) & (away < used)]
    np.testing.assert_array_equal(field(beyond), beyond)
    moves = np.linalg.norm(field(between) - between, axis=1)
    assert (moves <= np.linalg.norm(full.displacement, axis=-1).max() + 1e-4).all() and moves.mean() > 0.05


def test_a_taper_grows_as_far_as_it_takes_not_to_fold():
    """A shift of 8 mm cannot end within 4: the determinant of its fading is 1 - 8 slope."""
    mask, shift = ball(GRID, MIDDLE), torch.zeros(1, 3, *GRID.shape)
    shift[:, 2] = 8.0 / GRID.spacing[0]
    field, used, warnings = confined(shift, GRID, mask, GRID, 4.0)
    assert 12.0 < used < 40.0 and len(warnings) == 1 and f"over {used:.1f} mm" in warnings[0]
    assert determinants(field).min() > 0
    inside = GRID.points()[mask.data[0].numpy() > 0]
    np.testing.assert_allclose(np.linalg.norm(field(inside) - inside, axis=1), 8.0, atol=1e-3)
    _field, kept, warnings = confined(shift, GRID, mask, GRID, 40.0)
    assert kept == 40.0 and not warnings


def test_what_was_folded_does_not_make_the_taper_grow():
    """A fold in the region is the deformation's own; the fading adds none."""
    mask, displacement = ball(GRID, MIDDLE), torch.zeros(1, 3, *GRID.shape)
    place = GRID.place_of(Grid((1, 1, 1), np.block([[GRID.index_to_world[:3, :3], MIDDLE[:, None]], [0, 0, 0, 1]])))
    displacement[:, 1, place[0], place[1], place[2]] = 2.5
    full = determinants(DisplacementField.from_voxels(displacement, GRID))
    field, used, _warnings = confined(displacement, GRID, mask, GRID, 10.0)
    assert full.min() < 0 and used == 10.0 and determinants(field).min() < 0


def test_a_region_on_a_lattice_of_its_own_and_partly_outside(pair):
    """Finer and turned; what of it is outside of the fixed image does not count."""
    own = oblique_grid((40, 44, 48), (0.7, 0.6, 0.8), (30, 5, -20), tuple(GRID.corners()[0]))
    mask = ball(own, GRID.corners()[0], 12.0)
    region = Region.of(mask, GRID, 5.0)
    reached = region.mask.grid.points()[region.mask.data[0].numpy() > 0]
    assert np.abs(np.linalg.norm(reached - GRID.corners()[0], axis=1)).max() < 12.0 + 0.5 * np.linalg.norm(GRID.spacing)
    share = region.size()["volume_ml"] / (4 / 3 * np.pi * 12.0**3 / 1000)
    assert 0.1 < share < 0.25  # about the eighth that a corner holds, and half a voxel around it
    assert region.mask.data.shape[1:] < GRID.shape


def test_images_are_compared_in_the_region_and_cropped_before_they_are_scaled(pair, monkeypatch):
    fixed, moving = pair
    region, sizes = Region.of(ball(GRID, MIDDLE), GRID, 4.0), []
    scaled = Image.scaled
    monkeypatch.setattr(
        Image, "scaled", lambda image, *limits: sizes.append(image.data.numel()) or scaled(image, *limits)
    )
    made = make_pair(fixed, moving, SHIFT, None, None, 4000.0, torch.device("cpu"), region)
    assert len(sizes) == 2 and sizes[0] < 0.9 * fixed.data.numel() and sizes[1] < 0.9 * moving.data.numel()
    monkeypatch.undo()
    np.testing.assert_array_equal(
        made.fixed[0].numpy(), fixed.normalized().cropped(GRID.place_of(made.grid), made.shape).data
    )
    np.testing.assert_allclose(made.moving[0].numpy(), moving.normalized().resample(made.grid, SHIFT).data, atol=2e-5)
    inside = np.linalg.norm(made.grid.points() - MIDDLE, axis=-1) < RADIUS
    near = distance_transform_edt(~inside, made.grid.spacing[::-1]) <= region.context
    np.testing.assert_array_equal(made.fixed_weight[0, 0].numpy() > 0, near)
    coarse = make_pair(fixed, moving, SHIFT, None, None, 1.5, torch.device("cpu"), region)
    assert coarse.fixed.numel() < 0.4 * made.fixed.numel()
    expected = made.level_grid(coarse.shape)
    assert np.abs(expected.corners() - coarse.grid.corners()).max() < 1e-6


def test_masks_keep_their_meaning_and_combine_with_the_region(pair):
    fixed, moving = pair
    region = Region.of(ball(GRID, MIDDLE), GRID, 4.0)
    half = np.zeros(GRID.shape, np.uint8)
    half[:, : GRID.shape[1] // 2] = 1
    mask = Image.from_numpy(half, GRID.index_to_world)
    alone = make_pair(fixed, moving, SHIFT, None, None, 4000.0, torch.device("cpu"), region)
    both = make_pair(fixed, moving, SHIFT, mask, None, 4000.0, torch.device("cpu"), region)
    allowed = mask.resample(both.grid, labels=True).data[0].numpy() > 0
    np.testing.assert_array_equal(both.fixed_weight[0, 0] > 0, (alone.fixed_weight[0, 0].numpy() > 0) & allowed)
    elsewhere = ball(GRID, GRID.corners()[-1], 6.0)
    with pytest.raises(InputError, match="excludes everything in the region"):
        make_pair(fixed, moving, SHIFT, elsewhere, None, 4000.0, torch.device("cpu"), region)


@pytest.mark.parametrize("model", ["avsm", "masr", "deformgan", "bsafusion"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_dense_model_keeps_to_the_region(pair, planes, model, ndim):
    images = pair if ndim == 3 else planes
    grid = images[0].grid
    mask = ball(grid, MIDDLE if ndim == 3 else grid.center(), 9.0)
    found = started(images, model=model, region=mask, taper=8.0, align="none" if ndim == 2 else "nearest")
    used, spread = found.report["region"]["taper_mm"], around(grid, 8000)
    away = away_from(mask, spread)
    np.testing.assert_array_equal(found.transform(spread[away > used]), found.alignment(spread[away > used]))
    inside = grid.points()[mask.data[0].numpy() > 0]
    assert np.linalg.norm(found.transform(inside) - found.alignment(inside), axis=1).max() > 0.2
    assert found.report["folding_percent"] == 0
    assert ("area_mm2" if ndim == 2 else "volume_ml") in found.report["region"]


def test_a_linear_transform_fits_the_region_and_says_that_it_does_not_fade():
    """Two halves that moved apart: no linear transform fits both, and the region says which it should."""
    split = DisplacementField(np.zeros((*GRID.shape, 3), np.float32), GRID)
    split.displacement[..., 1] = np.where(np.arange(GRID.shape[1]) < 26, 2.5, -2.5)[:, None]
    fixed, moving = blob_image(GRID, 0, 22, moved_by=split), blob_image(GRID, 0, 22)
    half = np.zeros(GRID.shape, np.uint8)
    half[6:-6, 4:20, 8:-8] = 1
    region = Image.from_numpy(half, GRID.index_to_world)
    points = GRID.points()[half > 0]
    errors = {}
    for name, options in {"whole": {}, "region": {"region": region}}.items():
        found = register(fixed, moving, "ddim", align="none", parameters={"weights": "none"}, **options)
        errors[name] = float(np.linalg.norm(found.transform(points) - split(points), axis=1).mean())
    assert isinstance(found.transform, Affine) and errors["region"] < 0.5 * errors["whole"]
    assert found.report["region"]["taper_mm"] is None
    assert any("cannot fade" in sentence for sentence in found.report["warnings"])


def test_the_models_own_affine_part_is_that_of_the_whole_images(pair):
    whole = started(pair, align="moments", refine="off")
    found = started(pair, align="moments", refine="off", region=ball(GRID, MIDDLE))
    np.testing.assert_array_equal(found.alignment.matrix, whole.alignment.matrix)


def test_a_translation_is_of_all_of_the_image(pair, monkeypatch):
    seen = []

    def synthetic(pair, displacement, *_rest):
        seen.append((pair.grid, displacement))
        return pair.moving

    monkeypatch.setattr(get_model("deformgan"), "synthetic", synthetic)
    fixed, moving = pair
    how = {"align": "centres", "parameters": {"weights": "none", "translation": True}}
    found = register(fixed, moving, "deformgan", region=ball(GRID, MIDDLE), **how)
    (grid, displacement) = seen[0]
    assert np.prod(grid.shape) > 1.3 * np.prod(found.report["working_grid"]["shape"])
    field = DisplacementField.from_voxels(displacement, grid)
    points = grid.points().reshape(-1, 3)[::37]
    np.testing.assert_allclose(field(points), found.transform.parts[0](points), atol=1e-3)
    assert found.synthetic.data.shape == fixed.data.shape


def test_previews_fade_as_well(pair):
    sent = []
    events = Events(previews=Previews(sent.append, interval=0.0, share=1e9))
    mask = ball(GRID, MIDDLE)
    started(pair, region=mask, taper=4.0, events=events)
    fields = [preview.field for preview in sent if preview.field is not None and preview.stage]
    last = fields[-1]
    away = away_from(mask, last.grid.points().reshape(-1, 3)).reshape(last.grid.shape)
    assert np.abs(last.displacement[away < 0]).max() > 0.2 and not last.displacement[away > 6.0].any()


def test_one_seed_one_result(pair):
    first, second = (started(pair, region=ball(GRID, MIDDLE)) for _ in range(2))
    np.testing.assert_array_equal(first.transform.parts[0].displacement, second.transform.parts[0].displacement)


def empty() -> Image:
    return Image.from_numpy(np.zeros(GRID.shape, np.uint8), GRID.index_to_world)


@pytest.mark.parametrize(
    ("region", "taper", "sentence"),
    [
        (empty, 10.0, "no voxel above 0"),
        (lambda: ball(oblique_grid((20, 20, 20), center=(500, 0, 0)), np.array([500.0, 0, 0])), 10.0, "lies outside"),
        (lambda: ball(GRID, MIDDLE, 2.5), 10.0, "at least 8 are needed"),
        (lambda: ball(GRID, MIDDLE), -1.0, "taper is -1 mm"),
        (lambda: ball(GRID, MIDDLE), float("nan"), "taper is nan mm"),
        (lambda: ball(flat(), np.zeros(3), 12.0), 10.0, "region mask must be a 3D image"),
    ],
)
def test_what_is_no_region_is_refused_in_one_sentence(pair, region, taper, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        started(pair, region=region(), taper=taper)
    assert str(refusal.value).count("\n") == 0 and str(refusal.value).endswith(".")


def test_where_the_moving_image_shows_nothing_is_refused(pair):
    """Too far away, or empty there."""
    fixed, moving = pair
    region, cpu = Region.of(ball(GRID, MIDDLE), GRID, 4.0), torch.device("cpu")
    for away in (60.0, 600.0):
        shift = Affine(np.array([[1.0, 0, 0, away], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
        with pytest.raises(InputError, match="shows nothing in the region"):
            make_pair(fixed, moving, shift.then(SHIFT), None, None, 4000.0, cpu, region)


def test_the_command_reports_the_region_and_refuses_what_is_none(pair, tmp_path):
    for name, image in zip(("fixed", "moving"), pair, strict=True):
        image.write(tmp_path / f"{name}.nii.gz")
    ball(GRID, MIDDLE).write(tmp_path / "region.nii.gz")
    files = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "--region", tmp_path / "region.nii.gz"]
    how = ["--align", "centres", "--refine", "off", "-p", "weights=none"]
    result = run("register", *files, "-o", tmp_path / "out", "--taper", 9, *how)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["region"]["taper_mm"] >= 9.0 and report["region"]["volume_ml"] > 1.0
    assert "Region" in result.stdout and "ml, fading over" in result.stdout
    assert "ml, fading over" in (tmp_path / "out" / "report.html").read_text()
    sentence = refused("register", *files, "-o", tmp_path / "none", "--taper", -2, *how)
    assert sentence == "The taper is -2 mm; give a number of mm from 0 on." and not (tmp_path / "none").exists()


def test_random_alignments_stay_exact_beyond(pair):
    """Composites are exact whatever the alignment is."""
    mask = ball(GRID, MIDDLE)
    field, used, _warnings = confined(random_displacement(GRID.shape, 0.5), GRID, mask, GRID, 6.0)
    alignment = random_affine(3)
    spread = around(GRID)
    beyond = spread[away_from(mask, spread) > used]
    np.testing.assert_array_equal(Composite((field, alignment))(beyond), alignment(beyond))
