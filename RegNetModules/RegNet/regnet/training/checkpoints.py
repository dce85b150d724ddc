"""The checkpoints of a run: their names, and what they hold beside the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, ModelError

LAST, BEST = "last.ckpt", "best.ckpt"


def best_checkpoint(folder: Path) -> Path:
    """``best.ckpt`` of a run if any validation has been, else ``last.ckpt``."""
    found = [folder / name for name in (BEST, LAST) if (folder / name).exists()]
    if not found:
        raise InputError(f"The run folder {str(folder)!r} holds no checkpoint; train first.")
    return found[0]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's plain values and tensors; nothing in it is executed.

    Raises:
        ModelError: it is damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        text = f"The checkpoint {str(path)!r} is damaged or not one of RegNet's; start afresh with --fresh."
        raise ModelError(text) from None


def facts_of(held: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the run noted of itself in a loaded checkpoint, with its minutes and the last figures of validation.

    Raises:
        ModelError: it was not made by a training of ours.
    """
    for name, state in held.get("callbacks", {}).items():
        if name.startswith("Checkpoints"):
            return {**state["facts"], **{key: value for key, value in state.items() if key != "facts"}}
    raise ModelError(f"The checkpoint {str(path)!r} says nothing of its run; it was not made by `regnet train`.")
