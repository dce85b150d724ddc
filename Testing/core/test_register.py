"""The whole pipeline on world images: accuracy, direction, determinism, memory, masks and trained weights."""

from __future__ import annotations

import functools
import hashlib
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers import blob_image, oblique_grid, random_affine, seconds_to_stop, smooth_field, threads
from regnet.errors import InputError, ModelError
from regnet.image import Grid, Image
from regnet.models import MODEL_NAMES, get_info, get_parameters
from regnet.networks.avsm import AVSM, AVSMConfig
from regnet.register import register
from safetensors.torch import save

FIXED_GRID = oblique_grid((44, 50, 56), (1.0, 1.1, 1.2), (12, 5, -6), (2, 3, -4), (1, -1, 1))
MOVING_GRID = oblique_grid((52, 40, 60), (1.2, 1.1, 1.3), (-5, 9, 20), (6, 1, 2), (-1, 1, 1))


@functools.cache
def world_pair(seed=3):
    """Images on different oblique lattices, related by a known field and affine, with the truth."""
    truth = smooth_field(FIXED_GRID, 3.5, seed, sigma=7.0).then(random_affine(seed, degrees=6, shift=4))
    return blob_image(FIXED_GRID, 3, moved_by=truth), blob_image(MOVING_GRID, 3), truth


@pytest.fixture(scope="module")
def registered():
    fixed, moving, truth = world_pair()
    with threads(2):
        return fixed, moving, truth, register(fixed, moving)


def test_the_truth_is_found_in_the_right_direction(registered):
    fixed, _, truth, result = registered
    inside = FIXED_GRID.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.1]
    before = np.linalg.norm(inside - truth(inside), axis=1).mean()
    after = np.linalg.norm(result.transform(inside) - truth(inside), axis=1).mean()
    assert before > 3.0
    assert after < 0.8
    assert np.linalg.norm(result.alignment(inside) - truth(inside), axis=1).mean() > 1.5 * after


def test_warped_is_what_simpleitk_makes_of_the_written_transform(registered, tmp_path):
    fixed, moving, _, result = registered
    result.transform.write(tmp_path / "transform.h5")
    read = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    expected = sitk.GetArrayFromImage(sitk.Resample(moving.to_sitk(), fixed.to_sitk(), read, sitk.sitkLinear, 0.0))
    assert np.abs(result.warped.data[0].numpy() - expected).max() < 5e-3
    assert expected.std() > 0.1


def test_the_inverse_undoes_the_transform(registered):
    fixed, _, _, result = registered
    inside = FIXED_GRID.points().reshape(-1, 3)[fixed.data[0].numpy().ravel() > 0.1][::37]
    error = np.linalg.norm(result.inverse(result.transform(inside)) - inside, axis=1)
    assert error.max() < 0.4 and error.mean() < 0.05


def test_the_report_tells_what_happened(registered):
    report = registered[3].report
    assert json.loads(json.dumps(report)) == report
    assert report["similarity_after"] > report["similarity_before"] + 0.2
    assert report["folding_percent"] == 0 and 0 < report["sdlogj"] < 0.6
    assert report["model"] == "avsm" and report["device"] == "cpu" and report["warnings"] == []
    assert report["weights"]["variant"] == "brain"
    assert report["time_s"]["total"] >= report["time_s"]["align"] > 0
    assert report["peak_memory_mb"] > 50
    assert report["working_grid"]["shape"] == [44, 50, 56]


def test_the_same_input_gives_the_same_bits(registered):
    fixed, moving, _, first = registered
    with threads(2):
        again = register(fixed, moving)
    assert torch.equal(again.warped.data, first.warped.data)


def test_refine_off_is_smoother_and_less_similar(registered):
    fixed, moving, _, refined = registered
    plain = register(fixed, moving, refine="off")
    assert plain.report["similarity_after"] < refined.report["similarity_after"]
    assert plain.report["similarity_after"] > plain.report["similarity_before"]
    assert plain.report["sdlogj"] < refined.report["sdlogj"]


def test_both_similarities_of_the_momentum_improve_the_match():
    fixed, moving, _ = world_pair()
    aligned = register(fixed, moving, refine="off", parameters={"weights": "none", "iterations": 0})
    found = []
    for similarity in ("lncc", "mk-lncc"):
        choice = {"weights": "none", "similarity": similarity}
        result = register(fixed, moving, refine="off", parameters={**choice, "iterations": 12})
        assert result.report["similarity_after"] > aligned.report["similarity_after"] + 0.01
        assert result.report["folding_percent"] == 0
        found.append(result.warped.data)
    assert not torch.equal(*found)


def test_little_memory_means_a_coarser_grid_and_a_sentence():
    fixed, moving, truth = world_pair()
    # The smallest limit allowed still holds this pair, so a larger one is made of it.
    wide = Grid((130, 140, 150), FIXED_GRID.index_to_world @ np.diag([0.36, 0.35, 0.33, 1.0]))
    fine = fixed.resample(wide)
    quick = {"weights": "none", "iterations": 1}
    result = register(fine, moving, refine="off", memory_mb=64, parameters=quick)
    spacing = min(result.report["working_grid"]["spacing"])
    assert spacing > 1.5 * wide.spacing.min()
    assert any("instead of" in warning and "64 MB" in warning for warning in result.report["warnings"])
    assert result.warped.grid.same_as(wide)


