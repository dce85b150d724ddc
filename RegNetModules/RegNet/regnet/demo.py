"""The demonstration: an atlas and its labels carried onto a patient, with images that the checkout holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import InputError
from .events import Events

PATIENT, ATLAS, LABELS = "patient_T1.nii.gz", "atlas_T1.nii.gz", "atlas_labels.nii.gz"
RESULT_FILES = ("transform.h5", "warped.nii.gz", "labels.nii.gz", "report.json", "report.html")


def find_demo_data(folder: Path | None = None) -> Path:
    """The folder with the demo images: ``folder`` if given, else the checkout's or the one beside the package.

    Raises:
        InputError: no such folder, or an image is missing from it.
    """
    package = Path(__file__).resolve().parent
    places = [folder] if folder else [package.parents[2] / "Resources/Demo", package.parent / "Resources/Demo"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None and folder is not None:
        raise InputError(f"There is no folder {str(folder)!r}; give the folder of the demo images with --data.")
    if found is None:
        raise InputError(
            "The demo images are not part of the installed package; run the demo in a checkout of RegNet, or give "
            "their folder with --data."
        )
    missing = [name for name in (PATIENT, ATLAS, LABELS) if not (found / name).is_file()]
    if missing:
        raise InputError(f"The folder {str(found)!r} lacks {', '.join(missing)} of the demo images.")
    return found


def run_demo(
    output: Path,
    *,
    data: Path | None = None,
    model: str = "avsm",
    seed: int = 0,
    device: str = "auto",
    parameters: dict[str, Any] | None = None,
    events: Events | None = None,
) -> dict[str, Any]:
    """Register the atlas to the patient, carry its labels over, write :data:`RESULT_FILES` to ``output``.

    Returns:
        The report.
    """
    from . import cli_work as work
    from .outputs import staged_folder

    folder = find_demo_data(data)
    # Also what an earlier run of `regnet register` left there, which would not fit this result.
    with staged_folder(output, {*RESULT_FILES, *work.RESULT_FILES}) as staging:
        return work.register_files(
            staging,
            folder / PATIENT,
            folder / ATLAS,
            labels_path=folder / LABELS,
            events=events,
            model=model,
            seed=seed,
            device=device,
            parameters=parameters,
        )
