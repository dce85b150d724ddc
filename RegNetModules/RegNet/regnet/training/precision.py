"""Sixteen bits where they do no harm: in the convolutions. Maps, integrals and losses keep thirty-two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn


def choose(precision: str, device: str) -> torch.dtype | None:
    """The type for a configuration's ``precision`` on a kind of device; None for 32 bit."""
    if precision == "auto":
        if device != "cuda":
            return None
        # A GPU that only emulates bfloat16 is faster with float16.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"32": None, "bf16": torch.bfloat16, "16": torch.float16}[precision]


def in_low_precision(network: nn.Module, parts: Sequence[str], dtype: torch.dtype | None) -> None:
    """Let the named submodules run under autocast from now on; what they return is float32 again."""
    if dtype is None:
        return
    for name in parts:
        part = network.get_submodule(name)
        part.forward = _cast(part.forward, dtype)


def _cast(forward: Callable[..., Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    @functools.wraps(forward)
    def run(first: Tensor, *others: Any, **named: Any) -> Tensor:
        with torch.autocast(first.device.type, dtype):
            result = forward(first, *others, **named)
        return result.float()

    return run


class PartlyMixed(MixedPrecision):
    """Lightning's mixed precision without its autocast around everything; the loss is scaled for float16 all the
    same."""

    def forward_context(self) -> AbstractContextManager:
        return nullcontext()


def plugin(dtype: torch.dtype | None, device: str) -> PartlyMixed | None:
    """What the trainer needs for :func:`in_low_precision`: nothing but with float16, whose gradients underflow."""
    return PartlyMixed("16-mixed", device) if dtype == torch.float16 else None
