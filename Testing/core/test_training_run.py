"""Whole trainings: stages, figures, stopping and going on; what is written can be used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regnet import zoo
from regnet.errors import InputError, ModelError
from regnet.events import Events
from regnet.image import Grid
from regnet.models.avsm_network import Prediction
from regnet.networks.avsm import AVSM
from regnet.training.checkpoints import BEST, LAST, best_checkpoint, load_checkpoint
from regnet.training.config import read_config
from regnet.training.export import export
from regnet.training.run import Devices, Where, train
from training_runs import SHAPES, assert_same, checkpoint, lines, small_config, write_config

CPU = Devices("cpu", "1")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    config = write_config(folder, average=0.5)
    train(read_config(config), Where(folder, folder / "run"), CPU, quiet=True, command="regnet train avsm")
    return folder / "run"


def test_stages_and_figures(unbroken):
    entries = lines(unbroken)
    assert [(entry["stage"], entry["step"]) for entry in entries] == [
        ("affine", 2), ("affine", 3), ("momentum", 2), ("momentum", 4),
    ]  # fmt: skip
    for entry in entries:
        assert entry["val/folding"] == 0 and entry["val/error"] > 0 and entry["loss/total"] > 0
        assert entry["val/score"] == pytest.approx(-entry["val/error"], rel=1e-5)
    assert "loss/regularity" in entries[1] and "loss/momentum" in entries[2]
    assert list((unbroken / "tensorboard").glob("events*"))
    last, best = checkpoint(unbroken / LAST), checkpoint(best_checkpoint(unbroken))
    score = max(entry["val/score"] for entry in entries[2:])
    assert best["callbacks"]["Checkpoints"]["best"] == pytest.approx(score, rel=1e-5)
    assert last["callbacks"]["Checkpoints"]["facts"]["command"] == "regnet train avsm"


def test_each_stage_changes_its_part_only(unbroken, tmp_path):
    config = read_config(unbroken.parent / "train.yaml")
    values = config.model_dump(mode="json")
    values["stages"] = values["stages"][:1]
    train(small_config(**values), Where(tmp_path, tmp_path / "run"), CPU, quiet=True)
    first, both = (checkpoint(run / LAST)["state_dict"] for run in (tmp_path / "run", unbroken))
    for name, tensor in first.items():
        if name.startswith("network.affine"):
            assert torch.equal(tensor, both[name])
    assert not torch.equal(first["network.momentum.last.weight"], both["network.momentum.last.weight"])


def test_stops_in_time_and_goes_on(unbroken, tmp_path):
    config = read_config(unbroken.parent / "train.yaml")
    where = Where(tmp_path, tmp_path / "run")
    for done in (1, 2):
        train(config, where, CPU, minutes=1e-9, quiet=True)
        assert len(lines(where.out)) == done
    held = checkpoint(where.out / LAST)
    assert train(config, where, CPU, minutes=0, quiet=True).parent == where.out
    assert_same(held["state_dict"], checkpoint(where.out / LAST)["state_dict"])
    other = config.model_copy(update={"seed": 9})
    with pytest.raises(InputError, match="another configuration"):
        train(other, where, CPU, quiet=True)
    train(other, where, CPU, resume=False, minutes=1e-9, quiet=True)
    assert len(lines(where.out)) == 1


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match="nothing to resume"):
        train(small_config(), Where(tmp_path, tmp_path / "run"), CPU, resume=True)
    with pytest.raises(InputError, match="no checkpoint"):
        best_checkpoint(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LAST).write_bytes(b"PK not a checkpoint")
    with pytest.raises(ModelError, match="damaged.*--fresh"):
        train(small_config(), Where(tmp_path, tmp_path / "run"), CPU)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("made").touch, ())

    torch.save({"state_dict": {}, "callbacks": Evil()}, tmp_path / LAST)
    with pytest.raises(ModelError, match="damaged or not one"):
        load_checkpoint(tmp_path / LAST)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (Devices("tpu"), "no accelerator 'tpu'"),
        (Devices("cpu", "none"), "--devices is 'none'"),
        (Devices("cpu", "0"), "--devices is '0'"),
    ],
)
def test_devices_that_are_not_there(tmp_path, devices, message):
    with pytest.raises(InputError, match=message):
        train(small_config(), Where(tmp_path, tmp_path / "run"), devices)


def test_exported_weights_are_the_trained_ones(unbroken, tmp_path, monkeypatch):
    path = export(best_checkpoint(unbroken), tmp_path / "Models")
    assert path == tmp_path / "Models" / "avsm" / "small.safetensors"
    monkeypatch.setenv(zoo.ENVIRONMENT_VARIABLE, str(tmp_path / "Models"))
    record = zoo.find_weights("avsm", "small")
    state, trained = zoo.load_state(record), checkpoint(best_checkpoint(unbroken))["state_dict"]
    for name, tensor in state.items():
        # The average is what ships.
        expected = trained[f"average.module.{name}"]
        assert tensor.dtype == torch.float16
        torch.testing.assert_close(tensor.float(), expected, rtol=2**-10, atol=1e-7)
    told = record.tell()
    assert told["seed"] == 3 and told["command"] == "regnet train avsm" and told["data"] == []
    assert told["minutes"] >= 0 and "threads" in told["device"] and set(told["figures"]) >= {"error", "folding"}
    assert told["steps"] in (5, 7) and told["version"]
    assert record.config["momentum_width"] == 4 and record.config["image_shape"] == [24, 32]

    class Pair:
        shape, fixed, moving = (30, 40), *torch.rand(2, 1, 1, 30, 40)
        grid = Grid((1, 30, 40), np.eye(4), 2)

    class Steps:
        affine_steps, momentum_steps = 2, 1

    polls = []
    prediction = Prediction(Pair, state, record.config, Events(is_cancelled=lambda: bool(polls.append(0))))
    assert prediction.map(Steps).shape == (1, 2, 24, 32) and prediction.affine(Steps).shape == (2, 3)
    # A cancel takes effect between the layers.
    assert len(polls) > 40
    whole = export(unbroken / LAST, tmp_path / "whole", half=False)
    assert zoo.find_weights("avsm") is not None and whole.stat().st_size > 1.9 * path.stat().st_size


def trained_part(folder, part, **network):
    """The checkpoint of a run that trains one part for one step."""
    options = {"part": part, "similarity": "ncc"}
    stages = [{"name": part, "steps": 1, "warmup": 0, "lr": 1e-2, "sources": [SHAPES], "options": options}]
    config = small_config(stages=stages, network={"momentum_width": 4, "time_steps": 4, **network})
    return train(config, Where(folder, folder / part), CPU, quiet=True, command=f"train the {part}")


def test_parts_of_two_runs_are_joined(tmp_path, monkeypatch):
    momentum = trained_part(tmp_path, "momentum")
    affine = trained_part(tmp_path, "affine", affine_channels=6, affine_steps=3)
    export(momentum, tmp_path / "Models", half=False, joined=affine)
    monkeypatch.setenv(zoo.ENVIRONMENT_VARIABLE, str(tmp_path / "Models"))
    record = zoo.find_weights("avsm", "small")
    state = zoo.load_state(record)
    for name, tensor in state.items():
        source = affine if name.startswith("affine.") else momentum
        torch.testing.assert_close(tensor, checkpoint(source)["state_dict"][f"network.{name}"])
    assert record.config["affine_channels"] == 6 and record.config["affine_steps"] == 3
    AVSM.from_config(record.config).load_state_dict(state)
    told = record.tell()
    assert told["command"] == "train the momentum"
    assert [(run["parts"], run["command"]) for run in told["joined"]] == [(["affine"], "train the affine")]
    other = trained_part(tmp_path / "other", "affine", time_steps=3)
    with pytest.raises(ModelError, match="time_steps is 4 in one and 3 in the other"):
        export(momentum, tmp_path / "Models", joined=other)


def test_broken_weights_are_not_exported(unbroken, tmp_path):
    held = checkpoint(unbroken / LAST)
    for value, message in ((float("nan"), "not finite"), (1e6, "half precision")):
        held["state_dict"]["average.module.momentum.last.bias"][0] = value
        torch.save(held, tmp_path / LAST)
        with pytest.raises(ModelError, match=message):
            export(tmp_path / LAST, tmp_path / "Models")
    assert not list((tmp_path / "Models").rglob("*.safetensors"))


def test_overfitting_one_pair(tmp_path):
    stage = small_config().stages[1].model_dump(mode="json") | {"steps": 24, "lr": 5e-3, "accumulate": 1}
    config = small_config(stages=[stage], steps_per_epoch=8)
    train(config, Where(tmp_path, tmp_path / "run"), CPU, overfit=True, quiet=True)
    losses = [entry["loss/total"] for entry in lines(tmp_path / "run" / "overfit")]
    assert losses[2] < losses[1] < losses[0]
    assert not (tmp_path / "run" / LAST).exists() and not (tmp_path / "run" / BEST).exists()
