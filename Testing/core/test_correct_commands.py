"""Correcting from outside: ``regnet correct``, files of points, and the worker's ``correct``."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from cli_pair import FIXED, TRUTH, run, write_pair
from helpers import random_affine, smooth_field
from regnet.errors import InputError
from regnet.image import Grid, Image
from regnet.metrics import tre
from regnet.point_files import read_pairs
from regnet.transform import Affine, Composite, DisplacementField, read_transform
from worker_host import GRID, Host, entry, quick, request_for

POINTS = FIXED.center() + np.array([[3.0, -4.0, 2.0], [-6.0, 5.0, 4.0]])
OFF = np.array([[2.0, 1.0, -1.0], [0.5, -2.0, 1.0]])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def table(tmp_path):
    """The pairs as a CSV file; what is true is off by some millimetres."""
    path = tmp_path / "points.csv"
    rows = np.concatenate([POINTS, TRUTH(POINTS) + OFF], axis=1)
    lines = [",".join([name, *map(str, row)]) for name, row in zip(("apex", "base"), rows.tolist(), strict=True)]
    path.write_text("\n".join(["name,fx,fy,fz,mx,my,mz", *lines, ""]))
    return path


def markups(path, points, labels, system="RAS", **extra):
    signs = np.array([-1.0, -1.0, 1.0]) if system == "RAS" else 1.0
    entries = [
        {"label": label, "position": list(place), "positionStatus": "defined"}
        for label, place in zip(labels, (np.asarray(points) * signs).tolist(), strict=True)
    ]
    entries.append({"label": "gone", "position": [0, 0, 0], "positionStatus": "undefined"})
    path.write_text(json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": entries, **extra}]}))
    return path


@pytest.mark.parametrize("exact", [True, False])
def test_the_command_writes_the_corrected_transform(files, table, tmp_path, exact):
    out = tmp_path / "new.h5"
    images = (files / "fixed.nii.gz", files / "moving.nrrd", "-t", files / "truth.h5", "-o", out, "--points", table)
    result = run("correct", *images, "--exact" if exact else "--soft", "--json")
    report = json.loads(result.stdout)
    assert [row["name"] for row in report["points"]] == ["apex", "base"]
    error = tre(read_transform(out), POINTS, TRUTH(POINTS) + OFF)
    np.testing.assert_allclose(error, [row["after_mm"] for row in report["points"]], atol=1e-4)
    assert error.max() < 0.01 if exact else error.min() > 0.05 and error.max() < 1.2
    shown = run("correct", *images).stdout
    assert "apex" in shown and "Written" in shown


@pytest.mark.parametrize("ending", ["h5", "nii.gz"])
def test_a_linear_transform_keeps_its_linear_part(files, table, tmp_path, ending):
    """Also in a format that holds nothing but one field."""
    Affine(np.eye(4)).write(tmp_path / "start.tfm")
    out = tmp_path / f"new.{ending}"
    start, images = random_affine(3, degrees=5, shift=2), (files / "fixed.nii.gz", files / "moving.nrrd")
    start.write(tmp_path / "start.tfm")
    run("correct", *images, "-t", tmp_path / "start.tfm", "-o", out, "--points", table, "--reach", 12, "--exact")
    far = FIXED.points().reshape(-1, 3)
    far = far[np.linalg.norm(far[:, None] - POINTS, axis=-1).min(axis=1) > 22]
    assert len(far) > 500
    np.testing.assert_allclose(read_transform(out)(far), start(far), atol=1e-3)


def test_a_region_from_a_file(files, tmp_path):
    away = np.linalg.norm(FIXED.points() - FIXED.center(), axis=-1)
    Image.from_numpy((away < 8).astype(np.uint8), FIXED.index_to_world).write(tmp_path / "region.nii.gz")
    out, images = tmp_path / "new.h5", (files / "fixed.nii.gz", files / "moving.nrrd", "-t", files / "truth.h5")
    report = json.loads(
        run(
            "correct", *images, "-o", out, "--region", tmp_path / "region.nii.gz", "--similarity", "lncc", "--json"
        ).stdout
    )
    assert report["points"] == [] and report["similarity_after"] > 0 and out.is_file()


def test_what_cannot_be_used_is_one_sentence(files, table, tmp_path):
    images = (files / "fixed.nii.gz", files / "moving.nrrd", "-t", files / "truth.h5")
    for arguments, text in (
        (("-o", tmp_path / "x.h5"), "nothing to correct by"),
        (("-o", tmp_path / "x.txt2", "--points", table), "x.txt2"),
        (("-o", tmp_path / "x.h5", "--points", tmp_path / "none.csv"), "no file of points"),
        (("-o", tmp_path / "x.h5", "--points", table, "--reach", -1), "reach is -1.0 mm"),
    ):
        result = run("correct", *images, *arguments, code=3)
        assert text in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
        assert not (tmp_path / "x.h5").exists()


def test_markups_in_both_coordinate_systems(tmp_path):
    moving = POINTS + OFF
    fixed_file = markups(tmp_path / "fixed.mrk.json", POINTS, ["1", "2"])
    by_label = markups(tmp_path / "a.mrk.json", moving[::-1], ["2", "1"], "LPS")
    by_order = markups(tmp_path / "b.mrk.json", moving, ["m-1", "m-2"])
    for other in (by_label, by_order):
        names, first, second = read_pairs([fixed_file, other])
        assert names == ["1", "2"]
        np.testing.assert_allclose(first, POINTS)
        np.testing.assert_allclose(second, moving)


def test_tables_without_titles_and_names(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("1,2,3,4,5,6\n\n7, 8, 9, 10, 11, 12.5\n")
    names, first, second = read_pairs([path])
    assert names == ["1", "2"] and first.tolist() == [[1, 2, 3], [7, 8, 9]] and second.tolist()[1] == [10, 11, 12.5]


def test_unusable_points_are_refused(tmp_path):
    short, damaged = tmp_path / "short.csv", tmp_path / "damaged.mrk.json"
    short.write_text("1,2,3,4,5,6\n1,2,3\n")
    damaged.write_text('{"markups": []}')
    one = markups(tmp_path / "one.mrk.json", POINTS[:1], ["1"])
    two = markups(tmp_path / "two.mrk.json", POINTS, ["1", "2"])
    for paths, text in (
        ([short], "Row 2 of"), ([damaged, one], "does not hold control points"), ([one, two], "1 points and .* has 2"),
        ([one], "as one CSV file, or as two"), ([short, one], "as one CSV file, or as two"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            read_pairs(paths)


@pytest.fixture
def host():
    made = Host(quick)
    yield made
    made.close()


STEPS = (smooth_field(GRID, 2.0), random_affine(2, degrees=4, shift=1))


def request(folder, **changes) -> dict:
    """A valid request: a field, then a linear transform."""
    points = GRID.center() + np.array([[2.0, 1.0, 3.0], [-5.0, 2.0, -4.0]])
    np.save(folder / "field.npy", STEPS[0].displacement)
    wanted = Composite(STEPS)(points) + [[1.0, 2.0, 0.0], [0.0, -1.0, 2.0]]
    images = {name: value for name, value in request_for(folder).items() if name in ("fixed", "moving", "folder")}
    moving = np.array(images["moving"]["index_to_world"]) @ np.diag([1.3, 1.3, 1.3, 1.0])
    moving[:3, 3] = GRID.center() - 1.3 * (GRID.center() - GRID.index_to_world[:3, 3])
    images["moving"]["index_to_world"] = moving.tolist()
    step = {"affine": STEPS[1].matrix.tolist(), "displacement": entry("field.npy")}
    asked = {
        "transforms": [step],
        "fixed_points": points.tolist(),
        "moving_points": wanted.tolist(),
        "mode": "exact",
        "reach": 20.0,
    }
    return {"id": "1", "command": "correct", **images, **asked, **changes}


def transform_of(folder, steps: list[dict]) -> Composite:
    parts = []
    for step in steps:
        if step["displacement"]:
            array = np.load(folder / step["displacement"]["file"])
            grid = Grid(array.shape[:3], np.array(step["displacement"]["index_to_world"]))
            parts.append(DisplacementField(array, grid))
        parts.append(Affine(np.array(step["affine"])))
    return Composite(parts)


@pytest.mark.parametrize("linear", [True, False])
def test_the_worker_answers_with_transforms(host, tmp_path, linear):
    asked = request(tmp_path)
    if linear:
        asked["transforms"] = [{"affine": STEPS[1].matrix.tolist()}]
    host.send(**asked)
    done = host.until("done", id="1")["result"]
    found = transform_of(tmp_path, done["transforms"])
    assert len(done["transforms"]) == 1 and done["transforms"][0]["displacement"]["file"] == "corrected-0.npy"
    np.testing.assert_allclose(done["transforms"][0]["affine"], STEPS[1].matrix)
    error = tre(found, np.array(asked["fixed_points"]), np.array(asked["moving_points"]))
    assert error.max() < 0.01 and done["report"]["points"][0]["before_mm"] > 1.0
    assert {path.name for path in tmp_path.iterdir()} == {"fixed.npy", "moving.npy", "field.npy", "corrected-0.npy"}


def test_the_worker_refuses_in_one_sentence(host, tmp_path):
    host.send(**request(tmp_path, fixed_points=[[1.0, 2.0, 3.0]]))
    assert "must be pairs" in host.until("failed", id="1")["text"]
    host.send(**request(tmp_path, transforms=[]))
    assert "transforms" in host.until("failed", id="1")["text"]
    host.send(**request(tmp_path, fixed_points=[[1.0, 2.0]]))
    assert "fixed_points" in host.until("failed", id="1")["text"]
    assert not (tmp_path / "corrected-0.npy").exists()


def test_the_worker_can_be_cancelled(host, tmp_path, monkeypatch):
    from regnet import correct as core

    reached, go_on = threading.Event(), threading.Event()
    flow = core.flow_field

    def held(*arguments):
        reached.set()
        go_on.wait(10)
        return flow(*arguments)

    monkeypatch.setattr(core, "flow_field", held)
    host.send(**request(tmp_path))
    assert reached.wait(20)
    host.send(id="c", command="cancel", target="1")
    host.send(id="p", command="ping")
    host.until("pong", id="p")  # so the cancel has been read
    go_on.set()
    assert host.until("failed", id="1")["kind"] == "cancelled"
    assert not (tmp_path / "corrected-0.npy").exists()
