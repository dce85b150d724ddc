"""What BSAFusion sees in two images: shallow features, tokens of patches, and tokens without their modality.

Li, Su, Cai, Zhang, *BSAFusion: A Bidirectional Stepwise Feature Alignment Network for Unaligned Medical Image Fusion*,
AAAI 2025, arXiv 2412.08050, whose MDF-FR (modal discrepancy-free feature representation) this is. A token that learns
to tell the modalities apart, the MFRH, is added to the other image's tokens; two transformers, one for each image, make
of the sums tokens in which a frozen copy of that classifier cannot tell the modalities apart any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..spatial import resize

PATCH = 16
"""Voxels of a token along each axis."""
_TINY, _EPSILON = 1e-12, 1e-5
Pair = tuple[Tensor, Tensor]
"""Of the fixed and of the moving image."""


@dataclass(frozen=True)
class Encoded:
    """Two images (B, 1, *shape) as features, each entry a pair (of the fixed image, of the moving one).

    ``shape`` is the images'; the features are of their size made multiples of 16, ``padded``.

    Attributes:
        images: (B, 1, *padded).
        shallow: (B, C, *padded).
        tokens: (B, T, *grid), the grid being a 16th of ``padded``; ahead of the transfers, so they differ by modality.
        heads: (B, T), the MFRHs.
        logits: (B, 2) of the classifier, the moving image's modality first.
        transferred: (B, T, *grid) without what tells the modalities apart; None if not wanted.
        judged: (B, 2), logits of the frozen copy for ``transferred``; None unless training.
    """

    shape: tuple[int, ...]
    padded: tuple[int, ...]
    images: Pair
    shallow: Pair
    tokens: Pair
    heads: Pair
    logits: Pair
    transferred: Pair | None = None
    judged: Pair | None = None


class Pointwise(nn.Linear):
    """A convolution of side 1, (B, inputs, *shape) to (B, outputs, *shape), as the product that it is; its output has
    the channels innermost, which convolutions of few channels are quickest with."""

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


class Restormer(nn.Module):
    """A 1x1 convolution, attention between channels, and a gated feed-forward: (B, inputs, *shape) to
    (B, outputs, *shape).

    Zamir et al., *Restormer*, CVPR 2022 (``canonical``): norms across the channels of each voxel, convolutions of each
    channel alone, and attention by cosines times a learned temperature, a softmax for each row; one head, as they have
    one for 48 channels. Of a single channel, which has nothing to attend to, the 1x1 convolution is all.
    What BSAFusion's authors use (``authors``) differs: norms across the voxels of each channel, convolutions across
    channels, scalar products as they are, and one softmax over all entries of the matrix. The scale and shift after a
    norm are those of the 1x1 convolution that follows.

    Args:
        expansion: channels of the feed-forward for each of the output; one half gates the other.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, variant: str = "canonical", expansion: int = 4) -> None:
        super().__init__()
        self.canonical = variant == "canonical"
        self.first = Pointwise(inputs, outputs)
        self.plain = self.canonical and outputs == 1
        if self.plain:
            return
        hidden = expansion * outputs // 2
        self.features = Pointwise(outputs, 3 * outputs)
        self.mixed = self._three(dims, 3 * outputs)
        self.projection = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(outputs, outputs), a=5**0.5))
        if self.canonical:
            self.temperature = nn.Parameter(torch.ones(()))
        # Two halves of their own need not be taken apart again, which is slow where channels are innermost.
        widths = [hidden, hidden] if self.canonical else [2 * hidden]
        self.wide = nn.ModuleList(
            nn.Sequential(Pointwise(outputs, width), self._three(dims, width)) for width in widths
        )
        self.narrow = Pointwise(hidden, outputs, bias=False)

    def _three(self, dims: int, channels: int) -> nn.Module:
        kind = nn.Conv2d if dims == 2 else nn.Conv3d
        return kind(channels, channels, 3, padding=1, groups=channels if self.canonical else 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        if self.plain:
            return x
        x = self._attended(x)
        normal = self._normal(x)
        gate, value = (part for wide in self.wide for part in wide(normal).chunk(2 // len(self.wide), dim=1))
        return x + self.narrow(functional.gelu(gate) * value)

    def _attended(self, x: Tensor) -> Tensor:
        """``x`` and, added, its channels as mixed by the attention."""
        batch, channels, n = x.shape[0], x.shape[1], x[0, 0].numel()
        features = _last(self.mixed(self.features(self._normal(x)))).view(batch, n, 3 * channels)
        # One product holds the squared lengths beside what they divide.
        pairs, value = features[..., : 2 * channels], features[..., 2 * channels :]
        products = pairs.transpose(1, 2) @ pairs
        likeness = products[:, :channels, channels:]
        if self.canonical:
            lengths = products.diagonal(dim1=1, dim2=2).clamp(min=_TINY).rsqrt()
            cosine = likeness * lengths[:, :channels, None] * lengths[:, None, channels:]
            weights = torch.softmax(cosine * self.temperature, dim=-1)
        else:
            weights = torch.softmax(likeness.flatten(1), dim=-1).view_as(likeness)
        # Mixing and projecting are one matrix.
        matrix = (self.projection @ weights).transpose(1, 2)
        mixed = torch.baddbmm(_last(x).view(batch, n, channels), value, matrix)
        return mixed.view(batch, *x.shape[2:], channels).movedim(-1, 1)

    def _normal(self, x: Tensor) -> Tensor:
        if not self.canonical:
            return torch.group_norm(x, x.shape[1])
        centred = x - x.mean(1, keepdim=True)
        return centred * centred.square().mean(1, keepdim=True).add(_EPSILON).rsqrt()


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each on the normed and added to what came (B, N, width) (Dosovitskiy et al., 2021).

    Args:
        dropout: share of the attention's weights that training leaves out.
    """

    def __init__(self, width: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention = nn.LayerNorm(width)
        self.before_mlp = nn.LayerNorm(width)
        self.features = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, n, width = x.shape
        features = self.features(self.before_attention(x)).view(batch, n, 3, self.heads, width // self.heads)
        query, key, value = features.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        x = x + self.projection(attended.transpose(1, 2).reshape(batch, n, width))
        return x + self.mlp(self.before_mlp(x))


class Tower(nn.Module):
    """Transformer blocks over tokens (B, N, width), a learned token ahead of them: what became of that one, (B, width),
    and of them, (B, N, width)."""

    def __init__(self, width: int, heads: int, mlp: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, mlp, dropout) for _ in range(depth))

    def forward(self, tokens: Tensor) -> Pair:
        x = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, 0], x[:, 1:]


class Classifier(nn.Module):
    """Which of the two modalities tokens (B, N, width) are of: the MFRH (B, width), the tokens after the same blocks,
    and logits (B, 2)."""

    def __init__(self, width: int, heads: int, mlp: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.tower = Tower(width, heads, mlp, depth, dropout)
        self.judge = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head, tokens = self.tower(tokens)
        return head, tokens, self.judge(head)


class Representation(nn.Module):
    """MDF-FR: what both images share by way of weights, the classifier, its frozen copy and the two transfers.

    Args:
        shallow, narrow: channels of the features for the fusion, and of what is cut in patches.
        tokens, heads, mlp, depth, dropout: of every transformer.
        positions: entries along each axis of the learned plane that tells where a patch lies; resized to the image.
        variant, expansion: see :class:`Restormer`.
    """

    def __init__(
        self,
        dims: int,
        shallow: int,
        narrow: int,
        tokens: int,
        heads: int,
        mlp: int,
        depth: int,
        dropout: float,
        positions: int,
        variant: str,
        expansion: int,
    ) -> None:
        super().__init__()
        self.seen = Restormer(dims, 1, shallow, variant, expansion)
        self.kept = Restormer(dims, shallow, narrow, variant, expansion)
        self.positions = nn.Parameter(torch.randn(1, 1, *(positions,) * dims) * 0.02)
        self.patches = (nn.Conv2d if dims == 2 else nn.Conv3d)(narrow, tokens, PATCH, PATCH)
        self.classifier = Classifier(tokens, heads, mlp, depth, dropout)
        # It judges, so nothing of it is left out by chance.
        self.frozen = Classifier(tokens, heads, mlp, depth, 0.0).requires_grad_(False)
        self.transfers = nn.ModuleList(Tower(tokens, heads, mlp, depth, dropout) for _ in range(2))
        self.refresh()

    def refresh(self) -> None:
        """Make the frozen copy what the classifier is now; due at the end of each epoch."""
        self.frozen.load_state_dict(self.classifier.state_dict())

    def forward(self, fixed: Tensor, moving: Tensor, shape: tuple[int, ...], transfer: bool = True) -> Encoded:
        """``fixed``, ``moving``: (B, 1, *padded), multiples of 16; ``shape``: theirs before they were made so."""
        padded = tuple(fixed.shape[2:])
        shallow = self.seen(torch.cat([fixed, moving]))
        grid = self.patches(self.kept(shallow) + resize(self.positions, padded))
        heads, tokens, logits = (x.chunk(2) for x in self.classifier(_listed(grid)))
        transferred = judged = None
        if transfer:
            crossed = (tokens[0] + heads[1][:, None], tokens[1] + heads[0][:, None])
            moved = tuple(tower(given)[1] for tower, given in zip(self.transfers, crossed, strict=True))
            judged = tuple(self.frozen(given)[2] for given in moved) if self.training else None
            transferred = tuple(_gridded(given, grid) for given in moved)
        pair = tuple(_gridded(given, grid) for given in tokens)
        return Encoded(
            tuple(shape), padded, (fixed, moving), shallow.chunk(2), pair, heads, logits, transferred, judged
        )


def _last(features: Tensor) -> Tensor:
    """(B, C, *shape) as (B, *shape, C), contiguous; without a copy where the channels already are innermost."""
    return features.movedim(1, -1).contiguous()


def _listed(grid: Tensor) -> Tensor:
    """(B, T, *grid) as (B, N, T)."""
    return grid.flatten(2).transpose(1, 2)


def _gridded(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, N, T) as (B, T, *grid of ``like``)."""
    return tokens.transpose(1, 2).unflatten(2, like.shape[2:])
