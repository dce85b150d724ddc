"""The image pairs of the benchmark, as files of a data folder that the project does not ship.

The folder holds:

* ``brain_t1_oasistrt/atlas_NN_T1brain.nii.gz`` and ``atlas_NN_labels.nii.gz``: OASIS-TRT-20 brains of Mindboggle-101
  (T1, 1 mm, skull-stripped, native spaces) with their manual labels (DKT31 cortex and subcortical structures).
* ``brain_t1_ixi2mm/val/IXInnn-SITE-nnnn_T1.nii.gz`` and ``..._DLMUSE.nii.gz``: IXI heads (T1, 2 mm) with labels made
  by the DLMUSE model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DATA_VARIABLE = "REGNET_DATA"


@dataclass(frozen=True)
class Pair:
    """``moving`` is registered onto ``fixed``; images and label maps are paths below the data folder."""

    name: str
    dataset: str
    title: str
    fixed: str
    moving: str
    fixed_labels: str
    moving_labels: str

    def resolved(self, data: Path) -> Pair:
        """The same pair with absolute paths."""
        paths = {key: str(data / getattr(self, key)) for key in ("fixed", "moving", "fixed_labels", "moving_labels")}
        return Pair(self.name, self.dataset, self.title, **paths)

    def missing(self) -> list[str]:
        files = (self.fixed, self.moving, self.fixed_labels, self.moving_labels)
        return [file for file in files if not Path(file).is_file()]


DATASETS = {
    "oasis": "OASIS-TRT-20, T1 at 1 mm, skull-stripped, native spaces, manual labels",
    "ixi": "IXI, T1 at 2 mm, whole heads, native spaces, labels made by a model (DLMUSE)",
}


def _oasis(moving: str, fixed: str) -> Pair:
    stem = "brain_t1_oasistrt/atlas_"
    images, labels = "_T1brain.nii.gz", "_labels.nii.gz"
    return Pair(
        f"oasis-{moving}-{fixed}",
        "oasis",
        f"{moving} → {fixed}",
        stem + fixed + images,
        stem + moving + images,
        stem + fixed + labels,
        stem + moving + labels,
    )


def _ixi(moving: str, fixed: str) -> Pair:
    stem = "brain_t1_ixi2mm/val/"
    images, labels = "_T1.nii.gz", "_DLMUSE.nii.gz"
    return Pair(
        f"ixi-{moving[3:6]}-{fixed[3:6]}",
        "ixi",
        f"{moving[3:6]} → {fixed[3:6]}",
        stem + fixed + images,
        stem + moving + images,
        stem + fixed + labels,
        stem + moving + labels,
    )


# Small ones first, so that a broken method shows early. The IXI pairs share no subject.
PAIRS = (
    _ixi("IXI131-HH-1527", "IXI136-HH-1452"),
    _ixi("IXI137-HH-1472", "IXI146-HH-1389"),
    _ixi("IXI148-HH-1453", "IXI150-HH-1550"),
    _oasis("01", "02"),
    _oasis("02", "01"),
)


def select(names: list[str], data: str | None) -> list[Pair]:
    """The pairs called for by name, by data set or by ``all``, with paths below ``data`` or ``$REGNET_DATA``.

    Raises:
        SystemExit: a name is unknown, or the data are not there; with one sentence that says so.
    """
    known = {pair.name for pair in PAIRS} | set(DATASETS) | {"all"}
    for name in names:
        if name not in known:
            raise SystemExit(f"There is no pair or data set {name!r}; choose from {', '.join(sorted(known))}.")
    folder = data_folder(data, "pairs.py")
    wanted = [pair for pair in PAIRS if {"all", pair.name, pair.dataset} & set(names)]
    pairs = [pair.resolved(folder) for pair in wanted]
    for pair in pairs:
        for file in pair.missing():
            raise SystemExit(f"Pair {pair.name} needs {file}, which is not there; is {folder} the right data folder?")
    return pairs


def data_folder(data: str | None, described: str) -> Path:
    """The folder of the images, from ``data`` or ``$REGNET_DATA``; ``described`` is the file that says what it holds.

    Raises:
        SystemExit: no folder is given, or it is not there; with one sentence that says so.
    """
    folder = data or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise SystemExit(
            f"The benchmark needs the folder of its images: give it with --data or in ${DATA_VARIABLE} "
            f"(Testing/benchmarks/{described} says what it holds)."
        )
    if not Path(folder).is_dir():
        raise SystemExit(f"The data folder {folder} is not there; give the right one with --data or ${DATA_VARIABLE}.")
    return Path(folder).resolve()
