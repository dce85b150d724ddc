"""Training configurations and manifests: what is right is read, what is wrong is named. Stages, steps and rates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from regnet.errors import InputError
from regnet.models import get_recipe
from regnet.training.config import make_config, read_config
from regnet.training.manifest import provenance, read_manifest
from regnet.training.schedule import Schedule
from training_runs import small, small_config, write_config


def test_changes_from_the_command_line(tmp_path):
    path = write_config(tmp_path)
    config = read_config(path, ["stages.1.lr=2e-5", "shape=[16, 20]", "network.momentum_width=6"], steps=9)
    assert config.stages[1].lr == 2e-5 and config.stages[0].lr == 1e-3
    assert config.shape == (16, 20) and config.network == {"momentum_width": 6, "time_steps": 4}
    assert [stage.steps for stage in config.stages] == [9, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour=red", "unknown key 'colour'"),
        ("stages.0.stepps=3", "unknown key 'stages.0.stepps'"),
        ("stages.0.steps=0", r"'stages.0.steps' is 0"),
        ("stages.0.lr=fast", "'stages.0.lr' is 'fast'"),
        ("shape=[5, 32]", "'shape'.*at least 8 voxels"),
        ("stages.0.shape=[4, 32]", "'stages.0.shape'.*at least 8 voxels"),
        ("stages.1.shape=[16, 20, 24]", "'momentum' has a grid of another dimension"),
        ("precision=8", "'precision' is '8'"),
        ("stages.7.lr=1", "does not fit"),
        ("stages=3", "'stages' is 3"),
        ("lr", "not of the form KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_config(write_config(tmp_path), [change])


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "missing.yaml")
    for text in ("a: [", "- 1\n- 2\n", "\x00"):
        (tmp_path / "train.yaml").write_text(text)
        with pytest.raises(InputError, match=r"not valid YAML|holds no keys"):
            read_config(tmp_path / "train.yaml")
    values = small()
    del values["shape"]
    with pytest.raises(InputError, match="lacks the key 'shape'"):
        make_config(values)


def test_yaml_cannot_run_code(tmp_path):
    marker = tmp_path / "made"
    (tmp_path / "train.yaml").write_text(f"model: !!python/object/apply:pathlib.Path.touch [{str(marker)!r}]\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_config(tmp_path / "train.yaml")
    assert not marker.exists()


def test_fingerprint_follows_what_decides_the_result():
    first = small_config()
    assert first.fingerprint() == small_config(workers=3, validate_every=5).fingerprint()
    others = [small_config(seed=4), small_config(shape=[24, 40]), small_config(average=0.9)]
    assert len({config.fingerprint() for config in [first, *others]}) == 4


def test_a_stage_may_have_its_own_grid():
    values = small()
    values["stages"][0]["shape"] = [16, 24]
    config = make_config(values)
    assert [config.shape_of(stage) for stage in (0, 1)] == [(16, 24), (24, 32)]


def test_epochs_end_with_stages():
    schedule = Schedule(small_config())
    assert [schedule.epoch(n) for n in range(len(schedule))] == [(0, 0, 2), (0, 2, 1), (1, 0, 2), (1, 2, 2)]
    assert [schedule.batches(n) for n in range(4)] == [2, 1, 4, 4]
    place = schedule.place(3, 1)
    assert (place.stage, place.step, place.part, place.epoch, place.fraction) == (1, 2, 1, 1.0, 0.5)
    assert schedule.steps == 7


def test_rate_rises_and_falls():
    stage = small()["stages"][0] | {"steps": 110, "warmup": 10, "lr": 0.2, "final_lr": 0.1}
    schedule = Schedule(small_config(stages=[stage], steps_per_epoch=200))
    rates = [schedule.rate(schedule.place(0, step)) for step in range(110)]
    assert rates[0] == pytest.approx(0.2 / 11) and rates[9] == pytest.approx(0.2 * 10 / 11)
    assert max(rates) == rates[10] == pytest.approx(0.2)
    assert rates[60] == pytest.approx(0.2 * 0.55)
    assert rates[109] == pytest.approx(0.2 * (0.1 + 0.45 * (1 + math.cos(math.pi * 0.99))))
    assert all(later < earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


def test_the_shipped_configuration_is_right():
    folder = Path(__file__).resolve().parents[2] / "Models" / "avsm"
    config = read_config(folder / "train.yaml")
    recipe = get_recipe("avsm")(config)
    assert all(recipe.options(stage).part in ("affine", "momentum", "both") for stage in config.stages)
    rows = (folder / config.data.manifest).read_text().splitlines()
    assert not any("oasistrt" in row.lower() for row in rows)


COLUMNS = "id,image,image_t2,labels,scheme,split,source,licence\n"


def manifest(folder, text, columns=COLUMNS):
    for name in ("a.nii", "b.nii", "c.nii"):
        (folder / name).write_bytes(b"")
    path = folder / "data.csv"
    path.write_text(columns + text)
    return path


def test_manifest_rows(tmp_path):
    path = manifest(
        tmp_path,
        'one,a.nii,b.nii,c.nii,s,train,"Here, there",CC0\ntwo,,,c.nii,s,val,Elsewhere,MIT\n'
        'three,b.nii,,,,train,"Here, there",CC0\n',
    )
    one, two, three = read_manifest(path)
    assert one.images == (("image", tmp_path / "a.nii"), ("image_t2", tmp_path / "b.nii"))
    assert one.labels == tmp_path / "c.nii" and one.align == "affine" and two.images == () and three.labels is None
    told = provenance([one, two, three])
    assert told[0] == {"name": "Here, there", "licence": "CC0", "count": 2} and told[1]["count"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("one,d.nii,,,,train,,", "no file.*d.nii"),
        ("one,a.nii,,,,test,,", "split of 'one' is 'test'"),
        ("one,,,,,train,,", "neither an image nor labels"),
        ("one,a.nii,,c.nii,,train,,", "no scheme"),
        ("../one,a.nii,,,,train,,", "may only hold letters"),
        (",a.nii,,,,train,,", "no id"),
        ("one,a.nii,,,,train,,,,9", "too many cells"),
        ("one,a.nii,,,,train,,\none,b.nii,,,,val,,", "'one' twice"),
    ],
)
def test_manifest_errors(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_manifest(manifest(tmp_path, row + "\n"))


def test_manifest_columns(tmp_path):
    with pytest.raises(InputError, match="unknown column 'pet'"):
        read_manifest(manifest(tmp_path, "", "id,split,pet\n"))
    with pytest.raises(InputError, match="lacks the column 'split'"):
        read_manifest(manifest(tmp_path, "", "id,image\n"))
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "missing.csv")
    assert yaml.safe_load("1e-4") == "1e-4"  # why rates are converted from text
