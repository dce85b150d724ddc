"""Registering with Deform-GAN: the translated image, the refinements, and what it does without weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from deformgan_models import moving_model, shipped
from helpers import blob_values, oblique_grid, seconds_to_stop
from regnet import zoo
from regnet.errors import InputError
from regnet.image import Grid, Image, apply_matrix
from regnet.models import deformgan_run, get_info, get_parameters, masr_run
from regnet.models.base import for_planes
from regnet.networks.deformgan import DeformGAN
from regnet.orientation import Orientation
from regnet.pair import FOREGROUND
from regnet.register import Registration, register
from safetensors.torch import save

FIXED_GRID = oblique_grid((30, 40, 36), (1.8, 1.7, 1.75), (8, 5, -6), (2, 3, -4), (1, -1, 1))
MOVING_GRID = oblique_grid((46, 40, 50), (1.7, 1.8, 1.75), (-5, 9, 12), (4, 1, 0), (-1, 1, 1))
FLAT = Grid((1, 50, 44), np.diag([1.7, 1.8, 1.0, 1.0]), 2)
PLAIN = {"align": "none", "refine": "off"}


def smooth_object(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Smooth texture at world ``points`` (N, 3) within an ellipsoid that nearly fills ``grid``, 0 outside it."""
    index = apply_matrix(grid.world_to_index, points)
    half = (np.array(grid.size)[: grid.ndim] - 1) / 2
    radius = np.linalg.norm(index[:, : grid.ndim] / half - 1, axis=1) / 0.9
    values = (0.3 + blob_values(points - grid.center(), 3, 60.0)) / (1 + np.exp(25 * (radius - 1)))
    return values.clip(0.03) - 0.03


def shown(grid: Grid, ndim: int = 3, shift: tuple[float, float, float] = (0, 0, 0), other: bool = False) -> Image:
    """The object, moved by ``shift``, on a grid; ``other`` is another contrast."""
    home = FLAT if ndim == 2 else FIXED_GRID
    values = smooth_object(grid.points().reshape(-1, 3) - shift, home)
    if other:
        values = values * (1.8 - values)
    return Image.from_numpy(values.reshape(grid.shape).astype(np.float32), grid.index_to_world, ndim)


SHIFT = (2.0, -1.5, 0.0)


def contrasts(ndim: int = 3) -> tuple[Image, Image]:
    """Two contrasts of one object that nearly fills the fixed grid, one of them a little shifted."""
    fixed, moving = (FLAT, FLAT) if ndim == 2 else (FIXED_GRID, MOVING_GRID)
    return shown(fixed, ndim), shown(moving, ndim, SHIFT, other=True)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch) -> Callable[..., DeformGAN]:
    """Makes a model's weights the ones that are found."""

    def put(model: DeformGAN, variant: str = "") -> DeformGAN:
        folder = tmp_path / "deformgan"
        folder.mkdir(exist_ok=True)
        data = save(shipped(model))
        name = variant or for_planes("to-t1", model.dims)
        (folder / f"{name}.safetensors").write_bytes(data)
        record = {"sha256": hashlib.sha256(data).hexdigest(), "config": model.config()}
        (folder / f"{name}.json").write_text(json.dumps(record))
        monkeypatch.setenv(zoo.ENVIRONMENT_VARIABLE, str(tmp_path))
        return model.eval()

    return put


def smooth_model(dims: int = 3) -> DeformGAN:
    """One that moves things by a voxel or so, smoothly."""
    model = moving_model(dims, resolution="half", diffeomorphic=True, generator_depth=2)
    with torch.no_grad():
        model.registration.flow.weight.mul_(0.3 if dims == 3 else 2.0)
    return model


def by_hand(model: DeformGAN, result: Registration, fixed: Image, moving: Image) -> np.ndarray:
    """The generator applied to the moving image as SimpleITK resamples it by the result's transform."""
    grid = fixed.grid
    warped = sitk.Resample(
        moving.normalized().to_sitk(), fixed.to_sitk(), result.transform.to_sitk(), sitk.sitkLinear, 0.0
    )
    image = torch.from_numpy(sitk.GetArrayFromImage(warped))[None, None]
    turn = Orientation.of(grid)
    with torch.no_grad():
        made = turn.back(model.generator(turn.apply(image)))
    return (made * (image > FOREGROUND))[0, 0].numpy()


