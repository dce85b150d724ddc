"""The demo pair, for the Sample Data module and for the panels' own button. Local files: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

_HERE = Path(__file__).resolve()
_FOLDERS = (_HERE.parent.parent / "Resources" / "Demo", _HERE.parents[3] / "Resources" / "Demo")
"""Installed beside the modules' resources, or in the source tree."""
FIXED_NAME, MOVING_NAME = "Patient T1", "Atlas T1"
FILES = {FIXED_NAME: "patient_T1.nii.gz", MOVING_NAME: "atlas_T1.nii.gz"}
OTHER_NAME, OTHER_FILE = "Patient T2", "patient_T2.nii.gz"
"""The patient in another contrast, for models that are made for two."""


def demo_folder() -> Path | None:
    """Where the demo pair lies, None where it was not installed."""
    for folder in _FOLDERS:
        if all((folder / name).is_file() for name in FILES.values()):
            return folder
    return None


def load_demo_pair(source=None, *, two_contrasts: bool = False) -> list:
    """Load the demo pair: [patient (fixed), atlas (moving)]. The atlas is T1, and so is the patient unless there are to
    be ``two_contrasts``."""
    folder = demo_folder()
    if folder is None:
        raise FileNotFoundError(_("The demo pair is not part of this installation."))
    files = dict(FILES)
    if two_contrasts and (folder / OTHER_FILE).is_file():
        files = {OTHER_NAME: OTHER_FILE, MOVING_NAME: FILES[MOVING_NAME]}
    return [
        slicer.util.loadVolume(str(folder / file_name), {"name": name, "show": False})
        for name, file_name in files.items()
    ]


def register_sample_data() -> None:
    """Offer the demo pair in the Sample Data module, where that module exists."""
    try:
        import SampleData
    except ImportError:
        return
    folder = demo_folder()
    if folder is None:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="RegNet",
        sampleName="RegNetDemoPair",
        uris=[(folder / name).as_uri() for name in FILES.values()],
        fileNames=list(FILES.values()),
        nodeNames=list(FILES),
        thumbnailFileName=str(_HERE.parent.parent / "Resources" / "Icons" / "RegNetDemoPair.png"),
        customDownloader=load_demo_pair,
    )
