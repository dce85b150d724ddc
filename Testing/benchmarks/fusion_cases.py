"""The cases of the fusion benchmark, as files of a data folder that the project does not ship.

The folder holds, every pair of images sharing a space:

* ``fusion2d/{CT,PET,SPECT}-MRI/MRI/NUMBER.png`` and ``.../{CT,PET,SPECT}/NUMBER.png``: slices of heads, 256 × 256, PET
  and SPECT in false colour. NUMBER is the case's number followed by three digits for the slice.
* ``brain_multimodal/cstar_stroke_{T1,T2}.nii.gz``, ``abdomen/CCTH-A01_CT_3mm.nii.gz`` and ``..._PET_native.nii.gz``:
  volumes whose licences allow pictures of them to be shown.

A case is one slice. Slices of one head are on one side of the split, and so are all modalities of one case number.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

MODALITIES = {
    "ct": "CT onto MRI of the head",
    "pet": "PET onto MRI of the head",
    "spect": "SPECT onto MRI of the head",
}
TUNING = frozenset({2, 3, 9, 11, 15, 16, 20, 21, 25})
"""Case numbers that settings may be chosen on: some of each modality, and all that other models' trainings saw."""
SPLITS = ("test", "tuning")

BT601 = np.array([0.299, 0.587, 0.114])
DARK = 0.06  # of the range: what is brighter shows something
GAP = 8  # pixels, half the width of what is closed at the rim: skull and fat, whose signal may be lost


@dataclass(frozen=True)
class Case:
    """``moving`` is registered onto ``fixed``, files below the data folder; of a volume its slice along ``axis``.

    ``place`` is where the slice lies, as a share of the axis (D, H, W). ``credit`` has to stand below a picture.
    """

    name: str
    modality: str
    number: int
    fixed: str
    moving: str
    axis: int = 0
    place: float = 0.5
    credit: str = ""

    @property
    def split(self) -> str:
        return "tuning" if self.number in TUNING else "test"


class Images(NamedTuple):
    """Both images in [0, 1]; ``colour`` (H, W, 3) is the moving one as it is shown, ``moving`` its luminance."""

    fixed: np.ndarray
    moving: np.ndarray
    colour: np.ndarray


_CSTAR = "C-STAR stroke patient (MIT licence)"
_CCTH = "CC-Tumor-Heterogeneity, The Cancer Imaging Archive (CC BY 4.0)"
SHOWABLE: tuple[Case, ...] = (
    Case(
        "cstar-t2-t1",
        "mr",
        0,
        "brain_multimodal/cstar_stroke_T1.nii.gz",
        "brain_multimodal/cstar_stroke_T2.nii.gz",
        credit=_CSTAR,
    ),
    Case(
        "trunk-pet-ct",
        "trunk",
        0,
        "abdomen/CCTH-A01_CT_3mm.nii.gz",
        "abdomen/CCTH-A01_PET_native.nii.gz",
        axis=1,
        credit=_CCTH,
    ),
)


def found(data: Path) -> list[Case]:
    """Every pair of slices in ``data``, by modality, case and slice.

    Raises:
        SystemExit: a folder is empty or a slice lacks its partner; with one sentence that says so.
    """
    cases = []
    for modality in MODALITIES:
        folder = f"fusion2d/{modality.upper()}-MRI"
        files = sorted((data / folder / modality.upper()).glob("*.png"), key=lambda file: int(file.stem))
        if not files:
            raise SystemExit(f"There are no slices in {data / folder / modality.upper()}; is {data} the right folder?")
        for file in files:
            fixed = f"{folder}/MRI/{file.name}"
            if not (data / fixed).is_file():
                raise SystemExit(f"The slice {file} has no partner {data / fixed}.")
            number = int(file.stem) // 1000
            moving = f"{folder}/{modality.upper()}/{file.name}"
            cases.append(Case(f"{modality}-{int(file.stem):05d}", modality, number, fixed, moving))
    return cases


