"""Weights are found where they should be, and a changed byte is never loaded."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from regnet import zoo
from regnet.errors import ModelError
from safetensors.torch import save

STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.tensor([1.0, -2.0, 0.5])}


def put_weights(folder: Path, variant: str = "brain", model: str = "avsm", state=None, **config) -> Path:
    (folder / model).mkdir(parents=True, exist_ok=True)
    path = folder / model / f"{variant}.safetensors"
    path.write_bytes(save(state or STATE))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"model": model, "variant": variant, "sha256": digest, "config": config}
    path.with_suffix(".json").write_text(json.dumps(record))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(zoo.ENVIRONMENT_VARIABLE, str(tmp_path))
    return tmp_path


def test_found_and_loaded(folder):
    path = put_weights(folder, channels=16)
    record = zoo.find_weights("avsm")
    assert record is not None and record.path == path
    assert record.variant == "brain" and record.config == {"channels": 16}
    state = zoo.load_state(record)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_origin_is_told_but_not_in_reports(folder):
    path = put_weights(folder)
    record = json.loads(path.with_suffix(".json").read_text())
    origin = {"version": "0.1.0", "data": [{"name": "Here", "licence": "CC0", "count": 3}], "seed": 5, "steps": 70,
              "command": "regnet train avsm", "minutes": 2.5, "device": "CPU", "figures": {"dice": 0.6}}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(record | origin | {"colour": "red"}))
    found = zoo.find_weights("avsm")
    assert found.tell() == found.describe() | origin | {"bytes": path.stat().st_size}
    assert found.describe().keys() == {"variant", "sha256", "file"}
    path.with_suffix(".json").write_text(json.dumps(record | {"steps": "many", "figures": [1], "data": None}))
    assert zoo.find_weights("avsm").origin == {}


def test_missing_is_none(folder):
    put_weights(folder, "brain")
    assert zoo.find_weights("avsm", "abdomen") is None
    assert zoo.find_weights("a-model-without-weights") is None


def test_variant_is_chosen(folder):
    put_weights(folder, "brain")
    other = put_weights(folder, "abdomen", state={"x": torch.ones(2)})
    assert zoo.find_weights("avsm", "abdomen").path == other
    assert [record.variant for record in zoo.list_weights("avsm")] == ["abdomen", "brain"]


def test_earlier_folder_wins(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    mine = put_weights(first)
    put_weights(second)
    monkeypatch.setenv(zoo.ENVIRONMENT_VARIABLE, f"{first}{os.pathsep}{second}")
    assert zoo.find_weights("avsm").path == mine
    assert len(zoo.list_weights("avsm")) == 1


def test_one_changed_byte_is_refused(folder):
    path = put_weights(folder)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or were changed.*install them again"):
        zoo.load_state(zoo.find_weights("avsm"))


def test_right_checksum_of_something_else_is_refused(folder):
    path = put_weights(folder)
    path.write_bytes(b"not tensors at all")
    record = json.loads(path.with_suffix(".json").read_text())
    record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match="not a safetensors file"):
        zoo.load_state(zoo.find_weights("avsm"))


def test_a_file_is_read_once_until_it_changes(folder, monkeypatch):
    path, record = put_weights(folder), zoo.find_weights("avsm")
    first = zoo.load_state(record)
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read again"))
        assert zoo.load_state(zoo.find_weights("avsm")) is first
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError, match="damaged or were changed"):
        zoo.load_state(record)


def test_weights_may_share_the_tensors_of_others(folder):
    whole = put_weights(folder, "whole")
    own = put_weights(folder, "part", state={"layer.bias": torch.tensor([7.0, 8.0, 9.0])})
    record = json.loads(own.with_suffix(".json").read_text())
    shared = {"variant": "whole", "sha256": hashlib.sha256(whole.read_bytes()).hexdigest()}
    own.with_suffix(".json").write_text(json.dumps(record | {"shares": shared}))
    found = zoo.load_state(zoo.find_weights("avsm", "part"))
    assert found.keys() == STATE.keys() and torch.equal(found["layer.weight"], STATE["layer.weight"])
    assert found["layer.bias"].tolist() == [7.0, 8.0, 9.0]
    assert torch.equal(zoo.load_state(zoo.find_weights("avsm", "whole"))["layer.bias"], STATE["layer.bias"])
    put_weights(folder, "whole", state={**STATE, "layer.bias": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"whole\.safetensors' are damaged or were changed"):
        zoo.load_state(zoo.find_weights("avsm", "part"))
    whole.unlink()
    with pytest.raises(ModelError, match=r"whole\.safetensors' cannot be read"):
        zoo.load_state(zoo.find_weights("avsm", "part"))
    for wrong in ({**shared, "variant": "../whole"}, {"variant": "whole"}, {**shared, "sha256": "ab"}):
        own.with_suffix(".json").write_text(json.dumps(record | {"shares": wrong}))
        with pytest.raises(ModelError, match="is damaged; install the weights again"):
            zoo.find_weights("avsm", "part")


def test_vanished_file_is_a_sentence(folder):
    path = put_weights(folder)
    record = zoo.find_weights("avsm")
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        zoo.load_state(record)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": "12"}', '{"sha256": 5}', '{"config": {}}'])
def test_damaged_record(folder, text):
    path = put_weights(folder)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=r"brain\.json.*damaged"):
        zoo.find_weights("avsm")


def test_weights_without_record(folder):
    path = put_weights(folder)
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="no record"):
        zoo.find_weights("avsm")


def test_report_identity_names_no_folder(folder):
    put_weights(folder)
    described = json.dumps(zoo.find_weights("avsm").describe())
    assert str(folder) not in described and "brain.safetensors" in described
