"""One picture of two registered images: what BSAFusion's network makes of them, whatever registered them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checks import check_image
from .colour import rgb_to_ycbcr, ycbcr_to_rgb
from .colour_table import ColourTable
from .devices import memory_budget, resolve_device
from .errors import InputError, ModelError
from .events import Events
from .image import Grid, Image, percentiles
from .models.bsafusion import FUSION_MODES, PLANES, VOLUMES, info
from .models.bsafusion_run import Network
from .orientation import Orientation
from .transform import Transform
from .zoo import find_weights, load_state

BYTES_PER_VOXEL = {2: 1300, 3: 850}
"""Peak while images of so many axes are fused, measured."""
MOST_VOXELS = 10_000_000
"""Of volumes that are fused whole on a CPU unless it is asked for: a third of it took up to a quarter of a minute."""
SLICES_AT_ONCE = 4
TOLERANCE = 1.2
"""An axis is sliced across because its voxels are longer only if they are so by more than this."""


@dataclass(frozen=True)
class Fusion:
    """``image`` is on the fixed lattice: one channel in the fixed image's range of values, or red, green and blue from
    0 to 255 (uint8). ``report`` holds ``mode`` (``plane``, ``volume`` or ``slices``), ``weights`` and ``reason``."""

    image: Image
    report: dict[str, Any]


def fuse(
    fixed: Image,
    moving: Image,
    transform: Transform | None = None,
    *,
    colours: ColourTable | None = None,
    weights: str = PLANES[0],
    mode: str = "auto",
    device: str = "auto",
    memory_mb: float | None = None,
    events: Events | None = None,
) -> Fusion:
    """Fuse ``fixed`` with ``moving`` as seen through ``transform``.

    In colour where either image has red, green and blue: their luminance is fused and the chroma kept (that of the
    moving image if both have some).

    Args:
        fixed, moving: of one channel, or of three.
        transform: fixed to moving points; None for images that already lie on each other in the world.
        colours: of the moving image's values.
        weights: trained for which planes; volumes that are fused slice by slice need them, too.
        mode: ``volume`` for the network for volumes, ``slices`` for the one for planes on every slice, ``auto`` for
            whichever this machine can do in reasonable time. Slices share one transform, so they fit each other.

    Raises:
        InputError, ModelError: something given cannot be used; the message says what and why.
        Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    device = resolve_device(device)
    for role, image in (("fixed", fixed), ("moving", moving)):
        check_image(image.luminance(), role)
    if fixed.ndim != moving.ndim:
        raise InputError(f"The fixed image is {fixed.ndim}D and the moving image {moving.ndim}D; give two of one kind.")
    chosen, variant, reason = _choose(fixed.grid, weights, mode, device, memory_budget(device, memory_mb))
    network = _network(variant, 3 if chosen == "volume" else 2, device)
    with torch.inference_mode():
        bright, chroma = _seen(fixed, None)
        moved, moved_chroma = _seen(moving, colours, fixed.grid, transform)
        fused = _FUSE[chosen](network, fixed.grid, bright.to(device), moved.to(device), events)
        picture = _picture(fixed, fused.cpu(), chroma if moved_chroma is None else moved_chroma)
    return Fusion(picture, {"mode": chosen, "weights": variant, "reason": reason})


def _seen(
    image: Image, colours: ColourTable | None, grid: Grid | None = None, transform: Transform | None = None
) -> tuple[Tensor, Tensor | None]:
    """Brightness (1, D, H, W) in [0, 1] and, in colour, chroma (2, D, H, W), on ``grid`` through ``transform``."""
    beyond = 0.0
    if image.data.shape[0] == 1:
        if colours is None:
            image = image.normalized()
        else:
            beyond = float(image.data.min())  # what a CT has outside its view is air, and not 0
    if grid is not None:
        image = image.resample(grid, transform, default=beyond)
    if colours is not None and image.data.shape[0] == 1:
        data = colours.apply(image.data)
    elif image.data.shape[0] == 3:
        data = image.data.float()
        data = (data / (255.0 if float(data.max()) > 1.0 else 1.0)).clamp(0.0, 1.0)
    else:
        return image.data.float(), None
    seen = rgb_to_ycbcr(data[None])[0]
    return seen[:1], seen[1:]


