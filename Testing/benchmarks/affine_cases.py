"""The scans of the affine benchmark, as files of a data folder that the project does not ship, and who gets which warp.

``multimodal_cases.py`` and ``pairs.py`` say what the folder holds. Fifty warps (``affine_warps.py``) are dealt out to
the scans in turn, one registration for each warp. Two contrasts of a scan share a space until one is warped. No scan
was used to train DDIM (``Models/ddim/data.csv``); the IXI heads chose its best state.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pairs

WARPS = 50

WARPED = {
    "oasis": "OASIS-TRT-20, T1 at 1 mm, skull-stripped",
    "ixi": "IXI, T1 at 2 mm, whole heads",
    "openms": "OpenMS, one contrast at 1 mm, skull-stripped",
    "contrasts": "OpenMS and C-STAR, two contrasts at 1 mm, skull-stripped",
    "trunk": "CT of the trunk at 3 mm",
    "ctmr": "Harvard atlas, CT and MR of a head, 1 × 1 × 5 mm",
}
REAL = {
    "oasis-pairs": "Two subjects: OASIS-TRT-20, T1 at 1 mm, skull-stripped, manual labels",
    "ixi-pairs": "Two subjects: IXI, T1 at 2 mm, whole heads, labels made by a model (DLMUSE)",
}
DATASETS = {**WARPED, **REAL}


@dataclass(frozen=True)
class Case:
    """``moving`` is registered onto ``fixed``, after warp number ``warp``; or as it is, and ``labels`` are compared.

    Files are paths below the data folder; ``labels`` are those of the moving and of the fixed image.
    """

    name: str
    dataset: str
    title: str
    fixed: str
    moving: str
    warp: int | None = None
    labels: tuple[str, str] | None = None

    def files(self) -> list[str]:
        return [self.fixed, self.moving, *(self.labels or ())]

    def warped(self, number: int) -> Case:
        """The same scan with the warp of that number."""
        title = f"{self.title}, warp {number}"
        return dataclasses.replace(self, name=f"{self.name}-w{number:02d}", title=title, warp=number)

    def resolved(self, data: Path) -> Case:
        """The same case with absolute paths."""
        labels = None if self.labels is None else tuple(str(data / file) for file in self.labels)
        fixed, moving = str(data / self.fixed), str(data / self.moving)
        return dataclasses.replace(self, fixed=fixed, moving=moving, labels=labels)


def _scan(dataset: str, name: str, fixed: str, moving: str = "") -> Case:
    """A scan and itself, unless another contrast of it moves."""
    title = name.replace("-", " ")
    return Case(f"{dataset}-{name}", dataset, title, f"{fixed}.nii.gz", f"{moving or fixed}.nii.gz")


def _contrasts(dataset: str, name: str, stem: str, moving: str, fixed: str) -> Case:
    case = _scan(dataset, f"{name}-{moving}-{fixed}", stem + fixed, stem + moving)
    return dataclasses.replace(case, title=f"{name} {moving} → {fixed}")


def _subjects(pair: pairs.Pair) -> Case:
    labels = (pair.moving_labels, pair.fixed_labels)
    name = f"pair-{pair.name}"
    return Case(name, f"{pair.dataset}-pairs", pair.title, pair.fixed, pair.moving, labels=labels)


_OPENMS, _CSTAR, _HEAD = "brain_multimodal/openms_p07_", "brain_multimodal/cstar_stroke_", "ctmr_head/harvard_case28_"
# In the order of dealing: a few warps already touch every data set.
SCANS = (
    _scan("oasis", "01", "brain_t1_oasistrt/atlas_01_T1brain"),
    _scan("ixi", "131", "brain_t1_ixi2mm/val/IXI131-HH-1527_T1"),
    _contrasts("contrasts", "p07", _OPENMS, "T1", "T2"),
    _scan("trunk", "popi00", "ct_unlabelled/popi00_chest_3mm"),
    _contrasts("ctmr", "28", _HEAD, "CT", "MRI"),
    _scan("openms", "p07-T1", f"{_OPENMS}T1"),
    _scan("oasis", "02", "brain_t1_oasistrt/atlas_02_T1brain"),
    _scan("ixi", "136", "brain_t1_ixi2mm/val/IXI136-HH-1452_T1"),
    _contrasts("contrasts", "p07", _OPENMS, "FLAIR", "T1"),
    _scan("trunk", "CCTH-A01", "abdomen/CCTH-A01_CT_3mm"),
    _contrasts("ctmr", "28", _HEAD, "MRI", "CT"),
    _scan("openms", "p07-T2", f"{_OPENMS}T2"),
    _contrasts("contrasts", "cstar", _CSTAR, "T1", "T2"),
    _scan("openms", "p07-FLAIR", f"{_OPENMS}FLAIR"),
)
PAIRS = tuple(_subjects(pair) for pair in pairs.PAIRS)


def dealt(warps: int) -> list[Case]:
    """The first ``warps`` warps, each on the scan whose turn it is."""
    return [SCANS[number % len(SCANS)].warped(number) for number in range(warps)]


NAMES = tuple(case.name for case in (*dealt(WARPS), *PAIRS))


def select(names: list[str], warps: int, data: str | None) -> list[Case]:
    """The cases called for, with paths below ``data`` or ``$REGNET_DATA``.

    Args:
        names: data sets, ``warps`` (all that are warped), ``pairs`` (all of two subjects) or ``all``.
        warps: how many warps are dealt out.
        data: the data folder.

    Raises:
        SystemExit: a name or number is unknown, or the data are not there; with one sentence that says so.
    """
    known = {"all", "warps", "pairs", *DATASETS}
    for name in names:
        if name not in known:
            raise SystemExit(f"There is no data set {name!r}; choose from {', '.join(sorted(known))}.")
    if not 0 <= warps <= WARPS:
        raise SystemExit(f"There are no {warps} warps; give a number from 0 to {WARPS}.")
    folder = pairs.data_folder(data, "affine_cases.py")
    cases = [
        case.resolved(folder)
        for case in (*dealt(warps), *PAIRS)
        if {"all", case.dataset, "pairs" if case.labels else "warps"} & set(names)
    ]
    for case in cases:
        for file in case.files():
            if not Path(file).is_file():
                raise SystemExit(
                    f"Case {case.name} needs {file}, which is not there; is {folder} the right data folder?"
                )
    return cases
