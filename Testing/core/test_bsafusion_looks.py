"""BSAFusion's refinement by mirrored looks: what all of them say stays, what they contradict goes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from bsafusion_models import made, moving_model
from helpers import blob_image
from regnet import zoo
from regnet.errors import ModelError
from regnet.events import Events
from regnet.image import Grid
from regnet.models import bsafusion, bsafusion_run, get_info
from regnet.models.bsafusion_run import TRAINING_ONLY, Network
from regnet.pair import make_pair
from regnet.register import register
from regnet.transform import Affine

FLAT = Grid((1, 64, 80), np.diag([1.0, 1.0, 1.0, 1.0]), 2)
DEEP = Grid((20, 36, 30), np.diag([2.5, 2.4, 3.0, 1.0]), 3)
PLAIN = {2: FLAT, 3: DEEP}


def pair_of(grid):
    images = blob_image(grid, 1, 16), blob_image(grid, 2, 16)
    return make_pair(*images, Affine.identity(grid.ndim), None, None, 1000.0, torch.device("cpu"))


def shipped(model) -> tuple[dict, dict]:
    """State and configuration as weights have them."""
    state = model.state_dict().items()
    return {name: tensor for name, tensor in state if not name.startswith(TRAINING_ONLY)}, model.config()


def network(model) -> Network:
    return Network(*shipped(model), torch.device("cpu"))


def scripted(model, monkeypatch, says) -> Network:
    """A network that answers ``says`` (fixed, moving) instead."""
    ready = network(model)
    monkeypatch.setattr(ready.network, "register", says)
    return ready


@pytest.mark.parametrize("dims", [2, 3])
def test_looks_are_at_mirror_images_and_are_turned_back(dims, monkeypatch):
    """A network that knows where brightness lies says the same of every mirror image: nothing is damped."""
    seen = []

    def says(fixed, moving):
        seen.extend(fixed)
        lines = [torch.linspace(-1, 1, n) for n in fixed.shape[2:]]
        places = torch.stack(torch.meshgrid(*lines, indexing="ij"))
        middle = [[(image[0] * place).sum() / image.sum() for place in places] for image in fixed]
        return torch.tensor(middle).view(-1, dims, *(1,) * dims).expand(-1, dims, *fixed.shape[2:])

    pair, ready = pair_of(PLAIN[dims]), scripted(made(dims), monkeypatch, says)
    first = ready.displacement(pair, Events())
    assert float(first.abs().amin()) > 1e-3
    torch.testing.assert_close(ready.agreed(pair, first, 2**dims - 1, Events()), first, rtol=1e-4, atol=1e-6)
    assert len(seen) == 2**dims
    for other in seen[1:]:
        assert not torch.equal(other, seen[0])
        torch.testing.assert_close(other.sum(), seen[0].sum())


def test_what_depends_on_which_way_up_a_picture_is_goes(monkeypatch):
    """A constant shift that the network says of every picture alike cannot be true of the mirrored ones, too."""

    def constant(fixed, moving):
        return torch.full((len(fixed), 2, 64, 80), 3.0)

    pair, ready = pair_of(FLAT), scripted(made(2), monkeypatch, constant)
    first = ready.displacement(pair, Events())
    assert float(first.abs().mean()) == pytest.approx(3.0)
    assert float(ready.agreed(pair, first, 3, Events()).abs().max()) < 1e-5


def test_damping_is_that_of_wieners_filter(monkeypatch):
    """Looks that say 1 and 3 along y by turns: mean 2, variance 4 / 3, so 4 / (4 + 4 / 3) of it stays."""
    # Looks 2 and 4 (of none, y, x, both) are mirrored along y.
    answers = [1.0, -3.0, 1.0, -3.0]

    def says(fixed, moving):
        found = torch.zeros(len(fixed), 2, 64, 80)
        for look in found:
            look[0] = answers.pop(0)
        return found

    pair, ready = pair_of(FLAT), scripted(made(2), monkeypatch, says)
    first = ready.displacement(pair, Events())
    found = ready.agreed(pair, first, 3, Events())
    torch.testing.assert_close(found[:, 0], torch.full((1, 64, 80), 2.0 * 4 / (4 + 4 / 3)))
    assert float(found[:, 1].abs().max()) == 0.0


@pytest.mark.parametrize("dims", [2, 3])
def test_looks_together_say_what_each_says_alone(dims, monkeypatch):
    """Batches are for speed; nothing of one look may reach another."""
    pair, ready = pair_of(PLAIN[dims]), network(moving_model(dims))
    first, batches = ready.displacement(pair, Events()), []
    own = ready.network.register
    monkeypatch.setattr(ready.network, "register", lambda *images: batches.append(len(images[0])) or own(*images))
    found = {}
    for size in (1, 3):
        monkeypatch.setitem(bsafusion_run.AT_ONCE, dims, size)
        found[size] = ready.agreed(pair, first, 3, Events())
    assert batches == [1, 1, 1, 3] and float(found[1].abs().max()) > 0.1
    torch.testing.assert_close(found[3], found[1], rtol=1e-3, atol=1e-3)


def test_a_network_is_built_once_for_its_tensors():
    cpu = torch.device("cpu")
    states = [shipped(made(2, seed=seed)) for seed in range(4)]
    with torch.inference_mode():
        first = Network.of(*states[0], cpu)
    assert Network.of(*states[0], cpu) is first
    assert not any(tensor.is_inference() for tensor in first.network.parameters())
    assert Network.of(*states[1], cpu) is not first and Network.of(*states[0], cpu) is first
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(Network.of(*states[0], cpu)))
    thread.start()
    thread.join()
    assert elsewhere and elsewhere[0] is not first, "a cancel in one thread would stop another's"
    for state in states[1:]:
        Network.of(*state, cpu)
    assert Network.of(*states[0], cpu) is not first, "only the last few stay"


@pytest.fixture
def installed():
    """Weights of a small network for planes that moves things."""
    return shipped(moving_model(2))


@pytest.mark.parametrize(("how", "looks"), [("auto", 1), ("2", 2), (5, 3)])
def test_planes_are_refined_by_looks_unless_told_otherwise(installed, how, looks, monkeypatch):
    asked = []
    monkeypatch.setattr(Network, "agreed", lambda self, pair, first, looks, events: asked.append(looks) or first)
    pair = pair_of(FLAT)
    first = bsafusion.predict(pair, bsafusion.Parameters(), *installed, Events())
    found = bsafusion.refine(pair, first, bsafusion.Parameters(), *installed, Events(), how)
    assert found is first and len(asked) == 1 and min(asked[0], 3) == looks


def test_without_weights_or_in_volumes_a_descriptor_refines(installed, monkeypatch):
    kinds = []
    monkeypatch.setattr("regnet.models.masr_run.refine_with", lambda kind, *rest: kinds.append(kind) or rest[1])
    monkeypatch.setattr(Network, "agreed", lambda self, pair, first, *rest: kinds.append("looked") or first)
    flat, deep = pair_of(FLAT), pair_of(DEEP)
    still = bsafusion.predict(flat, bsafusion.Parameters(), None, None, Events())
    for kind in ("auto", "looks", "edges"):
        bsafusion.refine(flat, still, bsafusion.Parameters(refine_with=kind), None, None, Events(), "auto")
    bsafusion.refine(flat, still, bsafusion.Parameters(refine_with="mind"), *installed, Events(), "auto")
    assert kinds == ["dsir", "dsir", "edges", "mind"]
    kinds.clear()
    for kind in ("auto", "looks"):
        bsafusion.refine(
            deep, still, bsafusion.Parameters(refine_with=kind), *shipped(moving_model(3)), Events(), "auto"
        )
    assert kinds == ["dsir", "looked"]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_network_predicts_and_without_weights_nothing_does(dims):
    pair, state = pair_of(PLAIN[dims]), shipped(moving_model(dims))
    found = bsafusion.predict(pair, bsafusion.Parameters(), *state, Events())
    assert float(found.abs().max()) > 0.05
    torch.testing.assert_close(found, Network(*state, torch.device("cpu")).displacement(pair, Events()))
    assert float(bsafusion.predict(pair, bsafusion.Parameters(), None, None, Events()).abs().max()) == 0.0


def test_weights_for_planes_do_not_look_at_volumes(installed):
    with pytest.raises(ModelError, match="for 2D images, not for 3D"):
        Network(*installed, torch.device("cpu")).agreed(pair_of(DEEP), torch.zeros(1, 3, 8, 9, 10), 3, Events())


def test_planes_are_taken_as_they_lie_and_volumes_are_aligned(monkeypatch):
    """Mutual information of two modalities in one plane leads astray more often than it helps."""
    monkeypatch.setattr(zoo, "model_folders", list)
    info = get_info("bsafusion")
    assert (info.alignment_of(2), info.alignment_of(3)) == ("none", "affine")
    assert get_info("masr").alignment_of(2) == get_info("masr").alignment
    fixed, moving = blob_image(FLAT, 1, 16), blob_image(FLAT, 1, 16, moved_by=lambda points: points + [4.0, 3.0, 0.0])
    for model, own in (("bsafusion", True), ("masr", False)):
        found = register(fixed, moving, model, refine="off")
        assert np.allclose(found.alignment.matrix, np.eye(4)) == own
    forced = register(fixed, moving, "bsafusion", refine="off", align="rigid")
    assert not np.allclose(forced.alignment.matrix, np.eye(4))
