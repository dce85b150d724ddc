"""Judging from outside: ``regnet judge``, and the worker's ``judge``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_pair import run
from judged import FIXED, IDENTITY, fixed_image, judged_right, moving_image, shift
from regnet.errors import InputError
from regnet.events import Events
from regnet.image import Image
from regnet.judge import MAPS
from regnet.judge_report import rows
from regnet.protocol import JudgeRequest, parse_request
from regnet.worker_judge import judge_request
from worker_host import Host, entry, quick


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    fixed_image().write(folder / "fixed.nii.gz")
    moving_image().write(folder / "moving.nrrd")
    shift(10, 0, 0).write(folder / "wrong.tfm")
    for name, image, level in (("fixed", fixed_image(), 0.1), ("moving", moving_image(), 0.1)):
        Image((image.data > level).int() * 3, image.index_to_world).write(folder / f"{name}_labels.nii.gz")
    return folder


def test_the_command_tells_what_the_package_finds(files, tmp_path):
    page, maps = tmp_path / "page.html", tmp_path / "maps"
    labels = ("--fixed-labels", files / "fixed_labels.nii.gz", "--moving-labels", files / "moving_labels.nii.gz")
    arguments = (files / "fixed.nii.gz", files / "moving.nrrd", *labels, "--report", page, "--maps", maps)
    told = json.loads(run("judge", *arguments, "--json", "-q").stdout)
    expected = judged_right()
    assert told["verdict"] == expected.verdict.level == "green" and told["problems"] == []
    assert told["numbers"]["settled_percent"] == pytest.approx(expected.numbers["settled_percent"], abs=0.1)
    assert told["segments"][0]["name"] == "3" and told["segments"][0]["dice"] > 0.9
    assert sorted(path.name for path in maps.iterdir()) == sorted(f"{name}.nii.gz" for name in MAPS)
    written = Image.read(maps / "jacobian.nii.gz")
    np.testing.assert_allclose(written.data, expected.maps["jacobian"].data, atol=1e-5)
    np.testing.assert_allclose(written.index_to_world, expected.maps["jacobian"].index_to_world, atol=1e-4)
    text = page.read_text(encoding="utf-8")
    assert 'class="verdict green"' in text and expected.verdict.reason in text and "Dice of 3" in text
    assert "http" not in text.split("<body>")[1].replace("http-equiv", "")


def test_a_wrong_transform_in_words(files):
    result = run("judge", files / "fixed.nii.gz", files / "moving.nrrd", "-t", files / "wrong.tfm", "-q")
    assert "RED: Do not use it." in result.stdout
    assert "Poor similarity: only" in result.stdout.replace("\n", " ")
    assert "Displacement, largest" in result.stdout and "10.0 mm" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--fixed-labels", "fixed_labels.nii.gz"), "Dice needs the label images of both sides"),
        (("--report", "page.txt"), "has no known ending"),
        (("--run", "fixed.nii.gz"), "is not the report.json of a run"),
        (("-t", "nothing.h5"), "There is no transform file"),
    ],
)
def test_bad_options_leave_nothing(files, tmp_path, arguments, sentence):
    maps = tmp_path / "maps"
    option, value = arguments
    result = run(
        "judge", files / "fixed.nii.gz", files / "moving.nrrd", option, files / value, "--maps", maps, "-q", code=3
    )
    assert sentence in " ".join(result.stderr.split())
    assert not maps.exists()


def request_for(place: Path, **changes) -> dict:
    for name, image in (("fixed.npy", fixed_image()), ("moving.npy", moving_image())):
        np.save(place / name, image.data[0].numpy())
    return {
        "id": "1",
        "command": "judge",
        "folder": str(place),
        "fixed": entry("fixed.npy", fixed_image().index_to_world),
        "moving": entry("moving.npy", moving_image().index_to_world),
        **changes,
    }


def test_the_worker_judges(tmp_path):
    host = Host(quick)
    try:
        host.until("ready")
        labels = (fixed_image().data[0].numpy() > 0.1).astype(np.uint8)
        np.save(tmp_path / "own_labels.npy", labels)
        place = entry("own_labels.npy", FIXED.index_to_world)
        segment = [{"value": 1, "name": "all"}]
        sides = {"fixed_labels": place, "fixed_segments": segment, "moving_labels": place, "moving_segments": segment}
        names = ["patient", "atlas <1>"]
        request = request_for(tmp_path, page=True, names=names, run={"converged": False}, **sides)
        host.send(**request)
        answer = host.until("done")["result"]
    finally:
        host.close()
    report = answer["report"]
    assert report["verdict"] == "amber" and [one["kind"] for one in report["problems"]] == ["convergence"]
    assert report["segments"] == [{"name": "all", "dice": pytest.approx(1.0), "hd95_mm": pytest.approx(0.0)}]
    assert set(answer["maps"]) == set(MAPS)
    for name, sent in answer["maps"].items():
        expected = judged_right().maps[name]
        np.testing.assert_allclose(np.load(tmp_path / sent["file"]), expected.data[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(sent["index_to_world"], expected.index_to_world)
    assert "atlas &lt;1&gt;" in (tmp_path / answer["page"]).read_text(encoding="utf-8")


def test_requests_that_cannot_be_used(tmp_path):
    request = request_for(tmp_path, moving=entry("map-jacobian.npy"))
    (tmp_path / "moving.npy").rename(tmp_path / "map-jacobian.npy")
    with pytest.raises(InputError, match="is kept for results"):
        judge_request(JudgeRequest(**request), Events())
    with pytest.raises(ValueError, match="names"):
        parse_request(json.dumps({**request, "names": ["one"]}))


def test_rows_tell_every_number():
    found = {"verdict": "green", "numbers": judged_right().numbers, "tre": {"mean": 1.234, "largest": 2.0}}
    told = rows(found, "RAS")
    assert told[0] == ("Verdict", "Looks right", "")
    assert ("Target registration error, mean", "1.23", "mm") in told
    labels = [label for label, _value, _unit in told]
    assert len(labels) == len(set(labels)) and any(unit == "mm (RAS)" for *_rest, unit in told)
    assert rows({"verdict": "unknown", "numbers": {}})[1][1] == "–"
    assert IDENTITY.ndim == 3
