"""Where the work runs, and how much memory there is for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
SHARE_OF_FREE = 0.6
LEAST_MB = 300.0


def resolve_device(name: str) -> str:
    """``auto`` becomes the best there is; anything else must be there.

    Raises:
        InputError: an unknown device, or one that this machine lacks.
    """
    import torch

    if name not in DEVICES:
        raise InputError(f"There is no device named {name!r}; choose from {', '.join(DEVICES)}.")
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if has[device])
    if not has[name]:
        raise InputError(f"This machine has no usable {name} device; choose cpu or auto.")
    return name


@contextmanager
def one_thread() -> Iterator[None]:
    """For many small operations: to wake a second thread for each of them takes longer than the work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_budget(device: str, asked_mb: float | None) -> float:
    """Megabytes that a run may take: what was asked, or a share of what is free."""
    if asked_mb is not None:
        if not asked_mb >= 64:
            raise InputError(f"A memory limit of {asked_mb} MB is too small to work in; give at least 64.")
        return float(asked_mb)
    if device == "cuda":
        import torch

        free = torch.cuda.mem_get_info()[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    return max(LEAST_MB, SHARE_OF_FREE * free / 1e6)
