"""Images of random contrast from label maps, after the idea of SynthSeg (Billot et al. 2023, arXiv 2107.09559)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .draws import Draws, Randomness

MOST_LABELS = 1024
"""Label maps without stated classes may hold 0, ..., MOST_LABELS - 1."""
TEXTURE_SPACINGS = (2.0, 6.0)
"""Knots of the smooth noise that textures tissue, voxels."""
TISSUES = (0.14, 0.58, 0.85)
"""T1 intensities of fluid, grey matter and white matter,"""
MR_CONTRASTS = ((0.14, 0.58, 0.85), (0.95, 0.55, 0.35), (0.12, 0.68, 0.52), (0.85, 0.75, 0.6))
"""and what these have in T1, T2, FLAIR and proton density; what lies between goes in between."""
DARK = 0.12
"""T1 intensity up to which something, bone or air, is dark in all of them."""
SPREAD = 0.08
"""Of the tissues' intensities from scan to scan, greatest, either way."""


@dataclass(frozen=True)
class ContrastSettings:
    """How contrasts are drawn.

    Attributes:
        groups: the fewest and the most groups; every class of labels belongs to one, with its mean intensity.
        classes: class of every label id, index 0 the background's; labels of one class (left and right, say) always
            look alike. Empty: every label is its own class.
        typical: mean intensity in [0, 1] of every label id in a familiar contrast, T1 say; empty where unknown.
        typical_share: how often that contrast is used, slightly changed, in place of random groups.
        mr_share: how often else one of :data:`MR_CONTRASTS` is, made of the typical one.
        ct, pet: like ``typical``, in CT and in PET; ``ct_share`` and ``pet_share``: how often these are used.
        jitter: standard deviation of a class's mean about its group's.
        texture: the greatest standard deviation of intensity within a label.
        background: how often label 0 gets a random dark level; else it is 0.
    """

    groups: tuple[int, int] = (4, 16)
    classes: tuple[int, ...] = ()
    typical: tuple[float, ...] = ()
    typical_share: float = 0.0
    mr_share: float = 0.0
    ct: tuple[float, ...] = ()
    ct_share: float = 0.0
    pet: tuple[float, ...] = ()
    pet_share: float = 0.0
    jitter: float = 0.03
    texture: float = 0.06
    background: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.groups[0] <= self.groups[1]:
            raise InputError(f"The numbers of intensity groups must be two from 1 up, not {self.groups}.")
        if self.classes and self.typical and len(self.classes) != len(self.typical):
            raise InputError(
                f"{len(self.classes)} classes and {len(self.typical)} typical intensities do not belong together; "
                "give both for every label id."
            )

    @property
    def labels(self) -> int:
        """How many label ids there may be, from 0."""
        return len(self.classes) or len(self.typical) or MOST_LABELS


@dataclass(frozen=True)
class Appearance:
    """Lookup tables (B, labels) on the device: mean intensity and the weights of the two textures, per label id."""

    mean: Tensor
    fine: Tensor
    coarse: Tensor

    def where(self, same: Tensor, other: Appearance) -> Appearance:
        """The samples of ``other`` where ``same`` (B,) bool, else one's own."""
        same = same.to(self.mean.device)[:, None]
        tables = zip((other.mean, other.fine, other.coarse), (self.mean, self.fine, self.coarse), strict=True)
        return Appearance(*(torch.where(same, theirs, own) for theirs, own in tables))


