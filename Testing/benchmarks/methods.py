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
}

# The ones that times are compared with.
REFERENCES = ("greedy-ncc2", "ants-syn")


def select(names: list[str], extra: list[str]) -> dict[str, tuple[str, ...]]:
    """The methods called for, in the order above.

    Args:
        names: method names or ``all``.
        extra: further methods as ``NAME=PEER OPTIONS``, for example ``regnet-off=regnet --arguments=--refine=off``;
            they are always in.

    Raises:
        SystemExit: a name is unknown or an extra method is not written like that.
    """
    known = dict(METHODS)
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
