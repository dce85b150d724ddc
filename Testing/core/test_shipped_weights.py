"""The weights that ship: intact, described, and of use on a real pair."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from regnet import zoo
from regnet.align import align
from regnet.demo import find_demo_data
from regnet.events import Events
from regnet.image import Image
from regnet.losses.local_correlation import LocalCorrelation
from regnet.models import MODEL_NAMES, avsm, get_info
from regnet.networks.avsm import AVSM
from regnet.pair import make_pair
from regnet.spatial import jacobian_determinant, resize_displacement, warp
from regnet.transform import Affine

MODELS = Path(__file__).resolve().parents[2] / "Models"


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_variant_is_there_with_its_record_and_card(model):
    for variant in get_info(model).variants:
        record = zoo.find_weights(model, variant)
        assert record.path.parent == MODELS / model
        state = zoo.load_state(record)
        assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
        told = json.loads(record.path.with_suffix(".json").read_text())
        for name in ("config", "version", "data", "seed", "command", "minutes", "device", "steps", "figures"):
            assert told[name] or told[name] == 0, name
        assert all(entry["licence"] for entry in told["data"])
        card = (MODELS / model / "README.md").read_text()
        assert f"`{variant}`" in card and "Not for" in card


HELD = re.compile(r"rights held|non-?commercial|\bNC\b|internal", re.IGNORECASE)
"""What a licence says that does not allow weights trained on the data to be given to everybody."""


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_nothing_that_ships_was_trained_on_data_that_its_owners_keep(model):
    for variant in get_info(model).variants:
        for entry in zoo.find_weights(model, variant).origin["data"]:
            assert not HELD.search(entry["licence"]), (variant, entry["name"])
    with open(MODELS / model / "data.csv", newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            assert row["split"] != "train" or not HELD.search(row["licence"]), row["id"]


def test_networks_of_avsm_have_learned_something():
    """The last layers, which start from fixed values, have left them by more than rounding."""
    record = zoo.find_weights("avsm", "brain")
    state = zoo.load_state(record)
    fresh = AVSM.from_config(record.config).state_dict()
    assert state.keys() == fresh.keys()
    for name in ("momentum.last.weight", "affine.net.head.2.weight", "affine.net.head.2.bias"):
        assert float((state[name].float() - fresh[name]).abs().max()) > 1e-3, name


@pytest.fixture(scope="module")
def demo():
    folder = find_demo_data()
    fixed, moving = Image.read(folder / "patient_T1.nii.gz"), Image.read(folder / "atlas_T1.nii.gz")
    return fixed, moving, align(fixed, moving, "affine")


def predicted(fixed: Image, moving: Image, alignment: Affine, final: bool = True):
    """The pair, and its predicted displacement on its own grid."""
    record = zoo.find_weights("avsm", "brain")
    pair = make_pair(fixed, moving, alignment, None, None, 4000.0, torch.device("cpu"))
    state = zoo.load_state(record)
    found = avsm.predict(pair, avsm.Parameters(), state, record.config, Events(), final)
    return pair, resize_displacement(found, pair.shape)


@pytest.fixture(scope="module")
def whole(demo):
    return predicted(*demo)


def test_a_prediction_brings_a_real_pair_together_without_folds(demo, whole):
    pair, displacement = whole
    similarity = LocalCorrelation(pair.fixed, 2)
    before, after = similarity.value(pair.moving), similarity.value(warp(pair.moving, displacement))
    _, coarse = predicted(*demo, final=False)
    between = similarity.value(warp(pair.moving, coarse))
    assert before + 0.04 < between < after
    assert float(jacobian_determinant(displacement).min()) > 0


def test_it_does_not_matter_which_way_round_the_file_is_stored(demo, whole):
    fixed, moving, alignment = demo
    pair, displacement = whole
    # The same head with its axes exchanged and one mirrored, in the same place of the world.
    turned = fixed.data.permute(0, 3, 1, 2).flip(1)
    exchange = np.zeros((4, 4))  # index (x, y, z) of the turned array to the one of the file
    exchange[0, 2], exchange[1, 0], exchange[2, 1] = -1.0, 1.0, 1.0
    exchange[0, 3], exchange[3, 3] = fixed.data.shape[3] - 1, 1.0
    other = Image(turned.contiguous(), fixed.index_to_world @ exchange)
    turned_pair, turned_displacement = predicted(other, moving, alignment)
    similar = [
        LocalCorrelation(one.fixed, 2).value(warp(one.moving, u))
        for one, u in ((pair, displacement), (turned_pair, turned_displacement))
    ]
    back = turned_displacement.flip(2).permute(0, 1, 3, 4, 2)[:, [1, 2, 0]]
    back[:, 2] *= -1.0
    assert abs(similar[0] - similar[1]) < 0.01
    assert float((back - displacement).abs().mean()) < 0.1 * float(displacement.abs().mean())


def test_bsafusion_ships_no_layers_that_nothing_has_trained():
    for variant in ("ct-mri", "pet-mri", "spect-mri", "volumes"):
        state = zoo.load_state(zoo.find_weights("bsafusion", variant))
        flows = [tensor for name, tensor in state.items() if name.endswith("flow.weight")]
        assert len(flows) == 10 and all(float(tensor.float().std()) > 0 for tensor in flows)
