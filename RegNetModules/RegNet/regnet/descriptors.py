"""Structural descriptors by name: MASR-Net's learned one (``dsir``); MIND-SSC (``mind``) and the local gradients of
Deform-GAN (``edges``), which need no weights.

A descriptor takes an image (1, 1, *shape) in [0, 1] to unit vectors (1, C, *shape) that look alike in every modality.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .errors import ModelError
from .events import Events
from .matching import unit

Descriptor = Callable[[Tensor], Tensor]


def mind() -> Descriptor:
    from .networks.mind import mind_ssc

    return lambda image: unit(mind_ssc(image))


def edges() -> Descriptor:
    from .networks.edges import edge_descriptor

    return edge_descriptor


def dsir(state: dict[str, Tensor], config: dict[str, Any], device: torch.device | str = "cpu") -> Descriptor:
    """The trained network, frozen, as a descriptor. A gradient by the image goes through it.

    Raises:
        ModelError: the weights do not fit the configuration.
    """
    from .networks.masr import DSIR

    network = DSIR.from_config({**config, "matcher_width": 0})
    own = {name: tensor.float() for name, tensor in state.items() if not name.startswith("matcher.")}
    try:
        network.load_state_dict(own)
    except RuntimeError:
        raise ModelError("The weights of the descriptor do not fit their configuration; install them again.") from None
    layout = torch.channels_last if network.settings.dims == 2 else torch.channels_last_3d
    network = network.to(device, memory_format=layout).eval()

    return network.requires_grad_(False)


def installed(kind: str, dims: int, events: Events, device: torch.device | str = "cpu") -> Descriptor:
    """The descriptor ``kind`` for images of ``dims`` axes, with the installed weights; where there are none for them,
    MIND-SSC, with a warning."""
    from .zoo import find_weights, load_state

    if kind != "dsir":
        return {"mind": mind, "edges": edges}[kind]()
    record = find_weights("masr")
    if record is None or record.config.get("dims", 3) != dims:
        events.warn(f"There is no trained descriptor for {dims}D images here; MIND-SSC is used instead.")
        return mind()
    return dsir(load_state(record), record.config, device)