def _picture(fixed: Image, fused: Tensor, chroma: Tensor | None) -> Image:
    if chroma is not None:
        colours = ycbcr_to_rgb(torch.cat([fused, chroma])[None])[0].clamp(0.0, 1.0)
        return Image((colours * 255.0).round().to(torch.uint8), fixed.index_to_world, fixed.ndim)
    low, high = percentiles(fixed.data.float(), (0.1, 99.9))
    return Image(fused * (high - low) + low, fixed.index_to_world, fixed.ndim)


def _choose(grid: Grid, weights: str, mode: str, device: str, memory_mb: float) -> tuple[str, str, str]:
    """How to fuse, by which weights, and why."""
    if mode not in FUSION_MODES:
        raise InputError(f"There is no way to fuse named {mode!r}; choose from {', '.join(FUSION_MODES)}.")
    if grid.ndim == 2:
        return "plane", weights, "the images are planes"
    if mode == "slices":
        return "slices", weights, "asked for"
    voxels = math.prod(grid.shape)
    needed = voxels * BYTES_PER_VOXEL[3] / 1e6
    if mode == "volume":
        if needed > memory_mb:
            raise InputError(
                f"Fusing {voxels / 1e6:.1f} million voxels as a volume needs {needed:.0f} MB, more than the "
                f"{memory_mb:.0f} MB there are for it; fuse slices instead."
            )
        return "volume", VOLUMES, "asked for"
    if needed > memory_mb:
        return "slices", weights, f"the volume would need {needed:.0f} MB"
    if device == "cpu" and voxels > MOST_VOXELS:
        return "slices", weights, f"{voxels / 1e6:.1f} million voxels take long as a volume"
    return "volume", VOLUMES, "it fits"


def _network(variant: str, dims: int, device: str) -> Network:
    record = find_weights(info.name, variant)
    if record is None:
        raise ModelError(f"Fusing needs the trained weights {variant!r} of {info.title}; install them.")
    network = Network.of(load_state(record), record.config, torch.device(device))
    if network.dims != dims:
        raise ModelError(f"The weights {variant!r} of {info.title} are not for {dims}D images; install them again.")
    return network


def _plane(network: Network, grid: Grid, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
    return network.fuse(fixed, moving, events)


def _volume(network: Network, grid: Grid, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
    turn = Orientation.of(grid)
    return turn.back(network.fuse(turn.apply(fixed[None]), turn.apply(moving[None]), events))[0]


def _slices(network: Network, grid: Grid, fixed: Tensor, moving: Tensor, events: Events) -> Tensor:
    """Slice by slice across the axis of the longest voxels, or else from the feet up, seen as on a film."""
    turn = Orientation.of(grid)
    sides = [turn.apply(image[None])[0, 0] for image in (fixed, moving)]
    lengths = [float(grid.spacing[::-1][axis]) for axis in turn.axes]
    axis = lengths.index(max(lengths)) if max(lengths) > TOLERANCE * min(lengths) else 0
    first, second = (side.movedim(axis, 0)[:, None] for side in sides)
    made = torch.empty_like(first)
    for start in range(0, len(first), SLICES_AT_ONCE):
        part = slice(start, start + SLICES_AT_ONCE)
        # Canonical axes run up and to the right; pictures are read from the top left.
        made[part] = network.fuse(first[part].flip(2, 3), second[part].flip(2, 3), events).flip(2, 3)
        events.progress(min(start + SLICES_AT_ONCE, len(first)) / len(first))
    return turn.back(made[:, 0].movedim(0, axis)[None, None])[0]


_FUSE: dict[str, Callable[[Network, Grid, Tensor, Tensor, Events], Tensor]] = {
    "plane": _plane,
    "volume": _volume,
    "slices": _slices,
}
