"""A killed training that goes on equals one that was never stopped, to the last bit."""

from __future__ import annotations

import time

import pytest
import torch
from regnet.training.checkpoints import LAST
from regnet.training.config import read_config
from regnet.training.run import Devices, Where, train
from training_runs import assert_same, checkpoint, lines, start, write_config

CPU = Devices("cpu", "1")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are started here: sums in another order differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_goes_on_after_a_kill_as_if_unbroken(tmp_path):
    config = write_config(tmp_path, average=0.5)
    unbroken, run = tmp_path / "unbroken", tmp_path / "run"
    process = start("--config", config, "--out", run, "--accelerator", "cpu", "--quiet")
    deadline = time.monotonic() + 200
    while not (run / LAST).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()  # SIGKILL: nothing can be tidied up
    said, _ = process.communicate()
    assert (run / LAST).exists(), said
    assert checkpoint(run / LAST)["epoch"] < 3, "the training was over before it could be killed"
    with (run / "progress.jsonl").open("a") as stream:
        stream.write("{}\n" * 3)  # as if killed between the note of an epoch and its checkpoint
    train(read_config(config), Where(tmp_path, run), CPU, resume=True, quiet=True)
    train(read_config(config), Where(tmp_path, unbroken), CPU, quiet=True)
    first, second = checkpoint(unbroken / LAST), checkpoint(run / LAST)
    assert_same(first["state_dict"], second["state_dict"])
    assert_same(first["optimizer_states"], second["optimizer_states"])
    assert [entry["step"] for entry in lines(run)] == [2, 3, 2, 4]
    skip = {"seconds"}
    for one, other in zip(lines(unbroken), lines(run), strict=True):
        assert {k: v for k, v in one.items() if k not in skip} == {k: v for k, v in other.items() if k not in skip}
