"""A real scan beside a painted one of its labels: another modality on the moving side, lying where the truth says."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import InputError
from regnet.spatial import warp
from regnet.synth.painted import OnePainted
from regnet.synth.pairs import PairSettings

CORTEX, WHITE, FLUID = 120, 85, 51
T1 = {0: 0.0, CORTEX: 0.55, WHITE: 0.9, FLUID: 0.15}
SCALP = 0.7
CLEAN = {"blur": [0, 0], "noise": 0, "bias": 0, "gamma": 0, "thick_share": 0, "crop_share": 0, "lesion_share": 0}


def head() -> tuple[torch.Tensor, torch.Tensor]:
    """A scan (1, 1, 60, 76) of scalp around a brain of three tissues, and the labels of the brain."""
    labels = torch.zeros(1, 1, 60, 76, dtype=torch.int64)
    labels[..., 14:46, 16:60] = CORTEX
    labels[..., 20:40, 22:54] = WHITE
    labels[..., 26:34, 30:44] = FLUID
    image = torch.zeros(1, 1, 60, 76)
    image[..., 6:54, 8:68] = SCALP
    for label, value in T1.items():
        if label:
            image[labels == label] = value
    return image, labels


def made(largest=(0, 0), seed=3, **changes) -> dict[str, torch.Tensor]:
    image, labels = head()
    settings = {
        "scheme": "dlmuse",
        "strip": 0.0,
        "artefacts": CLEAN,
        "moving_contrast": {"pet_share": 1.0, "texture": 0.0, "jitter": 0.0, "background": 0.0},
        "views": {"largest": list(largest), "smoothness": [12, 16], "affine": None, "room": [1.0, 1.0]},
        **changes,
    }
    maker = OnePainted(PairSettings.from_dict(settings))
    return maker({"moving": image, "moving_labels": labels}, torch.Generator().manual_seed(seed))


def tissue(fixed: torch.Tensor, value: float) -> torch.Tensor:
    return (fixed - value).abs() < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_the_painted_side_lies_where_the_truth_says(seed):
    pair = made(largest=(4, 6), seed=seed)
    assert float(pair["displacement"].abs().max()) > 2.0
    back = warp(pair["moving"], pair["displacement"])
    top = float(pair["fixed"].max())
    where = {label: tissue(pair["fixed"], T1[label] * top / 0.9) for label in (CORTEX, WHITE, FLUID)}
    levels = {label: float(back[mask].mean()) for label, mask in where.items()}
    assert levels[CORTEX] > levels[WHITE] + 0.2 and levels[WHITE] > levels[FLUID] + 0.1
    spread = {name: float(image[where[CORTEX]].std()) for name, image in (("back", back), ("as is", pair["moving"]))}
    assert spread["back"] < 0.7 * spread["as is"]


def test_what_is_around_the_brain_is_faint_and_can_be_stripped():
    """On the moving side alone; the scan keeps it."""
    whole, stripped = made(), made(strip_moving=1.0)
    for pair in (whole, stripped):
        assert float((pair["fixed"] > 0.6).float().mean()) > 0.2
    scalp = tissue(whole["fixed"], SCALP / 0.9 * float(whole["fixed"].max()))
    assert 0.05 < float(whole["moving"][scalp].median()) < 0.5
    assert float(stripped["moving"][scalp].median()) < 1e-6
    assert not bool(whole["same_contrast"].any())


def test_only_labels_of_a_brain_in_a_known_scheme_are_painted():
    image, labels = head()
    with pytest.raises(InputError, match="scheme 'dlmuse', not 'synthseg'"):
        OnePainted(PairSettings(scheme="synthseg"))({"moving": image, "moving_labels": labels}, torch.Generator())
