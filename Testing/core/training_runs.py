"""Small trainings that the tests share: 2D, from random shapes, a few steps."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import regnet
import torch
import yaml
from regnet.training.config import TrainConfig, make_config

SHAPES = {"maker": "Shapes", "settings": {"shapes": {"count": 5}, "views": {"affine": None, "largest": [1.0, 3.0]}}}
SMALL: dict[str, Any] = {
    "model": "avsm",
    "variant": "small",
    "seed": 3,
    "shape": [24, 32],
    "network": {"momentum_width": 4, "time_steps": 4},
    "steps_per_epoch": 2,
    "validation": {"synthetic": 2},
    "stages": [
        {"name": "affine", "steps": 3, "lr": 1e-3, "warmup": 1, "batch": 2, "sources": [SHAPES],
         "options": {"part": "affine", "affine_steps": 2}},
        {"name": "momentum", "steps": 4, "lr": 1e-3, "warmup": 1, "accumulate": 2, "sources": [SHAPES],
         "options": {"part": "momentum", "momentum_steps": 2, "symmetric": True, "similarity": "lncc"}},
    ],
}  # fmt: skip
"""Two stages: three steps in two epochs of pairs of two; four steps in two epochs, each accumulated from two pairs."""


def small(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SMALL), **changes}


def small_config(**changes: Any) -> TrainConfig:
    return make_config(small(**changes))


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(small(**changes)))
    return path


def start(*arguments: Any) -> subprocess.Popen:
    """``regnet train`` in a process of its own, on one thread."""
    package = str(Path(regnet.__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "regnet.cli", "train", "avsm", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def checkpoint(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def lines(run: Path) -> list[dict[str, Any]]:
    """What the run noted of its epochs."""
    path = run / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_same(first: Any, second: Any, where: str = "checkpoint") -> None:
    """Equal to the last bit, tensors and containers alike."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name in first:
            assert_same(first[name], second[name], f"{where}.{name}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}.{number}")
    else:
        assert first == second, where
