"""The command ``regnet train``: what it refuses, and that it goes from a configuration to weights."""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from cli_pair import run
from training_runs import small, write_config


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("vsvm", (), "no model named 'vsvm'"),
        ("avsm", ("--set", "stages.0.lr=high"), "'stages.0.lr' is 'high'"),
        ("avsm", ("--set", "model=masr"), "is for 'masr', not for 'avsm'"),
        ("avsm", ("--data", "nowhere"), "no folder 'nowhere'"),
        ("avsm", ("--set", "data.manifest=none.csv"), "none.csv' cannot be read"),
        ("avsm", ("--resume",), "nothing to resume"),
        ("avsm", ("--accelerator", "tpu"), "no accelerator 'tpu'"),
        ("avsm", ("--set", "stages.0.sources.0.settings.shapes.count=many"), "must be a whole number"),
    ],
)
def test_refusals_are_sentences(tmp_path, model, arguments, message):
    config = write_config(tmp_path)
    result = run("train", model, "--config", config, "--out", tmp_path / "run", *arguments, code=3)
    said = " ".join(result.stderr.split())
    assert message in said and "Traceback" not in said and said.startswith("Error: ")


def test_needs_its_libraries(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = write_config(tmp_path)
    result = run("train", "avsm", "--config", config, "--out", tmp_path / "run", code=3)
    assert "pip install 'regnet[train]'" in result.stderr


def test_from_a_configuration_to_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = small()
    del values["stages"][1]
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    common = ("train", "avsm", "--config", "train.yaml", "--set", "seed=8", "--accelerator", "cpu", "--steps", 2)
    told = run(*common, "--export", "Models")
    assert "Trained: runs/avsm-small/best.ckpt" in told.stdout
    assert "epoch 1 of 1, affine step 2/2" in told.stderr
    record = json.loads((tmp_path / "Models" / "avsm" / "small.json").read_text())
    assert record["command"] == "regnet train avsm --config train.yaml --steps 2 --set seed=8"
    assert record["seed"] == 8 and record["steps"] == 2
    before = (tmp_path / "Models" / "avsm" / "small.safetensors").read_bytes()
    (tmp_path / "Models" / "avsm" / "small.safetensors").unlink()
    run(*common, "--export", "Models", "--minutes", 0, "--quiet")
    assert (tmp_path / "Models" / "avsm" / "small.safetensors").read_bytes() == before