@pytest.mark.parametrize(("ndim", "align"), [(3, "none"), (3, "centres"), (2, "none")])
def test_the_synthetic_image_is_what_the_generator_makes_of_the_registered_one(installed, monkeypatch, ndim, align):
    # The networks see the whole lattice as it is: nothing but the interpolation differs.
    monkeypatch.setattr(deformgan_run, "SPACING", {2: 1.6, 3: 1.6})
    fixed, moving = contrasts(ndim)
    model = installed(smooth_model(ndim))
    choice = {"translation": True}
    result = register(fixed, moving, "deformgan", align=align, refine="off", parameters=choice)
    assert result.report["weights"]["variant"] == for_planes("to-t1", ndim) and result.report["warnings"] == []
    assert result.report["working_grid"]["shape"] == list(fixed.grid.shape)
    synthetic = result.synthetic
    assert synthetic.grid.same_as(fixed.grid) and synthetic.ndim == ndim and synthetic.data.shape == fixed.data.shape
    found = synthetic.data[0].numpy() if ndim == 3 else synthetic.data[0, 0].numpy()
    assert 0.0 <= found.min() < found.max() <= 1.0
    expected = by_hand(model, result, fixed, moving)
    both = (found > 0) & (expected > 0)
    assert both.mean() > 0.3 and np.corrcoef(found[both], expected[both])[0, 1] > 0.97
    assert ((found > 0.01) == (expected > 0.01)).mean() > 0.95
    # And not of the moving image as it was.
    points = fixed.grid.points().reshape(-1, 3)
    moved = np.linalg.norm(result.transform(points) - result.alignment(points), axis=1)
    assert 0.5 < np.percentile(moved, 90) < 5.0
    still = by_hand(model, register_nothing(fixed, moving, align), fixed, moving)
    assert np.corrcoef(found[both], still[both])[0, 1] < 0.9


def register_nothing(fixed: Image, moving: Image, align: str) -> Registration:
    return register(fixed, moving, "deformgan", align=align, refine="off", parameters={"weights": "none"})


def test_fine_images_are_translated_at_the_generators_spacing(installed, monkeypatch):
    """And the result is brought back to the fixed lattice."""
    installed(smooth_model())
    grid = FIXED_GRID.resized((45, 62, 58))
    fixed, moving = shown(grid), contrasts()[1]
    shapes = []
    translation = deformgan_run.Networks.translation

    def watched(self, image, orientation, events):
        shapes.append(tuple(image.shape[2:]))
        return translation(self, image, orientation, events)

    monkeypatch.setattr(deformgan_run.Networks, "translation", watched)
    result = register(fixed, moving, "deformgan", **PLAIN, parameters={"translation": True})
    assert result.synthetic.grid.same_as(grid)
    spacings = [(np.array(grid.shape) - 1) * grid.spacing[::-1] / (np.array(shape) - 1) for shape in shapes]
    assert [float(spacing.mean()) for spacing in spacings] == pytest.approx([deformgan_run.SPACING[3]], abs=0.1)


@pytest.mark.parametrize("refine", ["off", 2])
def test_there_is_none_unless_it_is_asked_for(installed, refine):
    fixed, moving = contrasts(2)
    installed(smooth_model(2))

    def found(**choice) -> Registration:
        choice["refine_with"] = "mind"
        return register(fixed, moving, "deformgan", align="none", refine=refine, parameters=choice)

    assert found().synthetic is None
    assert found(translation=True).synthetic is not None
    without = found(translation=True, weights="none")
    assert without.synthetic is None and without.report["weights"] is None and without.report["warnings"] == []


@pytest.mark.parametrize("lacking", ["not installed", "not for 2D images"])
def test_without_weights_it_registers_says_so_and_translates_nothing(installed, monkeypatch, lacking):
    fixed, moving = contrasts(2)
    if lacking == "not installed":
        monkeypatch.setattr(zoo, "model_folders", list)
    else:
        installed(smooth_model(3), "to-t1-2d")
    choice = {"translation": True, "refine_with": "mind"}
    result = register(fixed, moving, "deformgan", align="none", refine=3, parameters=choice)
    assert result.synthetic is None and result.report["weights"] is None
    assert result.report["warnings"] == [
        f"The trained weights 'to-t1-2d' of Deform-GAN are {lacking}; the registration does "
        f"{get_info('deformgan').without_weights}."
    ]
    assert get_info("deformgan").without_weights.endswith("translates nothing")
    assert get_info("deformgan").translates and not get_info("avsm").translates


