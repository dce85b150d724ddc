"""qMRMLNodeComboBox: lists the scene's nodes of some types and follows the scene."""

from __future__ import annotations

import vtk
from PySide6 import QtCore, QtWidgets

from .mrml_widgets import SceneHolder, observe
from .native_property import stored
from .ui_loader import register


@register
class qMRMLNodeComboBox(QtWidgets.QWidget, SceneHolder):
    """As in Slicer: without *None* the first suitable node is chosen when the box was empty; with it the user picks."""

    mrmlSceneChanged = QtCore.Signal(object)
    currentNodeChanged = QtCore.Signal(object)
    currentNodeChangedToValid = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    currentNodeRenamed = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    nodeAboutToBeEdited = QtCore.Signal(object)
    host_signals = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "currentNodeChangedToValid",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    }
    baseName = stored(str, "", "baseName")
    noneDisplay = stored(str, "None", "noneDisplay")
    addEnabled = stored(bool, True, "addEnabled")
    removeEnabled = stored(bool, True, "removeEnabled")
    editEnabled = stored(bool, False, "editEnabled")
    renameEnabled = stored(bool, False, "renameEnabled")
    selectNodeUponCreation = stored(bool, True, "selectNodeUponCreation")
    showChildNodeTypes = stored(bool, True, "showChildNodeTypes")
    hideChildNodeTypes = stored("QStringList", [], "hideChildNodeTypes")
    interactionNodeSingletonTag = stored(str, "", "interactionNodeSingletonTag")
    sizeAdjustPolicy = stored(int, 0, "sizeAdjustPolicy")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._types: list[str] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._none = self._hidden = False
        self._shown_id = ""
        self._observed: dict[str, tuple[object, int]] = {}
        self._scene_tags: list[int] = []
        self._combo.currentIndexChanged.connect(self._index_changed)
        self._combo.activated.connect(lambda _index: self.nodeActivated.emit(self.currentNode()))

    # The scene
    def _scene_changed(self) -> None:
        import slicer

        for scene, tag in self._scene_tags:
            scene.RemoveObserver(tag)
        scene = self.mrmlScene()
        events = {
            slicer.vtkMRMLScene.NodeAddedEvent: "_content_changed",
            slicer.vtkMRMLScene.NodeRemovedEvent: "_content_changed",
            slicer.vtkMRMLScene.EndBatchProcessEvent: "_content_changed",
        }
        self._scene_tags = (
            [(scene, observe(self, scene, event, name)) for event, name in events.items()] if scene else []
        )
        self._synchronize()

    def _content_changed(self, scene, _event) -> None:
        if not scene.IsBatchProcessing():
            self._synchronize()

    def _suits(self, node) -> bool:
        if node.GetHideFromEditors() and not self._hidden:
            return False
        own = [
            t for t in self._types if (node.IsA(t) if self.property("showChildNodeTypes") else node.GetClassName() == t)
        ]
        if not own or any(node.IsA(t) for t in self.property("hideChildNodeTypes")):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if node.IsA(kind)]
        return all(
            node.GetAttribute(name) is not None if value is None else node.GetAttribute(name) == value
            for name, value in wanted
        )

    def nodes(self) -> list:
        """The listed nodes, in the scene's order."""
        scene = self.mrmlScene()
        if scene is None:
            return []
        every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())]
        return [node for node in every if self._suits(node)]

    def _synchronize(self) -> None:
        """Rows come and go one by one, so that QComboBox keeps or moves the current one as it does in Slicer."""
        nodes = self.nodes()
        wanted = ([""] if self._none else []) + [node.GetID() for node in nodes]
        names = {node.GetID(): node.GetName() or "" for node in nodes}
        for row in reversed(range(self._combo.count())):
            if self._combo.itemData(row) not in wanted:
                self._combo.removeItem(row)
        for row, node_id in enumerate(wanted):
            if row >= self._combo.count() or self._combo.itemData(row) != node_id:
                self._combo.insertItem(row, names.get(node_id, self.property("noneDisplay")), node_id)
                if node_id:
                    self.nodeAdded.emit(self.mrmlScene().GetNodeByID(node_id))
        self._follow_names(nodes)
        self._index_changed()

    def _follow_names(self, nodes) -> None:
        current = {node.GetID(): node for node in nodes}
        for node_id in [
            key for key in self._observed if key not in current or self._observed[key][0] is not current[key]
        ]:
            node, tag = self._observed.pop(node_id)
            node.RemoveObserver(tag)
        for node_id, node in current.items():
            if node_id not in self._observed:
                self._observed[node_id] = (node, observe(self, node, vtk.vtkCommand.ModifiedEvent, "_node_modified"))

    def _node_modified(self, node, _event) -> None:
        row = self._combo.findData(node.GetID())
        if not self._suits(node) or row < 0:
            self._synchronize()
        elif self._combo.itemText(row) != node.GetName():
            self._combo.setItemText(row, node.GetName())
            if node.GetID() == self._shown_id:
                self.currentNodeRenamed.emit(node.GetName())

    # The current node
    def _index_changed(self, _index: int = 0) -> None:
        node_id = self._combo.currentData() or ""
        if node_id == self._shown_id:
            return
        self._shown_id = node_id
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeChangedToValid.emit(self.currentNode() is not None)
        self.currentNodeIDChanged.emit(node_id)

    def currentNode(self):
        node_id = self._combo.currentData()
        return self.mrmlScene().GetNodeByID(node_id) if node_id and self.mrmlScene() else None

    def setCurrentNode(self, node) -> None:
        """A node or None; given a node's ID as text, works too (Slicer has that overload)."""
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._combo.setCurrentIndex(self._combo.findData(node_id or ""))

    def setCurrentNodeIndex(self, index: int) -> None:
        self._combo.setCurrentIndex(index + self._none)

    def nodeCount(self) -> int:
        return self._combo.count() - self._none

    def nodeFromIndex(self, index: int):
        return self.mrmlScene().GetNodeByID(self._combo.itemData(index + self._none))

    def addNode(self, node_type: str = ""):
        """What *Create new …* in the list does."""
        import slicer

        node = self.mrmlScene().AddNewNodeByClass(node_type or self._types[0], self.property("baseName"))
        if self.property("selectNodeUponCreation"):
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node if isinstance(node, slicer.vtkMRMLNode) else None

    def addAttribute(self, node_type: str, name: str, value=None) -> None:
        self._attributes.append((node_type, name, value))
        self._synchronize()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes = [entry for entry in self._attributes if entry[:2] != (node_type, name)]
        self._synchronize()

    # Properties that change the list
    def _write_types(self, node_types) -> None:
        self._types = list(node_types)
        self._synchronize()

    def _write_none(self, enabled: bool) -> None:
        self._none = enabled
        self._synchronize()

    def _write_hidden(self, shown: bool) -> None:
        self._hidden = shown
        self._synchronize()

    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, _write_types)
    noneEnabled = QtCore.Property(bool, lambda self: self._none, _write_none)
    showHidden = QtCore.Property(bool, lambda self: self._hidden, _write_hidden)
    currentNodeID = QtCore.Property(str, lambda self: self._combo.currentData() or "", setCurrentNodeID)