def chosen(cases: list[Case], split: str, slices: int) -> list[Case]:
    """``slices`` cases of each modality, as evenly as possible over its case numbers and over the slices of each."""
    result = []
    for modality in MODALITIES:
        own = [case for case in cases if case.modality == modality and case.split == split]
        numbers = sorted({case.number for case in own})
        for rank, number in enumerate(numbers):
            stack = [case for case in own if case.number == number]
            count = min(len(stack), slices // len(numbers) + (rank < slices % len(numbers)))
            result += [stack[int((place + 0.5) * len(stack) / count)] for place in range(count)]
    return result


def load(case: Case, data: Path) -> Images:
    """The images of a case, each between 0 and 1 as :func:`unit` makes it."""
    if case.fixed.endswith(".png"):
        fixed, colour = _picture(data / case.fixed), _picture(data / case.moving)
        return Images(unit(luminance(fixed)), unit(luminance(colour)), colour / 255.0)
    return _slices(case, data)


def luminance(picture: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601 from (H, W, 3)."""
    return picture @ BT601


def unit(image: np.ndarray) -> np.ndarray:
    """``image`` cut to its percentiles 0.1 and 99.9, which become 0 and 1: what RegNet makes of it, for all."""
    low, high = np.percentile(image, (0.1, 99.9))
    if not high > low:
        low, high = image.min(), image.max()
    return np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros_like(image)


def foreground(image: np.ndarray) -> np.ndarray:
    """The head: the largest connected part that is not DARK, with its holes and gaps at its rim filled.

    The image is smoothed by a pixel first, so that noise around the head does not hang on to it.
    """
    bright = np.pad(ndimage.gaussian_filter(image, 1.0) > DARK, GAP)
    if not bright.any():
        raise ValueError("The image shows nothing but background.")
    parts, _ = ndimage.label(ndimage.distance_transform_edt(~bright) <= GAP)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    closed = ndimage.distance_transform_edt(ndimage.binary_fill_holes(parts == sizes.argmax())) > GAP
    return closed[GAP:-GAP, GAP:-GAP]


def _picture(file: Path) -> np.ndarray:
    """(H, W, 3) in 0...255; a grey picture three times."""
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file))).astype(np.float64)
    return np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array[..., :3]


def _slices(case: Case, data: Path) -> Images:
    """Of two volumes; a CT between -160 and 240 HU, PET in the colours of heated iron."""
    import SimpleITK as sitk
    from matplotlib import colormaps

    first, second = (sitk.ReadImage(str(data / file), sitk.sitkFloat32) for file in (case.fixed, case.moving))
    first = sitk.DICOMOrient(first, "LPS")
    second = sitk.Resample(second, first, sitk.Transform(), sitk.sitkLinear, 0.0)
    volumes = [sitk.GetArrayFromImage(volume) for volume in (first, second)]
    at = int(case.place * volumes[0].shape[case.axis])
    spacing = np.delete(np.array(first.GetSpacing()[::-1]), case.axis)
    fixed, moving = (_square(_windowed(v, at, case.axis), spacing, case.axis) for v in volumes)
    colour = colormaps["hot"](moving)[..., :3] if case.modality == "trunk" else np.repeat(moving[..., None], 3, -1)
    return Images(unit(fixed), unit(luminance(colour)), colour)


def _windowed(volume: np.ndarray, at: int, axis: int) -> np.ndarray:
    if volume.min() < -500:
        low, high = -160.0, 240.0
    else:
        low, high = 0.0, float(np.percentile(volume, 99.7))
    return np.clip((np.take(volume, at, axis) - low) / (high - low), 0, 1)


def _square(image: np.ndarray, spacing: np.ndarray, axis: int) -> np.ndarray:
    """With square pixels, the longer side 256; of a volume along L, P and S, with the head or the front up."""
    size = np.array(image.shape) * spacing
    zoomed = ndimage.zoom(image, 256 / size.max() * spacing, order=1)
    return zoomed[::-1] if axis else zoomed
