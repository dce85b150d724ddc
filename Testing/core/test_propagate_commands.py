"""Carrying segmentations from outside: ``regnet propagate`` and the worker's ``propagate``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import regnet.register
import SimpleITK as sitk
import torch
from cli_pair import FIXED, MOVING, TRUTH, done_at_once, run, write_pair
from helpers import blob_image, random_affine, smooth_field
from label_examples import cells, shift
from refusals import refused
from regnet.image import Grid, Image
from regnet.label_maps import carry_labels
from regnet.propagate_files import unique_names
from regnet.protocol import ArrayFile, Step
from regnet.segmentation import Segment, Segmentation
from regnet.segmentation_files import read_segmentation, write_segmentation
from regnet.transform import Affine, Composite, DisplacementField, read_transform
from worker_host import GRID, entry, quick


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    labels = Image.read(folder / "moving_labels.nii.gz", labels=True)
    segments = [Segment(9, 0, "core", {"Color": "1 0 0"}), Segment(5, 0, "shell", {"ID": "s"})]
    write_segmentation(Segmentation.of(labels, segments), folder / "moving.seg.nrrd")
    shift(3.0, 0.0, 0.0).write(folder / "shift.tfm")
    return folder


def test_one_target_with_its_registration(files, tmp_path, monkeypatch):
    asked: dict = {}
    monkeypatch.setattr(regnet.register, "register", done_at_once(asked))
    options = ("--model", "masr", "--descriptor", "mind", "--align", "rigid", "--refine", "7", "--seed", 4, "-q")
    out = tmp_path / "new" / "results"
    scored = ("--reference", files / "fixed_labels.nii.gz")
    arguments = (files / "moving.nrrd", files / "moving.seg.nrrd", files / "fixed.nii.gz", "-o", out)
    printed = json.loads(run("propagate", *arguments, *options, *scored, "--json").stdout)
    assert asked["fixed"].grid.same_as(FIXED, 1e-3) and asked["moving"].grid.same_as(MOVING, 1e-3)
    assert asked["model"] == "masr" and asked["align"] == "rigid" and asked["refine"] == 7 and asked["seed"] == 4
    assert asked["parameters"] == {"descriptor": "mind"}

    names = {path.name for path in out.iterdir()}
    assert names == {"fixed_propagated.seg.nrrd", "fixed_transform.h5", "report.json"}
    report = json.loads((out / "report.json").read_text())
    assert {"output": str(out), **report} == printed
    target = report["targets"][0]
    assert target["file"] == "fixed_propagated.seg.nrrd" and target["transform"] == "fixed_transform.h5"
    assert target["registration"]["model"] == "avsm" and target["target"] == "fixed.nii.gz"
    assert [row["name"] for row in target["segments"]] == ["core", "shell"]
    assert target["mean"]["dice"] > 0.93 and target["mean"]["hd95_mm"] < 2.5
    found = read_segmentation(out / "fixed_propagated.seg.nrrd")
    assert [(s.name, s.value) for s in found.segments] == [("core", 9), ("shell", 5)]
    assert found.segments[0].fields["Color"] == "1 0 0" and found.segments[1].fields["ID"] == "s"
    labels = Image.read(files / "moving_labels.nii.gz", labels=True)
    expected = carry_labels(labels, asked["fixed"].grid, TRUTH, (9, 5))
    torch.testing.assert_close(found.labels.data, expected.data)
    points = FIXED.points().reshape(-1, 3)
    np.testing.assert_allclose(read_transform(out / "fixed_transform.h5")(points), TRUTH(points), atol=1e-3)


def test_several_targets_with_given_transforms(files, tmp_path):
    """Two files of one name in two folders, one segment of two, label maps out; the tables name what came out."""
    other = tmp_path / "second" / "fixed.nii.gz"
    other.parent.mkdir()
    blob_image(FIXED, 1).write(other)
    common = ("propagate", files / "moving.nrrd", files / "moving.seg.nrrd", files / "fixed.nii.gz", other)
    given = ("-t", files / "truth.h5", "-t", files / "shift.tfm", "--segment", "core", "--format", "nii.gz", "-q")
    out = tmp_path / "out"
    shown = run(*common, *given, "-o", out).stdout
    assert "→ 2 targets" in shown and "time [s]" in shown and "1 of 1" in shown
    folder = files.resolve().name
    assert {path.name for path in out.iterdir()} == {
        f"{folder}_fixed_propagated.nii.gz", "second_fixed_propagated.nii.gz", "report.json",
    }  # fmt: skip
    labels = Image.read(files / "moving_labels.nii.gz", labels=True)
    core = Image(torch.where(labels.data == 9, 9, 0), labels.index_to_world)
    for name, path, transform in ((f"{folder}_fixed", files / "fixed.nii.gz", TRUTH), ("second_fixed", other, None)):
        grid = Image.read(path).grid
        expected = carry_labels(core, grid, transform or shift(3.0, 0.0, 0.0))
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{name}_propagated.nii.gz")))
        np.testing.assert_array_equal(found, expected.data[0].numpy())
    back = tmp_path / "back"
    run(*common[:-1], "-t", files / "shift.tfm", "--inverse", "-s", "9", "--format", "nii.gz", "-q", "-o", back)
    grid = Image.read(files / "fixed.nii.gz").grid
    expected = carry_labels(core, grid, shift(-3.0, 0.0, 0.0))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(back / "fixed_propagated.nii.gz")))
    np.testing.assert_array_equal(found, expected.data[0].numpy())


def write_series(path: Path, count: int = 3) -> None:
    frames = []
    for n in range(count):
        frames.append(blob_image(FIXED, n).to_sitk())
    series = sitk.JoinSeries(frames, 10.0, 0.5)
    sitk.WriteImage(series, str(path))


def test_a_4d_file_gives_a_4d_file(files, tmp_path):
    write_series(tmp_path / "series.nii.gz")
    steps = [files / "shift.tfm", files / "shift.tfm"]
    out = tmp_path / "out"
    arguments = (tmp_path / "series.nii.gz", files / "fixed_labels.nii.gz", "--along", "chain", "--frame", 0)
    run("propagate", *arguments, "-t", steps[0], "-t", steps[1], "-o", out, "-q")
    assert {path.name for path in out.iterdir()} == {"labels_propagated.nii.gz", "report.json"}
    found = sitk.ReadImage(str(out / "labels_propagated.nii.gz"))
    assert found.GetSize() == (*FIXED.size, 3) and found.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(found.GetSpacing()[3], 0.5)
    labels = Image.read(files / "fixed_labels.nii.gz", labels=True)
    for n in range(3):
        expected = carry_labels(labels, labels.grid, shift(3.0 * n, 0.0, 0.0)).data[0].numpy()
        # Grids that went through a NIfTI header differ in the last digits.
        assert (sitk.GetArrayFromImage(found)[n] != expected).mean() < 2e-3
    report = json.loads((out / "report.json").read_text())
    assert report["along"] == "chain" and [entry["target"] for entry in report["targets"]] == [
        "frame_000", "frame_001", "frame_002",
    ]  # fmt: skip

    # The result, taken as the reference, scores itself perfectly; named segments get a file for each frame.
    scored = ("--reference", out / "labels_propagated.nii.gz", "--format", "seg.nrrd", "--json", "-q")
    again = tmp_path / "again"
    printed = run("propagate", *arguments, "-t", steps[0], "-t", steps[1], "-o", again, *scored).stdout
    assert [entry["mean"]["dice"] for entry in json.loads(printed)["targets"]] == [1.0, 1.0, 1.0]
    assert len(list(again.glob("frame_00?_propagated.seg.nrrd"))) == 3


def test_frames_as_files_are_registered_to_the_segmented_one(files, tmp_path, monkeypatch):
    pairs = []

    def register(fixed, moving, *, events, **options):
        pairs.append((float(fixed.data.sum()), float(moving.data.sum())))
        return regnet.register.Registration(shift(2.0, 0.0, 0.0), fixed, {"model": "x"}, Affine.identity())

    monkeypatch.setattr(regnet.register, "register", register)
    sums = []
    for n in range(3):
        blob_image(FIXED, n).write(tmp_path / f"t{n}.nrrd")
        sums.append(float(Image.read(tmp_path / f"t{n}.nrrd").data.sum()))
    frames = [tmp_path / f"t{n}.nrrd" for n in range(3)]
    common = ("propagate", frames[0], files / "fixed_labels.nii.gz", *frames[1:], "--frame", 1, "-q", "-o")
    run(*common, tmp_path / "a", "--along", "reference")
    assert pairs == [(sums[2], sums[1]), (sums[0], sums[1])]
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"report.json", "frame_000_transform.h5", "frame_002_transform.h5"} | {
        f"frame_00{n}_propagated.nii.gz" for n in range(3)
    }


def test_bad_input_is_one_sentence_and_leaves_nothing(files, tmp_path):
    scan, labels, target = files / "moving.nrrd", files / "moving_labels.nii.gz", files / "fixed.nii.gz"
    write_series(tmp_path / "series.nii.gz", 2)
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\nnothing")
    given, out = ("-t", files / "truth.h5"), ("-o", tmp_path / "out", "-q")

    def sentence(*arguments) -> str:
        text = refused("propagate", *arguments, *out)
        assert not (tmp_path / "out").exists()
        return text

    assert "single frame; name the targets" in sentence(scan, labels)
    assert "at least two frames" in sentence(scan, labels, "--along", "chain")
    assert "takes no targets" in sentence(tmp_path / "series.nii.gz", labels, target)
    assert "no frame 7" in sentence(tmp_path / "series.nii.gz", labels, "--frame", 7)
    assert "no segment 'liver'" in sentence(scan, labels, target, "--segment", "liver", *given)
    assert "There are 1 targets and 2 transforms" in sentence(scan, labels, target, *given, *given)
    assert "reference segmentations" in sentence(
        scan, labels, target, *given, "--reference", labels, "--reference", labels
    )
    assert "cannot be read as an image" in sentence(scan, tmp_path / "broken.nrrd", target, *given)
    assert "no file or folder" in sentence(scan, labels, tmp_path / "nowhere.nii", *given)
    assert "not whole numbers" in sentence(scan, scan, target, *given)
    assert "no interpolation 'cubic'" in sentence(scan, labels, target, "--interpolation", "cubic")
    assert "no format 'png'" in sentence(scan, labels, target, "--format", "png")
    assert "There is no model" in sentence(scan, labels, target, "--model", "nothing")
    assert "Masks cannot be used with a chain" in sentence(
        scan, labels, target, "--along", "chain", "--scan-mask", labels
    )
    two = np.stack([np.ones(MOVING.shape, np.uint8)] * 2)
    layers = Segmentation.of(Image.from_numpy(two, MOVING.index_to_world), [Segment(1, 0, "a"), Segment(1, 1, "b")])
    write_segmentation(layers, tmp_path / "two.seg.nrrd")
    assert "nii.gz cannot hold" in sentence(scan, tmp_path / "two.seg.nrrd", target, "--format", "nii.gz", *given)
    inside = tmp_path / "frame_propagated.nii.gz"
    inside.write_bytes(labels.read_bytes())
    text = refused("propagate", scan, inside, target.rename(files / "frame.nii.gz"), *given, "-o", tmp_path, "-q")
    (files / "frame.nii.gz").rename(target)
    assert "would overwrite" in text and inside.read_bytes() == labels.read_bytes()


def test_results_have_names_of_their_own():
    paths = [Path("/a/T1.nii.gz"), Path("/b/T2.nrrd"), Path("/b/x.y.seg.nrrd")]
    assert unique_names(paths) == ["T1", "T2", "x.y"]
    assert unique_names([Path("/a/T1.nii.gz"), Path("/b/t1.nii")]) == ["a_T1", "b_t1"]
    assert unique_names([Path("/a/x/T1.nii"), Path("/b/x/T1.nii")]) == ["001_T1", "002_T1"]


# The worker -----------------------------------------------------------------------------------------------------------


def ask(folder: Path, job: str = "p", **changes) -> dict:
    target = {"shape": list(GRID.shape), "index_to_world": GRID.index_to_world.tolist()}
    request = {"command": "propagate", "id": job, "folder": str(folder), "labels": entry("in.npy"), "target": target}
    return {**request, **changes}


def test_the_worker_carries_labels_through_known_transforms(start, tmp_path):
    labels = cells(GRID)
    np.save(tmp_path / "in.npy", labels.data[0].numpy().astype(np.uint16))
    steps = [Composite((smooth_field(GRID, 2.0, seed=n), random_affine(n, degrees=4))) for n in (1, 2)]
    sent = []
    for n, step in enumerate(steps):
        field, affine = step.parts
        np.save(tmp_path / f"field{n}.npy", field.displacement)
        sent.append({"affine": affine.matrix.tolist(), "displacement": entry(f"field{n}.npy")})
    target = Grid((18, 22, 26), GRID.cropped((1, 1, 2), (1, 1, 1)).index_to_world)
    lattice = {"shape": list(target.shape), "index_to_world": target.index_to_world.tolist()}
    order = [{"value": int(v), "name": f"cell {v}"} for v in labels.data.unique() if v][::-1]
    host = start(quick)
    host.send(**ask(tmp_path, target=lattice, transforms=sent, segments=order))
    event = host.until("done", id="p")
    found = event["result"]["labels"]
    expected = carry_labels(labels, target, steps[0].then(steps[1]), [part["value"] for part in order])
    array = np.load(tmp_path / found["file"])
    assert array.dtype == np.uint8 and array.shape == (1, *target.shape)
    np.testing.assert_array_equal(array, expected.data.numpy())
    np.testing.assert_allclose(found["index_to_world"], target.index_to_world)
    assert [row["name"] for row in event["result"]["report"]["segments"]] == [part["name"] for part in order]


def test_the_worker_takes_layers_and_scores(start, tmp_path):
    first = np.zeros((2, *GRID.shape), np.int16)
    first[0, 4:12, 5:15, 6:18], first[1, 8:14, 5:15, 6:18] = 300, 300
    np.save(tmp_path / "in.npy", first)
    segments = [{"value": 300, "name": "organ"}, {"value": 300, "layer": 1, "name": "lesion"}]
    host = start(quick)
    host.send(**ask(tmp_path, segments=segments, reference=entry("in.npy")))
    result = host.until("done")["result"]
    array = np.load(tmp_path / "labels.npy")
    np.testing.assert_array_equal(array, first)
    assert array.dtype == np.int16 and result["report"]["mean"] == {"dice": 1.0, "hd95_mm": 0.0, "segments": 2}
    assert [row["share_in_view"] for row in result["report"]["segments"]] == [1.0, 1.0]


def test_many_steps_are_made_one_where_their_fields_take_too_much_memory(tmp_path, monkeypatch):
    from regnet import propagate, worker_files

    steps = []
    for n in range(4):
        np.save(tmp_path / f"field{n}.npy", smooth_field(GRID, 2.0, seed=n).displacement)
        affine = random_affine(n, degrees=2).matrix.tolist()
        steps.append(Step(affine=affine, displacement=ArrayFile(**entry(f"field{n}.npy"))))
    whole = worker_files.read_steps(tmp_path, steps, GRID)
    monkeypatch.setattr(propagate, "MOST_FIELD_BYTES", 1)
    bounded = worker_files.read_steps(tmp_path, steps, GRID)
    fields = [[part for part in way.parts if isinstance(part, DisplacementField)] for way in (whole, bounded)]
    assert [len(found) for found in fields] == [4, 1]
    points = GRID.cropped((3, 3, 3), tuple(n - 6 for n in GRID.shape)).points().reshape(-1, 3)[::37]
    np.testing.assert_allclose(bounded(points), whole(points), atol=0.15)


def test_the_worker_scores_by_a_reference_with_values_of_its_own(start, tmp_path):
    labels, truth = np.zeros(GRID.shape, np.uint8), np.zeros((2, *GRID.shape), np.uint8)
    labels[4:8, 5:15, 6:18], labels[8:12, 5:15, 6:18] = 1, 2
    truth[0, 4:8, 5:15, 6:12] = 2  # half of the organ, under the other's value
    truth[1, 8:12, 5:15, 6:18] = 1
    np.save(tmp_path / "in.npy", labels)
    np.save(tmp_path / "truth.npy", truth)
    segments = [{"value": 1, "name": "organ"}, {"value": 2, "name": "vessel"}, {"value": 3, "name": "bone"}]
    own = [{"value": 1, "layer": 1, "name": "vessel"}, {"value": 2, "name": "organ"}]
    host = start(quick)
    host.send(**ask(tmp_path, segments=segments, reference=entry("truth.npy"), reference_segments=own))
    rows = host.until("done")["result"]["report"]["segments"]
    assert [row["dice"] for row in rows] == [pytest.approx(2 / 3), 1.0, None]


def test_the_worker_refuses_in_one_sentence(start, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros(GRID.shape, np.uint8))
    np.save(tmp_path / "soft.npy", np.full(GRID.shape, 0.5, np.float32))
    host = start(quick)
    for job, changes, text in (
        ("a", {}, "The segmentation is empty"),
        ("b", {"labels": entry("soft.npy")}, "does not hold whole numbers"),
        ("c", {"segments": [{"value": 1, "layer": 2}]}, "has 1 layers"),
        ("d", {"interpolation": "cubic"}, "no interpolation 'cubic'"),
        ("e", {"labels": entry("../in.npy")}, "outside the request's folder"),
        ("f", {"target": {"shape": [1, 2], "index_to_world": np.eye(4).tolist()}}, "(at propagate.target.shape)"),
    ):
        host.send(**ask(tmp_path, job, **changes))
        failed = host.until("failed")
        assert failed["id"] == job and failed["kind"] == "input" and text in failed["text"], failed
    assert not (tmp_path / "labels.npy").exists()