def left(result: Registration, fixed: Image) -> float:
    """Mean distance in mm to where the object has been moved."""
    inside = fixed.grid.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.1]
    return float(np.linalg.norm(result.transform(inside) - inside - SHIFT, axis=1).mean())


@pytest.mark.parametrize("kind", ["mind", "edges"])
def test_without_weights_descriptors_find_the_deformation(kind):
    fixed, moving = contrasts(2)
    choice = {"weights": "none", "refine_with": kind}
    result = register(fixed, moving, "deformgan", align="none", parameters=choice)
    assert left(result, fixed) < 0.7 * np.linalg.norm(SHIFT)


# Refinement


@pytest.fixture
def compared(monkeypatch) -> list[dict]:
    """What the refinement is asked to compare, and with what else."""
    asked, refine_with = [], masr_run.refine_with

    def watched(kind, pair, displacement, events, how, regularization):
        asked.append({"kind": kind, "start": displacement, "how": how, "stiffness": regularization})
        return refine_with(kind, pair, displacement, events, how, regularization)

    monkeypatch.setattr(masr_run, "refine_with", watched)
    return asked


KINDS = [entry for entry in get_parameters("deformgan").describe() if entry["name"] == "refine_with"][0]["choices"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_refinement_goes_on_from_the_prediction(installed, compared, kind):
    fixed, moving = contrasts()
    installed(smooth_model())
    choice = {"refine_with": kind, "regularization": 2.0}
    plain = register(fixed, moving, "deformgan", **PLAIN, parameters=choice)
    assert not compared
    refined = register(fixed, moving, "deformgan", align="none", refine=4, parameters=choice)
    (given,) = compared
    assert (given["kind"], given["how"], given["stiffness"]) == (kind, 4, 2.0)
    assert float(given["start"].abs().max()) > 0.5
    points = fixed.grid.points().reshape(-1, 3)[::97]
    assert np.linalg.norm(refined.transform(points) - plain.transform(points), axis=1).max() > 0.3
    assert refined.report["parameters"]["refine_with"] == kind and refined.report["folding_percent"] == 0


@pytest.mark.parametrize(("ndim", "kind"), [(3, KINDS[0]), (2, "edges")])
def test_the_default_is_the_first_choice_and_in_planes_what_needs_no_weights(compared, ndim, kind):
    fixed, moving = contrasts(ndim)
    result = register(fixed, moving, "deformgan", align="none", refine=1, parameters={"weights": "none"})
    assert [(given["kind"], given["how"], given["stiffness"]) for given in compared] == [(kind, 1, 1.0)]
    assert result.report["warnings"] == []
    assert float(compared[0]["start"].abs().max()) == 0


def test_other_values_are_refused():
    fixed, moving = contrasts(2)
    for wrong, words in (
        ({"refine_with": "nmi"}, rf"'refine_with' is 'nmi'; choose one of {', '.join(KINDS)}\.$"),
        ({"weights": "t2"}, r"'weights' is 't2'; choose one of to-t1, none\.$"),
        ({"translation": "yes"}, "'translation' must be a bool"),
        ({"regularization": 0.0}, "between 0.1 and 10.0"),
        ({"iterations": 3}, "no parameter named 'iterations'"),
    ):
        with pytest.raises(InputError, match=words):
            register(fixed, moving, "deformgan", parameters=wrong)
    with pytest.raises(InputError, match="give auto, off, or a number"):
        register(fixed, moving, "deformgan", refine="some")


@pytest.mark.parametrize("fraction", [0.22, 0.5, 0.9])
def test_a_cancel_is_obeyed_at_every_stage(installed, fraction):
    installed(moving_model(3, generator_width=16, resolution="half"))
    fixed, moving = contrasts()

    def work(events):
        choice = {"translation": True, "refine_with": "mind"}
        register(fixed, moving, "deformgan", align="none", parameters=choice, events=events)

    assert seconds_to_stop(work, fraction) < 0.5
