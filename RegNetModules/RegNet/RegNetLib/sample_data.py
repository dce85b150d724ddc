"""Sample data, for the Sample Data module and for the panels' own button. Local files: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

_HERE = Path(__file__).resolve()
_FOLDERS = (_HERE.parent.parent / "Resources" / "Demo", _HERE.parents[3] / "Resources" / "Demo")
"""Installed beside the modules' resources, or in the source tree."""
VOLUME, SEGMENTATION = "VolumeFile", "SegmentationFile"
"""What a file is loaded as, in Slicer's words."""
PATIENT, OTHER, ATLAS, REGIONS = "Patient T1", "Patient T2", "Atlas T1", "Atlas regions"
FILES = {
    PATIENT: ("patient_T1.nii.gz", VOLUME),
    OTHER: ("patient_T2.nii.gz", VOLUME),
    ATLAS: ("atlas_T1.nii.gz", VOLUME),
    REGIONS: ("atlas_labels.nii.gz", SEGMENTATION),
}
"""Name of the node -> file and what it is loaded as."""
TISSUES = {
    1: _("White matter, left"),
    2: _("White matter, right"),
    3: _("Lateral ventricle, left"),
    4: _("Lateral ventricle, right"),
    5: _("Brainstem"),
    255: _("Cerebellum and midbrain"),
}
NUCLEI = {
    (34, 45): _("Thalamus"),
    (35, 46): _("Caudate"),
    (36, 47): _("Putamen"),
    (37, 48): _("Pallidum"),
    (39, 49): _("Hippocampus"),
    (40, 50): _("Amygdala"),
    (41, 51): _("Accumbens"),
}
"""Values of the left and of the right one."""
FIRST_CORTICAL, LAST_CORTICAL = 101, 196
"""Values of the cortical regions: each in turn left and right."""


@dataclass(frozen=True)
class Sample:
    """What one button of the Sample Data module loads; ``name`` is also that of its thumbnail."""

    name: str
    nodes: tuple[str, ...]


DEMO_PAIR = Sample("RegNetDemoPair", (PATIENT, ATLAS))
TWO_CONTRASTS = Sample("RegNetTwoContrasts", (OTHER, ATLAS))
SEGMENTED_ATLAS = Sample("RegNetSegmentedAtlas", (PATIENT, ATLAS, REGIONS))
SAMPLES = (DEMO_PAIR, TWO_CONTRASTS, SEGMENTED_ATLAS)


def demo_folder() -> Path | None:
    """Where the demo pair lies, None where it was not installed."""
    return _folder_of(DEMO_PAIR)


def load_demo_pair(*, two_contrasts: bool = False) -> list:
    """Load the demo pair: [patient (fixed), atlas (moving)]. The atlas is T1, and so is the patient unless there are to
    be ``two_contrasts``."""
    return load_sample(TWO_CONTRASTS if two_contrasts and _folder_of(TWO_CONTRASTS) else DEMO_PAIR)


def load_sample(sample: Sample) -> list:
    """Load a sample's nodes, in its order.

    Raises:
        FileNotFoundError: it is not installed.
    """
    folder = _folder_of(sample)
    if folder is None:
        raise FileNotFoundError(_("The demo pair is not part of this installation."))
    loaded = {}
    for name in sample.nodes:
        file_name, kind = FILES[name]
        if kind == VOLUME:
            loaded[name] = slicer.util.loadVolume(str(folder / file_name), {"name": name, "show": False})
        else:
            loaded[name] = slicer.util.loadSegmentation(str(folder / file_name), {"name": name})
            loaded[name].SetReferenceImageGeometryParameterFromVolumeNode(loaded[ATLAS])
            name_regions(loaded[name])
    return list(loaded.values())


def name_regions(node) -> None:
    """Call the atlas's segments by their anatomy, which its file does not name."""
    titles = dict(TISSUES)
    for sides, title in NUCLEI.items():
        for value, text in zip(sides, (_("{region}, left"), _("{region}, right")), strict=True):
            titles[value] = text.format(region=title)
    for value in range(FIRST_CORTICAL, LAST_CORTICAL + 1):
        number, right = divmod(value - FIRST_CORTICAL, 2)
        text = _("Cortical region {number}, right") if right else _("Cortical region {number}, left")
        titles[value] = text.format(number=number + 1)
    segmentation = node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        segment.SetName(titles.get(segment.GetLabelValue(), segment.GetName()))


def register_sample_data() -> None:
    """Offer the samples in the Sample Data module, where that module exists."""
    try:
        import SampleData
    except ImportError:
        return
    for sample in SAMPLES:
        folder = _folder_of(sample)
        if folder is None:
            continue
        files, kinds = zip(*(FILES[name] for name in sample.nodes), strict=True)
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="RegNet",
            sampleName=sample.name,
            uris=[(folder / name).as_uri() for name in files],
            fileNames=list(files),
            nodeNames=list(sample.nodes),
            loadFileType=list(kinds),
            thumbnailFileName=str(_HERE.parent.parent / "Resources" / "Icons" / f"{sample.name}.png"),
            customDownloader=_loader(sample),
        )


def _loader(sample: Sample):
    """Called with Slicer's own description of the sample."""
    return lambda _source=None: load_sample(sample)


def _folder_of(sample: Sample) -> Path | None:
    """Where all files of a sample lie, None for nowhere."""
    files = [FILES[name][0] for name in sample.nodes]
    return next((folder for folder in _FOLDERS if all((folder / name).is_file() for name in files)), None)
