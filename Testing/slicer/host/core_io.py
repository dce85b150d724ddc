"""slicer.app.coreIOManager(): reads and writes nodes and scenes through the real storage nodes and module logics."""

from __future__ import annotations

import os
import pathlib
import tempfile

from PySide6 import QtCore

from .errors import HostGapError

_TYPES = {
    "SceneFile": (".mrml", ".mrb"),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr"),
    "MarkupsFile": (".mrk.json", ".fcsv"),
    "TransformFile": (".h5", ".tfm", ".mat"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "VolumeFile": (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".hdr", ".img"),
}


def stem(path: str) -> str:
    """The file's name without folders and known extensions."""
    name = os.path.basename(path)
    known = sorted((e for extensions in _TYPES.values() for e in extensions), key=len, reverse=True)
    ending = next((e for e in known if name.lower().endswith(e)), os.path.splitext(name)[1])
    return name[: len(name) - len(ending)] if ending else name


class qSlicerCoreIOManager(QtCore.QObject):
    """The part of Slicer's file manager that `slicer.util.load…`, `saveNode` and `exportNode` call."""

    newFileLoaded = QtCore.Signal(object)

    def __init__(self, app, parent=None):
        super().__init__(parent)
        self._app = app

    @property
    def _scene(self):
        return self._app.mrmlScene()

    def _logic(self, name: str):
        return self._app.applicationLogic().GetModuleLogic(name)

    def fileType(self, path: str) -> str:
        return next((kind for kind, endings in _TYPES.items() if str(path).lower().endswith(endings)), "NoFile")

    def loadNodes(self, file_type: str, properties: dict, nodes=None, messages=None) -> bool:
        path = properties["fileName"]
        loader = getattr(self, "_load_" + file_type, None)
        if loader is None:
            raise HostGapError(f"The host's file manager cannot load a {file_type}")
        if not isinstance(path, str):
            raise TypeError(f"PythonQt does not convert a {type(path).__name__}: pass str(path)")
        if not os.path.exists(path):
            return False
        if file_type == "SceneFile":
            return bool(loader(path, properties))
        node = loader(path, properties)
        if node is not None and nodes is not None:
            nodes.AddItem(node)
        return node is not None

    def _load_VolumeFile(self, path: str, properties: dict):
        bits = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}
        options = sum(bit for key, bit in bits.items() if properties.get(key, key == "autoWindowLevel"))
        node = self._logic("Volumes").AddArchetypeVolume(path, properties.get("name", stem(path)), options)
        if node is not None and properties.get("show", True):
            selection = self._app.applicationLogic().GetSelectionNode()
            select = selection.SetActiveLabelVolumeID if properties.get("labelmap") else selection.SetActiveVolumeID
            select(node.GetID())
            self._app.applicationLogic().PropagateVolumeSelection(1)
        return node

    def _load_TransformFile(self, path: str, _properties: dict):
        return self._logic("Transforms").AddTransform(path, self._scene)

    def _load_SegmentationFile(self, path: str, properties: dict):
        return self._logic("Segmentations").LoadSegmentationFromFile(path, True, properties.get("name", stem(path)))

    def _load_ModelFile(self, path: str, _properties: dict):
        return self._logic("Models").AddModel(path)

    def _load_MarkupsFile(self, path: str, properties: dict):
        node_id = self._logic("Markups").LoadMarkups(path, properties.get("name", stem(path)))
        return self._scene.GetNodeByID(node_id) if node_id else None

    def _load_SceneFile(self, path: str, properties: dict):
        clear = bool(properties.get("clear", False))
        if path.lower().endswith(".mrb"):
            return self._scene.ReadFromMRB(path, clear)
        self._scene.SetURL(path)
        return self._scene.Connect() if clear else self._scene.Import()

    def fileWriterFileType(self, node) -> str:
        return "NodeFile"

    def saveNodes(self, file_type: str, properties: dict, messages=None) -> bool:
        path = properties["fileName"]
        if not isinstance(path, str):
            raise TypeError(f"PythonQt does not convert a {type(path).__name__}: pass str(path)")
        if file_type == "SceneFile":
            return self._save_scene(path)
        node = self._scene.GetNodeByID(properties["nodeID"])
        storage = node.GetStorageNode()
        if storage is None and node.AddDefaultStorageNode(path):
            storage = node.GetStorageNode()
        if storage is None:
            return False
        storage.SetFileName(path)
        storage.SetUseCompression(int(properties.get("useCompression", storage.GetUseCompression())))
        return bool(storage.WriteData(node))

    def _save_scene(self, path: str) -> bool:
        if path.endswith(".mrb"):
            return bool(self._scene.WriteToMRB(path))
        if path.endswith(".mrml"):
            self._scene.SetURL(path)
            self._scene.SetRootDirectory(os.path.dirname(path))
            return bool(self._scene.Commit())
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        return bool(self._app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(path, None))

    def _writer(self, node):
        storage = node.CreateDefaultStorageNode()
        if storage is not None:
            storage.UnRegister(None)
        return storage

    def fileWriterExtensions(self, node) -> list[str]:
        types = self._writer(node).GetSupportedWriteFileTypes()
        return [types.GetValue(i) for i in range(types.GetNumberOfValues())]

    def extractKnownExtension(self, path: str, node) -> str:
        return self._writer(node).GetSupportedFileExtension(path)

    def exportNodes(self, node_ids, paths, properties: dict, harden: bool = False, messages=None) -> bool:
        """Writes copies: neither the nodes nor their storage nodes change."""
        done = True
        for node_id, path in zip(node_ids, paths, strict=True):
            node = self._scene.GetNodeByID(node_id)
            if harden:
                node = _hardened_copy(node)
            storage = self._writer(node)
            storage.SetScene(self._scene)
            storage.SetFileName(path)
            done = bool(storage.WriteData(node)) and done
        return done


def _hardened_copy(node):
    """The node in world coordinates, in a scene of its own."""
    import slicer
    import vtk

    scene = slicer.vtkMRMLScene()
    copy = scene.AddNewNodeByClass(node.GetClassName())
    copy.CopyContent(node)
    if node.GetParentTransformNode() is not None:
        to_world = vtk.vtkGeneralTransform()
        node.GetParentTransformNode().GetTransformToWorld(to_world)
        copy.ApplyTransform(to_world)
    copy._host_scene = scene
    return copy


def make_temporary_folder() -> str:
    """Slicer's temporary folder for this run."""
    return tempfile.mkdtemp(prefix="Slicer-host-")
