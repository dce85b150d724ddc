"""Label maps painted as CT and PET: each modality on its own side, in the order of brightness that scanners give."""

from __future__ import annotations

import pytest
import torch
from regnet.errors import InputError
from regnet.synth.contrast import ContrastSettings, LabelContrast
from regnet.synth.pairs import OneAnatomy, PairSettings
from regnet.synth.schemes import SYNTHSEG, get_scheme

WHITE, CORTEX, VENTRICLE, BONE, SOFT = 2, 3, 4, 515, 507
STILL = {
    "affine": None,
    "largest": [0, 0],
    "room": [1.0, 1.0],
    "pose": {"degrees": 0, "scale": 0, "shear": 0, "shift": 0},
}
CLEAN = {"blur": [0, 0], "noise": 0, "bias": 0, "gamma": 0, "thick_share": 0, "crop_share": 0, "lesion_share": 0}


def bands(*ids: int) -> torch.Tensor:
    """(1, 1, 40, 56): vertical bands of the ids, a margin of 0 around them."""
    labels = torch.zeros(1, 1, 40, 56, dtype=torch.int64)
    for number, one in enumerate(ids):
        labels[..., 4:-4, 3 + 10 * number : 13 + 10 * number] = one
    return labels


def levels(image: torch.Tensor, labels: torch.Tensor) -> dict[int, float]:
    return {int(one): float(image[labels == one].mean()) for one in labels.unique()}


def painted(share: str, seed: int) -> dict[int, float]:
    labels = bands(WHITE, CORTEX, VENTRICLE, BONE, SOFT)
    scheme = get_scheme("synthseg")
    known = {name: scheme.intensities(name) for name in ("ct", "pet")}
    settings = ContrastSettings(
        classes=scheme.classes(), typical=scheme.typical(), background=0.0, jitter=0.01, **known, **{share: 1.0}
    )
    return levels(LabelContrast(settings)(labels, torch.Generator().manual_seed(seed)), labels)


@pytest.mark.parametrize("seed", range(4))
def test_bone_is_brightest_in_ct_and_fluid_darkest(seed):
    found = painted("ct_share", seed)
    assert found[BONE] > 0.9 and found[BONE] > max(value for one, value in found.items() if one != BONE) + 0.2
    assert found[0] < 0.05 < found[VENTRICLE] < min(found[WHITE], found[CORTEX])


@pytest.mark.parametrize("seed", range(4))
def test_grey_matter_takes_up_most_in_pet_and_bone_next_to_nothing(seed):
    found = painted("pet_share", seed)
    assert found[CORTEX] > found[WHITE] + 0.15 and found[WHITE] > found[SOFT] > found[BONE]
    assert found[VENTRICLE] < 0.2


def test_what_a_scheme_does_not_state_follows_from_t1():
    table = SYNTHSEG.intensities("pet")
    assert table[CORTEX] == pytest.approx(0.9) and table[BONE] == 0.06 and table[0] == 0.0
    # The thalamus lies between grey and white matter in T1, and so it does here.
    assert table[WHITE] < table[10] < table[CORTEX]
    assert SYNTHSEG.intensities("t1") == SYNTHSEG.typical()


def test_the_moving_side_is_of_its_own_modality_and_as_blurred_as_it_is_told():
    labels = bands(WHITE, CORTEX, VENTRICLE, BONE, SOFT)
    common = {"shape": [40, 56], "scheme": "synthseg", "strip": 0, "different_contrast": 1, "views": STILL}
    common |= {"contrast": {"mr_share": 1.0, "texture": 0, "background": 0}, "artefacts": CLEAN}
    moving = {"moving_contrast": {"pet_share": 1.0, "texture": 0, "background": 0}}
    sharp = OneAnatomy(PairSettings.from_dict({**common, **moving}))
    blurred = OneAnatomy(
        PairSettings.from_dict({**common, **moving, "moving_artefacts": {**CLEAN, "blur": [2.0, 2.0]}})
    )
    a, b = (maker({"labels": labels}, torch.Generator().manual_seed(3)) for maker in (sharp, blurred))
    found = levels(a["moving"], a["moving_labels"])
    assert found[CORTEX] == max(found.values()) and found[BONE] < 0.25
    assert torch.equal(a["fixed"], b["fixed"])
    steepest = [float(pair["moving"].diff(dim=-1).abs().max()) for pair in (a, b)]
    assert steepest[1] < 0.4 * steepest[0]


def test_a_modality_that_nothing_is_known_of_is_refused():
    with pytest.raises(
        InputError, match=r"^A contrast as in CT was asked for, but none is given; set a label scheme\.$"
    ):
        LabelContrast(ContrastSettings(ct_share=0.5))
    with pytest.raises(InputError, match="'ct_share', must be between 0 and 1"):
        PairSettings.from_dict({"contrast": {"ct_share": 1.5}})
