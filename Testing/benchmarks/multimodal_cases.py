"""The cases of the multimodal benchmark, as files of a data folder that the project does not ship.

The folder holds, with images of one row sharing a space unless it says otherwise:

* ``brain_multimodal/openms_pNN_{T1,T2,FLAIR}.nii.gz``: two patients with multiple sclerosis, brains at 1 mm.
* ``brain_multimodal/cstar_stroke_{T1,T2}.nii.gz``: a stroke patient, brain at 1 mm.
* ``ctmr_head/harvard_caseNN_{CT,MRI}.nii.gz``: heads, 1 × 1 × 5 mm.
* ``ct_unlabelled/*_3mm.nii.gz``, ``abdomen/CCTH-A01_CT_3mm.nii.gz``: CTs of the trunk, each on its own.
* ``abdomen_mr_liver4d/datasetNN``: liver MR, exhaled and at two other times, with breathing between them, and
  landmarks ``*LMliver.vtk`` and ``*LMoutside.vtk`` in the images' own millimetres.

All but the last are warped with one of the stored warps (``warps.py``), so the truth is known at every voxel.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pairs

WARPS = 10  # how many warps.json holds

DATASETS = {
    "openms": "OpenMS, T1, T2 and FLAIR of a patient at 1 mm, skull-stripped, one of them warped",
    "cstar": "CSTAR, T1 and T2 of a stroke patient at 1 mm, skull-stripped, one of them warped",
    "ctmr": "Harvard atlas, CT and MR of a head, 1 × 1 × 5 mm, one of them warped",
    "trunk": "CT of the trunk at 3 mm and itself, warped, with other noise",
    "liver": "Liver MR, exhaled and inhaled, landmarks set by hand: target registration error",
}


@dataclass(frozen=True)
class Case:
    """``moving`` is registered onto ``fixed``; files are paths below the data folder.

    ``foreground`` says where errors count: ``positive`` voxels, or the ``body`` (see ``multimodal_prepare.py``).
    ``noise`` is the standard deviation of what is added to the moving image, in its units. ``slices`` are distances in
    mm to put right in the headers, of the fixed and of the moving image. ``landmarks`` are files by kind, fixed and
    moving. ``short``: part of the default selection. ``warp`` is None where nothing is warped.
    """

    name: str
    dataset: str
    title: str
    fixed: str
    moving: str
    foreground: str = "body"
    noise: float = 0.0
    slices: tuple[float | None, float | None] = (None, None)
    landmarks: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    short: bool = False
    warp: int | None = None

    def files(self) -> list[str]:
        return [self.fixed, self.moving, *(file for both in self.landmarks.values() for file in both)]

    def warped(self, number: int) -> Case:
        """The same case with the warp of that number."""
        title = f"{self.title}, warp {number}"
        return dataclasses.replace(self, name=f"{self.name}-w{number}", title=title, warp=number)

    def resolved(self, data: Path) -> Case:
        """The same case with absolute paths."""
        landmarks = {kind: tuple(str(data / file) for file in both) for kind, both in self.landmarks.items()}
        fixed, moving = str(data / self.fixed), str(data / self.moving)
        return dataclasses.replace(self, fixed=fixed, moving=moving, landmarks=landmarks)


def _brain(dataset: str, subject: str, stem: str, moving: str, fixed: str, short: bool) -> Case:
    name = "-".join(filter(None, (dataset, subject, moving, fixed)))
    title = f"{subject} {moving} → {fixed}".strip()
    files = (f"brain_multimodal/{stem}_{kind}.nii.gz" for kind in (fixed, moving))
    return Case(name, dataset, title, *files, foreground="positive", short=short)


def _head(number: str, moving: str, fixed: str, short: bool) -> Case:
    files = (f"ctmr_head/harvard_case{number}_{'MRI' if kind == 'MR' else kind}.nii.gz" for kind in (fixed, moving))
    return Case(f"ctmr-{number}-{moving}-{fixed}", "ctmr", f"{number} {moving} → {fixed}", *files, short=short)


def _trunk(name: str, file: str, short: bool = False) -> Case:
    return Case(f"trunk-{name}", "trunk", name, file, file, noise=10.0, short=short)


def _liver(subject: str, phase: str, inhaled_moves: bool) -> Case:
    stem = f"abdomen_mr_liver4d/dataset{subject}/"
    exhaled, inhaled = stem + "exhMaster", stem + phase
    images = [f"{exhaled}_unmasked.force_direction.mha", f"{inhaled}.force_direction.mha"]
    marks = {kind: [f"{image}LM{kind}.vtk" for image in (exhaled, inhaled)] for kind in ("liver", "outside")}
    # That header states 5 mm; the landmarks, and the other images of the series, say 4.
    slices: list[float | None] = [None, 4.0 if (subject, phase) == ("18", "cyc_1_10") else None]
    names = ["exhaled", phase.replace("cyc_", "").replace("_", "-")]
    if not inhaled_moves:
        images, slices, names = images[::-1], slices[::-1], names[::-1]
        marks = {kind: both[::-1] for kind, both in marks.items()}
    name, title = f"liver-{subject}-{names[1]}-{names[0]}", f"{subject} {names[1]} → {names[0]}"
    landmarks = {kind: tuple(both) for kind, both in marks.items()}
    return Case(name, "liver", title, *images, slices=tuple(slices), landmarks=landmarks, short=inhaled_moves)


def _all() -> tuple[Case, ...]:
    # The short ones are of subjects on which no weights were trained or chosen (Models/*/data.csv).
    contrasts = ("T1", "T2", "FLAIR")
    short = {("p07", "T1", "T2"), ("p07", "FLAIR", "T1"), ("p07", "T2", "FLAIR")}
    brains = [
        _brain("openms", subject, f"openms_{subject}", moving, fixed, (subject, moving, fixed) in short)
        for subject in ("p07", "p19")
        for moving in contrasts
        for fixed in contrasts
        if moving != fixed
    ]
    brains += [_brain("cstar", "", "cstar_stroke", *both, short=True) for both in (("T1", "T2"), ("T2", "T1"))]
    first = {("28", "CT", "MR"), ("32", "MR", "CT"), ("33", "CT", "MR")}
    heads = [
        _head(number, *both, short=(number, *both) in first)
        for number in ("02", "16", "20", "21", "28", "32", "33")
        for both in (("CT", "MR"), ("MR", "CT"))
    ]
    trunks = [
        _trunk(name, f"ct_unlabelled/{name}_3mm.nii.gz", short=name == "popi00_chest")
        for name in ("andrei_chest", "popi00_chest", "pancreasCTCB001")
    ]
    trunks.append(_trunk("CCTH-A01", "abdomen/CCTH-A01_CT_3mm.nii.gz", short=True))
    phases = (("18", "cyc_1_10"), ("18", "cyc_3_10"), ("19", "cyc_1_6"), ("19", "cyc_1_9"))
    livers = [_liver(*phase, inhaled_moves=way) for phase in phases for way in (True, False)]
    return (*brains, *heads, *trunks, *livers)


CASES = _all()
# Every case has a warp of its own choice, those of the default selection first, so that it takes all ten.
OWN_WARPS = {
    case.name: number % WARPS
    for number, case in enumerate(sorted((c for c in CASES if not c.landmarks), key=lambda case: not case.short))
}
NAMES = tuple(
    name
    for case in CASES
    for name in ([case.name] if case.landmarks else [case.warped(number).name for number in range(WARPS)])
)


def select(names: list[str], warps: list[str], data: str | None) -> list[Case]:
    """The cases called for, each with the warps called for, with paths below ``data`` or ``$REGNET_DATA``.

    Args:
        names: names, data sets, ``short`` (the default selection) or ``all``.
        warps: numbers, ``own`` (one for each case, see ``OWN_WARPS``) or ``all``. Cases with landmarks have none.
        data: the data folder.

    Raises:
        SystemExit: a name or number is unknown, or the data are not there; with one sentence that says so.
    """
    known = {case.name for case in CASES} | set(DATASETS) | {"short", "all"}
    for name in names:
        if name not in known:
            raise SystemExit(f"There is no case or data set {name!r}; choose from {', '.join(sorted(known))}.")
    for number in warps:
        if number not in {"own", "all", *map(str, range(WARPS))}:
            raise SystemExit(f"There is no warp {number!r}; choose from own, all, 0 to {WARPS - 1}.")
    folder = pairs.data_folder(data, "multimodal_cases.py")
    wanted = [case for case in CASES if {"all", case.name, case.dataset, "short" if case.short else ""} & set(names)]
    cases = [case.resolved(folder) for plain in wanted for case in _with_warps(plain, warps)]
    for case in cases:
        for file in case.files():
            if not Path(file).is_file():
                raise SystemExit(
                    f"Case {case.name} needs {file}, which is not there; is {folder} the right data folder?"
                )
    return cases


def _with_warps(case: Case, warps: list[str]) -> list[Case]:
    if case.landmarks:
        return [case]
    numbers = range(WARPS) if "all" in warps else {int(w) if w != "own" else OWN_WARPS[case.name] for w in warps}
    return [case.warped(number) for number in sorted(numbers)]
