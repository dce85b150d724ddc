"""Two processes on one batch get the gradients of one process on the joined batch."""

from __future__ import annotations

import pytest
import torch
from regnet.training.checkpoints import LAST
from regnet.training.config import read_config
from regnet.training.run import Devices, Where, train
from training_runs import SHAPES, assert_same, checkpoint, start, write_config

STEP = {
    "name": "both parts",
    "steps": 1,
    "warmup": 0,
    "accumulate": 2,
    "clip": 1e9,
    "sources": [SHAPES],
    "options": {"part": "both", "affine_steps": 2, "momentum_steps": 1, "symmetric": True},
}


def gradients(run) -> list[torch.Tensor]:
    """After one step of Adam its first moment is a tenth of the gradient."""
    state = checkpoint(run / LAST)["optimizer_states"][0]["state"]
    return [10.0 * state[name]["exp_avg"] for name in sorted(state)]


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    changes = {"validation": {"synthetic": 3}, "steps_per_epoch": 1}
    pair = write_config(tmp_path / "two", stages=[STEP | {"batch": 1}], **changes)
    process = start("--config", pair, "--out", tmp_path / "two", "--accelerator", "cpu", "--devices", 2, "--quiet")
    joined = write_config(tmp_path / "one", stages=[STEP | {"batch": 2}], **changes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(read_config(joined), Where(tmp_path, tmp_path / "one"), Devices("cpu", "1"), quiet=True)
    finally:
        torch.set_num_threads(threads)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    one, two = gradients(tmp_path / "one"), gradients(tmp_path / "two")
    assert [gradient.shape for gradient in one] == [gradient.shape for gradient in two]
    one, two = (torch.cat([gradient.flatten() for gradient in run]) for run in (one, two))
    # Of single precision sums over batches that are cut in another way.
    assert one.norm() > 0.1 and float((one - two).norm() / one.norm()) < 2e-6
    # All processes share the validation pairs, and the figures are those of all.
    figures = [checkpoint(tmp_path / run / LAST)["callbacks"]["Checkpoints"]["figures"] for run in ("one", "two")]
    assert figures[0].keys() == figures[1].keys()
    for name in ("val/error_before", "val/folding"):
        assert abs(figures[0][name] - figures[1][name]) < 1e-4
    assert_same(sorted(figures[0]), sorted(figures[1]))
