"""BSAFusion's encoder: attention between channels, tokens, the exchange of modalities, the frozen copy."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as functional
from bsafusion_models import SHAPES, made, texture
from regnet.losses.fusion import exchange_loss
from regnet.networks.bsafusion_encoder import Classifier, Restormer, Tower, TransformerBlock
from regnet.spatial import resize
from torch import nn

CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


def by_hand(block: Restormer, image: torch.Tensor) -> torch.Tensor:
    """A Restormer block written out, voxel by voxel and channel by channel where it matters."""
    dims, canonical = image.ndim - 2, block.canonical

    def one(layer, x):
        weight = layer.weight.view(*layer.weight.shape, *(1,) * dims)
        return CONVOLVE[dims](x, weight, layer.bias)

    def three(layer, x):
        groups = x.shape[1] if canonical else 1
        return CONVOLVE[dims](x, layer.weight, padding=1, groups=groups)

    def normal(x):
        axes = 1 if canonical else tuple(range(2, x.ndim))
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5)

    x = one(block.first, image)
    mixed = []
    for entry in three(block.mixed, one(block.features, normal(x))):
        query, key, value = entry.flatten(1).chunk(3)
        if canonical:
            cosine = functional.normalize(query, dim=1) @ functional.normalize(key, dim=1).t()
            weights = torch.softmax(cosine * block.temperature, dim=1)
        else:
            scores = (query @ key.t()).flatten()
            weights = torch.softmax(scores, dim=0).view(len(query), len(key))
        mixed.append((block.projection @ (weights @ value)).view(-1, *image.shape[2:]))
    x = x + torch.stack(mixed)
    wide = [three(part[1], one(part[0], normal(x))) for part in block.wide]
    gate, value = torch.cat(wide, dim=1).chunk(2, dim=1)
    return x + one(block.narrow, functional.gelu(gate) * value)


@pytest.mark.parametrize("variant", ["canonical", "authors"])
@pytest.mark.parametrize("shape", [(9, 14), (5, 7, 6)])
def test_restormer_is_what_its_authors_or_bsafusions_write(shape, variant):
    torch.manual_seed(0)
    block = Restormer(len(shape), 3, 5, variant).double()
    if variant == "canonical":
        nn.init.constant_(block.temperature, 3.0)
        assert {part[1].groups for part in block.wide} == {10} and block.mixed.groups == 15
    else:
        assert {part[1].groups for part in block.wide} == {1} and block.mixed.groups == 1
    image = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(block(image), by_hand(block, image), rtol=0, atol=1e-10)
    # What the feed-forward holds: its expansion of 4, one half of which is the gate.
    assert block.narrow.in_features == 10
    assert sum(part[0].out_features for part in block.wide) == 20


def test_restormer_of_one_channel_has_no_idle_parameters():
    torch.manual_seed(0)
    image = torch.randn(1, 4, 6, 9)
    block = Restormer(2, 4, 1)
    torch.testing.assert_close(
        block(image)[0, 0], torch.einsum("c,chw->hw", block.first.weight[0], image[0]) + block.first.bias
    )
    for variant, outputs in (("canonical", 1), ("canonical", 3), ("authors", 1)):
        block = Restormer(2, 4, outputs, variant)
        block(image).square().sum().backward()
        assert all(entry.grad is not None and bool((entry.grad != 0).any()) for entry in block.parameters())


def test_transformer_blocks_are_pytorchs():
    torch.manual_seed(0)
    ours = TransformerBlock(12, 3, 20, 0.0)
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", batch_first=True, norm_first=True)
    with torch.no_grad():
        for norm in (ours.before_attention, ours.before_mlp):
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        theirs.self_attn.in_proj_weight.copy_(ours.features.weight)
        theirs.self_attn.in_proj_bias.zero_()
    pairs = [
        (theirs.self_attn.out_proj, ours.projection),
        (theirs.norm1, ours.before_attention),
        (theirs.norm2, ours.before_mlp),
        (theirs.linear1, ours.mlp[0]),
        (theirs.linear2, ours.mlp[2]),
    ]
    for to, of in pairs:
        to.load_state_dict(of.state_dict())
    tokens = torch.randn(2, 7, 12)
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=0, atol=1e-5)


def test_attention_is_left_out_at_random_in_training_only():
    torch.manual_seed(0)
    block, tokens = TransformerBlock(8, 2, 8, 0.5), torch.randn(1, 9, 8)
    assert not torch.equal(block(tokens), block(tokens))
    block.eval()
    assert torch.equal(block(tokens), block(tokens))


def test_no_token_changes_its_place_in_a_tower():
    """Without positions of its own a tower takes tokens in any order, and gives them back in that order."""
    torch.manual_seed(0)
    tower = Tower(8, 2, 8, 2, 0.0)
    tokens, order = torch.randn(2, 15, 8), torch.randperm(15)
    head, found = tower(tokens)
    other_head, shuffled = tower(tokens[:, order])
    assert found.shape == tokens.shape and head.shape == (2, 8)
    torch.testing.assert_close(shuffled, found[:, order], rtol=0, atol=1e-5)
    torch.testing.assert_close(other_head, head, rtol=0, atol=1e-5)
    assert float((shuffled - found).detach().abs().max()) > 0.1
    silent(tower)
    head, found = tower(tokens)
    assert torch.equal(found, tokens) and torch.equal(head, tower.token[0].expand(2, -1))


def silent(tower: Tower) -> None:
    """What its blocks would add is zero."""
    with torch.no_grad():
        for block in tower.blocks:
            for layer in (block.projection, block.mlp[2]):
                layer.weight.zero_()
                layer.bias.zero_()


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_are_of_patches_in_their_place(shape):
    model = made(len(shape))
    image = texture(shape, batch=2)
    grid = tuple(-(-n // 16) for n in shape)
    before = model.encode(image, image)
    assert before.shape == shape and before.padded == tuple(16 * n for n in grid)
    for sizes, pair in ((before.padded, before.shallow), (grid, before.tokens), (grid, before.transferred)):
        assert [tuple(entry.shape[2:]) for entry in pair] == [sizes, sizes]
    for place in ((0,) * len(shape), tuple(n - 1 for n in grid), (*(0 for _ in shape[1:]), 1)):
        changed = image.clone()
        changed[1, 0][tuple(slice(16 * n, 16 * n + 16) for n in place)] = 1.0
        after = model.encode(image, changed)
        assert torch.equal(after.tokens[0], before.tokens[0])
        for pairs in ("tokens", "transferred"):
            moved = (getattr(after, pairs)[1] - getattr(before, pairs)[1]).detach().norm(dim=1)
            assert float(moved[0].max()) < 1e-5
            assert int(moved[1].argmax()) == int(torch.arange(math.prod(grid)).view(grid)[place])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plane_of_positions_is_added_to_what_is_cut_in_patches(shape):
    model = made(len(shape))
    kept, cut = [], []
    model.representation.kept.register_forward_hook(lambda _, given, found: kept.append(found))
    model.representation.patches.register_forward_pre_hook(lambda _, given: cut.append(given[0]))
    padded = model.encode(texture(shape), texture(shape)).padded
    plane = resize(model.representation.positions, padded)
    assert plane.shape == (1, 1, *padded) and float(plane.detach().std()) > 1e-3
    torch.testing.assert_close(cut[0] - kept[0], plane.expand_as(cut[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_images_tokens_get_the_others_head(shape):
    model = made(len(shape))
    for tower in model.representation.transfers:
        silent(tower)
    encoded = model.encode(texture(shape, 0, batch=2), 1.0 - texture(shape, 1, batch=2))
    for own, other in ((0, 1), (1, 0)):
        head = encoded.heads[other].view(2, -1, *(1,) * len(shape))
        torch.testing.assert_close(encoded.transferred[own], encoded.tokens[own] + head, rtol=0, atol=1e-6)
    assert float((encoded.heads[0] - encoded.heads[1]).detach().abs().max()) > 1e-3
    assert model.encode(texture(shape), texture(shape), transfer=False).transferred is None


def test_transfers_are_the_images_own_and_everything_else_is_shared():
    model, image = made(), texture(SHAPES[0])
    encoded = model.encode(image, image)
    for name in ("shallow", "tokens", "heads", "logits"):
        first, second = getattr(encoded, name)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert float((encoded.transferred[0] - encoded.transferred[1]).detach().abs().max()) > 0.1


# The frozen copy


def test_the_frozen_copy_judges_but_does_not_learn():
    model = made().train()
    representation = model.representation
    fixed, moving = texture(SHAPES[0], 0), texture(SHAPES[0], 1)
    encoded = model.encode(fixed, moving)
    exchange_loss(*encoded.judged).backward()
    assert all(entry.grad is None and not entry.requires_grad for entry in representation.frozen.parameters())
    assert all(bool((entry.grad != 0).any()) for tower in representation.transfers for entry in tower.parameters())
    assert all(entry.grad is None for entry in representation.classifier.judge.parameters())
    judged = [representation.frozen(tokens.flatten(2).transpose(1, 2))[2] for tokens in encoded.transferred]
    for given, expected in zip(encoded.judged, judged, strict=True):
        torch.testing.assert_close(given, expected)
    assert model.eval().encode(fixed, moving).judged is None


def test_the_frozen_copy_is_the_classifier_of_the_last_refresh():
    model = made().train()
    classifier, frozen = model.representation.classifier, model.representation.frozen

    def alike() -> bool:
        return all(torch.equal(a, b) for a, b in zip(classifier.parameters(), frozen.parameters(), strict=True))

    assert alike() and list(classifier.state_dict()) == list(frozen.state_dict())
    before = [entry.clone() for entry in frozen.parameters()]
    optimizer = torch.optim.Adam([entry for entry in model.parameters() if entry.requires_grad], lr=1e-2)
    encoded = model.encode(texture(SHAPES[0], 0), texture(SHAPES[0], 1))
    (sum(logits.square().sum() for logits in encoded.logits) + exchange_loss(*encoded.judged)).backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True)) and not alike()
    model.refresh()
    assert alike() and not any(entry.requires_grad for entry in frozen.parameters())
    assert all(entry.requires_grad for entry in classifier.parameters())


def test_nothing_is_left_out_by_chance_when_the_copy_judges():
    torch.manual_seed(0)
    assert made(dropout=0.4).representation.classifier.tower.blocks[0].dropout == 0.4
    model = made(dropout=0.4).train()
    tokens = torch.randn(1, 9, 16)
    assert torch.equal(model.representation.frozen(tokens)[2], model.representation.frozen(tokens)[2])
    assert not torch.equal(model.representation.classifier(tokens)[2], model.representation.classifier(tokens)[2])


def test_the_classifier_tells_by_its_own_token():
    torch.manual_seed(0)
    classifier = Classifier(8, 2, 8, 2, 0.0)
    head, tokens, logits = classifier(torch.randn(3, 6, 8))
    assert head.shape == (3, 8) and tokens.shape == (3, 6, 8)
    assert torch.equal(logits, classifier.judge(head)) and logits.shape == (3, 2)
