"""What the Sample Data module offers: by its buttons, and by name."""

from __future__ import annotations

import numpy as np
import pytest

SAMPLES = {
    "RegNetDemoPair": ["Patient T1", "Atlas T1"],
    "RegNetTwoContrasts": ["Patient T2", "Atlas T1"],
    "RegNetSegmentedAtlas": ["Patient T1", "Atlas T1", "Atlas regions"],
}


@pytest.fixture
def sources(module_factory, scene):
    import SampleData

    module_factory("RegNet")
    return SampleData.SampleDataLogic.sampleDataSourcesByCategory("RegNet")


def test_the_samples_have_names_files_and_pictures_of_their_own(sources):
    from host.pictures import read_png

    assert {source.sampleName: source.nodeNames for source in sources} == SAMPLES
    pictures = [read_png(source.thumbnailFileName) for source in sources]
    assert all(picture.shape[:2] == (128, 128) for picture in pictures)
    for n, one in enumerate(pictures):
        assert all(np.abs(one.astype(float) - other).mean() > 10 for other in pictures[:n])
    for source in sources:
        pairs = zip(source.uris, source.fileNames, strict=True)
        assert all(uri.startswith("file:") and uri.endswith(name) for uri, name in pairs)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_press_of_its_button(sources, name):
    import slicer

    source = next(source for source in sources if source.sampleName == name)
    nodes = source.customDownloader(source)
    assert [node.GetName() for node in nodes] == SAMPLES[name]
    volumes = [node for node in nodes if node.IsA("vtkMRMLScalarVolumeNode")]
    assert all(slicer.util.arrayFromVolume(node).std() > 0 for node in volumes)


def test_by_name_without_our_loader(sources):
    """As ``SampleData.downloadSamples`` does it: files to the cache, then each loaded as what it is."""
    import SampleData

    nodes = SampleData.downloadSamples("RegNetSegmentedAtlas")
    assert [node.GetName() for node in nodes] == SAMPLES["RegNetSegmentedAtlas"]
    assert nodes[2].GetSegmentation().GetNumberOfSegments() == 116


def test_the_regions_lie_on_the_atlas_and_are_called_by_their_anatomy(sources):
    import slicer
    from RegNetLib.sample_data import SEGMENTED_ATLAS, load_sample

    _patient, atlas, regions = load_sample(SEGMENTED_ATLAS)
    segmentation = regions.GetSegmentation()
    titles = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert len(set(titles)) == 116 and not any(title.startswith("Segment") for title in titles)
    image, places = slicer.util.arrayFromVolume(atlas), {}
    for title in (
        "Thalamus, left",
        "Thalamus, right",
        "Brainstem",
        "Lateral ventricle, left",
        "Cortical region 1, right",
    ):
        identity = segmentation.GetSegmentIdBySegmentName(title)
        inside = slicer.util.arrayFromSegmentBinaryLabelmap(regions, identity, atlas) > 0
        assert inside.shape == image.shape and image[inside].mean() > 0
        ijk = np.argwhere(inside).mean(0)[::-1]
        matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
        atlas.GetIJKToRASMatrix(matrix)
        places[title] = (slicer.util.arrayFromVTKMatrix(matrix) @ [*ijk, 1.0])[:3]
    assert places["Thalamus, left"][0] < -5 and places["Thalamus, right"][0] > 5
    assert places["Brainstem"][2] < places["Thalamus, left"][2] - 20
    assert places["Lateral ventricle, left"][0] < 0


def test_without_the_files_nothing_is_offered(module_factory, monkeypatch, tmp_path):
    import SampleData
    import slicer
    from RegNetLib import sample_data

    monkeypatch.setattr(sample_data, "_FOLDERS", (tmp_path,))
    monkeypatch.setattr(slicer.modules, "sampleDataSources", {}, raising=False)
    sample_data.register_sample_data()
    assert SampleData.SampleDataLogic.sampleDataSourcesByCategory("RegNet") == []
    assert sample_data.demo_folder() is None
    with pytest.raises(FileNotFoundError, match="not part of this installation"):
        sample_data.load_demo_pair()
    for name in ("patient_T1", "atlas_T1"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    sample_data.register_sample_data()
    sources = SampleData.SampleDataLogic.sampleDataSourcesByCategory("RegNet")
    assert [source.sampleName for source in sources] == ["RegNetDemoPair"]
    assert sample_data.demo_folder() == tmp_path


def test_the_host_refuses_lists_of_different_lengths(sources):
    import SampleData

    with pytest.raises(ValueError, match="same length"):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            sampleName="odd", uris=["file:///a", "file:///b"], fileNames=["a"], nodeNames=["A", "B"]
        )
    assert SampleData.SampleDataLogic.sampleDataSourcesByCategory("Custom") == []
