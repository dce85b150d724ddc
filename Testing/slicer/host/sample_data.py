"""SampleData: what modules offer in Slicer's Sample Data module, by button and by name."""

from __future__ import annotations

import os
import types
import urllib.request
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SampleDataSource:
    """One button. All lists are of the same length, as Slicer demands."""

    sampleName: str | None
    uris: list
    fileNames: list
    nodeNames: list
    loadFiles: list
    customDownloader: object = field(compare=False)
    thumbnailFileName: str | None
    loadFileType: list
    loadFileProperties: dict
    checksums: list

    @property
    def sampleDescription(self) -> str | None:
        return self.sampleName

    def __post_init__(self):
        lists = (self.uris, self.fileNames, self.nodeNames, self.loadFiles, self.loadFileType, self.checksums)
        if len({len(one) for one in lists}) != 1:
            raise ValueError(f"All fields of sample data source must have the same length: {lists}")


class SampleDataLogic:
    """Registers sources, and loads them by name; files are copied to a cache first, by their address."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ) -> None:
        count = 1 if isinstance(uris, str) else len(uris)

        def listed(value) -> list:
            return [value] * count if isinstance(value, str) or value is None else list(value)

        source = SampleDataSource(
            sampleName,
            listed(uris),
            listed(fileNames),
            listed(nodeNames),
            listed(loadFiles),
            customDownloader,
            thumbnailFileName,
            listed(loadFileType),
            loadFileProperties or {},
            listed(checksums),
        )
        known = SampleDataLogic.sampleDataSourcesByCategory().setdefault(category, [])
        if source not in known:
            known.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        import slicer

        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources
        return sources if category is None else sources.get(category, [])

    def sourceForSampleName(self, sampleName):
        every = [one for sources in self.sampleDataSourcesByCategory().values() for one in sources]
        return next((source for source in every if source.sampleName == sampleName), None)

    def downloadSamples(self, sampleName) -> list:
        """Slicer does not ask the custom downloader here, only where the button is pressed."""
        source = self.sourceForSampleName(sampleName)
        return self.downloadFromSource(source) if source is not None else []

    def downloadSample(self, sampleName):
        return self.downloadSamples(sampleName)[0]

    def downloadFromSource(self, source) -> list:
        import slicer
        import vtk

        nodes = []
        cache = os.path.join(slicer.app.temporaryPath, "RemoteIO")
        os.makedirs(cache, exist_ok=True)
        for uri, name, title, kind in zip(
            source.uris, source.fileNames, source.nodeNames, source.loadFileType, strict=True
        ):
            path, loaded = os.path.join(cache, name), vtk.vtkCollection()
            urllib.request.urlretrieve(uri, path)
            properties = {**source.loadFileProperties, "fileName": path, "name": title}
            if not slicer.app.coreIOManager().loadNodes(kind, properties, loaded):
                raise RuntimeError(f"{name} cannot be loaded as a {kind}")
            nodes.append(loaded.GetItemAsObject(0))
        return nodes


def make_sample_data() -> types.ModuleType:
    module = types.ModuleType("SampleData", "Slicer's Sample Data module")
    module.SampleDataLogic, module.SampleDataSource = SampleDataLogic, SampleDataSource
    module.downloadSample = lambda name: SampleDataLogic().downloadSample(name)
    module.downloadSamples = lambda name: SampleDataLogic().downloadSamples(name)
    return module