@pytest.mark.parametrize(
    ("model", "parameters", "fraction"),
    [
        ("avsm", {}, 0.05),
        ("avsm", {}, 0.25),
        ("avsm", {}, 0.6),
        ("avsm", {"weights": "none"}, 0.4),
        ("masr", {}, 0.25),
        ("masr", {}, 0.6),
    ],
)
def test_cancel_stops_within_half_a_second_at_every_stage(model, parameters, fraction):
    fixed, moving, _ = world_pair()

    def work(events):
        register(fixed, moving, model, align="centres", parameters=parameters, events=events)

    assert seconds_to_stop(work, fraction) < 0.5


def plane(image: Image) -> Image:
    """The middle slice as a 2D image."""
    middle = image.data.shape[1] // 2
    return Image.from_numpy(image.data[0, middle : middle + 1].numpy(), np.eye(4), 2)


def test_trained_weights_are_found_verified_and_used(tmp_path, monkeypatch):
    fixed, moving, _ = world_pair()
    network = AVSM(AVSMConfig(image_shape=(32, 48, 48), affine_steps=2))
    with torch.no_grad():
        network.momentum.last.bias[1] = 0.02
    folder = tmp_path / "avsm"
    folder.mkdir()
    data = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    (folder / "brain.safetensors").write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "config": network.config()}
    (folder / "brain.json").write_text(json.dumps(record))
    monkeypatch.setenv("REGNET_MODELS", str(tmp_path))
    quiet, how = {"iterations": 0, "affine_steps": 2}, {"align": "centres", "refine": "off"}
    with_weights = register(fixed, moving, **how, parameters=quiet)
    assert with_weights.report["weights"]["sha256"] == record["sha256"]
    without = register(fixed, moving, **how, parameters={**quiet, "weights": "none"})
    assert without.report["weights"] is None and without.report["warnings"] == []
    points = FIXED_GRID.points().reshape(-1, 3)[::501]
    assert np.linalg.norm(with_weights.transform(points) - without.transform(points), axis=1).max() > 0.2
    flat = register(plane(fixed), plane(moving), align="none", refine="off", parameters=quiet)
    assert flat.report["weights"] is None  # 3D networks
    (folder / "brain.safetensors").write_bytes(data[:-1] + b"x")
    with pytest.raises(ModelError, match="damaged"):
        register(fixed, moving, **how, parameters=quiet)


def test_without_its_weights_a_model_works_and_says_so(monkeypatch):
    monkeypatch.setattr("regnet.zoo.model_folders", list)
    fixed, moving, _ = world_pair()
    result = register(fixed, moving, align="none", refine="off", parameters={"iterations": 1})
    assert result.report["weights"] is None
    assert result.report["warnings"] == [
        "The trained weights 'brain' of AVSM are not installed; the registration does without them, optimised on this "
        "pair."
    ]


def test_two_dimensional_images_register():
    matrix = np.diag([1.0, 1.2, 1.0, 1.0])
    grid = Grid((1, 70, 84), matrix, 2)
    points = grid.points() - grid.center()
    from helpers import blob_values

    fixed = Image.from_numpy(blob_values(points, 4, 28.0).astype(np.float32), matrix, 2)
    shifted = points * np.array([1.06, 0.96, 1.0]) + np.array([4.0, -3.0, 0.0])
    moving = Image.from_numpy(blob_values(shifted, 4, 28.0).astype(np.float32), matrix, 2)
    result = register(fixed, moving)
    assert result.transform.ndim == 2 and result.warped.data.shape == fixed.data.shape
    inside = (fixed.data > 0.1) & (result.warped.data > 0)
    error = (result.warped.data - fixed.data).abs()[inside].mean()
    assert error < 0.3 * (moving.data - fixed.data).abs()[inside].mean()
    assert result.report["folding_percent"] == 0


def test_models_describe_themselves_and_their_parameters_check_themselves():
    assert "avsm" in MODEL_NAMES
    assert get_info("avsm").dimensions == (2, 3)
    parameters = get_parameters("avsm")
    for entry in parameters.describe():
        assert entry["help"].endswith(".") and entry["label"]
    assert parameters.from_dict({"iterations": 7.0}).iterations == 7
    for wrong, words in [
        ({"speed": 3}, "no parameter named 'speed'"),
        ({"iterations": -1}, "between 0 and 500"),
        ({"iterations": 2.5}, "must be a int"),
        ({"similarity": "magic"}, "choose one of"),
    ]:
        with pytest.raises(InputError, match=words):
            parameters.from_dict(wrong)
    with pytest.raises(ModelError, match="no model named 'nonsense'"):
        get_info("nonsense")


def test_an_optimisation_works_after_inference_on_the_same_grids():
    from regnet import spatial

    image = torch.rand(1, 1, 13, 17, 19)
    with torch.inference_mode():
        spatial.reduce(image, (7, 9, 10))
        spatial.resize(image, (15, 18, 20))
    image.requires_grad_(True)
    total = spatial.reduce(image, (7, 9, 10)).sum() + spatial.resize(image, (15, 18, 20)).sum()
    total.backward()
    assert image.grad.abs().min() > 0
