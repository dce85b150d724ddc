"""The methods of the benchmark: a name, and the peer module with its options."""

from __future__ import annotations

import shlex

METHODS: dict[str, tuple[str, ...]] = {
    "identity": ("identity",),
    "regnet": ("regnet",),
    "regnet-network": ("regnet", "--arguments=--refine=off"),
    "regnet-untrained": ("regnet", "--arguments=-p weights=none"),
    "regnet-affine": ("regnet", "--only-align", "affine"),
    "greedy-ncc2": ("greedy", "--radius", "2"),
    "greedy-ncc4": ("greedy", "--radius", "4"),
    "ants-syn": ("ants", "--recipe", "SyN"),
    "ants-syn-quick": ("ants", "--recipe", "antsRegistrationSyNQuick[s]"),
    "ants-syn-cc": ("ants", "--recipe", "antsRegistrationSyN[s]"),
    "elastix": ("elastix",),
    "convexadam": ("convexadam",),
}

# What images of different contrasts can be registered with. All are of one subject, so rigid alignments are fair; an
# affine one by mutual information stretches thin stacks of slices.
MULTIMODAL: dict[str, tuple[str, ...]] = {
    "identity": METHODS["identity"],
    "regnet-affine": METHODS["regnet-affine"],
    "regnet-masr": ("regnet", "--arguments=--model masr"),
    "regnet-masr-mind": ("regnet", "--arguments=--model masr -p descriptor=mind"),
    "regnet-deformgan": ("regnet", "--arguments=--model deformgan"),
    "regnet-deformgan-network": ("regnet", "--arguments=--model deformgan --refine off"),
    "regnet-bsafusion": ("regnet", "--arguments=--model bsafusion -p fusion=off"),
    "regnet-bsafusion-network": ("regnet", "--arguments=--model bsafusion -p fusion=off --refine off"),
    "regnet-avsm-untrained": ("regnet", "--arguments=--model avsm -p weights=none"),
    "greedy-nmi": ("greedy", "--metric", "NMI"),
    "ants-syn-mi": ("ants", "--recipe", "SyN", "--metric", "mattes"),
    "elastix-mi": ("elastix", "--align", "rigid"),
    "convexadam-rigid": ("convexadam", "--align", "rigid"),
    "convexadam": METHODS["convexadam"],
}

DESCRIPTIONS = {
    "identity": "no registration",
    "regnet": "`regnet register --no-report`, defaults",
    "regnet-network": "the same with `--refine off`: what the trained networks predict",
    "regnet-untrained": "the same with `-p weights=none`: no networks, optimised on the pair",
    "regnet-affine": "RegNet's initial alignment alone",
    "greedy-ncc2": "greedy, affine then deformable, NCC 2x2x2, `-n 100x50x10`",
    "greedy-ncc4": "the same with NCC 4x4x4",
    "ants-syn": "antspyx `SyN`, its default (mutual information)",
    "ants-syn-quick": "antspyx `antsRegistrationSyNQuick[s]`",
    "ants-syn-cc": "antspyx `antsRegistrationSyN[s]` (cross-correlation)",
    "elastix": "itk-elastix, default affine then B-spline, mutual information",
    "convexadam": "convexAdam, MIND-SSC, defaults, after a SimpleITK affine",
    "regnet-masr": "`regnet register --model masr --no-report`, defaults",
    "regnet-masr-mind": "the same with `-p descriptor=mind`",
    "regnet-deformgan": "`regnet register --model deformgan --no-report`, defaults",
    "regnet-deformgan-network": "the same with `--refine off`: what the network predicts in one pass",
    "regnet-bsafusion": "`regnet register --model bsafusion -p fusion=off --no-report`",
    "regnet-bsafusion-network": "the same with `--refine off`: what the network predicts in one pass",
    "regnet-avsm-untrained": "`regnet register --model avsm -p weights=none --no-report`: optimised on the pair",
    "greedy-nmi": "greedy by NMI: rigid with `-search 500 15 15`, affine, deformable, `-n 100x50x10`",
    "ants-syn-mi": "antspyx `SyN`, affine and deformable by Mattes mutual information, its defaults",
    "elastix-mi": "itk-elastix, default rigid then B-spline, Mattes mutual information",
    "convexadam-rigid": "convexAdam, MIND-SSC, defaults, after a SimpleITK rigid alignment by mutual information",
}

# The ones that times are compared with, in the one benchmark and in the other.
REFERENCES = ("greedy-ncc2", "ants-syn")
MULTIMODAL_REFERENCES = ("convexadam-rigid",)


def select(
    names: list[str], extra: list[str], methods: dict[str, tuple[str, ...]] = METHODS
) -> dict[str, tuple[str, ...]]:
    """The methods called for, in the order of ``methods``.

    Args:
        names: method names or ``all``.
        extra: further methods as ``NAME=PEER OPTIONS``, for example ``regnet-off=regnet --arguments=--refine=off``;
            they are always in.
        methods: the ones to choose from.

    Raises:
        SystemExit: a name is unknown or an extra method is not written like that.
    """
    known = dict(methods)
    for text in extra:
        name, equals, rest = text.partition("=")
        if not equals or not rest.split():
            raise SystemExit(f"An extra method is written NAME=PEER OPTIONS, not {text!r}.")
        known[name.strip()] = tuple(shlex.split(rest))
        names = [*names, name.strip()]
    for name in names:
        if name != "all" and name not in known:
            raise SystemExit(f"There is no method {name!r}; choose from all, {', '.join(known)}.")
    return {name: command for name, command in known.items() if name in names or "all" in names}
