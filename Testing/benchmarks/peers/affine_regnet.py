"""RegNet's ways to a linear transform: an alignment, a registration by a linear model, or AVSM's affine network."""

from __future__ import annotations

import importlib

import torch
from regnet.affine_ascent import to_world
from regnet.align import align
from regnet.events import Events, Progress
from regnet.image import Image
from regnet.models import avsm
from regnet.models.avsm_network import Prediction
from regnet.pair import LINEAR_MB, make_pair
from regnet.register import register
from regnet.transform import Affine
from regnet.zoo import find_weights, load_state

from .common import threads
from .linear import Clock, main

# What the calls below import by themselves when they first need it; here, before the clock starts.
for name in ("align_search", "models.ddim_run"):
    importlib.import_module(f"regnet.{name}")


def options(parser):
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--align", help="an alignment of RegNet, for example affine")
    way.add_argument("--model", help="a linear model, with its defaults")
    way.add_argument("--avsm-network", action="store_true", help="AVSM's affine network, from the centres of mass")
    parser.add_argument("--refine", default="auto", help="of the model: auto or off")
    parser.add_argument("--needs", metavar="MODEL/VARIANT", help="trained weights that have to be there")


def find(fixed, moving, out, given):
    torch.set_num_threads(threads())
    if given.needs and find_weights(*given.needs.split("/")) is None:
        raise SystemExit(f"The trained weights {given.needs!r} are not installed.")
    images = Image.read(fixed), Image.read(moving)
    clock = Clock()
    if given.model:
        how = {"refine": given.refine, "device": "cpu", "events": until_export(clock)}
        return register(*images, given.model, **how).transform.matrix, clock
    transform = align(*images, given.align) if given.align else avsm_affine(*images)
    clock.stop()
    return transform.matrix, clock


def until_export(clock: Clock) -> Events:
    """Stops the clock when a registration begins to export its result: to warp the moving image, and to compare."""
    begun = []

    def note(event) -> None:
        if isinstance(event, Progress) and event.stage == "export" and not begun:
            clock.stop()
            begun.append(event)

    return Events(emit=note)


def avsm_affine(fixed: Image, moving: Image) -> Affine:
    """What the network says, without the optimisation that follows it in a registration."""
    record = find_weights("avsm", "brain")
    start = align(fixed, moving, "moments")
    pair = make_pair(fixed, moving, start, None, None, LINEAR_MB, torch.device("cpu"))
    network = Prediction(pair, load_state(record), record.config or {}, Events())
    return Affine(to_world(network.affine(avsm.Parameters()), pair.grid)).then(start)


if __name__ == "__main__":
    main(find, options)
