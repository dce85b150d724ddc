"""What the retrieval benchmark looks at: real scans of a data folder that the project does not ship.

The folder holds, next to what ``pairs.py`` names,

* ``brain_multimodal/openms_pNN_*`` and ``cstar_stroke_*``: co-registered T1, T2 and FLAIR of one brain, stripped.
* ``ctmr_head/harvard_caseNN_CT`` and ``..._MRI``: co-registered slices of one head, 1 × 1 × 5 mm.
* ``ct_unlabelled/*`` and ``abdomen/CCTH-A01_CT_3mm``: CT of the trunk, 3 mm.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

MANIFEST = Path(__file__).resolve().parents[2] / "Models" / "masr" / "data.csv"
KINDS = {
    "look": "head MR, intensities changed",
    "contrasts": "T1, T2 and FLAIR of one brain",
    "ctmr": "MR and CT of one head",
    "trunk": "trunk CT, intensities changed",
}
TRAINED, CHOSEN, NEW = "trained on", "chosen on", "new"
SPLITS = {"train": TRAINED, "val": CHOSEN}


@dataclass(frozen=True)
class Case:
    """Points of the image ``first`` are looked for in ``second``; paths are below the data folder.

    ``second`` is None where it is ``first`` itself under the intensity curve that the seed ``curve`` gives; odd seeds
    invert it. ``subject`` is how the names of all files of the subject begin.
    """

    kind: str
    title: str
    subject: str
    first: str
    second: str | None = None
    curve: int = 0


def _changed(kind: str, name: str, subject: str, path: str, number: int) -> list[Case]:
    """A scan under a curve that keeps dark and bright apart, and under one that is inverted."""
    titles = (f"{name} → changed", f"{name} → changed, inverted")
    return [Case(kind, title, subject, path, None, 2 * number + place) for place, title in enumerate(titles)]


def _contrasts(name: str, stem: str) -> list[Case]:
    folder = "brain_multimodal/"
    pairs = (("T1", "T2"), ("T1", "FLAIR"), ("T2", "FLAIR"))
    paths = {one: f"{folder}{stem}_{one}.nii.gz" for one in ("T1", "T2", "FLAIR")}
    return [Case("contrasts", f"{name}, {a} → {b}", f"{stem}_", paths[a], paths[b]) for a, b in pairs]


HEADS = (
    ("openms p07, T1", "openms_p07_", "brain_multimodal/openms_p07_T1.nii.gz"),
    ("openms p19, FLAIR", "openms_p19_", "brain_multimodal/openms_p19_FLAIR.nii.gz"),
    ("C-STAR, T2", "cstar_stroke_", "brain_multimodal/cstar_stroke_T2.nii.gz"),
    ("IXI131, T1", "IXI131-", "brain_t1_ixi2mm/val/IXI131-HH-1527_T1.nii.gz"),
    ("IXI136, T1", "IXI136-", "brain_t1_ixi2mm/val/IXI136-HH-1452_T1.nii.gz"),
    ("OASIS 01, T1", "atlas_01_", "brain_t1_oasistrt/atlas_01_T1brain.nii.gz"),
)
BRAINS = (("openms p07", "openms_p07"), ("openms p19", "openms_p19"), ("C-STAR", "cstar_stroke"))
CTMR = ("02", "16", "20", "21", "28", "32", "33")
TRUNKS = (
    ("chest, andrei", "andrei_chest", "ct_unlabelled/andrei_chest_3mm.nii.gz"),
    ("chest, popi00", "popi00_chest", "ct_unlabelled/popi00_chest_3mm.nii.gz"),
    ("pancreas, CB001", "pancreasCTCB001", "ct_unlabelled/pancreasCTCB001_3mm.nii.gz"),
    ("abdomen, CCTH-A01", "CCTH-A01_", "abdomen/CCTH-A01_CT_3mm.nii.gz"),
)

CASES: tuple[Case, ...] = (
    *(case for number, scan in enumerate(HEADS) for case in _changed("look", *scan, number)),
    *(case for brain in BRAINS for case in _contrasts(*brain)),
    *(
        Case(
            "ctmr",
            f"Harvard {number}, MR → CT",
            f"harvard_case{number}_",
            f"ctmr_head/harvard_case{number}_MRI.nii.gz",
            f"ctmr_head/harvard_case{number}_CT.nii.gz",
        )
        for number in CTMR
    ),
    *(case for number, scan in enumerate(TRUNKS, len(HEADS)) for case in _changed("trunk", *scan, number)),
)


def seen(subject: str, manifest: Path = MANIFEST) -> str:
    """What the descriptor's training knew of a subject, by any of its files: also another contrast of it counts."""
    with manifest.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            cells = [text for name, text in row.items() if name and name.startswith("image") and text]
            if any(Path(cell).name.startswith(subject) for cell in cells):
                return SPLITS[row["split"]]
    return NEW


def missing(case: Case, data: Path) -> list[Path]:
    return [data / path for path in (case.first, case.second) if path and not (data / path).is_file()]
