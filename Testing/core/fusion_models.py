"""Small networks of BSAFusion: not trained, but what they make depends on both images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from regnet.models.bsafusion_run import TRAINING_ONLY
from regnet.networks.bsafusion import BSAFusion, BSAFusionConfig
from safetensors.torch import save

SMALL = {"tokens": 16, "widths": (16, 8, 8, 8, 8), "fusion": (8, 8, 8, 8), "heads": 2, "mlp": 16, "positions": 8}


def write_models(folder: Path) -> Path:
    """A folder of weights with a network for planes and one for volumes."""
    (folder / "bsafusion").mkdir()
    for name, dims in (("ct-mri", 2), ("volumes", 3)):
        torch.manual_seed(dims)
        network = BSAFusion(BSAFusionConfig(dims=dims, **SMALL))
        data = save({k: t for k, t in network.state_dict().items() if not k.startswith(TRAINING_ONLY)})
        (folder / "bsafusion" / f"{name}.safetensors").write_bytes(data)
        record = {"sha256": hashlib.sha256(data).hexdigest(), "config": network.config()}
        (folder / "bsafusion" / f"{name}.json").write_text(json.dumps(record))
    return folder