class LabelContrast:
    """Paints label maps (B, 1, *shape) in a random contrast, with texture but without a scanner's artefacts.

    >>> labels = torch.randint(0, 5, (2, 1, 12, 14, 10))
    >>> LabelContrast(ContrastSettings())(labels, torch.Generator().manual_seed(1)).shape
    torch.Size([2, 1, 12, 14, 10])
    """

    def __init__(self, settings: ContrastSettings | None = None) -> None:
        self.settings = settings or ContrastSettings()
        for name in ("ct", "pet"):
            if getattr(self.settings, f"{name}_share") and not getattr(self.settings, name):
                raise InputError(
                    f"A contrast as in {name.upper()} was asked for, but none is given; set a label scheme."
                )
        if (self.settings.typical_share or self.settings.mr_share) and not self.settings.typical:
            raise InputError("A typical contrast was asked for, but none is given; set 'typical' or a label scheme.")
        classes = self.settings.classes or range(self.settings.labels)
        self._classes = torch.tensor(list(classes), dtype=torch.int64)
        self._typical = torch.tensor(self.settings.typical or [0.0] * self.settings.labels)

    def __call__(self, labels: Tensor, generator: Randomness | Draws) -> Tensor:
        """(B, 1, *shape) float32 in [0, 1]."""
        check_labels(labels, self.settings.labels)
        draws = generator if isinstance(generator, Draws) else Draws(generator, labels.shape[0], labels.device)
        return self.paint(labels, self.appearance(draws), draws)

    def appearance(self, draws: Draws, typical_share: float | None = None) -> Appearance:
        """Draw one contrast per sample; the settings say how often it is the typical one, unless told otherwise."""
        settings, classes = self.settings, self._classes
        count = int(classes.max()) + 1
        most = settings.groups[1]
        groups = (draws.uniform(0.0, 1.0, count) * draws.whole(*settings.groups, 1)).long().clamp_(max=most - 1)
        means = draws.uniform(0.0, 1.0, most).gather(1, groups)
        typical = self._typical * draws.uniform(0.85, 1.15, 1)
        share = settings.typical_share if typical_share is None else typical_share
        use_typical = draws.chance(share)[:, None]
        jitter = settings.jitter * draws.normal(count)[:, classes]
        means = means[:, classes]
        if settings.mr_share:
            means = torch.where(draws.chance(settings.mr_share)[:, None], self._mr(draws), means)
        for table, share in ((settings.ct, settings.ct_share), (settings.pet, settings.pet_share)):
            if share:
                means = torch.where(draws.chance(share)[:, None], _varied(table, draws), means)
        means = (torch.where(use_typical, typical, means) + jitter).clamp_(0.0, 1.0)
        means[:, 0] = draws.uniform(0.0, 0.3) * draws.chance(settings.background)
        textures = settings.texture * draws.uniform(-1.0, 1.0, 2, most)
        fine, coarse = (textures[:, kind].gather(1, groups)[:, classes] for kind in range(2))
        fine[:, 0] = coarse[:, 0] = 0.0
        return Appearance(draws.put(means), draws.put(fine), draws.put(coarse))

    def _mr(self, draws: Draws) -> Tensor:
        """Mean intensities (B, labels) of one of the MR contrasts for each sample, on the CPU."""
        kinds = torch.tensor(MR_CONTRASTS)[draws.whole(0, len(MR_CONTRASTS) - 1)]
        levels = kinds + draws.uniform(-SPREAD, SPREAD, len(TISSUES))
        fluid, grey, white = TISSUES
        low = ((self._typical - fluid) / (grey - fluid)).clamp(0.0, 1.0)
        high = ((self._typical - grey) / (white - grey)).clamp(0.0, 1.0)
        steps = levels.diff(dim=1)
        means = levels[:, :1] + steps[:, :1] * low + steps[:, 1:] * high
        return torch.where(self._typical > DARK, means, self._typical)

    def paint(self, labels: Tensor, appearance: Appearance, draws: Draws) -> Tensor:
        """The label maps in this contrast; what the texture adds is drawn anew."""
        index = labels.flatten(1)
        image = appearance.mean.gather(1, index)
        for weights, spacing in zip((appearance.fine, appearance.coarse), TEXTURE_SPACINGS, strict=True):
            field = draws.smooth_noise(labels.shape[2:], spacing).flatten(1)
            image.addcmul_(weights.gather(1, index), field)
        return image.clamp_(0.0, 1.0).view(labels.shape)


def _varied(table: tuple[float, ...], draws: Draws) -> Tensor:
    """Mean intensities (B, labels) of a modality, through a gamma of each sample's own."""
    return torch.tensor(table).clamp_min(1e-4) ** draws.log_uniform(0.7, 1.4, 1)


def check_labels(labels: Tensor, count: int) -> None:
    """Refuse ids that the tables do not hold. Only on the CPU: asking a GPU would make it wait at every step."""
    if labels.dtype != torch.int64:
        raise InputError(f"Label maps must be of type int64 here, not {labels.dtype}.")
    if labels.device.type == "cpu" and labels.numel():
        low, high = (int(value) for value in labels.aminmax())
        if low < 0 or high >= count:
            raise InputError(
                f"A label map holds ids from {low} to {high}, but only 0 to {count - 1} are known; renumber it, or "
                "give the classes of all its ids."
            )
