"""Similarities and regularisers, one per file; smaller is better. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "NCC": "ncc",
    "LNCC": "lncc",
    "MultiKernelLNCC": "mklncc",
    "affine_regularity": "regularity",
    "RegularityWeight": "regularity",
    "affine_symmetry": "symmetry_affine",
    "momentum_energy": "energy",
    "map_symmetry": "symmetry_map",
    "InfoNCE": "contrastive",
    "roughness": "roughness",
    "DescriptorLoss": "descriptor",
    "LocalGradient": "local_gradient",
    "GANLoss": "adversarial",
    "ImagePool": "adversarial",
    "SSIM": "ssim",
    "FusionWeights": "fusion",
    "StructureBalance": "fusion",
    "fusion_losses": "fusion",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
